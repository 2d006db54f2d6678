//! A file system of a few megabytes, with a tablespace on it.

use std::path::PathBuf;
use std::process::Command;

use crate::support::instance::Instance;
use crate::support::services::Services;
use crate::support::session::Session;

/// A database of its own takes 8 MB of it, the writer's rows some more.
const SIZE: &str = "size=48m";
const BALLAST: &str = "ballast";
pub(crate) const TABLESPACE: &str = "small";

/// Unmounted when dropped, or with the mount namespace of the run.
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Why there can be none here, if so.
    pub(crate) fn unavailable() -> Option<String> {
        let path = Services::folder().join("mount-try");
        let mounted = mount(&path);
        unmount(&path);
        mounted.err().map(|error| format!("no file system of its own can be mounted: {error}"))
    }

    pub(crate) async fn mount(server: &Instance) -> Self {
        let path = Services::folder().join("small-disk");
        mount(&path).expect("it was tried before");
        let create = format!("CREATE TABLESPACE {TABLESPACE} LOCATION '{}'", path.display());
        Session::connect(server.url()).await.run(&create).await;
        Self { path }
    }

    /// Leaves not one byte.
    pub(crate) fn fill(&self) {
        let mut ballast = std::fs::File::create(self.path.join(BALLAST)).expect("a file fits");
        std::io::copy(&mut std::io::repeat(0), &mut ballast).expect_err("the disk is full");
    }

    pub(crate) fn empty(&self) {
        // Not there: it was not filled.
        let _ = std::fs::remove_file(self.path.join(BALLAST));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

fn mount(path: &PathBuf) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
    run(Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(path))?;
    match std::env::var("OUTBOX_TEST_RUN_AS") {
        Ok(user) if !user.is_empty() => run(Command::new("chown").arg(user).arg(path)),
        _ => Ok(()),
    }
}

fn unmount(path: &PathBuf) {
    // The server may still have it open.
    let _ = run(Command::new("umount").arg("--lazy").arg(path));
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}
