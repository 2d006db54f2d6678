//! Secrets: where they come from, and that they are in no message and no `Debug`.

use insta::assert_snapshot;
use outbox_relay::config::{BrokerConfig, Config};
use outbox_relay::secret::Secret;
use secrecy::ExposeSecret as _;

use super::{AMQP, DATABASE, Folder, KAFKA, accepted, refused};

fn exposed(secret: Option<&Secret>) -> Option<String> {
    secret.map(|secret| secret.current().expose_secret().to_owned())
}

fn database_password(config: &Config) -> Option<String> {
    exposed(config.database.password.as_ref())
}

#[test]
fn a_password_is_taken_out_of_its_url() {
    let config = accepted(&format!(
        "[database]\nurl = \"postgres://relay:p%40ss@db/app\"\n{}",
        AMQP.replace("relay@", "relay:word@")
    ));
    assert_eq!(config.database.url, "postgres://relay@db/app");
    assert_eq!(database_password(&config).as_deref(), Some("p@ss"));
    let BrokerConfig::Amqp(amqp) = &config.targets[0].broker else { panic!("not AMQP") };
    assert_eq!(amqp.url, "amqp://relay@mq");
    assert_eq!(exposed(amqp.password.as_ref()).as_deref(), Some("word"));
}

#[test]
fn a_password_is_read_from_a_file_without_its_newline() {
    let toml = format!("{DATABASE}password_file = \"password\"\n{AMQP}");
    for (content, password) in
        [("secret\n", "secret"), ("secret\r\n", "secret"), ("sec ret", "sec ret"), ("a\n\n", "a\n")]
    {
        let config = Folder::new(&toml).file("password", content).accepted(&[]);
        assert_eq!(database_password(&config).as_deref(), Some(password));
    }
    // What looks like a variable in a secret is a part of it.
    let config = Folder::new(&toml).file("password", "${HOME}").accepted(&[]);
    assert_eq!(database_password(&config).as_deref(), Some("${HOME}"));
}

#[test]
fn a_credential_of_systemd_is_read() {
    let toml = format!("{DATABASE}password_file = \"${{CREDENTIALS_DIRECTORY}}/db\"\n{AMQP}");
    let folder = Folder::new(&toml).file("db", "secret");
    let credentials = folder.path().parent().unwrap().display().to_string();
    let config = folder.accepted(&[("CREDENTIALS_DIRECTORY", &credentials)]);
    assert_eq!(database_password(&config).as_deref(), Some("secret"));
}

#[test]
fn a_password_comes_from_a_variable() {
    let toml = format!("{DATABASE}password = \"${{PASSWORD}}\"\n{AMQP}");
    let config = Folder::new(&toml).accepted(&[("PASSWORD", "$${x}")]);
    assert_eq!(database_password(&config).as_deref(), Some("$${x}"));
}

#[test]
fn no_secret_is_in_the_debug_of_a_configuration() {
    let toml = format!(
        "[database]\nurl = \"postgres://relay:hunter2@db/app\"\n{}password = \"${{AMQP}}\"\n\
         {KAFKA}sasl_mechanism = \"PLAIN\"\nsasl_username = \"relay\"\n\
         sasl_password_file = \"password\"\n",
        AMQP
    );
    let folder = Folder::new(&toml).file("password", "hunter2-kafka");
    let config = folder.accepted(&[("AMQP", "hunter2-amqp")]);
    for debug in [format!("{config:?}"), format!("{config:#?}")] {
        assert!(!debug.contains("hunter2"), "{debug}");
        assert!(debug.contains("REDACTED"), "{debug}");
    }
}

/// Whatever is wrong around a secret, it is in no message.
#[test]
fn no_secret_is_in_a_message() {
    for toml in [
        "[database]\nurl = \"postgres://relay:hunter2@db/app\"\npassword = \"hunter2\"\n",
        "[database]\nurl = \"postgres://relay:hunter2@db:x/app\"\n",
        "[database]\nurl = \"postgres://relay:hunter2\"\n",
        "[database]\nurl = \"postgres://relay:hunter2/x@db/app\"\n",
        "[database]\nurl = \"postgres://relay:a?hunter2&hunter2=1\"\n",
        "[database]\nurl = \"relay hunter2\"\n",
        "[database]\nurl = [\"hunter2\"]\n",
        "[database]\npasswords = \"hunter2\"\n",
        "[database]\npassword = { value = \"hunter2\" }\n",
        "[database]\npassword = [\"hunter2\"]\n",
        "[database]\npassword = \"hunter2${\"\n",
        "[database]\npassword = 'hunter2\n",
        "[database]\npassword = hunter2\n",
        "database = \"hunter2\"\n",
        "[target.x]\nkind = \"kafka\"\npassword = \"hunter2\"\n",
        "[target.x]\nkind = \"kafka\"\nsasl_password = \"hunter2\"\n",
        "[target.x]\nkind = \"kafka\"\nproperties = { \"sasl.password\" = \"hunter2\" }\n",
        "[target.x]\nkind = \"kafka\"\nproperties = { \"ssl.key.passwords\" = \"hunter2\" }\n",
        "[target.x]\nkind = \"kafka\"\nproperties = \"hunter2\"\n",
        "[target.x]\nkind = \"amqp\"\nurl = \"amqp://relay:hunter2@mq:x\"\n",
        "[target.x]\nkind = \"amqp\"\nurl = \"amqp://relay:hunter2@mq/\"\n",
        "[target.x]\nkind = \"amqp\"\nurl = \"amqp://relay:hunter2@m q\"\n",
        "[target.x]\nkind = \"amqp\"\nurl = \"amqp://relay:hunter2 mq\"\n",
    ] {
        let folder = Folder::new(toml);
        let error = Config::load_with(&folder.path(), [("", ""); 0]).unwrap_err();
        let message = format!("{error}\n{error:?}");
        assert!(!message.contains("hunter2"), "{toml}\n{message}");
    }
    let folder = Folder::new(AMQP);
    for variable in [
        "OUTBOX_RELAY__DATABASE__URL",
        "OUTBOX_RELAY__DATABASE__PASSWORDS",
        "OUTBOX_RELAY__DATABASE",
        "OUTBOX_RELAY__TARGET__ORDERS__SASL_PASSWORD",
        "OUTBOX_RELAY__TARGET__ORDERS__PROPERTIES",
        "OUTBOX_RELAY__PASSWORD",
    ] {
        let message = folder.refused(&[(variable, "hunter2")]);
        assert!(!message.contains("hunter2"), "{variable}\n{message}");
    }
}

