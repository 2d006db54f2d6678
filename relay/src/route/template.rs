//! Plain substitution: `orders.{{ key }}`, `{{ headers.tenant | "none" }}`. No logic, compiled once.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::header;
use crate::message::Message;

/// A text with variables of the row in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// The text after `|` stands in for a variable that the row does not have.
    Variable(Variable, Option<String>),
}

/// What a template can name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    Topic,
    Kind,
    Key,
    MessageId,
    Header(String),
}

/// The names of the variables, as a template writes them; `headers.` is followed by a header's name.
const VARIABLES: [&str; 5] = ["topic", "type", "key", "message_id", "headers."];

/// The text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`, or the reverse.
    #[error("`{0}` has no counterpart\nhint: a variable is written `{{{{ topic }}}}`")]
    Unbalanced(&'static str),
    /// What follows `|` is no quoted text.
    #[error(
        "`{0}` is no default\nhint: a default is a quoted text: `{{{{ headers.tenant | \"none\" }}}}`"
    )]
    Default(String),
    /// A default for what every row has.
    #[error("every row has `{0}`, so its default is never used\nhint: take the default out")]
    NeedlessDefault(String),
    /// There is no such variable.
    #[error("unknown variable `{name}`\nhint: {hint}")]
    Unknown {
        /// What the template says.
        name: String,
        /// The nearest spelling, or all of them.
        hint: String,
    },
}

/// A variable of the template is NULL or absent in this row: nothing can be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: `{variable}` is {how} in this row (template `{template}`)")]
pub struct Absent {
    variable: String,
    how: &'static str,
    template: String,
}

impl Absent {
    /// What the rows lack, without anything of a row: `headers.tenant is absent`, `key is NULL`.
    /// A header that is null is as good as absent, so both have one name.
    #[must_use]
    pub fn condition(&self) -> String {
        let how = if self.variable.starts_with("headers.") { "absent" } else { self.how };
        format!("{} is {how}", self.variable)
    }

    /// The variable, as a template names it.
    #[must_use]
    pub fn variable(&self) -> &str {
        &self.variable
    }
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// Braces without a counterpart, and unknown variables.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = vec![];
        let mut rest = text;
        loop {
            let (literal, variable) = match rest.split_once("{{") {
                Some((literal, variable)) => (literal, Some(variable)),
                None => (rest, None),
            };
            if literal.contains("}}") {
                return Err(TemplateError::Unbalanced("}}"));
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let Some(variable) = variable else { break };
            let (inside, after) = split_inside(variable).ok_or(TemplateError::Unbalanced("{{"))?;
            parts.push(Part::parse(inside)?);
            rest = after;
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Fills in the row. A header that is not a string is rendered as its JSON text.
    ///
    /// # Errors
    /// A variable that is NULL or absent in this row.
    pub fn render<'a>(&'a self, message: &'a Message) -> Result<Cow<'a, str>, Absent> {
        match self.parts.as_slice() {
            [] => Ok(Cow::Borrowed("")),
            [part] => self.value(part, message),
            parts => {
                let mut text = String::new();
                for part in parts {
                    text.push_str(&self.value(part, message)?);
                }
                Ok(Cow::Owned(text))
            }
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text itself if nothing of it depends on the row.
    #[must_use]
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// What stands in the text whatever the row is, and what may stand in for its variables.
    pub(crate) fn fixed_texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Variable(_, default) => default.as_deref(),
        })
    }

    /// The bytes that the text has at least.
    pub(crate) fn fixed_bytes(&self) -> usize {
        let literal = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Variable(..) => 0,
        };
        self.parts.iter().map(literal).sum()
    }

    fn value<'a>(&'a self, part: &'a Part, message: &'a Message) -> Result<Cow<'a, str>, Absent> {
        let (variable, default) = match part {
            Part::Literal(text) => return Ok(Cow::Borrowed(text)),
            Part::Variable(variable, default) => (variable, default),
        };
        let how = match variable.value(message) {
            Ok(text) => return Ok(text),
            Err(how) => how,
        };
        match default {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => {
                let (variable, template) = (variable.to_string(), self.text.clone());
                Err(Absent { variable, how, template })
            }
        }
    }
}

