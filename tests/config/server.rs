//! Mistakes about servers: urls, brokers, TLS.

use insta::assert_snapshot;

use super::{AMQP, DATABASE, Folder, KAFKA, refused};

#[test]
fn no_database_url() {
    assert_snapshot!(refused(&format!("[database]\nschema = \"outbox\"\n{AMQP}")), @r#"
    relay.toml:1:2: database.url: a required key is missing
    hint: add url = "postgres://relay@db/app" to [database], or set OUTBOX_RELAY__DATABASE__URL
    "#);
}

#[test]
fn an_empty_database_url() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url: must not be empty
    hint: write url = "postgres://relay@db/app"
    "#);
}

#[test]
fn a_database_url_of_something_else() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"mysql://relay:secret@db/app\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url = "mysql://…": must begin with postgres:// or postgresql://
    hint: write it as postgres://USER@HOST:PORT/…
    "#);
}

#[test]
fn a_database_url_in_the_other_form() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"host=db user=relay password=secret\"\n{AMQP}")), @"
    relay.toml:2:7: database.url: must begin with postgres:// or postgresql://
    hint: write it as postgres://USER@HOST:PORT/…
    ");
}

#[test]
fn a_database_url_with_a_bad_port() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"postgres://relay:secret@db:many/app\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url = "postgres://…": not a connection url: invalid value for option `port`
    hint: write it as "postgres://relay@db/app"
    "#);
}

#[test]
fn a_database_url_without_a_user() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"postgres://db/app\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url = "postgres://…": names no user
    hint: write it as "postgres://relay@db/app"
    "#);
}

#[test]
fn a_database_url_with_an_unknown_parameter() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"postgres://relay@db/app?gssencmode=disable\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url = "postgres://…": not a connection url: unknown option `gssencmode`
    hint: take the parameter out of the url; known are application_name, options, keepalives, target_session_attrs, load_balance_hosts, channel_binding and tcp_user_timeout
    "#);
}

#[test]
fn a_database_url_with_a_parameter_that_is_a_key() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"postgres://relay@db/app?sslmode=require\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url = "postgres://…": holds the parameter sslmode, which has a key of its own
    hint: take it out of the url and set database.tls.mode
    "#);
    assert_snapshot!(refused(&format!("[database]\nurl = \"postgres://relay@db/app?sslcert=client.crt\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url = "postgres://…": holds the parameter sslcert, which has a key of its own
    hint: take it out of the url and set database.tls.cert_file
    "#);
}

#[test]
fn a_database_url_whose_password_is_not_escaped() {
    assert_snapshot!(refused(&format!("[database]\nurl = \"postgres://relay:sec/ret@db/app\"\n{AMQP}")), @r#"
    relay.toml:2:7: database.url = "postgres://…": holds an @ after the host
    hint: a /, ?, #, @ or : in a password is written %2F, %3F, %23, %40 or %3A; better, put the password into password_file
    "#);
}

#[test]
fn a_database_url_from_a_variable_shows_the_variable() {
    let folder = Folder::new(&format!("[database]\nurl = \"${{PG}}\"\n{AMQP}"));
    assert_snapshot!(folder.refused(&[("PG", "mysql://relay:secret@db/app")]), @r#"
    relay.toml:2:7: database.url = "${PG}": must begin with postgres:// or postgresql://
    hint: write it as postgres://USER@HOST:PORT/…
    "#);
}

#[test]
fn no_kind() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nurl = \"amqp://mq\"\n")), @r#"
    relay.toml:3:9: target.x.kind: a required key is missing
    hint: add kind = "amqp" (or "kafka") to [target.x], or set OUTBOX_RELAY__TARGET__X__KIND
    "#);
}

#[test]
fn an_unknown_kind() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"rabbitmq\"\n")), @r#"
    relay.toml:4:8: target.x.kind = "rabbitmq": not one of "amqp", "kafka"
    hint: write "amqp" or "kafka"
    "#);
}

#[test]
fn a_misspelt_kind() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafak\"\n")), @r#"
    relay.toml:4:8: target.x.kind = "kafak": not one of "amqp", "kafka"
    hint: did you mean "kafka"?
    "#);
}

