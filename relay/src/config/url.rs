//! Urls of servers: taken apart far enough to keep passwords out of them.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

/// A url without its password, and the password.
pub(super) struct ServerUrl {
    /// The url without the password.
    pub(super) url: String,
    pub(super) password: Option<SecretString>,
}

/// Why a url is refused. Never holds a part of it, which could be a piece of a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UrlError {
    pub(super) reason: String,
    pub(super) hint: String,
}

impl UrlError {
    pub(super) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

/// Takes the password out of `SCHEME://USER:PASSWORD@HOST…`.
///
/// Parameters after `?` that name a secret or have a key of their own are refused by `own_keys`:
/// (parameter, the key to use).
pub(super) fn split(
    url: &str,
    schemes: &[&str],
    own_keys: &[(&str, &str)],
) -> Result<ServerUrl, UrlError> {
    let wanted = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>();
    let (scheme, rest) =
        url.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).ok_or_else(|| {
            UrlError::new(
                format!("must begin with {}", wanted.join(" or ")),
                format!("write it as {}USER@HOST:PORT/…", wanted[0]),
            )
        })?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains('@') {
        return Err(UrlError::new(
            "holds an @ after the host",
            "a /, ?, #, @ or : in a password is written %2F, %3F, %23, %40 or %3A; better, \
             put the password into password_file",
        ));
    }
    let query = tail.split_once('?').map_or("", |(_, query)| query);
    for parameter in query.split('&').filter_map(|pair| pair.split('=').next()) {
        if let Some((_, key)) = own_keys.iter().find(|(own, _)| *own == parameter) {
            return Err(UrlError::new(
                format!("holds the parameter {parameter}, which has a key of its own"),
                format!("take it out of the url and set {key}"),
            ));
        }
    }
    let Some((userinfo, host)) = authority.rsplit_once('@') else {
        return Ok(ServerUrl { url: url.to_owned(), password: None });
    };
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    let password = password
        .filter(|password| !password.is_empty())
        .map(|password| {
            percent_decode_str(password).decode_utf8().map(|p| SecretString::from(p.as_ref()))
        })
        .transpose()
        .map_err(|_| {
            UrlError::new(
                "the password in it is not UTF-8 after percent-decoding",
                "put the password into password_file",
            )
        })?;
    Ok(ServerUrl { url: format!("{scheme}://{user}@{host}{tail}"), password })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parts(url: &str) -> Result<(String, Option<String>), UrlError> {
        split(url, &["postgres", "postgresql"], &[("sslmode", "tls.mode")])
            .map(|u| (u.url, u.password.map(|p| p.expose_secret().to_owned())))
    }

    #[test]
    fn the_password_is_taken_out() {
        for (url, without, password) in [
            ("postgres://u@h/db", "postgres://u@h/db", None),
            ("postgres://h/db", "postgres://h/db", None),
            ("postgres://u:p@h/db", "postgres://u@h/db", Some("p")),
            ("postgres://u:@h/db", "postgres://u@h/db", None),
            ("postgres://u:p%40%2F@h", "postgres://u@h", Some("p@/")),
            ("postgres://u:a@b:c@h/db", "postgres://u@h/db", Some("a@b:c")),
            ("postgres://u:p@h1:1,h2:2/db?x=y", "postgres://u@h1:1,h2:2/db?x=y", Some("p")),
        ] {
            assert_eq!(parts(url).unwrap(), (without.to_owned(), password.map(str::to_owned)));
        }
    }

    #[test]
    fn what_is_refused() {
        assert!(parts("mysql://u@h/db").is_err());
        assert!(parts("host=h user=u").is_err());
        // Read as a host `u` with port `p`, or as a user: libraries differ.
        assert!(parts("postgres://u:p/w@h/db").is_err());
        assert!(parts("postgres://u:p?w@h/db").is_err());
        assert!(parts("postgres://u:p%ff@h/db").is_err());
        let error = parts("postgres://u@h/db?a=b&sslmode=require").err().unwrap();
        assert_eq!(error.hint, "take it out of the url and set tls.mode");
    }
}
