//! A figure: the same thing measured many times.

use comfy_table::{CellAlignment, Table, presets};

/// Measurements of one thing, in one unit.
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    /// What went wrong for clients meanwhile.
    errors: u64,
}

impl Figure {
    pub(crate) fn new(name: &str, unit: &'static str) -> Figure {
        Figure { name: name.to_owned(), unit, values: Vec::new(), errors: 0 }
    }

    /// Another measurement, which is also told on standard error: trials take long.
    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
        let count = self.values.len();
        eprintln!("{}, trial {count}: {value:.1} {}", self.name, self.unit);
    }

    /// Clients saw so many errors.
    pub(crate) fn add_errors(&mut self, errors: u64) {
        self.errors += errors;
    }

    fn at(&self, permille: usize) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len().saturating_sub(1) * permille).div_ceil(1000);
        sorted.get(place).copied().unwrap_or(f64::NAN)
    }
}

/// All figures, a line each.
pub(crate) fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["", "median", "least", "most", "unit", "trials", "clients' errors"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for figure in figures {
        let number = |permille| format!("{:.1}", figure.at(permille));
        let (trials, errors) = (figure.values.len().to_string(), figure.errors.to_string());
        table.add_row([
            figure.name.clone(),
            number(500),
            number(0),
            number(1000),
            figure.unit.to_owned(),
            trials,
            errors,
        ]);
    }
    table
}
