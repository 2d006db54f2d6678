//! `properties = { … }` of a Kafka target: what of librdkafka may be set, and what may not, and why.
//!
//! Only a property that stands in `allowed` reaches librdkafka. Some of the others run code, commands
//! or other people's libraries as soon as they are set, so that `check` would do it as well.

mod allowed;
mod refused;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use self::allowed::ALLOWED;
use self::refused::{REFUSED, Refused};
use super::raw::{RawTarget, Scalar};
use super::section::Section;
use super::spelling::nearest;

/// The properties, each value checked by librdkafka itself. No message holds a value: a misspelt
/// secret is one that nothing here knows to be a secret.
pub(super) fn check(raw: &RawTarget, s: &mut Section<'_>) -> Vec<(String, String)> {
    let Some(properties) = &raw.properties else { return Vec::new() };
    let mut s = s.table("properties");
    let mut checked = Vec::new();
    for (name, value) in &properties.0 {
        if let Some(refused) = REFUSED.iter().find(|refused| refused.matches(name)) {
            s.refuse_key(name, format!("cannot be set: {}", refused.reason), refused.hint);
            continue;
        }
        let Scalar::Text(text) = value else {
            let found = format!("expected text, found {}", value.found());
            let hint = match value {
                Scalar::Table => "a name with dots is one key: write it in quotes, \"client.id\"",
                _ => "librdkafka takes text: write the value in quotes",
            };
            s.refuse(name, found, hint);
            continue;
        };
        if !ALLOWED.contains(&name.as_str()) {
            s.refuse_key(name, "is none of the properties that can be set", hint(name));
            continue;
        }
        match ClientConfig::new().set(name, text).create_native_config() {
            Ok(_) => checked.push((name.clone(), text.clone())),
            Err(error) => s.refuse(name, refusal(&error), VALUES),
        }
    }
    checked
}

const VALUES: &str = "properties and their values: \
                      https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md";

fn hint(name: &str) -> String {
    match nearest(name, ALLOWED) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "config/relay.toml names all of them, under [target.NAME] properties".to_owned(),
    }
}

impl Refused {
    fn matches(&self, name: &str) -> bool {
        let one =
            |known: &&str| name == *known || (known.ends_with('.') && name.starts_with(known));
        self.names.iter().any(one)
    }
}

fn refusal(error: &KafkaError) -> &'static str {
    use rdkafka::types::RDKafkaConfRes::{RD_KAFKA_CONF_INVALID, RD_KAFKA_CONF_UNKNOWN};
    match error {
        KafkaError::ClientConfig(RD_KAFKA_CONF_UNKNOWN, ..) => "librdkafka has no such property",
        KafkaError::ClientConfig(RD_KAFKA_CONF_INVALID, ..) => "librdkafka refuses this value",
        _ => "librdkafka refuses it",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// Where cargo has the sources that this program is built of.
    fn librdkafka() -> PathBuf {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // What is built for another system may not have been fetched.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let asked = Command::new(cargo)
            .args(["metadata", "--format-version=1", "--locked", "--offline"])
            .args(["--filter-platform", &platform])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo is there");
        let said: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("it says JSON");
        let packages = said["packages"].as_array().expect("packages");
        let sys = packages.iter().find(|package| package["name"] == "rdkafka-sys");
        let manifest = sys.expect("librdkafka is built")["manifest_path"].as_str().unwrap();
        PathBuf::from(manifest).parent().unwrap().join("librdkafka")
    }

    /// Every property that librdkafka knows: its page, and the table in its source, which has some
    /// that the page is silent of.
    fn known() -> BTreeSet<String> {
        let folder = librdkafka();
        let page = fs::read_to_string(folder.join("CONFIGURATION.md")).unwrap();
        let name = |line: &str| {
            let (name, rest) = line.split_once('|')?;
            let (clients, _) = rest.split_once('|')?;
            ["*", "C", "P"].contains(&clients.trim()).then(|| name.trim().to_owned())
        };
        let documented: BTreeSet<String> = page.lines().filter_map(name).collect();
        assert!(documented.len() > 150, "{documented:?}");

        let source = fs::read_to_string(folder.join("src/rdkafka_conf.c")).unwrap();
        let (_, table) = source.split_once("rd_kafka_properties[] = {").expect("the table");
        let (table, _) = table.split_once("{0, /* End */}").expect("its end");
        let mut in_source = BTreeSet::new();
        for entry in table.split("_RK_GLOBAL").chain(table.split("_RK_TOPIC")) {
            let Some((_, rest)) = entry.split_once('"') else { continue };
            let (name, _) = rest.split_once('"').expect("a string ends");
            if !name.contains([' ', '%', '\n']) && name.contains(|c: char| c.is_lowercase()) {
                in_source.insert(name.to_owned());
            }
        }
        let missing: Vec<_> = documented.difference(&in_source).collect();
        assert!(missing.is_empty(), "not found in the source: {missing:?}");
        &documented | &in_source
    }

    #[test]
    fn the_annotated_file_names_what_can_be_set() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/relay.toml");
        let text = fs::read_to_string(file).unwrap();
        let (_, list) = text.split_once("Those that tune can be set").expect("the list");
        let (list, _) = list.split_once("#properties = {}").expect("its end");
        let words: Vec<_> = list.split([',', ' ', '\n']).collect();
        for name in ALLOWED {
            assert!(words.contains(&name), "{name} is not in config/relay.toml");
        }
    }

    #[test]
    fn every_property_of_librdkafka_is_judged() {
        let known = known();
        let is_refused = |name: &str| REFUSED.iter().any(|refused| refused.matches(name));
        let unjudged: Vec<_> = known
            .iter()
            .filter(|name| !is_refused(name) && !ALLOWED.contains(&name.as_str()))
            .collect();
        assert!(
            unjudged.is_empty(),
            "judge these, with a reason if they are refused: {unjudged:?}"
        );
        // A name that librdkafka has no longer is no judgement.
        for name in ALLOWED {
            assert!(known.contains(name), "librdkafka has no {name}");
            assert!(!is_refused(name), "{name} is allowed and refused");
        }
        for name in REFUSED.iter().flat_map(|refused| refused.names) {
            let is_known = |known: &String| match name.ends_with('.') {
                true => known.starts_with(name),
                false => known == name,
            };
            assert!(known.iter().any(is_known), "librdkafka has no {name}");
        }
    }
}
