//! Who the relay is to the brokers: passwords and certificates as they were read for one producer.
//!
//! librdkafka reads its files when a producer is made and keeps a password for the life of it. So
//! both are read for each new producer, and one that a broker refuses is replaced as soon as the
//! files hold something else.

use std::time::SystemTime;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use crate::config::KafkaConfig;
use crate::secret::is_same;

/// What one producer was made with.
#[derive(Debug)]
pub(super) struct Credentials {
    /// In the order of the configuration's secrets.
    secrets: Vec<SecretString>,
    /// When the files of `tls` were last changed.
    files: Vec<Option<SystemTime>>,
}

impl Credentials {
    /// What to try, in this order: what the files hold, and what a broker accepted before.
    pub(super) fn candidates(config: &KafkaConfig) -> Vec<Self> {
        let mut secrets: Vec<_> =
            config.secret_properties.iter().map(|(_, secret)| secret.candidates()).collect();
        // There is one secret, `sasl.password`; of several only the first ones are tried.
        let earlier = match &mut secrets[..] {
            [only] if only.len() > 1 => only.pop(),
            _ => None,
        };
        let first = secrets.into_iter().map(|mut candidates| candidates.swap_remove(0)).collect();
        let all = std::iter::once(first).chain(earlier.map(|secret| vec![secret]));
        all.map(|secrets| Self { secrets, files: files(config) }).collect()
    }

    /// The first of [`candidates`](Self::candidates).
    pub(super) fn current(config: &KafkaConfig) -> Self {
        Self::candidates(config).swap_remove(0)
    }

    pub(super) fn set(&self, config: &KafkaConfig, properties: &mut ClientConfig) {
        for ((name, _), value) in config.secret_properties.iter().zip(&self.secrets) {
            properties.set(name, value.expose_secret());
        }
    }

    /// A broker has accepted them.
    pub(super) fn accepted(&self, config: &KafkaConfig) {
        for ((_, secret), value) in config.secret_properties.iter().zip(&self.secrets) {
            secret.accepted(value);
        }
    }

    /// Whether a new producer would be made with the same.
    pub(super) fn is_current(&self, config: &KafkaConfig) -> bool {
        let now = Self::current(config);
        let same = now.secrets.iter().zip(&self.secrets).all(|(one, other)| is_same(one, other));
        same && now.files == self.files
    }
}

fn files(config: &KafkaConfig) -> Vec<Option<SystemTime>> {
    let files = [&config.tls.ca_file, &config.tls.cert_file, &config.tls.key_file];
    let changed = |path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    files.into_iter().flatten().map(changed).collect()
}
