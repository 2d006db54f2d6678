//! Kafka's own properties: which are passed on and which are refused.

use insta::assert_snapshot;
use outbox_relay::config::{BrokerConfig, KafkaConfig};
use secrecy::ExposeSecret;

use super::{DATABASE, Folder, KAFKA, accepted, refused};

fn kafka(lines: &str) -> KafkaConfig {
    let config = accepted(&format!("{DATABASE}{KAFKA}{lines}"));
    let BrokerConfig::Kafka(kafka) = config.targets[0].broker.clone() else { panic!("not Kafka") };
    kafka
}

fn property<'k>(kafka: &'k KafkaConfig, name: &str) -> Option<&'k str> {
    kafka.properties.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..])
}

#[test]
fn a_property_is_passed_on() {
    let kafka =
        kafka("properties = { \"message.max.bytes\" = \"8500000\", \"client.id\" = \"x\" }\n");
    assert_eq!(property(&kafka, "message.max.bytes"), Some("8500000"));
    assert_eq!(property(&kafka, "client.id"), Some("x"));
    assert_eq!(property(&kafka, "security.protocol"), Some("plaintext"));
}

#[test]
fn sasl_and_tls_become_properties() {
    let toml = format!(
        "{DATABASE}{KAFKA}sasl_mechanism = \"SCRAM-SHA-512\"\nsasl_username = \"relay\"\n\
         sasl_password_file = \"password\"\n[target.lake.tls]\nmode = \"verify-full\"\n\
         ca_file = \"ca.crt\"\n"
    );
    let folder = Folder::new(&toml).file("password", "secret\n").file("ca.crt", "");
    let config = folder.accepted(&[]);
    let BrokerConfig::Kafka(kafka) = &config.targets[0].broker else { panic!("not Kafka") };
    assert_eq!(property(kafka, "security.protocol"), Some("sasl_ssl"));
    assert_eq!(property(kafka, "sasl.mechanism"), Some("SCRAM-SHA-512"));
    assert_eq!(property(kafka, "sasl.username"), Some("relay"));
    assert_eq!(property(kafka, "ssl.endpoint.identification.algorithm"), Some("https"));
    assert!(property(kafka, "ssl.ca.location").unwrap().ends_with("/ca.crt"));
    let [(name, password)] = &kafka.secret_properties[..] else { panic!("one secret") };
    assert_eq!((&name[..], password.current().expose_secret()), ("sasl.password", "secret"));
}

