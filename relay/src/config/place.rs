//! Where each key was written: a line of the file or a variable of the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a mistake stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole: it cannot be read, or a whole section is missing.
    File(PathBuf),
    /// A place in the file; line and column (in characters) count from 1.
    Line {
        /// The file, as it was given.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A variable of the environment, by name.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Line { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A key that was written somewhere.
#[derive(Debug, Clone)]
struct Entry {
    /// Of the key itself: for "unknown key" and "missing in here".
    key: Place,
    /// Of its value: for everything that is wrong with the value.
    value: Place,
    /// A scalar as it was written, `${VAR}` not replaced: what a message may show of it.
    written: Option<String>,
}

/// Every key that was written, by its dotted path.
#[derive(Debug)]
pub(super) struct Places {
    file: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Places {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), entries: BTreeMap::new() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn at(&self, (line, column): (usize, usize)) -> Place {
        Place::Line { path: self.file.clone(), line, column }
    }

    pub(super) fn insert(
        &mut self,
        path: String,
        key: Place,
        value: Place,
        written: Option<String>,
    ) {
        self.entries.insert(path, Entry { key, value, written });
    }

    /// The place of a key, or of the nearest table around it when the key was not written.
    pub(super) fn of_key(&self, path: &str) -> Place {
        self.nearest(path).map_or_else(|| Place::File(self.file.clone()), |e| e.key.clone())
    }

    /// The place of a key's value, or of the nearest table around it.
    pub(super) fn of_value(&self, path: &str) -> Place {
        match self.entries.get(path) {
            Some(entry) => entry.value.clone(),
            None => self.of_key(path),
        }
    }

    /// A scalar as it was written.
    pub(super) fn written(&self, path: &str) -> Option<&str> {
        self.entries.get(path)?.written.as_deref()
    }

    pub(super) fn is_written(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Whether the value comes from the environment, where everything is text.
    pub(super) fn is_variable(&self, path: &str) -> bool {
        matches!(self.entries.get(path), Some(Entry { value: Place::Variable(_), .. }))
    }

    fn nearest(&self, path: &str) -> Option<&Entry> {
        let mut path = path;
        loop {
            if let Some(entry) = self.entries.get(path) {
                return Some(entry);
            }
            path = parent(path)?;
        }
    }
}

/// The path of a key in a table; a key that TOML would quote is quoted.
pub(super) fn join(table: &str, key: &str) -> String {
    let key = if is_bare(key) { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// Whether TOML takes the key without quotes.
pub(super) fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The path of an element of an array.
pub(super) fn element(array: &str, index: usize) -> String {
    format!("{array}[{index}]")
}

/// The table (or array) around a path: what precedes its last `.key` or `[index]`.
pub(super) fn parent(path: &str) -> Option<&str> {
    let end = if path.ends_with('"') {
        // A quoted key may itself hold dots and brackets; its opening quote follows a dot.
        path.rfind(".\"")?
    } else {
        path.rfind(['.', '['])?
    };
    Some(&path[..end])
}

/// Line and column, in characters from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(join("", "source"), "source");
        assert_eq!(join("target.lake.properties", "a.b"), "target.lake.properties.\"a.b\"");
        assert_eq!(parent("target.lake.properties.\"a.b\""), Some("target.lake.properties"));
        assert_eq!(parent("target.orders.route[0].topic"), Some("target.orders.route[0]"));
        assert_eq!(parent("target.orders.route[0]"), Some("target.orders.route"));
        assert_eq!(parent("source"), None);
    }

    #[test]
    fn positions_count_characters() {
        let text = "a = 1\n# é\nb = \"é\" # x";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.find('b').unwrap()), (3, 1));
        assert_eq!(position(text, text.find('x').unwrap()), (3, 11));
        assert_eq!(position(text, 1000), (3, 12));
    }
}
