//! `${VAR}` in the file's strings: values that come from the environment.
//!
//! `$${` stands for a literal `${`; any other `$` is itself. Only the file's own text is
//! interpolated: never the value of a variable, nor the content of a secret's file.

/// Why a text could not be interpolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InterpolateError {
    #[error("`${{` is not closed by `}}`")]
    Unclosed,
    #[error("`${{{0}}}` is not the name of a variable")]
    Name(String),
    #[error("the environment variable {0} is not set")]
    Undefined(String),
}

impl InterpolateError {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Unclosed | Self::Name(_) => {
                "write `${NAME}`, or `$${` for a literal `${`; there are no defaults in here"
                    .to_owned()
            }
            Self::Undefined(name) => {
                format!(
                    "set {name} to UTF-8 text in the environment of the relay, or write the value"
                )
            }
        }
    }
}

/// Replaces every `${VAR}`.
pub(super) fn interpolate<'v>(
    text: &str,
    variable: impl Fn(&str) -> Option<&'v str>,
) -> Result<String, InterpolateError> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = reference;
            continue;
        }
        result.push_str(before);
        let (name, after) = reference.split_once('}').ok_or(InterpolateError::Unclosed)?;
        if !is_name(name) {
            return Err(InterpolateError::Name(name.to_owned()));
        }
        let value = variable(name).ok_or_else(|| InterpolateError::Undefined(name.to_owned()))?;
        result.push_str(value);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

/// Whether a text is one `${VAR}` and nothing else.
pub(super) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|t| t.strip_suffix('}')).is_some_and(is_name)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, InterpolateError> {
        interpolate(text, |name| match name {
            "A" => Some("one"),
            "NESTED" => Some("${A}"),
            "EMPTY" => Some(""),
            _ => None,
        })
    }

    #[test]
    fn replaces_variables_once() {
        assert_eq!(run("x${A}y${A}").unwrap(), "xoneyone");
        assert_eq!(run("${EMPTY}").unwrap(), "");
        assert_eq!(run("${NESTED}").unwrap(), "${A}");
        assert_eq!(run("no variable, $5, {{ topic }}").unwrap(), "no variable, $5, {{ topic }}");
    }

    #[test]
    fn a_doubled_dollar_escapes() {
        assert_eq!(run("$${A}").unwrap(), "${A}");
        assert_eq!(run("$${A} ${A} $$").unwrap(), "${A} one $$");
    }

    #[test]
    fn refuses_what_is_no_variable() {
        assert_eq!(run("${A"), Err(InterpolateError::Unclosed));
        assert_eq!(run("${}"), Err(InterpolateError::Name(String::new())));
        assert_eq!(run("${A:-x}"), Err(InterpolateError::Name("A:-x".into())));
        assert_eq!(run("${B}"), Err(InterpolateError::Undefined("B".into())));
    }
}
