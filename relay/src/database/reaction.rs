//! What each error of PostgreSQL calls for: one table, by class and by the codes that differ from
//! their class. docs/reactions/postgresql.md says the same for people, and a test compares the two.

use tokio_postgres::error::{DbError, Severity};

/// What an error calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The session has ended, or its state is unknown: connect anew.
    Reconnect,
    /// The session is well and the statement met a lock, a time-out or a conflict: the same again.
    Again,
    /// The server has run out of something: wait, and do not hurry it.
    Resources,
    /// A constraint, a trigger or a rule of the database refused this one statement.
    Refused,
    /// The role may not do it.
    Permission,
    /// A value in a row cannot be read, stored or converted.
    Data,
    /// What the relay needs is missing, or has another shape.
    Misfit,
}

use Reaction::{Again, Data, Misfit, Permission, Reconnect, Refused, Resources};

impl Reaction {
    /// The word for it on the page.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reconnect => "reconnect",
            Again => "again",
            Resources => "resources",
            Refused => "refused",
            Permission => "permission",
            Data => "data",
            Misfit => "misfit",
        }
    }
}

/// A code by its class, and the codes of it that call for something else.
type Class = (&'static str, Reaction, &'static [(&'static str, Reaction)]);

/// Appendix A of PostgreSQL's documentation, class by class.
///
/// A function in PL/pgSQL can raise any code. What only such a function raises in practice (a case
/// that was not found, a missing row) is a refusal: it comes from a trigger.
pub const CLASSES: &[Class] = &[
    ("00", Reconnect, &[]),
    ("01", Refused, &[]),
    ("02", Refused, &[]),
    ("03", Reconnect, &[]),
    ("08", Reconnect, &[]),
    ("09", Refused, &[]),
    // A cached plan whose result has changed: a new session prepares its statements anew.
    ("0A", Reconnect, &[]),
    ("0B", Reconnect, &[]),
    ("0F", Refused, &[]),
    ("0L", Permission, &[]),
    ("0P", Permission, &[]),
    ("0Z", Refused, &[]),
    ("10", Data, &[]),
    ("20", Refused, &[]),
    ("21", Refused, &[]),
    ("22", Data, &[]),
    ("23", Refused, &[]),
    ("24", Reconnect, &[]),
    ("25", Reconnect, &[]),
    ("26", Reconnect, &[]),
    ("27", Refused, &[]),
    ("28", Permission, &[]),
    ("2B", Refused, &[]),
    ("2D", Refused, &[]),
    ("2F", Refused, &[]),
    ("34", Reconnect, &[]),
    ("38", Refused, &[]),
    ("39", Refused, &[]),
    ("3B", Reconnect, &[]),
    ("3D", Misfit, &[]),
    ("3F", Misfit, &[]),
    ("40", Again, &[("40002", Refused), ("40003", Reconnect)]),
    ("42", Misfit, &[("42501", Permission)]),
    ("44", Refused, &[]),
    ("53", Resources, &[]),
    ("54", Data, &[]),
    ("55", Refused, &[("55006", Again), ("55P02", Misfit), ("55P03", Again)]),
    ("57", Reconnect, &[("57014", Again)]),
    ("58", Resources, &[]),
    ("72", Again, &[]),
    ("F0", Resources, &[]),
    ("HV", Refused, &[]),
    ("P0", Refused, &[]),
    ("XX", Data, &[]),
];

/// What a code calls for; `None` if PostgreSQL has no such class.
#[must_use]
pub fn of_code(code: &str) -> Option<Reaction> {
    let (_, of_class, exceptions) = CLASSES.iter().find(|(class, ..)| code.starts_with(class))?;
    let exception = exceptions.iter().find(|(exception, _)| *exception == code);
    Some(exception.map_or(*of_class, |&(_, reaction)| reaction))
}

/// What an error of the driver calls for.
#[must_use]
pub fn reaction(error: &tokio_postgres::Error) -> Reaction {
    match error.as_db_error() {
        Some(said) => of_answer(said.code().code(), is_end(said)),
        // The driver has no other sign for an answer that it could not decode.
        None if error.to_string().starts_with("error deserializing") => Data,
        None => Reconnect,
    }
}

/// Whether the session is of no further use, whatever else the error calls for.
#[must_use]
pub fn ends_session(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(said) => is_end(said) || reaction(error) == Reconnect,
        None => reaction(error) == Reconnect,
    }
}

/// An unknown code is a trigger's own: PL/pgSQL raises whatever it is told to.
fn of_answer(code: &str, ends: bool) -> Reaction {
    match of_code(code).unwrap_or(Refused) {
        // The server ended the session with it, so there is none that goes on.
        Again | Refused | Data if ends => Reconnect,
        reaction => reaction,
    }
}

fn is_end(said: &DbError) -> bool {
    matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio_postgres::error::SqlState;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/reactions/postgresql.md");

    /// Every code that the driver knows in the classes of the table, and every class that it knows.
    fn known() -> Vec<String> {
        const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let is_known = |code: &str| !format!("{:?}", SqlState::from_code(code)).contains("Other");
        let word = |n: usize, digits: u32| {
            let base = DIGITS.len();
            let digit = |place: u32| char::from(DIGITS[n / base.pow(place) % base]);
            (0..digits).rev().map(digit).collect::<String>()
        };
        let mut classes: Vec<String> = (0..DIGITS.len().pow(2)).map(|n| word(n, 2)).collect();
        classes.retain(|class| {
            CLASSES.iter().any(|(named, ..)| named == class) || is_known(&format!("{class}000"))
        });
        let codes = classes.iter().flat_map(|class| {
            (0..DIGITS.len().pow(3)).map(move |n| format!("{class}{}", word(n, 3)))
        });
        codes.filter(|code| is_known(code)).collect()
    }

    /// The rows of the page: class or code, and the word behind it.
    fn page() -> BTreeMap<String, String> {
        let rows = PAGE.lines().filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').collect();
            let code = cells.first()?.trim().trim_matches('`');
            // The word stands in the third column, in bold.
            let word = cells.get(2)?.trim().trim_matches('*');
            Some((code.to_owned(), word.to_owned()))
        });
        rows.collect()
    }

    #[test]
    fn the_driver_knows_some_250_codes() {
        let known = known();
        assert!(known.len() > 230, "{}", known.len());
        for code in ["22021", "23503", "428C9", "HV00R", "0100C", "XX002"] {
            assert!(known.iter().any(|known| known == code), "{code}");
        }
    }

    #[test]
    fn every_code_that_the_driver_knows_has_a_reaction() {
        for code in known() {
            assert!(of_code(&code).is_some(), "{code} is in no class of the table");
        }
    }

    #[test]
    fn every_exception_is_a_code_of_its_class_that_differs() {
        let known = known();
        for (class, of_class, exceptions) in CLASSES {
            for (code, reaction) in *exceptions {
                assert!(code.starts_with(class) && reaction != of_class, "{code}");
                assert!(known.contains(&(*code).to_owned()), "{code} is not a code");
            }
        }
    }

    #[test]
    fn the_page_says_what_the_table_does() {
        let rows = CLASSES.iter().flat_map(|(class, of_class, exceptions)| {
            [(*class, *of_class)].into_iter().chain(exceptions.iter().copied())
        });
        let table: BTreeMap<String, String> =
            rows.map(|(code, reaction)| (code.to_owned(), reaction.word().to_owned())).collect();
        assert_eq!(page(), table);
    }

    #[test]
    fn codes_call_for_what_they_mean() {
        for (code, ends, expected) in [
            ("23503", false, Refused),
            ("P0001", false, Refused),
            ("22021", false, Data),
            ("XX001", false, Data),
            ("53100", false, Resources),
            ("53300", true, Resources),
            ("42501", false, Permission),
            ("28P01", true, Permission),
            ("42P01", false, Misfit),
            ("55P03", false, Again),
            ("57014", false, Again),
            ("40001", false, Again),
            ("40P01", false, Again),
            ("57P01", true, Reconnect),
            ("57P03", true, Reconnect),
            ("57P05", true, Reconnect),
            ("25P03", true, Reconnect),
            ("08006", false, Reconnect),
            ("0A000", false, Reconnect),
            // What a trigger made up is its refusal, unless the server ended the session with it.
            ("OUTBX", false, Refused),
            ("OUTBX", true, Reconnect),
            ("XX000", true, Reconnect),
        ] {
            assert_eq!(of_answer(code, ends), expected, "{code}, ends the session: {ends}");
        }
    }
}
