//! What travels in plain text over a network.

use std::net::IpAddr;
use std::str::FromStr;

use super::Finding;
use crate::config::{BrokerConfig, DatabaseConfig, TargetConfig, TlsMode};

/// A warning if rows and password go to another host in plain text.
#[must_use]
pub fn in_plain_text(database: &DatabaseConfig, targets: &[TargetConfig]) -> Vec<Finding> {
    let mut found = Vec::new();
    if database.tls.mode == TlsMode::Disable
        && let Some(host) = hosts(&database.url).into_iter().find(|host| !is_local(host))
    {
        found.push(warning("database", &host, "mode = \"verify-full\" under [database.tls]"));
    }
    for TargetConfig { name, broker, .. } in targets {
        let subject = format!("target {name}");
        match broker {
            BrokerConfig::Amqp(amqp) if amqp.tls.mode == TlsMode::Disable => {
                // The scheme is all that a url of an exotic host could be misread in.
                let host = amqp.url.split(['/', '@']).nth_back(1).map(without_port);
                if let Some(host) = host.filter(|host| !is_local(host)) {
                    found.push(warning(&subject, host, "an amqps:// url"));
                }
            }
            BrokerConfig::Kafka(kafka) => {
                let protocol = kafka.properties.iter().find(|(key, _)| key == "security.protocol");
                let plain = protocol.is_none_or(|(_, value)| value.ends_with("PLAINTEXT"));
                let host = kafka.brokers.split(',').map(|broker| without_port(broker.trim()));
                if let Some(host) = host.into_iter().find(|host| plain && !is_local(host)) {
                    let remedy = format!("mode = \"verify-full\" under [target.{name}.tls]");
                    found.push(warning(&subject, host, &remedy));
                }
            }
            BrokerConfig::Amqp(_) => {}
        }
    }
    found
}

fn warning(subject: &str, host: &str, remedy: &str) -> Finding {
    Finding::warn(subject, format!("{host} is reached in plain text, password and all"), remedy)
}

/// The TCP hosts of a url; a Unix socket is not on a network.
fn hosts(url: &str) -> Vec<String> {
    let hosts = tokio_postgres::Config::from_str(url).map(|config| config.get_hosts().to_vec());
    let name = |host: &tokio_postgres::config::Host| match host {
        tokio_postgres::config::Host::Tcp(name) => Some(name.clone()),
        tokio_postgres::config::Host::Unix(_) => None,
    };
    hosts.unwrap_or_default().iter().filter_map(name).collect()
}

fn without_port(address: &str) -> &str {
    match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => address.rsplit_once(':').map_or(address, |(host, _)| host),
    }
}

fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_from_addresses() {
        assert_eq!(hosts("postgres://u@db1:5432,db2:6432/app"), ["db1", "db2"]);
        assert_eq!(hosts("postgres://u@%2Fvar%2Frun/app"), [""; 0]);
        for (address, host) in [
            ("kafka:9093", "kafka"),
            ("kafka", "kafka"),
            ("[::1]:9093", "::1"),
            ("10.0.0.1:1", "10.0.0.1"),
        ] {
            assert_eq!(without_port(address), host);
        }
    }

    #[test]
    fn only_this_host_is_local() {
        for host in ["localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["db", "10.0.0.1", "192.168.1.1", "localhost.example", "::2"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