#[test]
fn a_password_and_a_file() {
    let toml = format!("{DATABASE}password = \"hunter2\"\npassword_file = \"password\"\n{AMQP}");
    assert_snapshot!(Folder::new(&toml).file("password", "x").refused(&[]), @"
    relay.toml:4:1: database.password_file: password is given as well
    hint: keep one of password and password_file
    ");
}

#[test]
fn a_password_in_the_url_and_another_one() {
    let toml = format!("[database]\nurl = \"postgres://relay:a@db/app\"\npassword = \"b\"\n{AMQP}");
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:2:7: database.url = "postgres://…": holds a password, and another one is given
    hint: take the password out of the url
    "#);
}

#[test]
fn an_empty_password() {
    assert_snapshot!(refused(&format!("{DATABASE}password = \"\"\n{AMQP}")), @"
    relay.toml:3:12: database.password: must not be empty
    hint: leave password out if there is none
    ");
}

#[test]
fn a_password_that_is_a_number() {
    assert_snapshot!(refused(&format!("{DATABASE}password = 1234\n{AMQP}")), @"
    relay.toml:3:12: database.password: expected text, found a whole number
    hint: write it in quotes
    ");
}

#[test]
fn a_secret_file_that_is_not_there() {
    assert_snapshot!(refused(&format!("{DATABASE}password_file = \"password\"\n{AMQP}")), @r#"
    relay.toml:3:17: database.password_file = "password": cannot use this file: No such file or directory (os error 2)
    hint: name a regular file that the relay's user can read and that holds the secret alone; with systemd: LoadCredential= and "${CREDENTIALS_DIRECTORY}/NAME"
    "#);
}

#[test]
fn a_secret_file_that_is_empty() {
    let folder = Folder::new(&format!("{DATABASE}password_file = \"password\"\n{AMQP}"));
    assert_snapshot!(folder.file("password", "\n").refused(&[]), @r#"
    relay.toml:3:17: database.password_file = "password": cannot use this file: it is empty
    hint: name a regular file that the relay's user can read and that holds the secret alone; with systemd: LoadCredential= and "${CREDENTIALS_DIRECTORY}/NAME"
    "#);
}

#[test]
fn a_secret_file_that_is_a_folder() {
    assert_snapshot!(refused(&format!("{DATABASE}password_file = \".\"\n{AMQP}")), @r#"
    relay.toml:3:17: database.password_file = ".": cannot use this file: it is a directory, not a file
    hint: name a regular file that the relay's user can read and that holds the secret alone; with systemd: LoadCredential= and "${CREDENTIALS_DIRECTORY}/NAME"
    "#);
}

#[test]
fn a_secret_file_that_is_too_large() {
    let folder = Folder::new(&format!("{DATABASE}password_file = \"password\"\n{AMQP}"));
    assert_snapshot!(folder.file("password", "x".repeat(70_000)).refused(&[]), @r#"
    relay.toml:3:17: database.password_file = "password": cannot use this file: it is larger than 65536 bytes
    hint: name a regular file that the relay's user can read and that holds the secret alone; with systemd: LoadCredential= and "${CREDENTIALS_DIRECTORY}/NAME"
    "#);
}

#[test]
fn a_secret_file_that_is_not_text() {
    let folder = Folder::new(&format!("{DATABASE}password_file = \"password\"\n{AMQP}"));
    assert_snapshot!(folder.file("password", b"\xff\xfe").refused(&[]), @r#"
    relay.toml:3:17: database.password_file = "password": cannot use this file: it is not UTF-8
    hint: name a regular file that the relay's user can read and that holds the secret alone; with systemd: LoadCredential= and "${CREDENTIALS_DIRECTORY}/NAME"
    "#);
}

#[test]
fn a_credentials_folder_that_is_not_set() {
    let toml = format!("{DATABASE}password_file = \"${{CREDENTIALS_DIRECTORY}}/db\"\n{AMQP}");
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:3:17: database.password_file = "${CREDENTIALS_DIRECTORY}/db": the environment variable CREDENTIALS_DIRECTORY is not set
    hint: set CREDENTIALS_DIRECTORY to UTF-8 text in the environment of the relay, or write the value
    "#);
}
