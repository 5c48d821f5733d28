//! Rows whose columns stand below one another.

use super::{Style, text::columns};

/// What is known, a word and what is to be said about it per line.
#[derive(Default)]
pub(crate) struct Facts {
    rows: Vec<(String, String)>,
}

impl Facts {
    /// Adds a line, or several under one word.
    pub(crate) fn add(&mut self, word: &str, what: impl Into<String>) {
        for (number, line) in what.into().lines().enumerate() {
            let word = if number == 0 { word } else { "" };
            self.rows.push((word.to_owned(), line.to_owned()));
        }
    }

    /// Adds each line, the word before the first.
    pub(crate) fn add_all(&mut self, word: &str, lines: &[String]) {
        for (number, line) in lines.iter().enumerate() {
            self.add(if number == 0 { word } else { "" }, line.as_str());
        }
    }

    /// The text.
    pub(crate) fn show(&self, style: Style) -> String {
        let wide = self.rows.iter().map(|(word, _)| columns(word)).max().unwrap_or(0);
        let mut out = String::new();
        for (word, what) in &self.rows {
            let gap = " ".repeat(wide - columns(word));
            let line = format!("  {}{gap}  {what}", style.head(word));
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Rows of cells; numbers to the right.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines; `right` are the columns whose cells stand at the right.
    pub(crate) fn lines(&self, right: &[usize]) -> Vec<String> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..count)
            .map(|at| self.rows.iter().map(|row| columns(&cell(row, at))).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells = (0..count).map(|at| {
                let cell = cell(row, at);
                let gap = " ".repeat(widths[at] - columns(&cell));
                if right.contains(&at) { gap + &cell } else { cell + &gap }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}
