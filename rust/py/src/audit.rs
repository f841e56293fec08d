//! The audit writer as Python sees it: for tests, tools and the crash harness. The engine uses
//! [`crate::audit_writer`] directly.

use crate::audit_writer::AuditWriter;
use pygate_core::audit::record::{Intent, Outcome};
use pygate_core::audit::{encode_intent, encode_outcome};
use pygate_core::grpc::Status;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A running audit writer: `AuditLogWriter(dir, slot=0, segment_size=64 MiB, flush_interval=0.02 s)`.
#[pyclass(frozen, module = "pygate._core")]
pub struct AuditLogWriter(AuditWriter);

#[pymethods]
impl AuditLogWriter {
    #[new]
    #[pyo3(signature = (dir, slot=0, segment_size=64 << 20, flush_interval=0.02))]
    fn new(dir: PathBuf, slot: u32, segment_size: u64, flush_interval: f64) -> PyResult<Self> {
        let interval = Duration::try_from_secs_f64(flush_interval)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))?;
        Ok(AuditLogWriter(AuditWriter::start(&dir, slot, segment_size, interval)?))
    }

    /// Appends encoded records; the sequence of the last, or None when the log is broken and the backlog full.
    fn append(&self, encoded: &[u8], records: u32, durable: bool) -> Option<u64> {
        self.0.append(encoded, records, durable)
    }

    fn durable_seq(&self) -> u64 {
        self.0.durable_seq()
    }

    /// errno of the failure that lasts, or None.
    fn broken(&self) -> Option<i32> {
        self.0.broken()
    }

    fn eventfd(&self) -> i32 {
        self.0.eventfd()
    }

    fn clear_eventfd(&self) {
        self.0.clear_eventfd();
    }

    #[getter]
    fn dir(&self) -> PathBuf {
        self.0.dir().to_owned()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.0.stats();
        let dict = PyDict::new(py);
        dict.set_item("records", stats.records)?;
        dict.set_item("bytes", stats.bytes)?;
        dict.set_item("frames", stats.frames)?;
        dict.set_item("syncs", stats.syncs)?;
        dict.set_item("retries", stats.retries)?;
        dict.set_item("dropped", stats.dropped)?;
        Ok(dict)
    }

    /// Writes what is left, seals and ends; OSError when it could not be written.
    fn flush_and_stop(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.flush_and_stop())?)
    }
}

/// Encodes the intent of a call with these facts (others are empty): the record a test or tool appends.
#[pyfunction]
#[pyo3(signature = (exchange, wall_ns, *, route="", service="", method="GET", host="", path="/",
                    client_ip="127.0.0.1", client_port=0, identity="", trace_id=[0; 16], span_id=[0; 8],
                    parent_span_id=[0; 8], sampled=false, entrypoint="web", revision=[0; 6], user_agent="",
                    https=false, mono_ns=0))]
#[allow(clippy::too_many_arguments)]
pub fn encode_audit_intent<'py>(
    py: Python<'py>,
    exchange: [u8; 16],
    wall_ns: u64,
    route: &str,
    service: &str,
    method: &str,
    host: &str,
    path: &str,
    client_ip: &str,
    client_port: u16,
    identity: &str,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_span_id: [u8; 8],
    sampled: bool,
    entrypoint: &str,
    revision: [u8; 6],
    user_agent: &str,
    https: bool,
    mono_ns: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let client_ip: IpAddr =
        client_ip.parse().map_err(|_| pyo3::exceptions::PyValueError::new_err("client_ip: an IP address"))?;
    let mut out = Vec::new();
    let intent = Intent {
        exchange,
        wall_ns,
        mono_ns,
        revision,
        entrypoint,
        route,
        service,
        method: method.as_bytes(),
        https,
        host: host.as_bytes(),
        path: path.as_bytes(),
        client_ip,
        client_port,
        identity,
        trace_id,
        span_id,
        parent_span_id,
        sampled,
        user_agent: user_agent.as_bytes(),
        tls: "",
        client_cert: "",
    };
    encode_intent(&intent, &mut out);
    Ok(PyBytes::new(py, &out))
}

/// Encodes the outcome of a call with these facts; see [`encode_audit_intent`].
#[pyfunction]
#[pyo3(signature = (exchange, wall_ns, *, duration_ns=0, status=200, code="", endpoint="", attempts=1,
                    upstream_ns=0, request_bytes=0, response_bytes=0, truncated=false, findings=vec![],
                    client_ip=None, entrypoint="", revision=[0; 6], grpc_status=None))]
#[allow(clippy::too_many_arguments)]
pub fn encode_audit_outcome<'py>(
    py: Python<'py>,
    exchange: [u8; 16],
    wall_ns: u64,
    duration_ns: u64,
    status: u16,
    code: &str,
    endpoint: &str,
    attempts: u8,
    upstream_ns: u64,
    request_bytes: u64,
    response_bytes: u64,
    truncated: bool,
    findings: Vec<(String, String, bool, bool, u32, u32)>,
    client_ip: Option<&str>,
    entrypoint: &str,
    revision: [u8; 6],
    grpc_status: Option<u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    use pygate_core::audit::Finding;
    let grpc_status = grpc_status.and_then(|number| Status::ALL.get(usize::from(number)).copied());
    let client_ip = match client_ip.map(str::parse::<IpAddr>) {
        Some(Err(_)) => return Err(pyo3::exceptions::PyValueError::new_err("client_ip: an IP address")),
        Some(Ok(ip)) => Some(ip),
        None => None,
    };
    let findings: Vec<Finding> = findings
        .iter()
        .map(|(rule, action, shadow, response, start, end)| Finding {
            rule,
            action,
            shadow: *shadow,
            response: *response,
            start: *start,
            end: *end,
        })
        .collect();
    let mut out = Vec::new();
    let outcome = Outcome {
        exchange,
        wall_ns,
        duration_ns,
        status,
        code,
        endpoint,
        attempts,
        upstream_ns,
        request_bytes,
        response_bytes,
        truncated,
        grpc_status,
        findings: &findings,
        client_ip,
        entrypoint,
        revision,
    };
    encode_outcome(&outcome, &mut out);
    Ok(PyBytes::new(py, &out))
}
