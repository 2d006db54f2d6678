//! What is wrong between two ends of TLS, in words that a person can act on.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cause::Cause;

/// Why the two ends do not agree, by what the operator can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server's certificate is for other names.
    WrongName {
        expected: String,
        presented: Vec<String>,
    },
    /// Signed by a CA that the relay does not trust.
    UnknownCa,
    /// Its time is over, or has not come yet; with the moment, if it is known.
    Expired(Option<String>),
    NotYetValid(Option<String>),
    /// A CA's certificate (a self-signed one, most often) shown as the server's own.
    CaAsServer,
    /// It is not for servers, is revoked, or cannot be read; in words.
    Unusable(&'static str),
    /// The server refused the relay's certificate, or misses one.
    IdentityRefused(&'static str),
    /// No version or cipher in common.
    NothingInCommon,
    /// The other end does not speak TLS at all.
    NotTls,
}

/// What of it is the cause of an error, if anything is.
#[must_use]
pub fn found_in(error: &(dyn Error + 'static)) -> Option<Trouble> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Trouble::of(error);
        }
        // An I/O error hides what it holds from `source`.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

impl Trouble {
    /// `None`: a lost connection, not a disagreement.
    #[must_use]
    pub fn of(error: &rustls::Error) -> Option<Self> {
        Some(match error {
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert)?,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::PeerIncompatible(_) => Self::NothingInCommon,
            rustls::Error::NoCertificatesPresented => Self::Unusable("is missing"),
            _ => return None,
        })
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().map(|name| plain(name)).collect(),
            },
            CertificateError::NotValidForName => {
                Self::WrongName { expected: String::new(), presented: Vec::new() }
            }
            // The signature is that of another CA, made anew with the same name, most often.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa,
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired(moment(not_after.as_secs()))
            }
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid(moment(not_before.as_secs()))
            }
            CertificateError::Revoked => Self::Unusable("is revoked"),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Unusable("is not for servers (extendedKeyUsage lacks serverAuth)")
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Self::Unusable("is signed in a way that is not safe any more (SHA-1, a short key)")
            }
            // The library that verifies names it in its own type, inside of another.
            other => match format!("{other:?}") {
                text if text.contains("CaUsedAsEndEntity") => Self::CaAsServer,
                text if text.contains("UnsupportedCertVersion") => {
                    Self::Unusable("is of X.509 version 1 and not of version 3")
                }
                _ => Self::Unusable("cannot be read or has an extension that is not known"),
            },
        }
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        Some(match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                Self::IdentityRefused("wants a certificate of the relay")
            }
            AlertDescription::UnknownCA => {
                Self::IdentityRefused("does not know the CA of the relay's certificate")
            }
            AlertDescription::CertificateExpired => {
                Self::IdentityRefused("says that the relay's certificate has expired")
            }
            AlertDescription::CertificateRevoked => {
                Self::IdentityRefused("says that the relay's certificate is revoked")
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => {
                Self::IdentityRefused("refuses the relay's certificate")
            }
            AlertDescription::HandshakeFailure => {
                Self::IdentityRefused("refuses the handshake (no certificate, or no common cipher)")
            }
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                Self::NothingInCommon
            }
            AlertDescription::UnrecognisedName => {
                Self::WrongName { expected: String::new(), presented: Vec::new() }
            }
            AlertDescription::CloseNotify
            | AlertDescription::UserCanceled
            | AlertDescription::InternalError => return None,
            _ => Self::IdentityRefused("refuses the handshake"),
        })
    }

    /// In words. `files`: how the keys of this `tls` table are called (`database.tls.`).
    #[must_use]
    pub fn cause(&self, files: &str) -> Cause {
        match self {
            Self::WrongName { expected, presented } => {
                let asked = match expected.as_str() {
                    "" => String::new(),
                    name => format!(" and not for {name:?}"),
                };
                let names = match presented.as_slice() {
                    [] => "the server's certificate is for other names".to_owned(),
                    names => format!("the server's certificate is for {}", names.join(", ")),
                };
                Cause::new(
                    format!("{names}{asked}"),
                    "connect by a name that the certificate names, or give the server a \
                     certificate for this one (in subjectAltName)",
                )
            }
            Self::UnknownCa => Cause::new(
                "the server's certificate is signed by a CA that the relay does not trust",
                format!("let `{files}ca_file` hold the certificate of the CA that signed it"),
            ),
            Self::Expired(at) => Cause::new(
                format!("the server's certificate has expired{}", since(at)),
                "renew the server's certificate; if it is valid, the clock of this machine is wrong",
            ),
            Self::NotYetValid(at) => Cause::new(
                format!("the server's certificate is not valid yet{}", since(at)),
                "look at the clock of this machine and of the one that made the certificate",
            ),
            Self::CaAsServer => Cause::new(
                "the server shows the certificate of a CA (a self-signed one) as its own",
                format!(
                    "give the server a certificate that this CA has signed (basicConstraints \
                     CA:FALSE), and let `{files}ca_file` hold the CA's"
                ),
            ),
            Self::Unusable(what) => Cause::new(
                format!("the server's certificate {what}"),
                "give the server another certificate",
            ),
            Self::IdentityRefused(what) => Cause::new(
                format!("the server {what}"),
                format!(
                    "let `{files}cert_file` and `{files}key_file` be an identity that the server \
                     accepts"
                ),
            ),
            Self::NothingInCommon => Cause::new(
                "the server offers no TLS version and cipher that the relay takes",
                "let the server offer TLS 1.2 or 1.3",
            ),
            Self::NotTls => Cause::new(
                "the server answers in something that is not TLS",
                format!("check the port, or switch TLS off (`{files}mode` and the url)"),
            ),
        }
    }
}

