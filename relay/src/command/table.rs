//! A table for people: aligned columns, readable without colour, nothing that a terminal obeys.

use crate::printable::is_unseen;

/// Characters of a cell that are shown; reasons and keys can be long.
const CELL_CHARS_MAX: usize = 60;

/// A table under construction.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// The column that is shown in full: its cells are typed back.
    whole: Option<usize>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&name| name.to_owned()).collect()], whole: None }
    }

    /// Shows this column in full.
    pub(super) fn with_whole(self, column: usize) -> Self {
        Self { whole: Some(column), ..self }
    }

    pub(super) fn row(&mut self, cells: &[String]) {
        let chars_max =
            |column| if self.whole == Some(column) { usize::MAX } else { CELL_CHARS_MAX };
        let cells = cells.iter().enumerate();
        let shown = cells.map(|(column, cell)| printable(cell, chars_max(column))).collect();
        self.rows.push(shown);
    }

    /// The lines, each with its newline; two spaces between columns.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text with what a terminal obeys escaped, cut to so many characters. What stands in a table came
/// from whoever may write to the outbox.
pub(super) fn printable(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    for (n, char) in text.chars().enumerate() {
        if n == chars_max {
            shown.push('…');
            break;
        }
        if is_unseen(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let mut table = Table::new(&["A", "B"]);
        table.row(&["grüße".to_owned(), "x".to_owned()]);
        table.row(&["y".to_owned(), String::new()]);
        assert_eq!(table.render(), "A      B\ngrüße  x\ny\n");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2J\nb", 20), "a\\u{1b}[2J\\nb");
        assert_eq!(printable("a\u{202e}b\u{2028}", 20), "a\\u{202e}b\\u{2028}");
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
