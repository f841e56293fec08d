//! pygate._core: carries bytes between uvloop transports and pygate-core.

use pyo3::prelude::*;

mod toml;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(toml::read_toml, m)?)?;
    m.add_function(wrap_pyfunction!(toml::schema, m)?)?;
    Ok(())
}