/// What stands before the `}}` that ends a variable, and what follows it. The quoted text of a
/// default may hold braces.
fn split_inside(text: &str) -> Option<(&str, &str)> {
    let (mut default, mut quote) = (false, None);
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if text[at..].starts_with("}}") => return Some((&text[..at], &text[at + 2..])),
            None if default && (c == '"' || c == '\'') => quote = Some(c),
            None => default |= c == '|',
        }
    }
    // A quote that nothing closes: the error is about that one.
    text.split_once("}}")
}

impl Part {
    fn parse(inside: &str) -> Result<Self, TemplateError> {
        let Some((name, default)) = inside.split_once('|') else {
            return Ok(Self::Variable(Variable::parse(inside.trim())?, None));
        };
        let variable = Variable::parse(name.trim())?;
        let default = default.trim();
        let unquoted = |quote| default.strip_prefix(quote)?.strip_suffix(quote);
        let text = ['"', '\''].into_iter().find_map(|quote| {
            unquoted(quote).filter(|text| default.len() > 1 && !text.contains(quote))
        });
        let text = text.ok_or_else(|| TemplateError::Default(default.to_owned()))?;
        match variable {
            Variable::Topic | Variable::MessageId => {
                Err(TemplateError::NeedlessDefault(variable.to_string()))
            }
            _ => Ok(Self::Variable(variable, Some(text.to_owned()))),
        }
    }
}

impl Variable {
    /// Its value in this row, or how it is missing there.
    fn value<'a>(&self, message: &'a Message) -> Result<Cow<'a, str>, &'static str> {
        match self {
            Self::Topic => Ok(Cow::Borrowed(message.topic())),
            Self::Kind => message.kind().map(Cow::Borrowed).ok_or("NULL"),
            Self::Key => message.key().map(Cow::Borrowed).ok_or("NULL"),
            Self::MessageId => Ok(Cow::Owned(message.message_id().to_string())),
            Self::Header(name) => match header::find(message.headers(), name) {
                Some(header::Value::Text(text)) => Ok(text),
                Some(header::Value::Json(text)) => Ok(Cow::Borrowed(text)),
                Some(header::Value::Null) => Err("null"),
                None => Err("absent"),
            },
        }
    }

    fn parse(name: &str) -> Result<Self, TemplateError> {
        match name {
            "topic" => Ok(Self::Topic),
            "type" => Ok(Self::Kind),
            "key" => Ok(Self::Key),
            "message_id" => Ok(Self::MessageId),
            _ => match name.strip_prefix("headers.") {
                Some(header) if !header.is_empty() => Ok(Self::Header(header.to_owned())),
                _ => Err(TemplateError::Unknown { name: name.to_owned(), hint: hint(name) }),
            },
        }
    }
}

