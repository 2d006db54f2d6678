//! The content type of a request, in one spelling.

/// A media type: the essence in lower case, parameters by name with their values unquoted. How a
/// `charset` is spelled does not count, and for JSON, which has none (RFC 8259, section 11),
/// neither whether it stands there. `None` if it is written in another way than RFC 9110 has it.
pub(super) fn media_type(value: &str) -> Option<MediaType> {
    let mut pieces = split(value).into_iter();
    let essence = pieces.next()?.trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    let mut parameters = Vec::new();
    for piece in pieces {
        let piece = piece.trim();
        if piece.is_empty() {
            continue;
        }
        let (name, value) = piece.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        let mut value = unquoted(value.trim());
        if name == "charset" {
            if is_json {
                continue;
            }
            value.make_ascii_lowercase();
        }
        parameters.push((name, value));
    }
    parameters.sort();
    Some(MediaType { essence, parameters })
}

/// A content type that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MediaType {
    pub(super) essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// In one spelling, without the parameters of this name.
    pub(super) fn text_without(&self, left_out: &str) -> String {
        let mut text = self.essence.clone();
        for (name, value) in self.parameters.iter().filter(|(name, _)| name != left_out) {
            text.push_str(&format!("; {name}={value:?}"));
        }
        text
    }

    /// In one spelling.
    pub(super) fn text(&self) -> String {
        self.text_without("")
    }
}

/// At the semicolons that do not stand in quotes.
fn split(value: &str) -> Vec<&str> {
    let (mut pieces, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                pieces.push(&value[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&value[begin..]);
    pieces
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        media_type(value).unwrap().text()
    }

    #[test]
    fn spelling_does_not_count() {
        let first = text("text/plain; charset=utf-8; format=flowed");
        for other in [
            "text/plain;charset=UTF-8;format=flowed",
            "Text/Plain ; format=flowed; Charset=\"utf-8\"",
            "text/plain; charset=utf-8; format=\"f\\lowed\";",
        ] {
            assert_eq!(text(other), first, "{other}");
        }
        assert_ne!(text("text/plain; charset=latin1; format=flowed"), first);
        assert_ne!(text("text/plain; charset=utf-8; format=Flowed"), first);
        assert_eq!(text("application/json"), text("application/json; charset=utf-8"));
        assert_eq!(text("application/a+json"), text("application/a+json;charset=\"UTF-8\""));
    }

    #[test]
    fn what_stands_in_quotes_separates_nothing() {
        let multipart = media_type("multipart/form-data; boundary=\"a;b=c\"; x=1").unwrap();
        assert_eq!(multipart.text_without("boundary"), "multipart/form-data; x=\"1\"");
        assert_eq!(media_type("text/plain; odd"), None);
    }
}
