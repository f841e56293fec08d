//! A compiled revision, as Python holds it.

use crate::guard::Ruleset;
use pygate_core::config::Config;
use pygate_core::error::Problem;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

/// Everything that decides an answer. Immutable; may be compiled on any thread.
#[pyclass(frozen, module = "pygate._core")]
pub struct Revision {
    pub compiled: Arc<pygate_core::revision::Revision>,
}

#[pymethods]
impl Revision {
    /// Compiles a configuration (JSON with resolved secrets) under `name` (12 hex digits).
    ///
    /// Raises `ValueError` whose only argument is a JSON list of problems (`path`, `message`, `expected`,
    /// `nearest`).
    #[new]
    #[pyo3(signature = (config, name, workers=1, rules=None))]
    fn new(py: Python<'_>, config: &[u8], name: &str, workers: usize, rules: Option<&Ruleset>) -> PyResult<Revision> {
        let rules = rules.map(|r| &r.0);
        py.detach(|| {
            let config: Config = serde_json::from_slice(config)
                .map_err(|e| refused(&[Problem::new("", format!("not a configuration: {e}"))]))?;
            let compiled =
                pygate_core::revision::Revision::compile(&config, name, workers, rules).map_err(|p| refused(&p))?;
            Ok(Revision { compiled: Arc::new(compiled) })
        })
    }

    /// Where this revision's audit log lies.
    #[getter]
    fn audit_dir(&self) -> &str {
        &self.compiled.audit.dir
    }

    #[getter]
    fn name(&self) -> &str {
        &self.compiled.name
    }
}

/// Everything wrong with a configuration: a JSON list of problems, empty when it compiles.
#[pyfunction]
#[pyo3(signature = (config, rules=None))]
pub fn check(py: Python<'_>, config: &[u8], rules: Option<&Ruleset>) -> String {
    let rules = rules.map(|r| &r.0);
    py.detach(|| {
        let problems = match serde_json::from_slice::<Config>(config) {
            Err(error) => vec![Problem::new("", format!("not a configuration: {error}"))],
            Ok(config) => {
                pygate_core::revision::Revision::compile(&config, "000000000000", 1, rules).err().unwrap_or_default()
            }
        };
        serde_json::to_string(&problems).unwrap_or_default()
    })
}

fn refused(problems: &[Problem]) -> PyErr {
    PyValueError::new_err(serde_json::to_string(problems).unwrap_or_default())
}