#[test]
fn an_amqp_target_without_a_url() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nroute = [{{ topic = \"*\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:3:9: target.x.url: a required key is missing
    hint: add url = "amqps://relay@mq/%2f" to [target.x], or set OUTBOX_RELAY__TARGET__X__URL
    "#);
}

#[test]
fn an_amqp_url_of_something_else() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"http://mq\"\nroute = [{{ topic = \"*\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:5:7: target.x.url = "http://…": must begin with amqp:// or amqps://
    hint: write it as amqp://USER@HOST:PORT/…
    "#);
}

#[test]
fn an_amqp_url_with_a_bad_port() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://relay:secret@mq:many\"\nroute = [{{ topic = \"*\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:5:7: target.x.url = "amqp://…": not a connection url
    hint: write it as "amqps://relay@mq/%2f"
    "#);
}

#[test]
fn an_amqp_url_whose_virtual_host_is_empty() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://relay@mq/\"\nroute = [{{ topic = \"*\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:5:7: target.x.url = "amqp://…": names the virtual host ""
    hint: the usual virtual host is written %2f: "amqps://relay@mq/%2f"
    "#);
}

#[test]
fn an_amqp_url_with_a_parameter_that_is_a_key() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://relay@mq?heartbeat=2\"\nroute = [{{ topic = \"*\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:5:7: target.x.url = "amqp://…": holds the parameter heartbeat, which has a key of its own
    hint: take it out of the url and set heartbeat
    "#);
}

#[test]
fn a_heartbeat_in_parts_of_a_second() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}heartbeat = \"1500ms\"\n")), @r#"
    relay.toml:7:13: target.orders.heartbeat = "1500ms": must be whole seconds
    hint: the protocol counts heartbeats in seconds
    "#);
}

#[test]
fn a_kafka_target_without_brokers() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nroute = [{{ topic = \"*\", kafka_topic = \"t\" }}]\n")), @r#"
    relay.toml:3:9: target.x.brokers: a required key is missing
    hint: add brokers = "kafka:9092" to [target.x], or set OUTBOX_RELAY__TARGET__X__BROKERS
    "#);
}

#[test]
fn brokers_that_are_a_url() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"kafka://k:9092\"\nroute = [{{ topic = \"*\", kafka_topic = \"t\" }}]\n")), @r#"
    relay.toml:5:11: target.x.brokers = "kafka://k:9092": not a list of addresses
    hint: write HOST:PORT, several with commas between them: "k1:9092,k2:9092"
    "#);
}

#[test]
fn brokers_with_a_bad_port() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k1:9092,k2:many\"\nroute = [{{ topic = \"*\", kafka_topic = \"t\" }}]\n")), @r#"
    relay.toml:5:11: target.x.brokers = "k1:9092,k2:many": not a list of addresses
    hint: write HOST:PORT, several with commas between them: "k1:9092,k2:9092"
    "#);
}

#[test]
fn keys_of_kafka_in_an_amqp_target() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}brokers = \"k:9092\"\nproperties = {{}}\n")), @r#"
    relay.toml:7:1: target.orders.brokers: belongs to a target of kind = "kafka"
    hint: a target of kind = "amqp" has url, password_file and heartbeat
    relay.toml:8:1: target.orders.properties: belongs to a target of kind = "kafka"
    hint: a target of kind = "amqp" has url, password_file and heartbeat
    "#);
}

#[test]
fn keys_of_amqp_in_a_kafka_target() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}url = \"amqp://relay:secret@mq\"\nheartbeat = \"5s\"\n")), @r#"
    relay.toml:7:1: target.lake.url: belongs to a target of kind = "amqp"
    hint: a target of kind = "kafka" has brokers and sasl_… keys
    relay.toml:8:1: target.lake.heartbeat: belongs to a target of kind = "amqp"
    hint: a target of kind = "kafka" has brokers and sasl_… keys
    "#);
}

