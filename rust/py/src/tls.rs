//! TLS of one worker, as Python holds it.

use crate::shared::Shared;
use pygate_core::config::Config;
use pygate_core::error::Problem;
use pygate_core::tls::{describe, Material, Tickets};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::sync::Arc;

/// Certificates, options and roots, compiled. Immutable; may be compiled on any thread.
#[pyclass(frozen, module = "pygate._core")]
pub struct TlsStore {
    pub compiled: Arc<pygate_core::tls::TlsStore>,
}

#[pymethods]
impl TlsStore {
    /// Compiles the TLS of a configuration (JSON) with the contents of its certificate files (JSON, see
    /// `core::tls::Material`). With `shared`, sessions are taken up again by the ticket keys in it.
    ///
    /// Raises `ValueError` whose only argument is a list of problems: dicts of `path`, `message`, `expected`, `nearest`.
    #[new]
    #[pyo3(signature = (config, material, shared=None))]
    fn new(py: Python<'_>, config: &[u8], material: &[u8], shared: Option<&Shared>) -> PyResult<TlsStore> {
        let tickets = shared.map(|shared| Tickets::new(shared.memory.clone()));
        let compiled = py.detach(|| {
            let config: Config = serde_json::from_slice(config)
                .map_err(|e| vec![Problem::new("", format!("not a configuration: {e}"))])?;
            // The parser's own message could quote a key.
            let material: Material = serde_json::from_slice(material).map_err(|e| {
                vec![Problem::new("", format!("not the contents of certificate files: {:?}", e.classify()))]
            })?;
            pygate_core::tls::TlsStore::compile(&config, &material, tickets)
        });
        match compiled {
            Ok(compiled) => Ok(TlsStore { compiled: Arc::new(compiled) }),
            Err(problems) => Err(refused(py, &problems)?),
        }
    }

    /// Whether an entrypoint, by name, speaks TLS.
    fn has_server(&self, entrypoint: &str) -> bool {
        self.compiled.server(entrypoint).is_some()
    }

    /// The key authorization of an http-01 challenge, if it is known.
    fn challenge(&self, token: &str) -> Option<&str> {
        self.compiled.challenge(token.as_bytes())
    }
}

fn refused(py: Python<'_>, problems: &[Problem]) -> PyResult<PyErr> {
    let list = PyList::empty(py);
    for problem in problems {
        let item = PyDict::new(py);
        item.set_item("path", &problem.path)?;
        item.set_item("message", &problem.message)?;
        item.set_item("expected", &problem.expected)?;
        item.set_item("nearest", &problem.nearest)?;
        list.append(item)?;
    }
    Ok(PyValueError::new_err((list.unbind(),)))
}

/// What every certificate of `material` (JSON) says, one dict each: `name`, `source`, `sans`, `subject`, `issuer`
/// (RFC 4514), `serial`, `not_before`, `not_after` (unix seconds), `fingerprint` (SHA-256, hex), `key`, `ocsp`. One that
/// cannot be read is left out. Raises `ValueError` when it is no material.
#[pyfunction]
pub fn tls_certificates<'py>(py: Python<'py>, material: &[u8]) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let material: Material =
        serde_json::from_slice(material).map_err(|_| PyValueError::new_err("not the contents of certificate files"))?;
    let found = describe(&material).into_iter().map(|certificate| {
        let item = PyDict::new(py);
        item.set_item("name", certificate.name)?;
        item.set_item("source", certificate.source)?;
        item.set_item("sans", certificate.sans)?;
        item.set_item("subject", certificate.subject)?;
        item.set_item("issuer", certificate.issuer)?;
        item.set_item("serial", certificate.serial)?;
        item.set_item("not_before", certificate.not_before)?;
        item.set_item("not_after", certificate.not_after)?;
        item.set_item("fingerprint", certificate.fingerprint)?;
        item.set_item("key", certificate.key)?;
        item.set_item("ocsp", certificate.ocsp)?;
        Ok(item)
    });
    found.collect()
}
