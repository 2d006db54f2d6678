//! Overrides by the environment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use insta::assert_snapshot;
use outbox_relay::config::{BrokerConfig, Config, LogFormat, TlsMode};

use super::{AMQP, DATABASE, Folder, KAFKA};

fn folder() -> Folder {
    Folder::new(&format!("{DATABASE}{AMQP}"))
}

#[test]
fn a_variable_overrides_a_key() {
    let config = folder().accepted(&[
        ("OUTBOX_RELAY__DATABASE__URL", "postgres://other@elsewhere/app"),
        ("OUTBOX_RELAY__SOURCE__BATCH_ROWS_MAX", "500"),
        ("OUTBOX_RELAY__RETENTION__KEEP", "1h"),
        ("OUTBOX_RELAY__LOG__FORMAT", "json"),
        ("OUTBOX_RELAY__TARGET__ORDERS__URL", "amqps://other@elsewhere"),
        ("OUTBOX_RELAY__TARGET__ORDERS__TLS__MODE", "verify-full"),
        ("OUTBOX_RELAY__TARGET__ORDERS__ATTEMPTS_MAX", "3"),
        ("OUTBOX_RELAY_CONFIG", "is another variable"),
    ]);
    assert_eq!(config.database.url, "postgres://other@elsewhere/app");
    assert_eq!(config.source.batch_rows_max, 500);
    assert_eq!(config.retention.keep, Duration::from_secs(3_600));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.targets[0].attempts_max, 3);
    let BrokerConfig::Amqp(amqp) = &config.targets[0].broker else { panic!("not AMQP") };
    assert_eq!((&amqp.url[..], amqp.tls.mode), ("amqps://other@elsewhere", TlsMode::VerifyFull));
}

#[test]
fn a_whole_target_comes_from_the_environment() {
    let config = Folder::new("").accepted(&[
        ("OUTBOX_RELAY__DATABASE__URL", "postgres://relay@db/app"),
        ("OUTBOX_RELAY__TARGET__LAKE__KIND", "kafka"),
        ("OUTBOX_RELAY__TARGET__LAKE__BROKERS", "kafka:9092"),
        ("OUTBOX_RELAY__TARGET__LAKE__PROPERTIES", "{ \"client.id\" = \"${x}\" }"),
        (
            "OUTBOX_RELAY__TARGET__LAKE__ROUTE",
            "[{ topic = \"*\", kafka_topic = \"{{ topic }}\", headers = { a = \"b\" } }]",
        ),
    ]);
    let BrokerConfig::Kafka(kafka) = &config.targets[0].broker else { panic!("not Kafka") };
    assert!(kafka.properties.contains(&("client.id".to_owned(), "${x}".to_owned())));
    assert_eq!(config.targets[0].routes.len(), 1);
}

#[test]
fn properties_are_added_to_those_of_the_file_and_routes_replace_them() {
    let toml = format!(
        "{DATABASE}{KAFKA}properties = {{ \"client.id\" = \"a\", \"batch.size\" = \"1000\" }}\n"
    );
    let config = Folder::new(&toml).accepted(&[
        ("OUTBOX_RELAY__TARGET__LAKE__PROPERTIES", "{ \"client.id\" = \"b\" }"),
        (
            "OUTBOX_RELAY__TARGET__LAKE__ROUTE",
            "[{ topic = \"a\", kafka_topic = \"t\" }, { topic = \"b\", kafka_topic = \"t\" }]",
        ),
    ]);
    let BrokerConfig::Kafka(kafka) = &config.targets[0].broker else { panic!("not Kafka") };
    for (name, value) in [("client.id", "b"), ("batch.size", "1000")] {
        assert!(kafka.properties.contains(&(name.to_owned(), value.to_owned())), "{name}");
    }
    assert_eq!(config.targets[0].routes.len(), 2);
}

#[test]
fn a_value_from_the_environment_is_taken_as_it_is() {
    let config = folder().accepted(&[
        ("OUTBOX_RELAY__DATABASE__PASSWORD", "a${b}"),
        ("OUTBOX_RELAY__LOG__LEVEL", "debug"),
    ]);
    assert_eq!(config.log.level, "debug");
    assert!(config.database.password.is_some());
}

#[test]
fn a_name_with_two_underscores_is_found() {
    let toml = format!("{DATABASE}{}", AMQP.replace("target.orders", "target.a__b"));
    let config = Folder::new(&toml).accepted(&[("OUTBOX_RELAY__TARGET__A__B__ATTEMPTS_MAX", "3")]);
    assert_eq!((&config.targets[0].name[..], config.targets[0].attempts_max), ("a__b", 3));
}

#[test]
fn the_log_level_of_rust_log_counts_more_than_the_file() {
    let folder = Folder::new(&format!("{DATABASE}{AMQP}[log]\nlevel = \"warn\"\n"));
    let level = |environment: &[(&str, &str)]| folder.accepted(environment).log.level;
    assert_eq!(level(&[]), "warn");
    assert_eq!(level(&[("RUST_LOG", "")]), "warn");
    assert_eq!(level(&[("RUST_LOG", "outbox_relay=debug")]), "outbox_relay=debug");
    let both = [("RUST_LOG", "debug"), ("OUTBOX_RELAY__LOG__LEVEL", "error")];
    assert_eq!(level(&both), "error");
}

