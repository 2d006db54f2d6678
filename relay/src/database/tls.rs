//! TLS to PostgreSQL: rustls, chain and name verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::DatabaseError;
use crate::config::TlsConfig;

/// The connector for a configuration with a verifying mode.
pub(super) fn connector(config: &TlsConfig) -> Result<MakeRustlsConnect, DatabaseError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error, "report this: the build lacks a TLS version"))?
        .with_root_certificates(roots(config)?);
    let client = match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| refused(error, "check database.tls.key_file"))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|error| refused(error, "check database.tls.cert_file and key_file"))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(client))
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, DatabaseError> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| refused(error, "check database.tls.ca_file"))?;
            }
        }
        None => {
            // One unreadable file among the system's is no reason to trust nothing.
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, DatabaseError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| refused(error, "check the certificate files under database.tls"))
}

fn refused(error: impl std::fmt::Display, hint: &'static str) -> DatabaseError {
    DatabaseError::Configuration { reason: error.to_string(), hint }
}
