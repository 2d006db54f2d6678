//! What is said when TLS does not come about: the same words for PostgreSQL, RabbitMQ and Kafka.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outbox_relay::config::{AmqpConfig, DatabaseConfig, KafkaConfig, TlsConfig, TlsMode};
use outbox_relay::database::{DatabaseError, Session};
use outbox_relay::target::{ConnectError, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{amqp, kafka};

/// What is wrong with the server's certificate.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Name,
    Ca,
    Expired,
    NotYet,
    SelfSignedCa,
}

/// A CA in a file, and a server's certificate.
struct Scene {
    folder: TempDir,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Scene {
    fn new(wrong: Wrong) -> Self {
        let (trusted, other) = (authority(), authority());
        let name = if matches!(wrong, Wrong::Name) { "db.internal" } else { "localhost" };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        match wrong {
            Wrong::Expired => params.not_after = date_time_ymd(2020, 1, 1),
            Wrong::NotYet => params.not_before = date_time_ymd(2999, 1, 1),
            Wrong::SelfSignedCa => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Wrong::Name | Wrong::Ca => {}
        }
        let key = KeyPair::generate().unwrap();
        let issuer = if matches!(wrong, Wrong::Ca) { &other } else { &trusted };
        let (certificate, pem) = if matches!(wrong, Wrong::SelfSignedCa) {
            // The usual way to it: `openssl req -x509`, and the same file as `ca_file`.
            let own = params.self_signed(&key).unwrap();
            (own.der().clone(), own.pem())
        } else {
            (params.signed_by(&key, issuer).unwrap().der().clone(), trusted.pem())
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Self { folder, certificate, key }
    }

    fn tls(&self) -> TlsConfig {
        let ca_file = Some(self.folder.path().join("ca.pem"));
        TlsConfig { mode: TlsMode::VerifyFull, ca_file, ..TlsConfig::default() }
    }

    /// Listens with it; `postgres`: after the request that PostgreSQL's clients begin with.
    async fn serve(&self, postgres: bool) -> (SocketAddr, JoinSet<()>) {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(accept(client, acceptor.clone(), postgres));
            }
        });
        (address, task)
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn accept(mut client: TcpStream, acceptor: TlsAcceptor, postgres: bool) {
    if postgres {
        let mut request = [0; 8];
        if client.read_exact(&mut request).await.is_err() || client.write_all(b"S").await.is_err() {
            return;
        }
    }
    let _ = acceptor.accept(client).await;
}

async fn postgresql(scene: &Scene) -> (String, String) {
    let (address, _server) = scene.serve(true).await;
    let config = DatabaseConfig {
        url: format!("postgres://relay@localhost:{}/app", address.port()),
        password: None,
        schema: "outbox".to_owned(),
        tls: scene.tls(),
        connect_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
    };
    let error = Session::connect(&config, "test").await.expect_err("it is not trusted");
    let DatabaseError::Configuration { reason, hint } = error else { panic!("{error}") };
    (reason, hint.into_owned())
}

async fn rabbitmq(scene: &Scene) -> (String, String) {
    let (address, _server) = scene.serve(false).await;
    let url = format!("amqps://relay@localhost:{}/%2f", address.port());
    let config = AmqpConfig { url, tls: scene.tls(), ..amqp::config() };
    let error = amqp::target(config, vec![]).connect().await.expect_err("it is not trusted");
    let ConnectError::Configuration { reason, hint } = error else { panic!("{error}") };
    (reason, hint)
}

async fn kafka(scene: &Scene) -> (String, String) {
    let (address, _server) = scene.serve(false).await;
    let tls = scene.tls();
    let ca = tls.ca_file.as_ref().unwrap().display().to_string();
    let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let config = KafkaConfig {
        brokers: format!("localhost:{}", address.port()),
        properties: vec![
            property("security.protocol", "ssl"),
            property("ssl.ca.location", &ca),
            property("ssl.endpoint.identification.algorithm", "https"),
        ],
        tls,
        connect_timeout: Duration::from_secs(2),
        ..kafka::config()
    };
    let error = kafka::target(config, vec![]).connect().await.expect_err("it is not trusted");
    let ConnectError::Configuration { reason, hint } = error else { panic!("{error}") };
    (reason, hint)
}

/// GIVEN a server whose certificate is wrong in one way WHEN a client of each kind comes THEN the
/// reason and the remedy are in words, and no library's names are.
#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_certificate_is_told_in_the_same_words() {
    for (wrong, reason, hint) in [
        (Wrong::Name, "is for db.internal and not for \"localhost\"", "certificate names"),
        (Wrong::Ca, "signed by a CA that the relay does not trust", "ca_file"),
        (Wrong::Expired, "has expired (2020-01-01T00:00:00Z)", "renew"),
        (Wrong::NotYet, "is not valid yet (2999-01-01T00:00:00Z)", "clock"),
        (Wrong::SelfSignedCa, "the certificate of a CA", "CA:FALSE"),
    ] {
        let scene = Scene::new(wrong);
        let mut told =
            vec![("postgresql", postgresql(&scene).await), ("rabbitmq", rabbitmq(&scene).await)];
        // OpenSSL takes a CA's certificate for a server's, if the file says that it is trusted.
        if !matches!(wrong, Wrong::SelfSignedCa) {
            told.push(("kafka", kafka(&scene).await));
        }
        for (kind, (said, remedy)) in told {
            assert!(said.contains(reason), "{wrong:?} {kind}: {said}");
            assert!(remedy.contains(hint), "{wrong:?} {kind}: {remedy}");
            for word in ["CaUsed", "DnsName", "UnknownIssuer", "InvalidCertificate", "UNIX"] {
                assert!(!said.contains(word), "{wrong:?} {kind}: {said}");
            }
        }
    }
}