#[test]
fn a_wrong_rust_log() {
    assert_snapshot!(folder().refused(&[("RUST_LOG", "outbox_relay=loud")]), @r#"
    environment variable RUST_LOG: not a filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
    hint: write a level (error, warn, info, debug, trace) or a filter such as "info,outbox_relay=debug"
    "#);
}

#[test]
fn an_unknown_key() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__SOURCE__BATCH_ROW_MAX", "5")]), @"
    environment variable OUTBOX_RELAY__SOURCE__BATCH_ROW_MAX: source.batch_row_max: unknown key
    hint: did you mean `batch_rows_max`?
    ");
}

#[test]
fn an_unknown_table() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__DATABASES__URL", "x")]), @"
    environment variable OUTBOX_RELAY__DATABASES__URL: databases: unknown key
    hint: did you mean `database`?
    ");
}

#[test]
fn a_name_that_is_no_key() {
    let environment = [("OUTBOX_RELAY__source__mode", "x"), ("OUTBOX_RELAY__", "x")];
    assert_snapshot!(folder().refused(&environment), @"
    environment variable OUTBOX_RELAY__: not the name of a key
    hint: write OUTBOX_RELAY__TARGET__ORDERS__URL for target.orders.url
    environment variable OUTBOX_RELAY__source__mode: not the name of a key
    hint: write OUTBOX_RELAY__TARGET__ORDERS__URL for target.orders.url
    ");
}

#[test]
fn a_number_that_is_none() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__SOURCE__BATCH_ROWS_MAX", "many")]), @r#"
    environment variable OUTBOX_RELAY__SOURCE__BATCH_ROWS_MAX: source.batch_rows_max = "many": expected a whole number, found text
    hint: write a number without quotes, such as 2000
    "#);
}

#[test]
fn a_number_out_of_range() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__SOURCE__BATCH_ROWS_MAX", "0")]), @r#"
    environment variable OUTBOX_RELAY__SOURCE__BATCH_ROWS_MAX: source.batch_rows_max = "0": must be between 1 and 100000
    hint: write a number without quotes, such as 2000
    "#);
}

#[test]
fn a_duration_that_is_none() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__LEASE__TTL", "5")]), @r#"
    environment variable OUTBOX_RELAY__LEASE__TTL: lease.ttl = "5": not a duration: time unit needed, for example 5sec or 5ms
    hint: write a number with a unit: "500ms", "10s", "5m", "12h" or "7d"
    "#);
}

#[test]
fn a_value_for_a_table() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__SOURCE", "poll")]), @"
    environment variable OUTBOX_RELAY__SOURCE: source: expected a table, found text
    hint: write [source] on a line of its own and its keys below
    ");
}

#[test]
fn a_key_below_a_value() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__DATABASE__URL__X", "y")]), @"
    environment variable OUTBOX_RELAY__DATABASE__URL__X: database.url.x: database.url is a single value and has no keys
    hint: set OUTBOX_RELAY__DATABASE__URL
    ");
}

#[test]
fn a_route_that_is_not_toml() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__TARGET__ORDERS__ROUTE", "* to orders")]), @r#"
    environment variable OUTBOX_RELAY__TARGET__ORDERS__ROUTE: target.orders.route = "* to orders": not a TOML value: string values must be quoted, expected literal string
    hint: write it as in the file, on one line: [{ topic = "…", … }] or { "a.b" = "c" }
    "#);
}

#[test]
fn a_route_with_an_unknown_key() {
    let route = "[{ topic = \"*\", exchange = \"e\", routing = \"k\" }]";
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__TARGET__ORDERS__ROUTE", route)]), @"
    environment variable OUTBOX_RELAY__TARGET__ORDERS__ROUTE: target.orders.route[0].routing: unknown key
    hint: known keys here: topic, type, exchange, routing_key, mandatory, kafka_topic, headers
    ");
}

#[test]
fn a_target_that_lacks_a_key() {
    assert_snapshot!(folder().refused(&[("OUTBOX_RELAY__TARGET__LAKE__KIND", "kafka")]), @r#"
    environment variable OUTBOX_RELAY__TARGET__LAKE__KIND: target.lake.brokers: a required key is missing
    hint: add brokers = "kafka:9092" to [target.lake], or set OUTBOX_RELAY__TARGET__LAKE__BROKERS
    environment variable OUTBOX_RELAY__TARGET__LAKE__KIND: target.lake.route: a required key is missing
    hint: add route = [{ topic = "*", kafka_topic = "{{ topic }}" }] to [target.lake], or set OUTBOX_RELAY__TARGET__LAKE__ROUTE
    "#);
}

#[test]
fn a_value_that_is_not_utf8() {
    let folder = folder();
    let odd = OsString::from_vec(b"\xff".to_vec());
    let error = Config::load_with(&folder.path(), [("OUTBOX_RELAY__LOG__LEVEL", odd)]).unwrap_err();
    assert_snapshot!(error, @"
    environment variable OUTBOX_RELAY__LOG__LEVEL: log.level: not UTF-8
    hint: write the value in UTF-8
    ");
}
