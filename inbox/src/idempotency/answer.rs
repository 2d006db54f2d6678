//! What a finished key answers with.

use serde_json::Value;
use tokio_postgres::Row;

/// What was answered the first time, and is answered every time after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; 0 for a message, whose work has no answer.
    pub status: u16,
    /// Names and values, in order; a name may stand more than once.
    pub headers: Vec<(String, String)>,
    /// `None`: it was not retained, being too large or secret, and cannot be given again.
    pub body: Option<Vec<u8>>,
}

impl Answer {
    /// Of work that has no answer.
    #[must_use]
    pub fn none() -> Self {
        Self { status: 0, headers: Vec::new(), body: None }
    }

    /// As the column `headers` holds them.
    pub(super) fn header_pairs(&self) -> Value {
        self.headers
            .iter()
            .map(|(name, value)| Value::from(vec![name.as_str(), value.as_str()]))
            .collect()
    }

    /// From the columns `status`, `headers` and `body`.
    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let status: i32 = row.try_get("status")?;
        let headers: Option<Value> = row.try_get("headers")?;
        Ok(Self {
            // The CHECK keeps it between 0 and 599.
            status: u16::try_from(status).unwrap_or_default(),
            headers: headers.as_ref().map(read_pairs).unwrap_or_default(),
            body: row.try_get("body")?,
        })
    }
}

/// What is no pair of strings was not written by this crate, and is left out.
fn read_pairs(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_array().into_iter().flatten();
    pairs
        .filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![pair("link", "<a>"), pair("link", "<b>")];
        let answer = Answer { status: 201, headers: headers.clone(), body: None };
        assert_eq!(read_pairs(&answer.header_pairs()), headers);
    }

    #[test]
    fn what_is_no_pair_is_left_out() {
        let odd = serde_json::json!([["a"], ["b", 1], "c", ["d", "e"]]);
        assert_eq!(read_pairs(&odd), [("d".to_owned(), "e".to_owned())]);
        assert!(read_pairs(&Value::Null).is_empty());
    }
}
