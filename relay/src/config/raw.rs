//! What a configuration may say: its tables and keys, nothing of what they mean.
//!
//! A single value is a `Scalar`, whatever its type: what it has to be is decided by the check,
//! which knows the key, the place and the remedy, and whether everything is text because it came
//! from the environment. Keys are the field names of the checked types.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The value of a key, if it was written.
pub(super) type Setting = Option<Scalar>;

/// A single value. `Table` and `Array` stand for something that is none.
#[derive(Clone)]
pub(super) enum Scalar {
    Text(String),
    Integer(i128),
    Float,
    Boolean(bool),
    Table,
    Array,
}

impl Scalar {
    /// For "expected …, found …".
    pub(super) fn found(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float => "a decimal number",
            Self::Boolean(_) => "a boolean",
            Self::Table => "a table",
            Self::Array => "an array",
        }
    }
}

/// A table and nothing else: a derived `Deserialize` alone would take `[1, 2]` for two fields.
#[derive(Default)]
pub(super) struct Table<T>(pub(super) T);

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) database: Table<RawDatabase>,
    pub(super) source: Table<RawSource>,
    pub(super) retention: Table<RawRetention>,
    pub(super) lease: Table<RawLease>,
    pub(super) log: Table<RawLog>,
    pub(super) http: Table<RawHttp>,
    pub(super) shutdown: Table<RawShutdown>,
    pub(super) target: BTreeMap<String, Table<RawTarget>>,
    pub(super) inbox: BTreeMap<String, Table<RawInbox>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawInbox {
    pub(super) database: Table<RawDatabase>,
    pub(super) retention: Setting,
    pub(super) ahead: Setting,
    pub(super) interval: Setting,
    pub(super) detach_timeout: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDatabase {
    pub(super) url: Setting,
    pub(super) password: Setting,
    pub(super) password_file: Setting,
    pub(super) schema: Setting,
    pub(super) connect_timeout: Setting,
    pub(super) lock_timeout: Setting,
    pub(super) statement_timeout: Setting,
    pub(super) tls: Table<RawTls>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) mode: Setting,
    pub(super) ca_file: Setting,
    pub(super) cert_file: Setting,
    pub(super) key_file: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSource {
    pub(super) mode: Setting,
    pub(super) batch_rows_max: Setting,
    pub(super) prefetch_rows_max: Setting,
    pub(super) prefetch_bytes_max: Setting,
    pub(super) row_bytes_max: Setting,
    pub(super) holes_max: Setting,
    pub(super) dead_ranges_max: Setting,
    pub(super) poll_interval_min: Setting,
    pub(super) poll_interval_max: Setting,
    pub(super) idle_read_interval: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    pub(super) keep: Setting,
    pub(super) keep_rows_max: Setting,
    pub(super) interval: Setting,
    pub(super) delete_rows_max: Setting,
    pub(super) dead: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLease {
    pub(super) ttl: Setting,
    pub(super) ping_interval: Setting,
    pub(super) standby_interval: Setting,
    pub(super) rebalance_interval: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) format: Setting,
    pub(super) level: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp {
    pub(super) listen: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawShutdown {
    pub(super) grace: Setting,
}

/// The keys of both brokers: which of them belong together depends on `kind`, and the check can
/// say so better than serde, which would only call the others unknown.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTarget {
    pub(super) kind: Setting,
    // amqp
    pub(super) url: Setting,
    pub(super) password: Setting,
    pub(super) password_file: Setting,
    pub(super) heartbeat: Setting,
    // kafka
    pub(super) brokers: Setting,
    pub(super) linger: Setting,
    pub(super) compression: Setting,
    pub(super) timestamp: Setting,
    pub(super) properties: Option<Table<BTreeMap<String, Scalar>>>,
    pub(super) sasl_mechanism: Setting,
    pub(super) sasl_username: Setting,
    pub(super) sasl_password: Setting,
    pub(super) sasl_password_file: Setting,
    // both
    pub(super) connect_timeout: Setting,
    pub(super) fence: Setting,
    pub(super) tls: Table<RawTls>,
    pub(super) route: Option<Vec<Table<RawRoute>>>,
    pub(super) unrouted: Setting,
    pub(super) order: Setting,
    pub(super) on_poison: Setting,
    pub(super) start: Setting,
    pub(super) window_messages_max: Setting,
    pub(super) window_bytes_max: Setting,
    pub(super) attempts_max: Setting,
    pub(super) retry_backoff_min: Setting,
    pub(super) retry_backoff_max: Setting,
    pub(super) outage_backoff_min: Setting,
    pub(super) outage_backoff_max: Setting,
    pub(super) confirm_timeout: Setting,
    pub(super) straggler_after: Setting,
    pub(super) stragglers_max: Setting,
    pub(super) retry_rows_max: Setting,
    pub(super) waiting_rows_max: Setting,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRoute {
    pub(super) topic: Setting,
    pub(super) r#type: Setting,
    // amqp
    pub(super) exchange: Setting,
    pub(super) routing_key: Setting,
    pub(super) mandatory: Setting,
    // kafka
    pub(super) kafka_topic: Setting,
    // both
    pub(super) headers: Option<Table<BTreeMap<String, Scalar>>>,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
                Ok(Scalar::Text(text))
            }

            fn visit_i128<E>(self, number: i128) -> Result<Scalar, E> {
                Ok(Scalar::Integer(number))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float)
            }

            fn visit_bool<E>(self, boolean: bool) -> Result<Scalar, E> {
                Ok(Scalar::Boolean(boolean))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Table)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Array)
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }

        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}
