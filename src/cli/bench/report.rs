//! Tables on the terminal, and the same as JSON.

use std::path::Path;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::types::{Error, Result};

/// Everything measured so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    tables: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    title: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Report {
    /// Prints a table and keeps it.
    pub fn add(&mut self, title: &str, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY).set_header(header).add_rows(rows.clone());
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{title}\n{table}\n");
        let header = header.iter().map(|text| (*text).to_owned()).collect();
        self.tables.push(Measured { title: title.to_owned(), header, rows });
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::internal(error.to_string()))?;
        std::fs::write(path, text).map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
    }
}

/// The value below which a share of the sorted values lies; 0 of none.
pub(super) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
}

/// The median; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Nanoseconds as microseconds.
pub(super) fn microseconds(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}

/// Bytes as MiB.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_of_the_values() {
        let values: Vec<u64> = (0..=100).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| percentile(&values, share)), [0, 50, 99, 100]);
        assert_eq!((percentile(&[], 0.5), median(vec![3.0, 1.0, 2.0]), median(vec![])), (0, 2.0, 0.0));
    }
}
