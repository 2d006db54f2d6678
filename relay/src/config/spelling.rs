//! What somebody meant who wrote a key or a value that does not exist.

/// Keys that other tools have, or that a plausible guess produces: (table, written, ours).
/// `*` stands for a target's name. A key that is renamed goes in here, so that an old file is
/// refused with the new name instead of with a guess.
const RENAMED: [(&str, &str, &str); 15] = [
    ("", "targets", "target"),
    ("", "logging", "log"),
    ("", "postgres", "database"),
    ("", "metrics", "http"),
    ("database", "dsn", "url"),
    ("database", "uri", "url"),
    ("log", "filter", "level"),
    ("http", "bind", "listen"),
    ("target.*", "type", "kind"),
    ("target.*", "uri", "url"),
    ("target.*", "routes", "route"),
    ("target.*", "bootstrap_servers", "brokers"),
    ("target.*.route", "pattern", "topic"),
    ("target.*.route", "target_topic", "kafka_topic"),
    ("target.*.route", "kind", "type"),
];

/// Our name for a key, if it is known under the one that was written.
pub(super) fn renamed(table: &str, written: &str) -> Option<&'static str> {
    let table = generic(table);
    RENAMED.iter().find(|&&(t, old, _)| t == table && old == written).map(|&(_, _, new)| new)
}

/// The nearest of the candidates, if it is near enough to be meant.
pub(super) fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let written = written.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&written, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= 1.max(candidate.len() / 3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// A table's path without what differs from file to file: names of targets, numbers of routes.
fn generic(table: &str) -> String {
    let table = table.split('[').next().unwrap_or(table);
    match table.strip_prefix("target.") {
        Some(rest) => match rest.split_once('.') {
            Some((_, rest)) => format!("target.*.{rest}"),
            None => "target.*".to_owned(),
        },
        None => table.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_spelling() {
        let keys = ["url", "password", "batch_rows_max", "tls"];
        assert_eq!(nearest("ulr", keys), Some("url"));
        assert_eq!(nearest("passwort", keys), Some("password"));
        assert_eq!(nearest("batch-rows-max", keys), Some("batch_rows_max"));
        assert_eq!(nearest("batchRowsMax", keys), Some("batch_rows_max"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn names_of_other_tools() {
        assert_eq!(renamed("target.orders", "routes"), Some("route"));
        assert_eq!(renamed("target.orders.route[3]", "pattern"), Some("topic"));
        assert_eq!(renamed("source", "routes"), None);
    }
}