#[test]
fn everything_the_relay_rests_on_is_refused() {
    for name in [
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "transactional.id",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "retries",
        "message.send.max.retries",
        "partitioner",
        "queue.buffering.max.messages",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.ms",
        "bootstrap.servers",
        "metadata.broker.list",
        "linger.ms",
        "compression.type",
        "compression.codec",
        "security.protocol",
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "sasl.oauthbearer.client.secret",
        "delivery.report.only.error",
        "allow.auto.create.topics",
        "statistics.interval.ms",
        "test.mock.num.brokers",
        "api.version.request",
        "queuing.strategy",
    ] {
        let message =
            refused(&format!("{DATABASE}{KAFKA}properties = {{ \"{name}\" = \"hunter2\" }}\n"));
        assert!(
            message.starts_with(&format!(
                "relay.toml:7:16: target.lake.properties.\"{name}\": cannot be set: "
            )) || message.starts_with(&format!(
                "relay.toml:7:16: target.lake.properties.{name}: cannot be set: "
            )),
            "{message}"
        );
        assert!(message.contains("\nhint: ") && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_property_that_a_promise_rests_on() {
    let toml = format!("{DATABASE}{KAFKA}properties = {{ acks = \"1\" }}\n");
    assert_snapshot!(refused(&toml), @"
    relay.toml:7:16: target.lake.properties.acks: cannot be set: a row is settled only when all in-sync replicas have it
    hint: take it out
    ");
}

#[test]
fn a_property_with_a_key_of_its_own() {
    let toml = format!("{DATABASE}{KAFKA}properties = {{ \"linger.ms\" = \"5\" }}\n");
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:7:16: target.lake.properties."linger.ms": cannot be set: it has a key of its own
    hint: set linger
    "#);
}

#[test]
fn a_property_that_is_not_known_shows_no_value_and_never_reaches_librdkafka() {
    let toml = format!("{DATABASE}{KAFKA}properties = {{ \"client.ids\" = \"hunter2\" }}\n");
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:7:16: target.lake.properties."client.ids": is none of the properties that can be set
    hint: did you mean "client.id"?
    "#);
    let toml = format!("{DATABASE}{KAFKA}properties = {{ \"sasl.passwords\" = \"hunter2\" }}\n");
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:7:16: target.lake.properties."sasl.passwords": is none of the properties that can be set
    hint: config/relay.toml names all of them, under [target.NAME] properties
    "#);
    // Names are those of librdkafka to the letter.
    for name in ["Plugin.Library.Paths", " ssl.engine.location", "ssl.engine.location ", ""] {
        let toml = format!("{DATABASE}{KAFKA}properties = {{ \"{name}\" = \"hunter2\" }}\n");
        assert!(refused(&toml).contains("is none of the properties that can be set"), "{name}");
    }
}

/// Librdkafka would open or run what this names, some of it as soon as the property is set.
#[test]
fn what_loads_code_runs_commands_or_weakens_tls_is_refused() {
    for name in [
        "ssl.engine.location",
        "ssl.engine.id",
        "ssl.providers",
        "plugin.library.paths",
        "interceptors",
        "sasl.kerberos.kinit.cmd",
        "sasl.kerberos.keytab",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.oauthbearer.assertion.private.key.file",
        "sasl.oauthbearer.config",
        "enable.sasl.oauthbearer.unsecure.jwt",
        "https.ca.location",
        "ssl.crl.location",
        "ssl.keystore.location",
        "enable.ssl.certificate.verification",
        "ssl.certificate.verify_cb",
        "ssl.endpoint.identification.algorithm",
        "ssl.cipher.suites",
        "client.dns.lookup",
        "debug",
    ] {
        let folder = Folder::new("");
        let file = folder.path().with_file_name("loaded.so");
        let toml = format!(
            "{DATABASE}{KAFKA}properties = {{ \"{name}\" = {:?} }}\n",
            file.display().to_string()
        );
        let message = Folder::new(&toml).refused(&[]);
        assert!(message.contains("cannot be set: ") && message.contains("\nhint: "), "{message}");
        assert!(!message.contains("loaded.so"), "{message}");
    }
}

#[test]
fn a_property_whose_value_librdkafka_refuses() {
    let toml = format!("{DATABASE}{KAFKA}properties = {{ \"message.max.bytes\" = \"1MB\" }}\n");
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:7:38: target.lake.properties."message.max.bytes": librdkafka refuses this value
    hint: properties and their values: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
    "#);
}

#[test]
fn a_property_that_is_no_text() {
    let toml = format!("{DATABASE}{KAFKA}properties = {{ \"message.max.bytes\" = 1000 }}\n");
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:7:38: target.lake.properties."message.max.bytes": expected text, found a whole number
    hint: librdkafka takes text: write the value in quotes
    "#);
}

#[test]
fn a_property_whose_name_is_not_quoted() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}properties.client.id = \"x\"\n")), @r#"
    relay.toml:7:12: target.lake.properties.client: expected text, found a table
    hint: a name with dots is one key: write it in quotes, "client.id"
    "#);
}

#[test]
fn properties_that_are_no_table() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}properties = \"acks=1\"\n")), @"
    relay.toml:7:14: target.lake.properties: expected a table, found text
    hint: write [target.lake.properties] on a line of its own and its keys below
    ");
}

#[test]
fn sasl_without_a_mechanism() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}sasl_username = \"relay\"\n")), @r#"
    relay.toml:3:9: target.lake.sasl_mechanism: a required key is missing
    hint: add sasl_mechanism = "SCRAM-SHA-512" to [target.lake], or set OUTBOX_RELAY__TARGET__LAKE__SASL_MECHANISM
    "#);
}

#[test]
fn sasl_without_user_and_password() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}sasl_mechanism = \"PLAIN\"\n")), @r#"
    relay.toml:3:9: target.lake.sasl_username: a required key is missing
    hint: add sasl_username = "relay" to [target.lake], or set OUTBOX_RELAY__TARGET__LAKE__SASL_USERNAME
    relay.toml:3:9: target.lake.sasl_password_file: a required key is missing
    hint: add sasl_password_file = "/etc/outbox-relay/kafka-password" to [target.lake], or set OUTBOX_RELAY__TARGET__LAKE__SASL_PASSWORD_FILE
    "#);
}

#[test]
fn a_mechanism_that_is_none() {
    let toml = format!(
        "{DATABASE}{KAFKA}sasl_mechanism = \"SCRAM-SHA-521\"\nsasl_username = \"relay\"\n\
         sasl_password = \"secret\"\n"
    );
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:7:18: target.lake.sasl_mechanism = "SCRAM-SHA-521": not one of "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"
    hint: write "PLAIN" or "SCRAM-SHA-256" or "SCRAM-SHA-512"
    "#);
}
