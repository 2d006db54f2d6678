//! Figures: tables of measured values with every run kept, and what is drawn from them.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

mod markdown;
mod svg;

/// What one section found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
    /// What a reader has to know before comparing.
    pub(crate) notes: Vec<String>,
}

/// One table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// What the rows are.
    pub(crate) subject: String,
    /// What was measured, with the unit.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One row of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) cells: Vec<Cell>,
}

/// One value of every run; none if it was not measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Cell(pub(crate) Vec<f64>);

/// Something to be drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plot {
    /// Of its file.
    pub(crate) name: String,
    pub(crate) title: String,
    /// The axes, with their units.
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) shape: Shape,
}

/// How it is drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// A name and a length each.
    Bars(Vec<(String, f64)>),
    /// A name and points each.
    Lines(Vec<(String, Vec<(f64, f64)>)>),
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, subject: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self { title: title.into(), subject: subject.into(), columns, rows: Vec::new() }
    }

    /// Adds a row from one line of values per run: `runs[n][column]`; NaN is left out.
    pub(crate) fn push<const COLUMNS: usize>(
        &mut self,
        name: impl Into<String>,
        runs: &[[f64; COLUMNS]],
    ) {
        let cell = |column: usize| {
            Cell(runs.iter().map(|run| run[column]).filter(|value| value.is_finite()).collect())
        };
        self.rows.push(Row { name: name.into(), cells: (0..COLUMNS).map(cell).collect() });
        // Whoever watches wants to see it now.
        if let Some(row) = self.rows.last() {
            println!("  {}", self.line(row));
        }
    }

    fn line(&self, row: &Row) -> String {
        let mut text = format!("{:<44}", row.name);
        for (column, cell) in self.columns.iter().zip(&row.cells).filter(|(_, c)| !c.0.is_empty()) {
            // Writing to a String does not fail.
            let _ = write!(text, "  {column}: {}", cell.text());
        }
        text
    }
}

impl Cell {
    /// The middle one of the runs.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }

    /// `min–median–max`, or the one value.
    pub(crate) fn text(&self) -> String {
        let Some(median) = self.median() else { return "–".into() };
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match (number(least), number(median), number(most)) {
            (least, median, most) if least == median && median == most => median,
            (least, median, most) => format!("{least}–{median}–{most}"),
        }
    }
}

/// With as many digits as say something.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m == 0.0 || m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.0995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}
