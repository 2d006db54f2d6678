//! The files in `config/`: each is accepted, and `relay.toml` is complete and true.

use std::collections::BTreeSet;
use std::fs;

use outbox_relay::config::{BrokerConfig, Config, Place};
use proptest::prelude::*;
use proptest::sample::Index;

use super::{Folder, refused, repository};

const ENVIRONMENT: [(&str, &str); 5] = [
    ("DATABASE_URL", "postgres://relay:secret@localhost/app"),
    ("AMQP_URL", "amqp://relay:secret@localhost/%2f"),
    ("DEMO_PG_URL", "postgres://relay@127.0.0.1:5432/demo"),
    ("DEMO_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
    ("DEMO_KAFKA", "127.0.0.1:9092"),
];

fn annotated() -> String {
    fs::read_to_string(repository().join("config/relay.toml")).expect("a file")
}

/// A core dump would hold rows and passwords.
#[test]
fn the_unit_writes_no_core_dump() {
    let unit = fs::read_to_string(repository().join("systemd/outbox-relay.service")).unwrap();
    assert!(unit.lines().any(|line| line == "LimitCORE=0"));
}

#[test]
fn every_file_is_accepted() {
    let mut files = 0;
    for entry in fs::read_dir(repository().join("config")).unwrap() {
        let path = entry.unwrap().path();
        Config::load_with(&path, ENVIRONMENT)
            .unwrap_or_else(|error| panic!("{} is refused:\n{error}", path.display()));
        files += 1;
    }
    assert!(files >= 3, "{files} files");
}

#[test]
fn the_demo_sends_orders_to_both_brokers() {
    let config = Config::load_with(&repository().join("config/demo.toml"), ENVIRONMENT).unwrap();
    let names: Vec<_> = config.targets.iter().map(|target| &target.name[..]).collect();
    assert_eq!(names, ["lake", "orders"]);
    let BrokerConfig::Kafka(lake) = &config.targets[0].broker else { panic!("not Kafka") };
    assert_eq!(lake.brokers, "127.0.0.1:9092");
    let BrokerConfig::Amqp(orders) = &config.targets[1].broker else { panic!("not AMQP") };
    assert_eq!(orders.url, "amqp://guest@127.0.0.1:5672/%2f");
    assert!(config.targets.iter().all(|t| t.routes[0].topic.as_str() == "order.*"));
}

/// A default that is written out changes nothing: so what the file calls a default is one.
#[test]
fn the_defaults_in_the_annotated_file_are_those_of_the_code() {
    let commented = annotated();
    let uncommented: String = commented
        .lines()
        .map(|line| match default_line(line) {
            Some(line) => format!("{line}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let count = commented.lines().filter(|line| default_line(line).is_some()).count();
    assert!(count > 50, "{count} defaults");
    let as_it_is = format!("{:#?}", Folder::new(&commented).accepted(&[]));
    let written_out = format!("{:#?}", Folder::new(&uncommented).accepted(&[]));
    let without_path = |text: &str| text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without_path(&as_it_is), without_path(&written_out));
}

/// `#key = value`, without a space: a default.
fn default_line(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// The keys of a table as the relay itself names them, to somebody who wrote one that it does not
/// know.
fn known_keys(toml: &str) -> BTreeSet<String> {
    let message = refused(toml);
    let (_, keys) = message.split_once("known keys here: ").expect("a list of keys");
    keys.lines().next().expect("a line").split(", ").map(str::to_owned).collect()
}

/// The keys that the annotated file names in a table, as a setting, a default or an example.
fn annotated_keys(table: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut here = false;
    for line in annotated().lines() {
        if line.starts_with('[') {
            here = line == format!("[{table}]");
        } else if here {
            let line = line.trim_start_matches('#').trim_start();
            if let Some((key, _)) = line.split_once(" = ")
                && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            {
                keys.insert(key.to_owned());
            }
        }
    }
    keys
}

#[test]
fn the_annotated_file_names_every_key() {
    const UNKNOWN: &str = "xyzxyzxyzxyz = 1\n";
    for table in [
        "database",
        "database.tls",
        "source",
        "retention",
        "lease",
        "log",
        "http",
        "shutdown",
        "target.orders.tls",
        "target.lake.tls",
    ] {
        let known = known_keys(&format!("[{table}]\n{UNKNOWN}"));
        let known: BTreeSet<_> = known.into_iter().filter(|key| key != "tls").collect();
        assert_eq!(annotated_keys(table), known, "{table}");
    }

    // The keys of both brokers are in one list; which of them a kind has, the relay tells as well.
    let known = known_keys(&format!("[target.orders]\n{UNKNOWN}"));
    for (table, kind) in [("target.orders", "amqp"), ("target.lake", "kafka")] {
        let other = if kind == "amqp" { "kafka" } else { "amqp" };
        let own: BTreeSet<_> = known
            .iter()
            .filter(|key| {
                let value = if *key == "properties" { "{}" } else { "\"\"" };
                let toml = match &key[..] {
                    "kind" | "tls" | "route" => return *key != "tls",
                    key => format!("[target.x]\nkind = \"{kind}\"\n{key} = {value}\n"),
                };
                !refused(&toml).contains(&format!(": belongs to a target of kind = \"{other}\""))
            })
            .cloned()
            .collect();
        assert_eq!(annotated_keys(table), own, "{table}");
    }

    let routes = annotated();
    for key in known_keys("[target.orders]\nroute = [{ xyzxyzxyzxyz = 1 }]\n") {
        assert!(routes.contains(&format!(" {key} = ")), "no route has {key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to the file, it is accepted or refused in words: with a place and a remedy.
    #[test]
    fn a_damaged_file_is_refused_in_words(
        damage in prop::collection::vec((any::<Index>(), any::<Index>(), prop::sample::select(PIECES)), 1..4),
    ) {
        let mut text = annotated();
        for (at, other, piece) in damage {
            // A piece goes in, a line moves, and what stood between is as it may be.
            let lines: Vec<&str> = text.lines().collect();
            let (at, other) = (at.index(lines.len()), lines[other.index(lines.len())]);
            let mut damaged = lines.clone();
            damaged[at] = other;
            let mut damaged = damaged.join("\n");
            let middle = damaged.floor_char_boundary(damaged.len() * at / lines.len());
            damaged.insert_str(middle, piece);
            text = damaged;
        }
        let folder = Folder::new(&text);
        if let Err(error) = Config::load_with(&folder.path(), ENVIRONMENT) {
            let shown = error.to_string();
            prop_assert!(!error.problems().is_empty());
            prop_assert!(!shown.contains("cannot be understood"), "{shown}\n{text}");
            for problem in error.problems() {
                prop_assert!(!problem.reason.is_empty() && !problem.hint.is_empty(), "{shown}");
                prop_assert!(!matches!(problem.place, Place::Variable(_)), "{shown}");
            }
        }
    }
}

/// What is put into a file: pieces of TOML, of templates and variables, and of neither.
const PIECES: &[&str] = &[
    "",
    "\n",
    "\"",
    "'",
    "[",
    "]]",
    "{",
    "}",
    " = ",
    ".",
    "#",
    "\n[target.\"a`b.c\"]\n",
    "\n[x]\n",
    "\n\"a.`b\\\"c\" = { d.e = [1] }\n",
    "\n[[target.orders.route]]\n",
    "${",
    "$${",
    "{{",
    "é",
    "\0",
    "\nheaders.a.b = 1\n",
    "\nproperties = [1]\n",
    "1_0",
    "0x",
    "inf",
    "1979-05-27",
    "\n=\n",
];

/// Every key is read, and a mistake in it is told under its own name.
#[test]
fn a_mistake_in_any_key_names_that_key() {
    let text = annotated();
    let mut table = String::new();
    let mut tried = 0;
    for (n, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).to_owned();
            continue;
        }
        // Examples of keys that exclude each other cannot be tried so, nor can a route, which goes
        // over several lines: they have tests of their own among the mistakes.
        let Some((key, _)) = default_line(line).unwrap_or(line).split_once(" = ") else { continue };
        if line.starts_with([' ', '}']) || line.starts_with("# ") || key == "route" {
            continue;
        }
        // A decimal number is right for no key.
        let broken: String = text
            .lines()
            .enumerate()
            .map(|(m, other)| match m == n {
                true => format!("{key} = 1.5\n"),
                false => format!("{other}\n"),
            })
            .collect();
        let message = refused(&broken);
        let expected = format!("relay.toml:{}:", n + 1);
        assert!(
            message.contains(&expected) && message.contains(&format!("{table}.{key}")),
            "{table}.{key}: {message}"
        );
        tried += 1;
    }
    assert!(tried > 55, "{tried} keys");
}
