//! Files with secrets that every user of the machine can read or change.
//!
//! A file that its group can read is left alone: Kubernetes (`fsGroup`) and many packages give a
//! service its secrets through a group.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
/// On a directory: to reach what is in it by name.
const OTHERS_PASS: u32 = 0o001;

/// `f_type` of file systems in memory.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Where container engines put secrets (`docker secret`, mode 0444).
const SECRET_FOLDERS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// A file with a secret in it that is open to every user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The key that names the file, or that holds the secret in the configuration file.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What others can do with it: `read`, `change`, `read and change`.
    pub others_can: &'static str,
}

impl Exposed {
    /// What is wrong, for people.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self { key, path, others_can } = self;
        format!("{}, for {key}: every user of this machine can {others_can} it", path.display())
    }

    /// How to close it.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!(
            "chmod o-rwx {}, and give it to the relay's user or group; with systemd: \
             LoadCredential=",
            self.path.display()
        )
    }
}

/// Whether others can read or change the file that a key names.
pub(super) fn exposure(key: String, path: &Path) -> Option<Exposed> {
    let others_can = others_can(path)?;
    Some(Exposed { key, path: path.to_owned(), others_can })
}

/// `None` also where it cannot be found out: the reader of the file says what is wrong with it.
fn others_can(path: &Path) -> Option<&'static str> {
    // The permissions of a link say nothing, those on the way to the file do.
    let path = fs::canonicalize(path).ok()?;
    let mode = fs::metadata(&path).ok()?.mode();
    let can = match (mode & OTHERS_READ != 0, mode & OTHERS_WRITE != 0) {
        (false, false) => return None,
        (true, false) => "read",
        (false, true) => "change",
        (true, true) => "read and change",
    };
    let passable = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & OTHERS_PASS != 0)
    };
    let reachable = path.ancestors().skip(1).all(passable);
    (reachable && !is_a_containers(&path)).then_some(can)
}

/// A secret that an orchestrator has mounted into one container: in memory, with a mode that says
/// nothing, since nothing but the processes of that container can see the mount.
///
/// A bind mount of a file of the host (`docker run --volume`, the secrets of Compose) is not in memory.
/// Every user of the host can read it there, so it is no exception.
fn is_a_containers(path: &Path) -> bool {
    let in_memory = statfs(path).is_ok_and(|system| {
        // Its type has another sign on other systems.
        let kind = u64::try_from(system.f_type).unwrap_or_default();
        kind == TMPFS || kind == RAMFS
    });
    // Kubernetes exchanges the files of a volume together: NAME -> ..data/NAME -> ..2026_01_31…/NAME.
    let kubernetes =
        path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("..20"));
    in_memory && (kubernetes || SECRET_FOLDERS.iter().any(|folder| path.starts_with(folder)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A folder that others can pass, with a file in it.
    fn file(folder: &Path, mode: u32) -> PathBuf {
        set(folder, 0o755);
        let path = folder.join("secret");
        fs::write(&path, "hush").unwrap();
        set(&path, mode);
        path
    }

    #[test]
    fn what_others_can_read_or_change_is_exposed() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, can) in [
            (0o644, Some("read")),
            (0o444, Some("read")),
            (0o602, Some("change")),
            (0o666, Some("read and change")),
            (0o600, None),
            (0o640, None),
            (0o660, None),
            (0o400, None),
        ] {
            let path = file(folder.path(), mode);
            assert_eq!(others_can(&path), can, "{mode:o}");
            set(&path, 0o600);
        }
    }

    #[test]
    fn a_link_is_as_open_as_the_file_that_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), 0o644);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(others_can(&link), Some("read"));
        set(&path, 0o600);
        assert_eq!(others_can(&link), None);
    }

    #[test]
    fn a_folder_that_others_cannot_pass_protects_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), 0o644);
        set(folder.path(), 0o750);
        assert_eq!(others_can(&path), None);
        assert_eq!(others_can(&folder.path().join("not there")), None);
    }

    #[test]
    fn a_secret_that_kubernetes_has_mounted_is_no_exposure() {
        // GIVEN a folder in memory, as a secret volume is laid out
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        set(folder.path(), 0o755);
        let version = folder.path().join("..2026_01_31_08_00_00.1");
        fs::create_dir(&version).unwrap();
        file(&version, 0o644);
        symlink(&version, folder.path().join("..data")).unwrap();
        let link = folder.path().join("password");
        symlink(folder.path().join("..data/secret"), &link).unwrap();
        // WHEN it is looked at by its name THEN
        assert_eq!(others_can(&link), None);
        // AND a file beside it is what it is
        assert_eq!(others_can(&file(folder.path(), 0o644)), Some("read"));
    }
}
