//! Why PostgreSQL does not let the relay in, by what it calls for: waiting, or a person.
//!
//! This is about connecting alone. docs/reactions/postgresql.md has the same table in words.

use tokio_postgres::error::DbError;

use super::{DatabaseError, describe};
use crate::cause::Cause;
use crate::config::DatabaseConfig;
use crate::tls;

const LIMIT_HINT: &str = "end sessions, or raise max_connections or the CONNECTION LIMIT of the \
                          role or of the database; a relay holds two sessions a target, and four";

/// What an error of connecting means. `None` of the hints names a password.
pub(super) fn refusal(config: &DatabaseConfig, error: &tokio_postgres::Error) -> DatabaseError {
    let reason = describe(error);
    if let Some(said) = error.as_db_error() {
        return match reaction(said.code().code()) {
            Reaction::Wait => DatabaseError::Unavailable(reason),
            Reaction::WaitForRoom => {
                DatabaseError::Unavailable(Cause::new(reason, LIMIT_HINT).text())
            }
            Reaction::Stop(about) => stop(reason, about.hint(config, said)),
        };
    }
    if let Some(trouble) = tls::found_in(error) {
        let Cause { reason, hint } = trouble.cause("database.tls.");
        return stop(format!("TLS: {reason}"), hint.unwrap_or_default());
    }
    if reason.contains("password missing") {
        let hint = "set database.password_file; the server wants a password";
        return stop(reason, hint.to_owned());
    }
    if reason.contains("server does not support TLS") {
        let hint = "switch TLS on at the server (ssl = on), or, on a network that nobody else \
                    reads, write mode = \"disable\" under [database.tls]";
        return stop(reason, hint.to_owned());
    }
    match reason.as_str() {
        text if text.starts_with("invalid configuration") => {
            stop(reason, "check `url` under [database]".to_owned())
        }
        text if text.starts_with("authentication error") => stop(reason, credentials_hint(config)),
        _ => DatabaseError::Unavailable(reason),
    }
}

/// Whether another password may do.
pub(super) fn is_about_password(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => code.code().starts_with("28"),
        None => error.to_string().starts_with("authentication error"),
    }
}

fn stop(reason: String, hint: String) -> DatabaseError {
    DatabaseError::Configuration { reason, hint: hint.into() }
}

fn credentials_hint(config: &DatabaseConfig) -> String {
    let password = match config.password.as_ref().and_then(|password| password.file()) {
        Some(file) => format!("the password in {}", file.display()),
        None => "its password".to_owned(),
    };
    format!("check the user in database.url, {password}, and pg_hba.conf")
}

/// What a SQLSTATE calls for while connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// It passes by itself.
    Wait,
    /// It passes when somebody else's session ends; a person can make room.
    WaitForRoom,
    /// A person has to change something. (It is tried again all the same.)
    Stop(About),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Credentials,
    Database,
    Closed,
    Connect,
    Parameter,
    Server,
}

impl About {
    fn hint(self, config: &DatabaseConfig, said: &DbError) -> String {
        match self {
            // The function that raised it is the same in every language of the messages.
            Self::Credentials if said.routine() == Some("InitializeSessionUserId") => {
                "correct the role in database.url, or let it exist and log in: CREATE ROLE … LOGIN, or ALTER ROLE … LOGIN if it is there; then outbox-relay migrate --grant-relay".to_owned()
            }
            Self::Credentials if said.routine() == Some("ClientAuthentication") => format!(
                "{}; a `hostssl` line there asks for mode = \"verify-full\" under [database.tls]",
                credentials_hint(config)
            ),
            Self::Credentials => credentials_hint(config),
            Self::Database => "check the database name at the end of database.url".to_owned(),
            Self::Closed => {
                "let the database take connections: ALTER DATABASE … ALLOW_CONNECTIONS true"
                    .to_owned()
            }
            Self::Connect => "GRANT CONNECT ON DATABASE … TO the role in database.url".to_owned(),
            Self::Parameter => "check the parameters behind ? in database.url".to_owned(),
            Self::Server => "check host and port of database.url".to_owned(),
        }
    }
}

fn reaction(code: &str) -> Reaction {
    match code {
        "53300" => Reaction::WaitForRoom,
        "3D000" => Reaction::Stop(About::Database),
        "55000" => Reaction::Stop(About::Closed),
        "42501" => Reaction::Stop(About::Connect),
        "42704" | "22023" | "42602" | "55P02" => Reaction::Stop(About::Parameter),
        // A server that speaks another protocol, or cannot do what the driver asks for.
        "0A000" => Reaction::Stop(About::Server),
        code if code.starts_with("28") => Reaction::Stop(About::Credentials),
        // Starting, stopping, recovering (57P03, 57P01, 57P02), out of memory or disk (53…), a
        // pooler's own trouble (08…), a broken catalog (XX…): nothing that is written here is wrong.
        _ => Reaction::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_stops_at_connecting() {
        use About::{Closed, Connect, Credentials, Database, Parameter, Server};
        for (code, expected) in [
            ("53300", Reaction::WaitForRoom),
            ("53000", Reaction::Wait),
            ("53100", Reaction::Wait),
            ("53200", Reaction::Wait),
            ("57P03", Reaction::Wait),
            ("57P01", Reaction::Wait),
            ("57P02", Reaction::Wait),
            ("08006", Reaction::Wait),
            ("08P01", Reaction::Wait),
            ("58030", Reaction::Wait),
            ("XX000", Reaction::Wait),
            ("XX001", Reaction::Wait),
            ("28P01", Reaction::Stop(Credentials)),
            ("28000", Reaction::Stop(Credentials)),
            ("3D000", Reaction::Stop(Database)),
            ("55000", Reaction::Stop(Closed)),
            ("42501", Reaction::Stop(Connect)),
            ("42704", Reaction::Stop(Parameter)),
            ("22023", Reaction::Stop(Parameter)),
            ("55P02", Reaction::Stop(Parameter)),
            ("0A000", Reaction::Stop(Server)),
        ] {
            assert_eq!(reaction(code), expected, "{code}");
        }
    }
}
