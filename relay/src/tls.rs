//! TLS to a server: rustls, with the server's chain and name always verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::TlsConfig;

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

/// Reads the files and builds the client's side. With a CA file, only that CA is trusted.
///
/// # Errors
/// Unreadable files, no roots, an identity that is not one.
pub fn client_config(tls: &TlsConfig) -> Result<ClientConfig, TlsError> {
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
    // Named, not the process's default: another crate's features must not change it.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots);
    match (&tls.cert_file, &tls.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key_path)) => {
            let key = PrivateKeyDer::from_pem_file(key_path).map_err(|e| file(key_path, &e))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(TlsError::Identity)
        }
        _ => Err(TlsError::HalfIdentity),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| file(path, &e))?;
    if certificates.is_empty() {
        return Err(file(path, &"no certificate in it"));
    }
    Ok(certificates)
}

fn file(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}
