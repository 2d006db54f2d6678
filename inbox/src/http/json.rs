//! Values of a JSON text as they were written.
//!
//! Numbers stay text: two amounts that are one `f64` are two amounts.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// The value at a JSON pointer (RFC 6901).
pub(super) fn pointed<'a>(json: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut value = json;
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        value = if value.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            items.get(name.parse::<usize>().ok()?).copied()?
        } else {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
            members.get(&name).copied()?
        };
    }
    Some(value)
}

/// The value as text that depends neither on white space nor on the order of members.
pub(super) fn canonical(json: &RawValue) -> String {
    let text = json.get();
    let members = || serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok();
    let items = || serde_json::from_str::<Vec<&RawValue>>(text).ok();
    if let Some(members) = members() {
        let texts: Vec<_> = members
            .iter()
            .map(|(name, value)| format!("{}:{}", quoted(name), canonical(value)))
            .collect();
        format!("{{{}}}", texts.join(","))
    } else if let Some(items) = items() {
        let texts: Vec<_> = items.iter().map(|item| canonical(item)).collect();
        format!("[{}]", texts.join(","))
    } else if let Ok(string) = serde_json::from_str::<String>(text) {
        quoted(&string)
    } else {
        text.to_owned()
    }
}

/// One way to escape a string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, pointer: &str) -> Option<String> {
        pointed(serde_json::from_str(text).unwrap(), pointer).map(canonical)
    }

    #[test]
    fn a_pointer_finds_members_and_items() {
        let text = r#"{"a": {"b/c": [10, {"~": true}]}}"#;
        assert_eq!(at(text, "/a/b~1c/0").as_deref(), Some("10"));
        assert_eq!(at(text, "/a/b~1c/1/~0").as_deref(), Some("true"));
        assert_eq!(at(text, "").as_deref(), Some(r#"{"a":{"b/c":[10,{"~":true}]}}"#));
        for pointer in ["/x", "/a/b~1c/2", "/a/b~1c/x", "/a/b~1c/0/y"] {
            assert_eq!(at(text, pointer), None, "{pointer}");
        }
    }

    #[test]
    fn order_space_and_escapes_do_not_count() {
        let one = at(r#"{ "b" : "\u0061", "a" : [ 1 , 2 ] }"#, "");
        assert_eq!(one, at(r#"{"a":[1,2],"b":"a"}"#, ""));
        assert_ne!(one, at(r#"{"a":[2,1],"b":"a"}"#, ""));
    }

    #[test]
    fn numbers_that_are_one_float_are_two_values() {
        assert_ne!(at("100000000000000000001", ""), at("100000000000000000002", ""));
        assert_ne!(at("0.10", ""), at("0.1000000000000000055511", ""));
    }
}
