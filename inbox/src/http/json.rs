//! Values of a JSON text as they were written.
//!
//! Numbers stay text: two amounts that are one `f64` are two amounts. Members of one name stay
//! both: which of them a handler takes is not known here.
//!
//! The text comes from outside, so nothing here recurses, and everything takes time in proportion
//! to the text and its depth, which has a limit.

use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects that is read; it is also `serde_json`'s own limit, so
/// what is deeper no handler of its could read.
pub const JSON_DEPTH_MAX: usize = 128;

/// A JSON text that is nested deeper than [`JSON_DEPTH_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooDeep;

/// A JSON text that may be walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// `None` if the bytes are not JSON.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Option<Self>, TooDeep> {
        // Its check of the syntax does not recurse either.
        let Ok(raw) = serde_json::from_slice::<&RawValue>(bytes) else { return Ok(None) };
        let text = raw.get();
        if depth(text) > JSON_DEPTH_MAX { Err(TooDeep) } else { Ok(Some(Self(text))) }
    }

    /// The values at a JSON pointer (RFC 6901), in their order: more than one where members have
    /// one name.
    pub(super) fn at(self, pointer: &str) -> Vec<Self> {
        let path: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
        let mut found = Vec::new();
        let mut places: Vec<Place> = Vec::new();
        for Token { kind, range } in Tokens::of(self.0) {
            let here = match kind {
                Kind::Name => {
                    if let Some(place) = places.last_mut() {
                        place.name = Some(decoded(&self.0[range]));
                    }
                    continue;
                }
                Kind::Close => {
                    if let Some(Place { begin: Some(begin), .. }) = places.pop() {
                        found.push(Self(&self.0[begin..range.end]));
                    }
                    continue;
                }
                Kind::Open | Kind::Scalar => {
                    let depth = places.len();
                    let wanted = depth.checked_sub(1).and_then(|at| path.get(at));
                    match places.last_mut() {
                        None => true,
                        Some(place) => place.next(wanted.map(String::as_str)),
                    }
                }
            };
            let hit = here && places.len() == path.len();
            match kind {
                Kind::Open => {
                    places.push(Place::new(here && !hit, hit.then_some(range.start)));
                }
                _ if hit => found.push(Self(&self.0[range])),
                _ => {}
            }
        }
        found
    }

    /// The value as text that depends neither on white space, nor on the spelling of strings, nor
    /// on the order of members that have different names.
    pub(super) fn canonical(self) -> String {
        let mut out = String::with_capacity(self.0.len());
        let mut open: Vec<Container> = Vec::new();
        for Token { kind, range } in Tokens::of(self.0) {
            let text = &self.0[range];
            match kind {
                Kind::Name => {
                    if let Some(Container::Object { name, .. }) = open.last_mut() {
                        *name = quoted(text);
                    }
                    continue;
                }
                Kind::Open => {
                    let begin = out.len();
                    open.push(if text == "[" {
                        out.push('[');
                        Container::Array
                    } else {
                        Container::Object { begin, name: String::new(), members: Vec::new() }
                    });
                    continue;
                }
                Kind::Scalar if text.starts_with('"') => out.push_str(&quoted(text)),
                Kind::Scalar => out.push_str(text),
                Kind::Close => match open.pop() {
                    Some(Container::Object { begin, members, .. }) => {
                        let sorted = sorted(&out[begin..], begin, members);
                        out.truncate(begin);
                        out.push_str(&sorted);
                    }
                    _ => out.push(']'),
                },
            }
            // A value has ended.
            match open.last_mut() {
                None => {}
                // A comma behind the last one too: it is one text for one value all the same.
                Some(Container::Array) => out.push(','),
                Some(Container::Object { begin, name, members }) => {
                    let from = members.last().map_or(*begin, |(_, range)| range.end);
                    members.push((std::mem::take(name), from..out.len()));
                }
            }
        }
        out
    }
}

/// A container on the way to what a pointer names.
struct Place {
    /// Whether the pointer leads through it.
    on_path: bool,
    /// Where it begins, if it is what the pointer names.
    begin: Option<usize>,
    /// Of the member whose value comes next; an array has none.
    name: Option<String>,
    /// Of the item that comes next.
    index: usize,
}

impl Place {
    fn new(on_path: bool, begin: Option<usize>) -> Self {
        Self { on_path, begin, name: None, index: 0 }
    }

    /// Whether the value that begins now is the one that is wanted in here.
    fn next(&mut self, wanted: Option<&str>) -> bool {
        let index = self.index;
        self.index += 1;
        let (true, Some(wanted)) = (self.on_path, wanted) else { return false };
        match &self.name {
            Some(name) => name == wanted,
            None => wanted.parse() == Ok(index) && (index == 0) == (wanted == "0"),
        }
    }
}

/// A container whose canonical text is being written.
enum Container {
    Array,
    Object {
        begin: usize,
        /// Of the member whose value comes next, in quotes.
        name: String,
        /// Names, and where their values' texts are.
        members: Vec<(String, Range<usize>)>,
    },
}

/// An object's text with its members by name; those of one name stay in their order.
fn sorted(values: &str, begin: usize, mut members: Vec<(String, Range<usize>)>) -> String {
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut text = String::with_capacity(values.len() + members.len() * 8 + 2);
    text.push('{');
    for (name, Range { start, end }) in &members {
        text.push_str(name);
        text.push(':');
        text.push_str(&values[start - begin..end - begin]);
        text.push(',');
    }
    text.push('}');
    text
}

