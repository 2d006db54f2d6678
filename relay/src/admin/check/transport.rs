//! What travels in plain text over a network.

use std::net::IpAddr;
use std::str::FromStr;

use lapin::uri::AMQPUri;
use tokio_postgres::config::Host;

use super::Finding;
use crate::config::{BrokerConfig, Config, DatabaseConfig, TargetConfig, TlsMode};
use crate::target::amqp::management::Address;

/// A warning for each server that rows go to in plain text, unless it runs on this machine.
#[must_use]
pub fn in_plain_text(config: &Config) -> Vec<Finding> {
    let inboxes = config.inboxes.iter().map(|inbox| {
        let table = format!("[inbox.{}.database.tls]", inbox.name);
        database(&format!("inbox {}", inbox.name), &table, &inbox.database)
    });
    let own = database("database", "[database.tls]", &config.database);
    let found = [own].into_iter().chain(config.targets.iter().map(target)).chain(inboxes);
    found.flatten().collect()
}

/// A warning if the password of a management API goes to another host in plain text.
#[must_use]
pub fn management_in_plain_text(address: &Address) -> Option<Finding> {
    let hosts = [address.host().to_owned()];
    let hosts = if address.is_encrypted() { &[][..] } else { &hosts[..] };
    warning("management", hosts, true, "an https:// url")
}

fn database(subject: &str, table: &str, config: &DatabaseConfig) -> Option<Finding> {
    let plain = config.tls.mode == TlsMode::Disable;
    let hosts = if plain { postgres_hosts(&config.url) } else { Vec::new() };
    warning(subject, &hosts, false, &format!("mode = \"verify-full\" under {table}"))
}

fn target(TargetConfig { name, broker, .. }: &TargetConfig) -> Option<Finding> {
    let subject = format!("target {name}");
    match broker {
        BrokerConfig::Amqp(amqp) => {
            let plain = amqp.tls.mode == TlsMode::Disable;
            let hosts = if plain { amqp_host(&amqp.url) } else { None };
            warning(&subject, hosts.as_slice(), true, "an amqps:// url")
        }
        BrokerConfig::Kafka(kafka) => {
            let property = |name: &str| {
                let found = kafka.properties.iter().find(|(key, _)| key == name);
                found.map_or("", |(_, value)| value.as_str())
            };
            let hosts = match property("security.protocol") {
                "ssl" | "sasl_ssl" => Vec::new(),
                _ => kafka_hosts(&kafka.brokers),
            };
            let password = property("sasl.mechanism") == "PLAIN";
            let remedy = format!("mode = \"verify-full\" under [target.{name}.tls]");
            warning(&subject, &hosts, password, &remedy)
        }
    }
}

/// `password`: the protocol sends it as it is. Others send a proof that they know it.
fn warning(subject: &str, hosts: &[String], password: bool, remedy: &str) -> Option<Finding> {
    let remote: Vec<&str> = hosts.iter().map(String::as_str).filter(|h| !is_local(h)).collect();
    let (hosts, verb) = match remote.as_slice() {
        [] => return None,
        [host] => ((*host).to_owned(), "is"),
        hosts => (hosts.join(", "), "are"),
    };
    let what = if password { "messages and password" } else { "messages" };
    let detail = format!("{hosts} {verb} reached in plain text: {what} can be read on the way");
    Some(Finding::warn(subject, detail, remedy))
}

/// The servers of a url, as they are connected to; a Unix socket is not on a network.
fn postgres_hosts(url: &str) -> Vec<String> {
    let Ok(config) = tokio_postgres::Config::from_str(url) else { return Vec::new() };
    let addresses = config.get_hostaddrs();
    let host = |(n, host): (usize, &Host)| match (addresses.get(n), host) {
        // The name is only for certificates then.
        (Some(address), _) => Some(address.to_string()),
        (None, Host::Tcp(name)) => Some(name.clone()),
        (None, Host::Unix(_)) => None,
    };
    config.get_hosts().iter().enumerate().filter_map(host).collect()
}

