//! Globs over topics and types.

use std::fmt;
use std::str::FromStr;

/// A glob in which `*` stands for any characters, none and dots included. Everything else is literal.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// What stands between the stars; one piece = no star.
    pieces: Vec<String>,
}

/// The text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It would match nothing: no topic is empty.
    #[error("an empty pattern matches nothing\nhint: `*` matches everything")]
    Empty,
    /// It would match nothing: PostgreSQL's text holds no NUL.
    #[error("a pattern with the character NUL matches nothing\nhint: leave it out")]
    Nul,
    /// A wildcard of another language, which would silently match nothing here.
    #[error(
        "`{0}` has no meaning in a pattern\nhint: the only wildcard is `*`, which matches any characters, dots included"
    )]
    Wildcard(char),
}

impl Pattern {
    /// Compiles a glob.
    ///
    /// # Errors
    /// An empty text, and the wildcards of other languages (`?`, `#`, `[`, `{`): a route that
    /// quietly matches nothing would let its rows be settled as filtered.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains('\0') {
            return Err(PatternError::Nul);
        }
        if let Some(wildcard) = text.chars().find(|c| "?#[]{}".contains(*c)) {
            return Err(PatternError::Wildcard(wildcard));
        }
        Ok(Self { text: text.to_owned(), pieces: text.split('*').map(str::to_owned).collect() })
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let [first, rest @ ..] = self.pieces.as_slice() else { return false };
        let Some((last, middle)) = rest.split_last() else { return text == first };
        let Some(mut text) = text.strip_prefix(first.as_str()) else { return false };
        // The leftmost place of each piece leaves the most room for the next: no backtracking.
        for piece in middle {
            let Some(at) = text.find(piece.as_str()) else { return false };
            text = &text[at + piece.len()..];
        }
        text.ends_with(last.as_str())
    }

    /// Whether a value that may be NULL matches. A pattern of nothing but stars means "anything", so
    /// it takes NULL as well; every other pattern asks for characters that NULL does not have.
    #[must_use]
    pub fn matches_optional(&self, text: Option<&str>) -> bool {
        text.map_or_else(|| self.matches_everything(), |text| self.matches(text))
    }

    /// Whether it is nothing but stars.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.pieces.len() > 1 && self.pieces.iter().all(String::is_empty)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_matches_any_characters() {
        for (pattern, yes, no) in [
            ("order", &["order"][..], &["", "orders", "my order", "Order"][..]),
            ("*", &["", "a", "a.b.c", "é"], &[]),
            ("order.*", &["order.", "order.created", "order.a.b"], &["order", "xorder.a"]),
            ("*.created", &[".created", "a.b.created"], &["created", "a.created.b"]),
            ("a*b*c", &["abc", "a.b.c", "abbcc", "axbxcxc"], &["ac", "acb", "abcd"]),
            ("ab*ba", &["abba", "ab.ba"], &["aba"]),
            ("**", &["", "x"], &[]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            for text in yes {
                assert!(pattern.matches(text), "{pattern} should match {text:?}");
            }
            for text in no {
                assert!(!pattern.matches(text), "{pattern} should not match {text:?}");
            }
        }
    }

    #[test]
    fn nothing_but_stars_matches_null() {
        for (pattern, yes) in
            [("*", true), ("**", true), ("a*", false), ("*a", false), ("a", false)]
        {
            assert_eq!(Pattern::parse(pattern).unwrap().matches_optional(None), yes, "{pattern}");
        }
        assert!(Pattern::parse("*").unwrap().matches_optional(Some("")));
    }

    #[test]
    fn wildcards_of_other_languages_are_refused() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("a\0"), Err(PatternError::Nul));
        assert_eq!(Pattern::parse("order.#"), Err(PatternError::Wildcard('#')));
        assert_eq!(Pattern::parse("order.?"), Err(PatternError::Wildcard('?')));
        assert_eq!(Pattern::parse("order.[ab]"), Err(PatternError::Wildcard('[')));
        assert_eq!(Pattern::parse("{{ topic }}"), Err(PatternError::Wildcard('{')));
    }

    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|n| by_definition(rest, &text[n..])),
            [c, rest @ ..] => text.first() == Some(c) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matches_as_defined(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(
                Pattern::parse(&pattern).unwrap().matches(&text),
                by_definition(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
