//! The metrics in shared memory, as the control process reads them.

use crate::shared::Shared;
use pygate_core::error::Code;
use pygate_core::grpc::Status;
use pygate_core::message::{Method, Scheme, Version};
use pygate_core::observe::{Called, Counter, EndpointLabel, Gauge, Meter, RouteLabel, Served, Snapshot};
use pygate_core::time::Instant;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Reads what all workers count. Never writes to a live worker's block.
#[pyclass(frozen, module = "pygate._core")]
pub struct MetricsReader {
    shared: Py<Shared>,
}

#[pymethods]
impl MetricsReader {
    #[new]
    fn new(shared: Py<Shared>) -> MetricsReader {
        MetricsReader { shared }
    }

    /// Everything counted, at one moment, as JSON (`core::observe::Snapshot`).
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let memory = self.shared.get().memory.clone();
        let json = py.detach(move || serde_json::to_vec(&Snapshot::take(&memory, now())));
        Ok(PyBytes::new(py, &json.map_err(|e| PyRuntimeError::new_err(e.to_string()))?))
    }
}

/// A worker's pen in Python's hand: for tests and tools. The engine uses [`Meter`] directly.
#[pyclass(frozen, module = "pygate._core")]
pub struct MetricsWriter(Meter);

#[pymethods]
impl MetricsWriter {
    /// Takes over the worker's block, as a worker does.
    #[new]
    fn new(shared: &Shared, worker: usize) -> MetricsWriter {
        MetricsWriter(Meter::new(shared.memory.clone(), worker))
    }

    /// Counts a request. ValueError for a method that is no token or a code that does not exist.
    #[pyo3(signature = (route, method="GET", status=200, code="", *, https=false, duration_ns=0, request_bytes=0,
                        response_bytes=0, grpc_status=None))]
    #[allow(clippy::too_many_arguments)]
    fn request(
        &self,
        route: &str,
        method: &str,
        status: u16,
        code: &str,
        https: bool,
        duration_ns: u64,
        request_bytes: u64,
        response_bytes: u64,
        grpc_status: Option<u8>,
    ) -> PyResult<()> {
        self.0.request(&Served {
            route: &RouteLabel::new(route),
            method: &method_of(method)?,
            scheme: scheme_of(https),
            version: Version::Http11,
            status,
            code: code_of(code)?,
            grpc_status: grpc_status.and_then(|number| Status::ALL.get(usize::from(number)).copied()),
            duration_ns,
            request_bytes,
            response_bytes,
        });
        Ok(())
    }

    /// Counts an upstream attempt.
    #[pyo3(signature = (service, endpoint, method="GET", status=200, code="", *, duration_ns=0))]
    fn upstream(
        &self,
        service: &str,
        endpoint: &str,
        method: &str,
        status: u16,
        code: &str,
        duration_ns: u64,
    ) -> PyResult<()> {
        self.0.upstream(&Called {
            endpoint: &EndpointLabel::new(service, endpoint),
            method: &method_of(method)?,
            scheme: Scheme::Http,
            status,
            code: code_of(code)?,
            duration_ns,
        });
        Ok(())
    }

    /// A request begins.
    #[pyo3(signature = (method="GET", *, https=false))]
    fn begin(&self, method: &str, https: bool) -> PyResult<()> {
        self.0.begin(&method_of(method)?, scheme_of(https));
        Ok(())
    }

    /// Adds to a counter of the catalogue, by its name and the value of its attribute.
    #[pyo3(signature = (name, n=1, *, attribute=""))]
    fn add(&self, name: &str, n: u64, attribute: &str) -> PyResult<()> {
        let named = |c: &&Counter| c.name() == name && c.attribute().map_or("", |a| a.1) == attribute;
        let counter = Counter::ALL.iter().find(named).ok_or_else(|| PyValueError::new_err("no such counter"))?;
        self.0.add(*counter, n);
        Ok(())
    }

    /// Sets a gauge of the catalogue.
    #[pyo3(signature = (name, value, *, attribute=""))]
    fn set(&self, name: &str, value: u64, attribute: &str) -> PyResult<()> {
        let named = |g: &&Gauge| g.name() == name && g.attribute().map_or("", |a| a.1) == attribute;
        let gauge = Gauge::ALL.iter().find(named).ok_or_else(|| PyValueError::new_err("no such gauge"))?;
        self.0.set(*gauge, value);
        Ok(())
    }

    /// The loop was `lag_ns` late just now.
    fn loop_lag(&self, lag_ns: u64) {
        self.0.loop_lag(now(), lag_ns);
    }
}

fn method_of(text: &str) -> PyResult<Method> {
    Method::parse(text.as_bytes()).ok_or_else(|| PyValueError::new_err("a method is a token"))
}

fn scheme_of(https: bool) -> Scheme {
    if https {
        Scheme::Https
    } else {
        Scheme::Http
    }
}

fn code_of(name: &str) -> PyResult<Option<Code>> {
    match (name, Code::ALL.iter().find(|code| code.name() == name)) {
        ("", _) => Ok(None),
        (_, Some(code)) => Ok(Some(*code)),
        (_, None) => Err(PyValueError::new_err("no such error code")),
    }
}

/// CLOCK_MONOTONIC, which all processes of a host share.
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