/// The host of a url, as the connection takes it.
fn amqp_host(url: &str) -> Option<String> {
    if let Some(address) = ipv6_host(url) {
        return Some(address.to_owned());
    }
    let uri: AMQPUri = url.parse().ok()?;
    Some(uri.authority.host)
}

/// The library takes such an address for no host.
fn ipv6_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}

fn kafka_hosts(brokers: &str) -> Vec<String> {
    brokers.split(',').map(|broker| without_port(broker.trim()).to_owned()).collect()
}

fn without_port(address: &str) -> &str {
    if let Some((host, _)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match address.rsplit_once(':') {
        // An address of IPv6 has more colons than the one before a port.
        Some((host, _)) if !host.contains(':') => host,
        _ => address,
    }
}

/// Whether nothing leaves this machine on the way there. The name of another host that happens to lead
/// back here is not looked up.
fn is_local(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name.is_empty() || name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    // An address of no host leads to this one.
    name.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_of_a_database_are_those_that_are_connected_to() {
        for (url, hosts) in [
            ("postgres://u@db1:5432,db2:6432/app", &["db1", "db2"][..]),
            ("postgres://u@db/app", &["db"]),
            ("postgres://localhost@db.example.org/app", &["db.example.org"]),
            ("postgres://u@[2001:db8::1]:5432/app", &["2001:db8::1"]),
            ("postgres://u@%2Fvar%2Frun/app", &[]),
            ("postgres://u@/app?host=/var/run/postgresql", &[]),
            ("postgres://u@%2Frun,db2/app", &["db2"]),
            ("postgres://u@db/app?hostaddr=127.0.0.1", &["127.0.0.1"]),
        ] {
            assert_eq!(postgres_hosts(url), hosts, "{url}");
        }
    }

    /// Issue 17, case 44: the user was taken for the host, and a piece of the path as well.
    #[test]
    fn the_host_of_a_broker_is_no_user_and_no_path() {
        for (url, host) in [
            ("amqp://outbox@127.0.0.1:45691", "127.0.0.1"),
            ("amqp://outbox@127.0.0.1:45691//", "127.0.0.1"),
            ("amqp://outbox@127.0.0.1:45691/%2f", "127.0.0.1"),
            ("amqp://localhost@mq.example.org:5672", "mq.example.org"),
            ("amqp://localhost@mq.example.org/localhost", "mq.example.org"),
            ("amqp://mq.example.org", "mq.example.org"),
            ("amqp://mq.example.org:5672/a?b=c", "mq.example.org"),
            ("amqp://u@[::1]:5672/%2f", "::1"),
            ("amqp://u@[2001:db8::1]/v", "2001:db8::1"),
        ] {
            assert_eq!(amqp_host(url).as_deref(), Some(host), "{url}");
        }
    }

    #[test]
    fn every_broker_of_a_list_has_a_host() {
        for (brokers, hosts) in [
            ("kafka:9093", &["kafka"][..]),
            ("kafka", &["kafka"]),
            ("k1:9092, k2:9092,k3", &["k1", "k2", "k3"]),
            ("[::1]:9093,[2001:db8::1]", &["::1", "2001:db8::1"]),
            ("::1", &["::1"]),
            ("10.0.0.1:1", &["10.0.0.1"]),
        ] {
            assert_eq!(kafka_hosts(brokers), hosts, "{brokers}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for host in [
            "localhost",
            "LocalHost.",
            "mq.localhost",
            "127.0.0.1",
            "127.8.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["db", "10.0.0.1", "192.168.1.1", "localhost.example", "::2", "::ffff:10.0.0.1"]
        {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn a_warning_names_every_remote_host_and_no_local_one() {
        let hosts = ["127.0.0.1", "k1", "k2"].map(str::to_owned);
        let text = |hosts: &[String], password| {
            warning("target x", hosts, password, "y").map(|finding| finding.detail)
        };
        let expected = "k1, k2 are reached in plain text: messages can be read on the way";
        assert_eq!(text(&hosts, false).as_deref(), Some(expected));
        let expected = "k1 is reached in plain text: messages and password can be read on the way";
        assert_eq!(text(&hosts[..2], true).as_deref(), Some(expected));
        assert_eq!(text(&hosts[..1], true), None);
    }
}
