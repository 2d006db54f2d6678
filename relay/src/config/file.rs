//! Files that the configuration names: only regular files are read, once, up to a limit.
//!
//! A FIFO or a device in a file's place would make the reader wait or read without end, and to open
//! some devices is an act by itself.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// The longest PEM file: the roots of all public CAs together are a sixteenth of it.
pub(crate) const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What to write in a file's place.
pub(super) const HINT: &str = "name a regular file that the relay's user can read; a relative path \
                               counts from the folder of the configuration file";

/// Opens a regular file, and never waits for it.
///
/// # Errors
/// Why not, for people, without the path.
pub(crate) fn open(path: &Path) -> Result<File, String> {
    regular(&std::fs::metadata(path).map_err(|error| error.to_string())?)?;
    // Another process may put a FIFO there between the two: to open it would wait for its writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = file.map_err(|error| error.to_string())?;
    regular(&file.metadata().map_err(|error| error.to_string())?)?;
    Ok(file)
}

/// Reads a regular file of at most `bytes_max`.
///
/// # Errors
/// Why not, for people, without the path and without a part of the content.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut bounded = open(path)?.take(bytes_max + 1);
    bounded.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("it is larger than {bytes_max} bytes"));
    }
    Ok(bytes)
}

/// Reads a regular file that is UTF-8.
///
/// # Errors
/// As `read`.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|_| "it is not UTF-8".to_owned())
}

fn regular(metadata: &Metadata) -> Result<(), String> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(format!("it is {}, not a file", kind(metadata.file_type()))),
    }
}

fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}