#[test]
fn a_compression_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}compression = \"gzip9\"\n")), @r#"
    relay.toml:7:15: target.lake.compression = "gzip9": not one of "none", "gzip", "snappy", "lz4", "zstd"
    hint: did you mean "gzip"?
    "#);
}

#[test]
fn an_unrouted_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}unrouted = \"drop\"\n")), @r#"
    relay.toml:7:12: target.lake.unrouted = "drop": not one of "settle", "wait", "stop"
    hint: write "settle" or "wait" or "stop"
    "#);
}

#[test]
fn a_start_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}start = \"latest\"\n")), @r#"
    relay.toml:7:9: target.lake.start = "latest": not one of "earliest", "now"
    hint: write "earliest" or "now"
    "#);
}

#[test]
fn a_tls_mode_that_does_not_verify() {
    assert_snapshot!(refused(&format!("{DATABASE}[database.tls]\nmode = \"require\"\n{AMQP}")), @r#"
    relay.toml:4:8: database.tls.mode = "require": not one of "disable", "verify-full"
    hint: write "disable" or "verify-full"
    "#);
}

#[test]
fn a_tls_file_without_tls() {
    assert_snapshot!(refused(&format!("{DATABASE}[database.tls]\nca_file = \"ca.crt\"\n{AMQP}")), @r#"
    relay.toml:4:1: database.tls.ca_file: has no effect while tls.mode is "disable"
    hint: write mode = "verify-full", or take this key out
    "#);
}

#[test]
fn a_tls_file_that_is_not_there() {
    assert_snapshot!(refused(&format!("{DATABASE}[database.tls]\nmode = \"verify-full\"\nca_file = \"ca.crt\"\n{AMQP}")), @r#"
    relay.toml:5:11: database.tls.ca_file = "ca.crt": cannot use ca.crt: No such file or directory (os error 2)
    hint: name a regular file that the relay's user can read; a relative path counts from the folder of the configuration file
    "#);
}

#[test]
fn a_tls_file_that_is_a_folder() {
    assert_snapshot!(refused(&format!("{DATABASE}[database.tls]\nmode = \"verify-full\"\nca_file = \".\"\n{AMQP}")), @r#"
    relay.toml:5:11: database.tls.ca_file = ".": cannot use .: it is a directory, not a file
    hint: name a regular file that the relay's user can read; a relative path counts from the folder of the configuration file
    "#);
}

#[test]
fn a_certificate_without_a_key() {
    let toml =
        format!("{DATABASE}[database.tls]\nmode = \"verify-full\"\ncert_file = \"c.crt\"\n{AMQP}");
    assert_snapshot!(Folder::new(&toml).file("c.crt", "").refused(&[]), @r#"
    relay.toml:3:11: database.tls.key_file: a required key is missing
    hint: add key_file = "client.key" to [database.tls], or set OUTBOX_RELAY__DATABASE__TLS__KEY_FILE
    "#);
}

#[test]
fn a_key_without_a_certificate() {
    let toml =
        format!("{DATABASE}[database.tls]\nmode = \"verify-full\"\nkey_file = \"c.key\"\n{AMQP}");
    assert_snapshot!(Folder::new(&toml).file("c.key", "").refused(&[]), @r#"
    relay.toml:3:11: database.tls.cert_file: a required key is missing
    hint: add cert_file = "client.crt" to [database.tls], or set OUTBOX_RELAY__DATABASE__TLS__CERT_FILE
    "#);
}

#[test]
fn a_tls_mode_that_contradicts_the_url() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}tls.mode = \"verify-full\"\n")), @r#"
    relay.toml:7:12: target.orders.tls.mode = "verify-full": contradicts the url, which is amqp://
    hint: write amqps:// in url, or leave tls.mode out
    "#);
}

#[test]
fn a_url_with_tls_and_a_mode_without() {
    assert_snapshot!(refused(&format!("{DATABASE}{}tls.mode = \"disable\"\n", AMQP.replace("amqp://", "amqps://"))), @r#"
    relay.toml:7:12: target.orders.tls.mode = "disable": contradicts the url, which is amqps://
    hint: write amqp:// in url, or leave tls.mode out
    "#);
}
