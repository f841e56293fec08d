//! Reads TOML into Python values together with where everything stands.
//!
//! Rules:
//! 1. Paths are spelt as the configuration compiler spells them (`routes[3].match.path`), so that a
//!    problem found anywhere can be shown in the user's own file.
//! 2. Lines and columns count from 1, columns and lengths in characters; a length never leaves its line.
//! 3. Dates have no use in a configuration and become their text.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::ops::Range;
use toml_edit::{Document, Item, Key, TableLike, Value};

/// Line, column and length.
type Place = (usize, usize, usize);

/// `(value, {path: (key, value)})` of a TOML text, each place as `(line, column, length)`.
///
/// Raises `ValueError(message, line, column, length)` at the first syntax error.
#[pyfunction]
pub fn read_toml<'py>(py: Python<'py>, text: &str) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
    let lines = Lines::of(text);
    let document = Document::parse(text).map_err(|e| {
        let (line, column, length) = lines.place(e.span().unwrap_or(0..0));
        PyValueError::new_err((e.message().to_string(), line, column, length))
    })?;
    let mut reader = Reader { lines, places: PyDict::new(py), path: String::new() };
    let value = reader.table(py, document.as_table())?;
    Ok((value, reader.places))
}

/// The JSON Schema of the configuration.
#[pyfunction]
pub fn schema() -> String {
    pygate_core::config::schema().to_string()
}

struct Reader<'t, 'py> {
    lines: Lines<'t>,
    places: Bound<'py, PyDict>,
    path: String,
}

impl<'py> Reader<'_, 'py> {
    fn table(&mut self, py: Python<'py>, table: &dyn TableLike) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (name, item) in table.iter() {
            let outer = self.path.len();
            if outer > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            let key = table.get_key_value(name).and_then(|(key, _)| Key::span(key));
            self.note(key.clone(), item.span().or(key))?;
            out.set_item(name, self.item(py, item)?)?;
            self.path.truncate(outer);
        }
        Ok(out)
    }

    fn item(&mut self, py: Python<'py>, item: &Item) -> PyResult<Bound<'py, PyAny>> {
        match item {
            Item::None => Ok(py.None().into_bound(py)),
            Item::Value(value) => self.value(py, value),
            Item::Table(table) => Ok(self.table(py, table)?.into_any()),
            Item::ArrayOfTables(tables) => {
                let out = PyList::empty(py);
                for (index, table) in tables.iter().enumerate() {
                    let outer = self.enter(index);
                    self.note(table.span(), table.span())?;
                    out.append(self.table(py, table)?)?;
                    self.path.truncate(outer);
                }
                Ok(out.into_any())
            }
        }
    }

    fn value(&mut self, py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
        Ok(match value {
            Value::String(s) => s.value().into_pyobject(py)?.into_any(),
            Value::Integer(i) => i.value().into_pyobject(py)?.into_any(),
            Value::Float(f) => f.value().into_pyobject(py)?.into_any(),
            Value::Boolean(b) => b.value().into_pyobject(py)?.to_owned().into_any(),
            Value::Datetime(d) => d.value().to_string().into_pyobject(py)?.into_any(),
            Value::InlineTable(table) => self.table(py, table)?.into_any(),
            Value::Array(array) => {
                let out = PyList::empty(py);
                for (index, value) in array.iter().enumerate() {
                    let outer = self.enter(index);
                    self.note(value.span(), value.span())?;
                    out.append(self.value(py, value)?)?;
                    self.path.truncate(outer);
                }
                out.into_any()
            }
        })
    }

    /// Steps into an array; returns the length of the outer path.
    fn enter(&mut self, index: usize) -> usize {
        let outer = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        outer
    }

    fn note(&mut self, key: Option<Range<usize>>, value: Option<Range<usize>>) -> PyResult<()> {
        let Some(value) = value else { return Ok(()) };
        let value = self.lines.place(value);
        let key = key.map_or(value, |key| self.lines.place(key));
        self.places.set_item(&self.path, (key, value))
    }
}

/// Turns byte offsets into lines and columns.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Lines<'t> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let line = self.starts.partition_point(|&start| start <= span.start);
        let start = self.starts[line.saturating_sub(1)];
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let characters = |from: usize, to: usize| self.text.get(from..to.max(from)).map_or(0, |t| t.chars().count());
        let column = characters(start, span.start.min(end)) + 1;
        (line, column, characters(span.start, span.end.min(end)).max(1))
    }
}
