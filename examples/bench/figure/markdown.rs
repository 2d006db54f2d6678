//! A table as Markdown, aligned so that it can be read as it is.

use super::Table;

impl Table {
    /// Heading and rows; columns in which nothing was measured are left out.
    pub(crate) fn text(&self) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|&n| self.rows.iter().any(|row| !row.cells[n].0.is_empty()))
            .collect();
        let heading = shown.iter().map(|&n| self.columns[n].clone());
        let mut lines = vec![[self.subject.clone()].into_iter().chain(heading).collect()];
        for row in &self.rows {
            let cells = shown.iter().map(|&n| row.cells[n].text());
            lines.push([row.name.clone()].into_iter().chain(cells).collect::<Vec<_>>());
        }
        let widths: Vec<usize> = (0..=shown.len())
            .map(|n| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = format!("**{}**\n\n{}", self.title, row(&lines[0], &widths));
        let rule = widths.iter().enumerate();
        let rule = rule.map(|(n, &width)| match n {
            0 => "-".repeat(width + 2),
            _ => "-".repeat(width + 1) + ":",
        });
        text += &format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
        text.extend(lines[1..].iter().map(|line| row(line, &widths)));
        text
    }
}

/// Names to the left, figures to the right.
fn row(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(n, (cell, &width))| match n {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
}
