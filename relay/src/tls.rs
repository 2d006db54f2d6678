//! TLS to a server: rustls, with the server's chain and name always verified.

mod probe;
mod trouble;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

pub use self::probe::probe;
pub use self::trouble::{Trouble, found_in};
use crate::config::{TlsConfig, file as config_file};

/// Why TLS cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of the expected kind.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no roots.
    #[error("no root certificate in the system's store\nhint: name the CA with `tls.ca_file`")]
    NoRoots,
    /// Certificate and key do not belong together, or the like.
    #[error("the client's identity: {0}")]
    Identity(rustls::Error),
    /// One of the two files of the client's identity is missing.
    #[error("`tls.cert_file` and `tls.key_file` go together")]
    HalfIdentity,
}

/// What the files of one `tls` table held when they could last be used. Clones share it.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<KeptConfig>>);

#[derive(Default)]
struct KeptConfig {
    good: Option<ClientConfig>,
    /// The files cannot be used, and the log says so.
    unusable: bool,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// Reads the files and builds the client's side: for each connection, so that renewed certificates
/// need no restart. Files that are being written (one is missing, or certificate and key do not
/// belong together yet) leave what could last be used. With a CA file, only that CA is trusted.
///
/// # Errors
/// Unreadable files, no roots, an identity that is not one; and none of them was good before.
pub fn client_config(tls: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let read = read(tls);
    let mut kept = tls.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    match read {
        Ok(config) => {
            *kept = KeptConfig { good: Some(config.clone()), unusable: false };
            Ok(config)
        }
        Err(error) => {
            let Some(good) = kept.good.clone() else { return Err(error) };
            if !std::mem::replace(&mut kept.unusable, true) {
                tracing::warn!(%error, "the TLS files cannot be used: going on with what they held");
            }
            Ok(good)
        }
    }
}

fn read(tls: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| file(path, &e))?;
            }
        }
        None => {
            // A system store may hold certificates that rustls cannot parse; the others count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoRoots);
            }
        }
    }
    let builder = builder().with_root_certificates(roots);
    match (&tls.cert_file, &tls.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key_path)) => {
            let key = PrivateKeyDer::from_pem_slice(&pem(key_path)?);
            let key = key.map_err(|e| file(key_path, &e))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(TlsError::Identity)
        }
        _ => Err(TlsError::HalfIdentity),
    }
}

/// For a client that never encrypts, and is made to be given something.
pub(crate) fn trusting_nobody() -> ClientConfig {
    builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    // Named, not the process's default: another crate's features must not change it.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem(path)?)
        .collect::<Result<_, _>>()
        .map_err(|e| file(path, &e))?;
    if certificates.is_empty() {
        return Err(file(path, &"no certificate in it"));
    }
    Ok(certificates)
}

/// `migrate --ca-file` names one that no configuration has looked at.
fn pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    config_file::read(path, config_file::PEM_BYTES_MAX).map_err(|reason| file(path, &reason))
}

fn file(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}
