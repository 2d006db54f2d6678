//! The TOML file as a layer of values, each with its line and column, `${VAR}` replaced.

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::interpolate::interpolate;
use super::place::{Place, element, join, position};
use super::report::Report;
use super::variable::Variables;

/// Parses the file's text; `None` if it is not TOML, which is reported.
pub(super) fn parse(
    text: &str,
    variables: &Variables,
    report: &mut Report,
) -> Option<Map<String, Value>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut duplicate = false;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let place = report.places.at(position(text, span.start));
        if !error.message().starts_with("duplicate") {
            report.place(place, error.message().replace('\n', " "), SYNTAX_HINT);
        } else if !duplicate {
            // The second [table] of a name makes all of its keys duplicates: one mistake.
            duplicate = true;
            let key = text.get(span).unwrap_or_default();
            report.place(place, format!("duplicate key `{key}`"), DUPLICATE_HINT);
        }
    }
    if !errors.is_empty() {
        // What a recovered parse made of a broken file would only produce misleading errors.
        return None;
    }
    let mut layer = Layer { text, origin: None, variables: Some(variables), report };
    Some(layer.table(table.get_ref(), ""))
}

/// Parses the value of a variable that stands for an array or a table, written as in the file.
pub(super) fn parse_variable(
    text: &str,
    path: &str,
    place: &Place,
    report: &mut Report,
) -> Option<Value> {
    match DeValue::parse(text) {
        Ok(value) => {
            // A variable's value is taken as it is: it can be anything that its owner wants.
            let mut layer = Layer { text, origin: Some(place), variables: None, report };
            layer.value(&value, path)
        }
        Err(error) => {
            report.value(
                path,
                format!("not a TOML value: {}", error.message().replace('\n', " ")),
                "write it as in the file, on one line: [{ topic = \"…\", … }] or { \"a.b\" = \"c\" }",
            );
            None
        }
    }
}

const SYNTAX_HINT: &str = "the file is TOML: text stands in quotes, see https://toml.io";

const DUPLICATE_HINT: &str =
    "a key or a [table] stands once in a file; each target needs a name of its own";

/// One source of TOML while it is turned into values.
struct Layer<'a> {
    text: &'a str,
    /// The variable, if the text is that of a variable.
    origin: Option<&'a Place>,
    /// What `${VAR}` is replaced from, if it is replaced.
    variables: Option<&'a Variables>,
    report: &'a mut Report,
}

impl Layer<'_> {
    fn table(&mut self, table: &DeTable<'_>, path: &str) -> Map<String, Value> {
        let mut values = Map::new();
        for (key, value) in table {
            let path = join(path, key.get_ref());
            self.record(&path, key.span().start, value);
            if let Some(value) = self.value(value, &path) {
                values.insert(key.get_ref().to_string(), value);
            }
        }
        values
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Option<Value> {
        let kind = match value.get_ref() {
            DeValue::String(text) => ValueKind::String(self.interpolated(text, path)?),
            // Beyond 128 bits there is no meaning, only a range to be out of.
            DeValue::Integer(number) => ValueKind::I128(
                i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX),
            ),
            DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => ValueKind::Boolean(*boolean),
            DeValue::Datetime(datetime) => ValueKind::String(datetime.to_string()),
            DeValue::Array(values) => {
                let mut array = Vec::with_capacity(values.len());
                for (n, value) in values.iter().enumerate() {
                    let path = element(path, n);
                    self.record(&path, value.span().start, value);
                    array.extend(self.value(value, &path));
                }
                ValueKind::Array(array)
            }
            DeValue::Table(table) => ValueKind::Table(self.table(table, path)),
        };
        Some(Value::new(None, kind))
    }

    fn interpolated(&mut self, text: &str, path: &str) -> Option<String> {
        let Some(variables) = self.variables else { return Some(text.to_owned()) };
        match interpolate(text, |name| variables.text(name)) {
            Ok(text) => Some(text),
            Err(error) => {
                self.report.value(path, error.to_string(), error.hint());
                None
            }
        }
    }

    fn record(&mut self, path: &str, key_at: usize, value: &Spanned<DeValue<'_>>) {
        let place = |at| match self.origin {
            Some(variable) => variable.clone(),
            None => self.report.places.at(position(self.text, at)),
        };
        let (key, at) = (place(key_at), place(value.span().start));
        let scalar = !value.get_ref().is_table() && !value.get_ref().is_array();
        let written = scalar.then(|| self.text.get(value.span())).flatten().map(str::to_owned);
        self.report.places.insert(path.to_owned(), key, at, written);
    }
}
