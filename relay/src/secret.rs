//! A secret that may stand in a file, which is read whenever a connection is made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use crate::config::file;

/// The longest secret; a larger file is a mistake (a keystore, a device).
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A password. Where it stands in a file, the file is read at every connection attempt, so that a
/// rotation needs no restart. Clones share what is known of it.
#[derive(Clone)]
pub struct Secret(Arc<Source>);

struct Source {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

struct Known {
    /// What the file held when it could last be used.
    read: SecretString,
    /// What a server accepted last.
    accepted: Option<SecretString>,
    /// The file cannot be used, and the log says so.
    unreadable: bool,
    /// What the file holds is refused while the one before it is accepted, and the log says so.
    outdated: bool,
}

impl Secret {
    /// Reads a file for the first time.
    ///
    /// # Errors
    /// Why the file cannot be used; neither its path nor its content is repeated.
    pub fn from_file(path: PathBuf) -> Result<Self, String> {
        let read = read_secret(&path)?;
        Ok(Self::new(Some(path), read))
    }

    fn new(file: Option<PathBuf>, read: SecretString) -> Self {
        let known = Known { read, accepted: None, unreadable: false, outdated: false };
        Self(Arc::new(Source { file, known: Mutex::new(known) }))
    }

    /// The file that holds it, if one does.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// What to try now: what the file holds, and after it the one that a server accepted before.
    /// A file that is being written may be empty or hold half of a password, and an operator may
    /// write it before or after the server knows the new one. At least one, at most two.
    #[must_use]
    pub fn candidates(&self) -> Vec<SecretString> {
        let Some(file) = self.file() else { return vec![self.known().read.clone()] };
        let found = read_secret(file);
        let mut known = self.known();
        match found {
            Ok(secret) => {
                known.read = secret;
                known.unreadable = false;
            }
            Err(reason) => {
                if !std::mem::replace(&mut known.unreadable, true) {
                    let file = file.display();
                    tracing::warn!(%file, reason, "the password file cannot be used: trying the last password");
                }
                return vec![known.accepted.as_ref().unwrap_or(&known.read).clone()];
            }
        }
        let earlier = known.accepted.iter().filter(|accepted| !is_same(accepted, &known.read));
        std::iter::once(&known.read).chain(earlier).cloned().collect()
    }

    /// The first of [`candidates`](Self::candidates).
    #[must_use]
    pub fn current(&self) -> SecretString {
        self.candidates().swap_remove(0)
    }

    /// A server has accepted this one.
    pub fn accepted(&self, secret: &SecretString) {
        let mut known = self.known();
        let outdated = !is_same(secret, &known.read);
        if outdated && !std::mem::replace(&mut known.outdated, true) {
            let file = self.file().map(|file| file.display().to_string());
            tracing::warn!(
                file,
                "the server refuses what the password file holds and accepts the password before it"
            );
        }
        known.outdated = outdated;
        known.accepted = Some(secret.clone());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two secrets are the same.
#[must_use]
pub fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

impl From<SecretString> for Secret {
    fn from(secret: SecretString) -> Self {
        Self::new(None, secret)
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        SecretString::from(secret).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// The content of a file without the newline at its end, which editors and `echo` put there.
fn read_secret(path: &Path) -> Result<SecretString, String> {
    let text = file::read_text(path, SECRET_BYTES_MAX)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(secret: &Secret) -> Vec<String> {
        secret.candidates().iter().map(|s| s.expose_secret().to_owned()).collect()
    }

    #[test]
    fn a_file_is_read_each_time_and_the_accepted_one_is_tried_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "one\n").unwrap();
        let secret = Secret::from_file(file.clone()).unwrap();
        assert_eq!(tried(&secret), ["one"]);
        secret.accepted(&"one".into());
        // Changed, half-written, and changed again.
        for text in ["two", "t", "three"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(tried(&secret), [text, "one"]);
        }
        secret.accepted(&"three".into());
        assert_eq!(tried(&secret), ["three"]);
        // Empty and missing: what was good.
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(tried(&secret), ["three"]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tried(&secret.clone()), ["three"]);
        std::fs::write(&file, "four").unwrap();
        assert_eq!(tried(&secret), ["four", "three"]);
    }

    #[test]
    fn a_file_that_is_away_before_anything_was_accepted_leaves_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "one").unwrap();
        let secret = Secret::from_file(file.clone()).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tried(&secret), ["one"]);
        assert!(Secret::from_file(file).is_err());
    }
}