/// rustls writes a name as `DnsName("db.internal")` and an address as `IpAddress(127.0.0.1)`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}

fn since(at: &Option<String>) -> String {
    at.as_ref().map_or_else(String::new, |at| format!(" ({at})"))
}

fn moment(seconds: u64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    at.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{InvalidMessage, OtherError};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("CaUsedAsEndEntity")]
    struct CaUsedAsEndEntity;

    /// What is said of each, and that the library's own names are in none of it.
    #[test]
    fn every_trouble_has_its_words() {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(86_400));
        let name = ServerName::try_from("db.internal").unwrap();
        let wrong_name = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: name.clone(),
            presented: presented.iter().map(|&name| name.to_owned()).collect(),
        };
        let ca = CertificateError::Other(OtherError(std::sync::Arc::new(CaUsedAsEndEntity)));
        let purpose = CertificateError::InvalidPurpose;
        let alert = rustls::Error::AlertReceived;
        for (error, reason, hint) in [
            (
                wrong_name(&["DnsName(\"mq\")", "IpAddress(127.0.0.1)"]).into(),
                "is for mq, 127.0.0.1 and not for \"db.internal\"",
                "certificate names",
            ),
            (wrong_name(&[]).into(), "is for other names and not for", "certificate names"),
            (CertificateError::UnknownIssuer.into(), "does not trust", "`tls.ca_file`"),
            (CertificateError::BadSignature.into(), "does not trust", "`tls.ca_file`"),
            (
                CertificateError::ExpiredContext { time, not_after: time }.into(),
                "has expired (1970-01-02T00:00:00Z)",
                "renew",
            ),
            (CertificateError::Expired.into(), "has expired", "clock"),
            (CertificateError::NotValidYet.into(), "not valid yet", "clock"),
            (ca.into(), "certificate of a CA", "CA:FALSE"),
            (purpose.into(), "not for servers", "another certificate"),
            (CertificateError::Revoked.into(), "is revoked", "another certificate"),
            (CertificateError::BadEncoding.into(), "cannot be read", "another certificate"),
            (alert(AlertDescription::CertificateRequired), "wants a", "`tls.cert_file`"),
            (alert(AlertDescription::UnknownCA), "does not know the CA", "`tls.cert_file`"),
            (alert(AlertDescription::CertificateExpired), "relay's certificate", "`tls.key_file`"),
            (alert(AlertDescription::HandshakeFailure), "the handshake", "`tls.cert_file`"),
            (alert(AlertDescription::ProtocolVersion), "no TLS version", "TLS 1.2"),
            (InvalidMessage::InvalidContentType.into(), "not TLS", "port"),
        ] {
            let error: rustls::Error = error;
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, error.clone());
            let cause = found_in(&wrapped).expect(reason).cause("tls.");
            assert!(cause.reason.contains(reason), "{error:?}: {}", cause.reason);
            assert!(cause.hint.as_ref().unwrap().contains(hint), "{error:?}: {cause}");
            for word in ["CaUsed", "DnsName", "Context", "UnknownIssuer", "Alert", "EndEntity"] {
                assert!(!cause.text().contains(word), "{cause}");
            }
        }
    }

    #[test]
    fn a_lost_connection_is_no_trouble() {
        for error in [rustls::Error::HandshakeNotComplete, rustls::Error::DecryptError] {
            assert_eq!(Trouble::of(&error), None);
        }
        assert_eq!(found_in(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
