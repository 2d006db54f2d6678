//! `outbox-relay inbox doctor --queue`: where a consumer's dead letters go, asked of RabbitMQ itself.

use std::sync::Arc;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, ExchangeKind};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Consumer;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::relay::{RelayConfig, command, quoted};

const WEEK_MS: i64 = 604_800_000;
const MONTH_MS: i64 = 2_592_000_000;

/// Arguments of a queue.
fn arguments<const N: usize>(settings: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in settings {
        table.insert(name.into(), value);
    }
    table
}

/// Dead letters go to this exchange, under this routing key.
fn dead_letters(exchange: &str, routing_key: &str) -> FieldTable {
    arguments([
        ("x-dead-letter-exchange", AMQPValue::LongString(exchange.into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString(routing_key.into())),
    ])
}

/// Queues whose dead letters stay for a week, by a policy for a month, for ever, and nowhere.
async fn declare(broker: &Instance) {
    let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ is there");
    let channel = connection.create_channel().await.expect("a channel");
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default);
    let exchange = channel.exchange_declare("dlx".into(), ExchangeKind::Fanout, options, none());
    exchange.await.expect("an exchange");
    for (name, arguments) in [
        ("short/dead", arguments([("x-message-ttl", AMQPValue::LongLongInt(WEEK_MS))])),
        ("long.dead", none()),
        ("ever.dead", none()),
        ("short", dead_letters("", "short/dead")),
        ("long", dead_letters("dlx", "any")),
        ("ever", dead_letters("", "ever.dead")),
        ("lost", dead_letters("nowhere", "any")),
        ("dropped", none()),
    ] {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.into(), options, arguments).await.expect("a queue");
    }
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind("long.dead".into(), "dlx".into(), "".into(), options, none());
    bound.await.expect("a binding");
    let policy = format!("{{\"message-ttl\": {MONTH_MS}}}");
    broker.rabbitmqctl(&["set_policy", "keep", "^long.dead$", &policy]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_asks_rabbitmq_how_long_it_keeps_dead_letters() {
    // GIVEN an inbox that remembers 14 days
    let consumer = Consumer::new().await;
    assert_eq!(consumer.say(&["maintain"]).await.0, 0);
    let broker = Instance::start(Kind::RabbitMq).await;
    declare(&broker).await;

    // WHEN the doctor is told what the consumer reads
    let management = broker.fact("MGMT_URL");
    let password = password(management);
    let ask = async |url: &str, queue: &str| {
        let asked = ["doctor", "--rabbitmq-management", url, "--queue", queue];
        let (code, text) = consumer.say(&asked).await;
        assert!(!text.contains(password), "{text}");
        (code, text)
    };

    // THEN
    for (queue, code, words) in [
        ("short", 0, "dead letters of short in short/dead"),
        ("long", 78, "again after 30.0 days"),
        ("ever", 78, "again at any time"),
        ("lost", 0, "leads to no queue"),
        ("dropped", 0, "it has no dead letter exchange"),
        ("none", 78, "there is no such queue"),
    ] {
        // A policy comes into force a moment after it was set.
        until(&format!("{queue}: {words}"), async || {
            let (found, text) = ask(management, queue).await;
            (found == code && text.contains(words)).then_some(())
        })
        .await;
    }
    let (code, text) = ask(&management.replace(password, "wr0ng-one"), "short").await;
    assert!(code == 78 && text.contains("the user or the password is refused"), "{code} {text}");
    assert!(!text.contains("wr0ng-one"), "{text}");

    // GIVEN TLS in front of it, with a certificate for localhost of a CA that a target of the configuration names
    let terminator = Terminator::start(management).await;
    let config = RelayConfig::new(&consumer.database.url)
        .set("target.mq", "kind", quoted("amqp"))
        .set("target.mq", "url", quoted("amqps://relay@localhost/%2f"))
        .set("target.mq", "route", "[{ topic = \"*\", exchange = \"x\" }]")
        .set("target.mq.tls", "ca_file", quoted(&terminator.ca_file()));
    let ask = async |host: &str, more: &[&str]| {
        let secured = terminator.url(host, management);
        let inbox = ["inbox", "doctor", "--url", &consumer.database.url, "--queue", "short"];
        let asked = [&inbox[..], &["--rabbitmq-management", &secured], more].concat();
        let output = command(&config, &asked).await;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains(password), "{text}");
        (output.status.code().expect("it ended by itself"), text)
    };
    // WHEN it is asked with that target's TLS settings THEN it is the same answer
    let (code, text) = ask("localhost", &["--rabbitmq-target", "mq"]).await;
    assert!(code == 0 && text.contains("dead letters of short in short/dead"), "{text}");
    // AND neither another name, nor a CA that is not named, is trusted
    let (code, text) = ask("127.0.0.1", &["--rabbitmq-target", "mq"]).await;
    assert!(code == 78 && text.contains("certificate not valid for name"), "{text}");
    let (code, text) = ask("localhost", &[]).await;
    assert!(code == 78 && text.contains("UnknownIssuer"), "{text}");
    let (code, text) = ask("localhost", &["--rabbitmq-target", "nope"]).await;
    assert!(code == 1 && text.contains("hint: there are: mq"), "{text}");
}

/// TLS for `localhost` in front of an HTTP server.
struct Terminator {
    folder: TempDir,
    port: u16,
    _task: JoinSet<()>,
}

impl Terminator {
    async fn start(server: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, server) = server.rsplit_once('@').expect("a url with a user");
        let mut task = JoinSet::new();
        task.spawn(terminate(listener, TlsAcceptor::from(Arc::new(config)), server.to_owned()));
        Self { folder, port, _task: task }
    }

    fn ca_file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// The url of the server behind it, by a name of this host.
    fn url(&self, host: &str, server: &str) -> String {
        let (user, _) = server.rsplit_once('@').expect("a url with a user");
        format!("{}@{host}:{}", user.replace("http://", "https://"), self.port)
    }
}

async fn terminate(listener: TcpListener, acceptor: TlsAcceptor, server: String) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, server) = (acceptor.clone(), server.clone());
        connections.spawn(async move {
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut server = TcpStream::connect(server).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_asked_is_refused_without_showing_it() {
    let consumer = Consumer::new().await;
    for wrong in ["ftp://ann:hush-hush@mq.internal", "https://ann:hush-hush@mq.internal/path"] {
        let asked = ["doctor", "--queue", "short", "--rabbitmq-management", wrong];
        let (code, text) = consumer.say(&asked).await;
        assert!(code == 2 && text.contains("hint: https://USER:PASSWORD@HOST:15671"), "{text}");
        assert!(!text.contains("hush-hush"), "{text}");
    }
    let (code, text) = consumer.say(&["doctor", "--queue", "short"]).await;
    assert!(code == 2 && text.contains("OUTBOX_RELAY_RABBITMQ_MANAGEMENT"), "{text}");
}

/// What stands between the user and the host.
fn password(url: &str) -> &str {
    let (user, _) = url.rsplit_once('@').expect("a url with a user");
    user.rsplit_once(':').expect("and a password").1
}
