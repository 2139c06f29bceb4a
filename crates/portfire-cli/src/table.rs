//! Columns and lines of text for people. Everything in a cell is escaped here, so that no caller can forget it.

use std::io::{self, Write};

use crate::escape;

/// A table that is written once it is complete, for the widths of its columns.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Table {
        Table { rows: vec![header.iter().map(|&name| name.to_owned()).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| escape::plain(cell)).collect());
    }

    /// Writes header and rows, two spaces between columns and none at the end of a line.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Writes a line for each field that has something in it, escaped as cells are.
pub(crate) fn fields(fields: &[(&str, String)], out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "{name:9} {}", escape::plain(value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_escaped() {
        let mut table = Table::new(["ID", "KIND", "JOBS"]);
        table.row(["1".to_owned(), "mail\u{1b}[0m".to_owned(), "12".to_owned()]);
        table.row(["22".to_owned(), String::new(), String::new()]);
        let mut written = Vec::new();
        table.write(&mut written).unwrap();
        let expected = "ID  KIND           JOBS\n1   mail\\u{1b}[0m  12\n22\n";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
