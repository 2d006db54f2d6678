//! The brokers behind TLS: a terminator with certificates of its own in front of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outbox_relay::config::{AmqpConfig, KafkaConfig, TlsConfig, TlsMode};
use outbox_relay::target::{ConnectError, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::amqp::{self, Rabbit};
use super::driver::Driver;
use super::kafka;
use super::row::{parts, submission};

/// A CA, a server certificate for `localhost` and a client's identity, as files.
struct Certificates {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificates = Self { folder, ca };
        std::fs::write(certificates.file("ca.pem"), certificates.ca.pem()).unwrap();
        let (client, key) = certificates.issue("relay");
        std::fs::write(certificates.file("client.pem"), client.pem()).unwrap();
        std::fs::write(certificates.file("client.key"), key.serialize_pem()).unwrap();
        certificates
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.ca).unwrap(), key)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the relay is told.
    fn trusted(&self) -> TlsConfig {
        TlsConfig {
            mode: TlsMode::VerifyFull,
            ca_file: Some(self.file("ca.pem")),
            ..TlsConfig::default()
        }
    }

    fn with_identity(&self) -> TlsConfig {
        TlsConfig {
            cert_file: Some(self.file("client.pem")),
            key_file: Some(self.file("client.key")),
            ..self.trusted()
        }
    }
}

/// A TLS terminator in front of RabbitMQ that wants a client's identity.
struct Terminator {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Terminator {
    async fn start(certificates: &Certificates) -> Self {
        let (certificate, key) = certificates.issue("localhost");
        let mut clients = RootCertStore::empty();
        clients.add(certificates.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(terminate(listener, TlsAcceptor::from(Arc::new(server))));
        Self { address, _task: task }
    }

    fn config(&self, host: &str, tls: TlsConfig) -> AmqpConfig {
        let plain = amqp::config();
        let (_, rest) = plain.url.split_once("://").unwrap();
        let (user, rest) = rest.split_once('@').unwrap();
        let vhost = rest.split_once('/').unwrap().1;
        let url = format!("amqps://{user}@{host}:{}/{vhost}", self.address.port());
        AmqpConfig { url, tls, ..plain }
    }
}

async fn terminate(listener: TcpListener, acceptor: TlsAcceptor) {
    let broker: lapin::uri::AMQPUri = amqp::config().url.parse().unwrap();
    let broker = (broker.authority.host, broker.authority.port);
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, broker) = (acceptor.clone(), broker.clone());
        connections.spawn(async move {
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut server = TcpStream::connect(broker).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// GIVEN the right CA and an identity WHEN rows are published through TLS THEN all are confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_pass_through_tls() {
    let certificates = Certificates::new();
    let terminator = Terminator::start(&certificates).await;
    let rabbit = Rabbit::new("tls", "classic").await;
    let config = terminator.config("localhost", certificates.with_identity());
    let target = amqp::target(config, vec![amqp::route(&rabbit.exchange, vec![])]);
    let mut driver = Driver::connect(target).await;
    driver.publish_all((1..=2_000).map(|id| submission(parts(id, "good.a"))), 1_000).await;
    driver.target.disconnect().await;
    assert!(rabbit.rows().await.into_iter().eq(1..=2_000));
}

/// GIVEN another CA, another name, no identity, no TLS at the other end, and files that are none
/// WHEN the target connects THEN each is a mistake in the configuration, with its remedy.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_is_refused() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let terminator = Terminator::start(&certificates).await;
    let plain: lapin::uri::AMQPUri = amqp::config().url.parse().unwrap();
    let mut no_tls = terminator.config("localhost", certificates.with_identity());
    let port = terminator.address.port().to_string();
    no_tls.url = no_tls.url.replace(&port, &plain.authority.port.to_string());
    let no_file = TlsConfig { ca_file: Some(other.file("absent")), ..certificates.trusted() };
    let no_pem = TlsConfig { ca_file: Some(other.file("client.key")), ..certificates.trusted() };
    let half = TlsConfig { key_file: None, ..certificates.with_identity() };
    for (what, config, hint) in [
        ("another CA", terminator.config("localhost", other.with_identity()), "tls.ca_file"),
        ("another name", terminator.config("127.0.0.1", certificates.with_identity()), "names"),
        ("no identity", terminator.config("localhost", certificates.trusted()), "tls.cert_file"),
        ("no TLS", no_tls, "port"),
        ("no file", terminator.config("localhost", no_file), "files"),
        ("no certificate", terminator.config("localhost", no_pem), "files"),
        ("half an identity", terminator.config("localhost", half), "files"),
    ] {
        let error = amqp::target(config, vec![]).connect().await.expect_err(what);
        let ConnectError::Configuration { reason, hint: remedy } = error else {
            panic!("{what}: {error}")
        };
        assert!(remedy.contains(hint), "{what}: {reason}\nhint: {remedy}");
    }
}

/// GIVEN a certificate of another CA WHEN librdkafka connects THEN it is a mistake in the
/// configuration; GIVEN a port without TLS THEN it may be an outage, but the reason says it.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_verifies_as_well() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let terminator = Terminator::start(&certificates).await;
    let properties = vec![
        ("security.protocol".to_owned(), "ssl".to_owned()),
        ("ssl.ca.location".to_owned(), other.file("ca.pem").display().to_string()),
    ];
    let connect_timeout = Duration::from_secs(2);
    let tls = TlsConfig { ca_file: Some(other.file("ca.pem")), ..certificates.trusted() };
    let config = KafkaConfig { properties, tls, connect_timeout, ..kafka::config() };

    let brokers = format!("localhost:{}", terminator.address.port());
    let verified = KafkaConfig { brokers, ..config.clone() };
    let error = kafka::target(verified, vec![]).connect().await.expect_err("another CA");
    let ConnectError::Configuration { reason, hint } = error else { panic!("{error}") };
    assert!(reason.contains("does not trust") && hint.contains("`tls.ca_file`"), "{reason} {hint}");

    let error = kafka::target(config, vec![]).connect().await.expect_err("no TLS");
    let ConnectError::Outage(reason) = error else { panic!("{error}") };
    // What librdkafka says depends on which end gives up first.
    assert!(reason.contains("SSL"), "{reason}");
}