fn hint(name: &str) -> String {
    // Of `header.tenant` only the part before the dot can be misspelt.
    let (head, dot, header) = match name.split_once('.') {
        Some((head, header)) => (format!("{head}."), true, header),
        None => (name.to_owned(), false, ""),
    };
    let nearest = VARIABLES
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, &head), known))
        .min()
        .filter(|&(distance, known)| distance * 2 <= known.len());
    match nearest {
        Some((_, "headers.")) if dot && !header.is_empty() => {
            format!("did you mean `headers.{header}`?")
        }
        Some((_, "headers.")) => "a header is written `headers.NAME`".to_owned(),
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => "known are topic, type, key, message_id, headers.NAME".to_owned(),
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic => f.write_str("topic"),
            Self::Kind => f.write_str("type"),
            Self::Key => f.write_str("key"),
            Self::MessageId => f.write_str("message_id"),
            Self::Header(name) => write!(f, "headers.{name}"),
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::Parts;

    fn message() -> Message {
        Message::new(Parts {
            id: 7,
            message_id: Uuid::from_u128(1),
            created_at_us: 0,
            topic: "order.created",
            key: None,
            kind: Some("v1"),
            headers: Some(r#"{"n": 1.10, "tenant": "caf\u00e9", "none": null, "a.b": "dot"}"#),
            payload: None,
            oversize_bytes: None,
        })
    }

    fn render(text: &str) -> Result<String, String> {
        let template = Template::parse(text).map_err(|e| e.to_string())?;
        template.render(&message()).map(Cow::into_owned).map_err(|e| e.to_string())
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, rendered) in [
            ("", ""),
            ("orders", "orders"),
            ("{{ topic }}", "order.created"),
            ("{{topic}}", "order.created"),
            ("a.{{ type }}.{{ topic }}!", "a.v1.order.created!"),
            ("{{ message_id }}", "00000000-0000-0000-0000-000000000001"),
            ("{{ headers.tenant }}", "café"),
            ("{{ headers.n }}", "1.10"),
            ("{{ headers.a.b }}", "dot"),
            ("{ a } {", "{ a } {"),
            (r#"{{ headers.x | "none" }}"#, "none"),
            ("{{ headers.none|'it'}}.x", "it.x"),
            (r#"{{ key | "" }}"#, ""),
            (r#"a.{{ key | "}} | '{{" }}"#, "a.}} | '{{"),
            (r#"{{ headers.tenant | "none" }}"#, "café"),
            (r#"{{ type | "none" }}"#, "v1"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(rendered), "{text}");
        }
    }

    #[test]
    fn what_is_absent_is_named() {
        for (text, reason) in [
            ("{{ key }}", "template: `key` is NULL in this row (template `{{ key }}`)"),
            (
                "a.{{ headers.none }}",
                "template: `headers.none` is null in this row (template `a.{{ headers.none }}`)",
            ),
            (
                "{{ headers.x }}",
                "template: `headers.x` is absent in this row (template `{{ headers.x }}`)",
            ),
        ] {
            assert_eq!(render(text), Err(reason.to_owned()));
        }
    }

    #[test]
    fn what_rows_lack_is_named_without_anything_of_a_row() {
        for (text, condition) in [
            ("{{ key }}", "key is NULL"),
            ("{{ headers.none }}", "headers.none is absent"),
            ("a.{{ headers.x }}", "headers.x is absent"),
        ] {
            let absent = Template::parse(text).unwrap().render(&message()).unwrap_err();
            assert_eq!(absent.condition(), condition);
        }
    }

    #[test]
    fn mistakes_come_with_a_remedy() {
        for (text, error) in [
            ("{{ topik }}", "unknown variable `topik`\nhint: did you mean `topic`?"),
            ("{{ header.a }}", "unknown variable `header.a`\nhint: did you mean `headers.a`?"),
            (
                "{{ headers }}",
                "unknown variable `headers`\nhint: a header is written `headers.NAME`",
            ),
            (
                "{{ headers. }}",
                "unknown variable `headers.`\nhint: a header is written `headers.NAME`",
            ),
            (
                "{{ customer }}",
                "unknown variable `customer`\nhint: known are topic, type, key, message_id, headers.NAME",
            ),
            ("{{ topic", "`{{` has no counterpart\nhint: a variable is written `{{ topic }}`"),
            (
                "{{ headers.a | none }}",
                "`none` is no default\nhint: a default is a quoted text: `{{ headers.tenant | \"none\" }}`",
            ),
            (
                r#"{{ headers.a | "b" | "c" }}"#,
                "`\"b\" | \"c\"` is no default\nhint: a default is a quoted text: `{{ headers.tenant | \"none\" }}`",
            ),
            (
                "{{ headers.a | \" }}",
                "`\"` is no default\nhint: a default is a quoted text: `{{ headers.tenant | \"none\" }}`",
            ),
            (
                r#"{{ topic | "x" }}"#,
                "every row has `topic`, so its default is never used\nhint: take the default out",
            ),
            ("topic }}", "`}}` has no counterpart\nhint: a variable is written `{{ topic }}`"),
        ] {
            assert_eq!(render(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_constant_is_known_as_one() {
        assert_eq!(Template::parse("orders").unwrap().constant(), Some("orders"));
        assert_eq!(Template::parse("").unwrap().constant(), Some(""));
        assert_eq!(Template::parse("{{ topic }}").unwrap().constant(), None);
    }
}
