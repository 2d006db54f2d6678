//! Files that the configuration names: what is no regular file, or is open to others.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use outbox_relay::config::Config;
use rustix::fs::{CWD, Mode, mkfifoat};

use super::{AMQP, DATABASE, Folder, KAFKA};

/// Everything that can stand in a file's place: its name, and what it is called.
fn no_files(folder: &Path) -> Vec<(String, &'static str)> {
    let at = |name: &str| folder.join(name).display().to_string();
    fs::create_dir(at("directory")).unwrap();
    mkfifoat(CWD, at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    symlink(at("fifo"), at("link")).unwrap();
    UnixListener::bind(at("socket")).unwrap();
    fs::write(at("long"), vec![b'x'; 5 << 20]).unwrap();
    vec![
        (at("directory"), "it is a directory, not a file"),
        (at("fifo"), "it is a FIFO, not a file"),
        (at("link"), "it is a FIFO, not a file"),
        (at("socket"), "it is a socket, not a file"),
        ("/dev/zero".to_owned(), "it is a device, not a file"),
        ("/dev/null".to_owned(), "it is a device, not a file"),
        (at("long"), "it is larger than "),
        (at("missing"), "No such file or directory"),
    ]
}

#[test]
fn a_configuration_that_is_no_file_is_refused_with_its_name_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for (path, kind) in no_files(folder.path()) {
        let refusal = Config::load_with(Path::new(&path), [("", ""); 0]).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("{path}: cannot read the configuration: {kind}")));
        assert!(refusal.contains("\nhint: name a regular file"), "{refusal}");
    }
}

#[test]
fn a_secret_or_a_certificate_that_is_no_file_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let tls = "[database.tls]\nmode = \"verify-full\"\n";
    let client = format!("{tls}cert_file = \"ca.crt\"\n");
    let sasl = "sasl_mechanism = \"PLAIN\"\nsasl_username = \"relay\"\n";
    for (path, kind) in no_files(folder.path()) {
        for toml in [
            format!("{DATABASE}password_file = {path:?}\n{AMQP}"),
            format!("{DATABASE}{AMQP}password_file = {path:?}\n"),
            format!("{DATABASE}{KAFKA}{sasl}sasl_password_file = {path:?}\n"),
            format!("{DATABASE}{tls}ca_file = {path:?}\n{AMQP}"),
            format!("{DATABASE}{client}key_file = {path:?}\n{AMQP}"),
        ] {
            let refusal = Folder::new(&toml).file("ca.crt", "x").refused(&[]);
            assert!(refusal.contains(kind), "{path}: {refusal}");
            assert!(refusal.contains("\nhint: name a regular file"), "{refusal}");
        }
    }
}

/// A file that the kernel writes may have no length and no end.
#[test]
fn a_file_without_an_end_is_read_up_to_the_limit() {
    for path in ["/proc/self/pagemap", "/proc/kmsg", "/proc/kpageflags"] {
        let toml = format!("{DATABASE}password_file = {path:?}\n{AMQP}");
        let refusal = Folder::new(&toml).refused(&[]);
        assert!(refusal.contains("password_file"), "{refusal}");
    }
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Loads it from a folder that every user can enter, with all files of this mode.
fn exposed(toml: &str, mode: u32, environment: &[(&str, &str)]) -> Vec<(String, String)> {
    let folder = Folder::new(toml).file("password", "hush").file("key", "hush").file("ca", "x");
    let path = folder.path();
    let parent = path.parent().unwrap();
    for file in ["relay.toml", "password", "key", "ca"] {
        set(&parent.join(file), mode);
    }
    set(parent, 0o755);
    let config = folder.accepted(environment);
    let seen = config.exposed.iter().map(|exposed| {
        assert!(exposed.remedy().contains("chmod o-rwx "));
        (exposed.key.clone(), exposed.path.file_name().unwrap().to_string_lossy().into_owned())
    });
    seen.collect()
}

#[test]
fn a_secret_that_every_user_can_read_is_named_with_its_key() {
    let tls = "[database.tls]\nmode = \"verify-full\"\nca_file = \"ca\"\ncert_file = \"ca\"\n\
               key_file = \"key\"\n";
    let files = format!("{DATABASE}password_file = \"password\"\n{tls}{AMQP}");
    let open = [("database.password_file", "password"), ("database.tls.key_file", "key")];
    let open: Vec<_> = open.iter().map(|(key, file)| ((*key).into(), (*file).into())).collect();
    // A certificate is no secret, and a configuration without one is none either.
    assert_eq!(exposed(&files, 0o644, &[]), open);
    assert_eq!(exposed(&files, 0o640, &[]), []);
    assert_eq!(exposed(&files, 0o600, &[]), []);
}

#[test]
fn a_configuration_with_a_secret_in_it_is_one_file_with_a_secret() {
    let own = |key: &str| vec![(key.to_owned(), "relay.toml".to_owned())];
    let literal = format!("{DATABASE}password = \"hush\"\n{AMQP}password = \"hush\"\n");
    assert_eq!(exposed(&literal, 0o644, &[]), own("database.password"));
    assert_eq!(exposed(&literal, 0o640, &[]), []);
    let url = format!("{}{AMQP}", DATABASE.replace("relay@", "relay:hush@"));
    assert_eq!(exposed(&url, 0o644, &[]), own("database.url"));
    // What stands in the environment is in no file.
    let variable = format!("{DATABASE}password = \"${{HUSH}}\"\n{AMQP}");
    assert_eq!(exposed(&variable, 0o644, &[("HUSH", "hush")]), []);
    let over = [("OUTBOX_RELAY__DATABASE__PASSWORD", "hush")];
    assert_eq!(exposed(&format!("{DATABASE}{AMQP}"), 0o644, &over), []);
}
