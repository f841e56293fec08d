//! The table of the gateway's own errors, for the documentation.

use pygate_core::error::Code;
use pyo3::prelude::*;

type Row = (&'static str, u16, &'static str, &'static str);

/// Every code as `(name, status, title, cause)`, in the order of the table.
#[pyfunction]
pub fn error_table() -> Vec<Row> {
    Code::ALL.iter().map(|code| (code.name(), code.status(), code.title(), code.cause())).collect()
}
