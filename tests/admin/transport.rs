//! What `check` says of servers that are reached in plain text: hosts, and none of this machine.

use std::fs;

use outbox_relay::admin::check::in_plain_text;
use outbox_relay::config::Config;

const DATABASE: &str = "[database]\nurl = \"postgres://u@127.0.0.1/app\"\n";

fn amqp(url: &str) -> String {
    format!(
        "{DATABASE}[target.mq]\nkind = \"amqp\"\nurl = {url:?}\n\
         route = [{{ topic = \"*\", exchange = \"x\" }}]\n"
    )
}

fn kafka(brokers: &str, more: &str) -> String {
    format!(
        "{DATABASE}[target.lake]\nkind = \"kafka\"\nbrokers = {brokers:?}\n{more}\
         route = [{{ topic = \"*\", kafka_topic = \"t\" }}]\n"
    )
}

/// The warnings about a configuration, subject and detail.
fn said(toml: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    fs::write(&path, toml).unwrap();
    let config = Config::load_with(&path, [("", ""); 0]).expect("it is accepted");
    let found = in_plain_text(&config);
    found.iter().map(|finding| format!("{}: {}", finding.subject, finding.detail)).collect()
}

/// Issue 17, case 44: it named the user, or nothing, or was silent of a host on the network.
#[test]
fn a_host_is_named_and_no_user_and_none_of_this_machine() {
    let with_password = |host: &str| {
        vec![format!(
            "target mq: {host} is reached in plain text: messages and password can be read on the way"
        )]
    };
    for (url, expected) in [
        ("amqp://outbox:pw@127.0.0.1:45691", vec![]),
        ("amqp://outbox:pw@127.0.0.1:45691//", vec![]),
        ("amqp://outbox:pw@[::1]:45691/%2f", vec![]),
        ("amqp://localhost:x@mq.example.org:5672", with_password("mq.example.org")),
        ("amqp://localhost:x@mq.example.org/localhost", with_password("mq.example.org")),
        ("amqp://u@[2001:db8::1]:5672/v", with_password("2001:db8::1")),
        ("amqps://u@mq.example.org", vec![]),
    ] {
        assert_eq!(said(&amqp(url)), expected, "{url}");
    }
}

#[test]
fn every_broker_and_every_database_counts() {
    let plain = "k1, k2 are reached in plain text: messages can be read on the way";
    let brokers = "127.0.0.1:9092,k1:9092, k2:9093,[::1]:9092";
    assert_eq!(said(&kafka(brokers, "")), [format!("target lake: {plain}")]);
    assert_eq!(said(&kafka("localhost:9092", "")), [""; 0]);
    let sasl = "sasl_mechanism = \"PLAIN\"\nsasl_username = \"u\"\nsasl_password = \"p\"\n";
    let password = "k1 is reached in plain text: messages and password can be read on the way";
    assert_eq!(said(&kafka("k1", sasl)), [format!("target lake: {password}")]);
    let tls = "tls = { mode = \"verify-full\" }\n";
    assert_eq!(said(&kafka(brokers, tls)), [""; 0]);
    // Databases: several hosts, sockets, and those of consumers' inboxes.
    let local = kafka("localhost", "");
    let database = |url: &str| local.replace("postgres://u@127.0.0.1/app", url);
    let expected = "database: db1, db2 are reached in plain text: messages can be read on the way";
    assert_eq!(said(&database("postgres://u@db1,localhost,db2:5433/app")), [expected]);
    assert_eq!(said(&database("postgres://u@%2Frun%2Fpostgresql/app")), [""; 0]);
    let inbox = format!("{local}[inbox.billing.database]\nurl = \"postgres://u@db3/app\"\n");
    let expected = "inbox billing: db3 is reached in plain text: messages can be read on the way";
    assert_eq!(said(&inbox), [expected]);
}
