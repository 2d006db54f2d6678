//! Secrets: from the configuration itself, from a file of their own, or out of a url.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::SecretString;

use super::raw::Setting;
use super::section::Section;
use super::url::{ServerUrl, UrlError};

/// The longest secret; a larger file is a mistake (a keystore, a device).
const SECRET_BYTES_MAX: u64 = 64 * 1024;

impl Section<'_> {
    /// `KEY` or `KEY_file`, not both.
    pub(super) fn secret(
        &mut self,
        key: &str,
        value: &Setting,
        file: &Setting,
    ) -> Option<SecretString> {
        let file_key = format!("{key}_file");
        if value.is_some() && file.is_some() {
            self.refuse_key(
                &file_key,
                format!("{key} is given as well"),
                format!("keep one of {key} and {file_key}"),
            );
            return None;
        }
        if value.is_some() {
            let text = self.text(key, value)?;
            if text.is_empty() {
                self.refuse(key, "must not be empty", format!("leave {key} out if there is none"));
                return None;
            }
            return Some(text.into());
        }
        let path = self.resolved(&file_key, file)?;
        match read_secret(&path) {
            Ok(secret) => Some(secret),
            Err(reason) => {
                // The path is not repeated: somebody may have put the secret itself there.
                self.refuse(
                    &file_key,
                    format!("cannot use this file: {reason}"),
                    "name a file that the relay's user can read and that holds the secret alone; \
                     with systemd: LoadCredential= and \"${CREDENTIALS_DIRECTORY}/NAME\"",
                );
                None
            }
        }
    }
}

impl Section<'_> {
    /// The required key `url`, and the password from wherever it is: the url, `password` or
    /// `password_file`. The url that is returned holds none.
    pub(super) fn server_url(
        &mut self,
        url: &Setting,
        example: &str,
        parse: impl Fn(&str) -> Result<ServerUrl, UrlError>,
        (password, password_file): (&Setting, &Setting),
    ) -> (String, Option<SecretString>) {
        let password = self.secret("password", password, password_file);
        let text = self.required("url", url, example);
        if text.is_empty() {
            return (text, password);
        }
        match parse(&text) {
            Ok(ServerUrl { password: Some(_), .. }) if password.is_some() => {
                self.refuse(
                    "url",
                    "holds a password, and another one is given",
                    "take the password out of the url",
                );
                (String::new(), None)
            }
            Ok(parsed) => (parsed.url, parsed.password.or(password)),
            Err(UrlError { reason, hint }) => {
                self.refuse("url", reason, hint);
                (String::new(), None)
            }
        }
    }
}

/// The content of a file without the newline at its end, which editors and `echo` put there.
fn read_secret(path: &Path) -> Result<SecretString, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("it is larger than {SECRET_BYTES_MAX} bytes"));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(text.into())
}
