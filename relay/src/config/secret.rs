//! Secrets: from the configuration itself, from a file of their own, or out of a url.

use super::raw::Setting;
use super::section::Section;
use super::url::{ServerUrl, UrlError};
use crate::secret::Secret;

impl Section<'_> {
    /// `KEY` or `KEY_file`, not both.
    pub(super) fn secret(&mut self, key: &str, value: &Setting, file: &Setting) -> Option<Secret> {
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
            self.secret_stands_here(key);
            return Some(Secret::from(text));
        }
        let path = self.resolved(&file_key, file)?;
        match Secret::from_file(path.clone()) {
            Ok(secret) => {
                self.secret_stands_in(&file_key, path);
                Some(secret)
            }
            Err(reason) => {
                // The path is not repeated: somebody may have put the secret itself there.
                self.refuse(
                    &file_key,
                    format!("cannot use this file: {reason}"),
                    "name a regular file that the relay's user can read and that holds the secret alone; \
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
    ) -> (String, Option<Secret>) {
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
            Ok(parsed) => {
                if parsed.password.is_some() {
                    self.secret_stands_here("url");
                }
                (parsed.url, parsed.password.map(Secret::from).or(password))
            }
            Err(UrlError { reason, hint }) => {
                self.refuse("url", reason, hint);
                (String::new(), None)
            }
        }
    }
}