/// How deep a JSON text is nested.
fn depth(text: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for token in Tokens::of(text) {
        match token.kind {
            Kind::Open => open += 1,
            Kind::Close => open = open.saturating_sub(1),
            Kind::Name | Kind::Scalar => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    Name,
    Scalar,
}

struct Token {
    kind: Kind,
    range: Range<usize>,
}

/// The tokens of a text that is known to be JSON, without its commas and colons.
struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0 }
    }

    /// Behind the string that begins at `at`.
    fn string_end(&self) -> usize {
        let mut end = self.at + 1;
        while let Some(byte) = self.bytes.get(end) {
            match byte {
                b'"' => return end + 1,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        self.bytes.len()
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        while self.bytes.get(self.at).is_some_and(|&byte| skipped(byte)) {
            self.at += 1;
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
        let begin = self.at;
        let kind = match self.bytes.get(begin)? {
            b'{' | b'[' => {
                self.at += 1;
                Kind::Open
            }
            b'}' | b']' => {
                self.at += 1;
                Kind::Close
            }
            b'"' => {
                self.at = self.string_end();
                let range = begin..self.at;
                self.skip(|byte| byte.is_ascii_whitespace());
                // Only the name of a member is followed by one.
                let is_name = self.bytes.get(self.at) == Some(&b':');
                self.at += usize::from(is_name);
                return Some(Token {
                    kind: if is_name { Kind::Name } else { Kind::Scalar },
                    range,
                });
            }
            _ => {
                let ends = |byte: u8| byte.is_ascii_whitespace() || b",]}".contains(&byte);
                self.skip(|byte| !ends(byte));
                Kind::Scalar
            }
        };
        Some(Token { kind, range: begin..self.at })
    }
}

/// What a string says; as it is written, if that is no text (half of a surrogate pair).
fn decoded(string: &str) -> String {
    serde_json::from_str(string).unwrap_or_else(|_| string.to_owned())
}

/// One way to escape a string; as it is written, if it is no text. The one never holds what makes
/// the other one no text.
fn quoted(string: &str) -> String {
    match serde_json::from_str::<String>(string) {
        Ok(text) => Value::from(text).to_string(),
        Err(_) => string.to_owned(),
    }
}

/// A step of a pointer.
fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, pointer: &str) -> Vec<String> {
        let json = Json::read(text.as_bytes()).unwrap().unwrap();
        json.at(pointer).into_iter().map(Json::canonical).collect()
    }

    #[test]
    fn a_pointer_finds_members_and_items() {
        let text = r#"{"a": {"b/c": [10, {"~": true}], "": 5, "0": 6}}"#;
        assert_eq!(at(text, "/a/b~1c/0"), ["10"]);
        assert_eq!(at(text, "/a/b~1c/1/~0"), ["true"]);
        assert_eq!(at(text, "/a/"), ["5"]);
        assert_eq!(at(text, "/a/0"), ["6"]);
        assert_eq!(at(r#"{"a":{"b":[1]}}"#, ""), [r#"{"a":{"b":[1,],},}"#]);
        assert_eq!(at("7", ""), ["7"]);
        for pointer in ["/x", "/a/b~1c/2", "/a/b~1c/x", "/a/b~1c/00", "/a/b~1c/+0", "/a/b~1c/0/y"] {
            assert!(at(text, pointer).is_empty(), "{pointer}");
        }
    }

    #[test]
    fn order_space_and_escapes_do_not_count() {
        let one = at(r#"{ "b" : "\u0061" , "a" : [ 1 , 2 , { } , [ ] ] }"#, "");
        assert_eq!(one, at(r#"{"a":[1,2,{},[]],"\u0062":"a"}"#, ""));
        assert_ne!(one, at(r#"{"a":[2,1,{},[]],"b":"a"}"#, ""));
        assert_ne!(at(r#"["a,b"]"#, ""), at(r#"["a","b"]"#, ""));
        assert_ne!(at("[[1],2]", ""), at("[[1,2]]", ""));
    }

    #[test]
    fn numbers_that_are_one_float_are_two_values() {
        assert_ne!(at("100000000000000000001", ""), at("100000000000000000002", ""));
        assert_ne!(at("0.10", ""), at("0.1000000000000000055511", ""));
    }

    #[test]
    fn members_of_one_name_all_count() {
        let text = r#"{"amount": 1, "x": {"y": 1}, "amount": 2, "x": {"y": 3, "y": 4}}"#;
        assert_eq!(at(text, "/amount"), ["1", "2"]);
        assert_eq!(at(text, "/x/y"), ["1", "3", "4"]);
        assert_ne!(at(r#"{"a":1,"a":2}"#, ""), at(r#"{"a":2,"a":1}"#, ""));
        assert_ne!(at(r#"{"a":1,"a":2}"#, ""), at(r#"{"a":2}"#, ""));
    }

    #[test]
    fn a_name_that_is_no_text_hides_nothing() {
        assert_eq!(at(r#"{"\ud800": 1, "amount": 5}"#, "/amount"), ["5"]);
        assert_ne!(at(r#"["\ud800"]"#, ""), at(r#"["\ud801"]"#, ""));
    }

    #[test]
    fn depth_has_a_limit_and_takes_no_stack() {
        let nested =
            |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let read = |depth| {
                Json::read(nested(open, close, depth).as_bytes()).map(|json| json.is_some())
            };
            assert_eq!(read(JSON_DEPTH_MAX), Ok(true));
            assert_eq!(read(JSON_DEPTH_MAX + 1), Err(TooDeep));
            // Far deeper than any stack.
            assert_eq!(read(900_000), Err(TooDeep));
            let deep = nested(open, close, JSON_DEPTH_MAX);
            assert_eq!(at(&deep, "").len(), 1);
        }
        assert_eq!(Json::read(b"[[[[").map(|json| json.is_some()), Ok(false));
        // What stands in a string opens nothing.
        let text = format!("[\"{}\\\"\"]", "[".repeat(1_000));
        assert!(Json::read(text.as_bytes()).unwrap().is_some());
    }
}
