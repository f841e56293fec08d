//! The shared memory file, as Python holds it.

use crate::observe::now;
use pygate_core::ai::keys::{counter_key, Kind, Window};
use pygate_core::balance::{self, state, Address, ServicePlan, Spoken};
use pygate_core::config::Config;
use pygate_core::limit::{self, budget};
use pygate_core::policy::breaker_state;
use pygate_core::shared::{Layout, Shared as Memory};
use pygate_core::tls;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::Arc;

/// The memory all processes of one gateway share. Made once by the control process, opened by the others.
#[pyclass(frozen, module = "pygate._core")]
pub struct Shared {
    pub memory: Arc<Memory>,
}

#[pymethods]
impl Shared {
    /// Makes a fresh file for `workers` slots, replacing what was there. Raises `OSError`.
    #[staticmethod]
    fn create(path: PathBuf, workers: usize) -> PyResult<Shared> {
        let memory = Memory::create(&path, Layout::for_workers(workers))?;
        limit::seed(&memory, getrandom::u64().map_err(|e| PyRuntimeError::new_err(e.to_string()))?);
        Ok(Shared { memory: Arc::new(memory) })
    }

    /// Opens a file made by `create`. Raises `OSError` when it is missing or of another version.
    #[staticmethod]
    fn open(path: PathBuf) -> PyResult<Shared> {
        Ok(Shared { memory: Arc::new(Memory::open(&path)?) })
    }

    /// Worker slots the file was made for.
    #[getter]
    fn workers(&self) -> usize {
        self.memory.layout().workers
    }

    /// Says what a health check found about an endpoint (`endpoint_key`): up, down, or None: not checked.
    /// False when the table has no room; the endpoint then counts as up.
    fn set_health(&self, key: u64, up: Option<bool>) -> bool {
        let now = now();
        let entry = match up {
            Some(_) => state::claim(&self.memory, key, now),
            None => state::find(&self.memory, key),
        };
        let Some(entry) = entry else { return up.is_none() };
        entry.touch(now);
        entry.set(state::Word::Main, up.map_or(0, |up| if up { state::UP } else { state::DOWN }));
        true
    }

    /// What the last health check found, if there was one.
    fn health(&self, key: u64) -> Option<bool> {
        match state::find(&self.memory, key)?.get(state::Word::Main) {
            state::UP => Some(true),
            state::DOWN => Some(false),
            _ => None,
        }
    }

    /// Seconds until the ejection of an endpoint ends; None when it is not ejected.
    fn ejected_for(&self, key: u64) -> Option<f64> {
        let now = now();
        let until = balance::ejected_until(state::find(&self.memory, key)?, now)?;
        Some(until.since(now).as_secs_f64())
    }

    /// State of the circuit breaker policy called `name`: `"closed"`, `"open"` or `"probing"`.
    fn breaker(&self, name: &str) -> &'static str {
        breaker_state(&self.memory, name)
    }

    /// Makes 48 fresh random bytes the newest key of session tickets; the two before it still decrypt. Raises
    /// `ValueError` on any other number of bytes. For the control process alone.
    fn rotate_ticket_keys(&self, key: &[u8]) -> PyResult<()> {
        let wrong = |_| PyValueError::new_err(format!("a ticket key has {} bytes", tls::TICKET_KEY_BYTES));
        tls::rotate_ticket_keys(&self.memory, key.try_into().map_err(wrong)?);
        Ok(())
    }

    /// Sets what was used of budgets in their current windows: (scope, kind, window, used) each, as key snapshots
    /// spell them. `ValueError`: a kind or window that is none; `RuntimeError`: there is no room.
    fn restore_budgets(&self, entries: Vec<(String, String, String, u64)>) -> PyResult<()> {
        let unix = now_unix();
        for (scope, kind, window, used) in entries {
            let found = Kind::ALL.into_iter().find(|k| k.name() == kind);
            let kind = found.ok_or_else(|| PyValueError::new_err(format!("{kind:?} is nothing that is counted")))?;
            let found = Window::ALL.into_iter().find(|w| w.name() == window);
            let window = found.ok_or_else(|| PyValueError::new_err(format!("{window:?} is no window")))?;
            let (begin, end) = window.around(unix);
            let counter = budget::Counter { key: counter_key(&scope, kind, window), begin, end };
            if !budget::restore(&self.memory, counter, kind.counted(used), unix) {
                return Err(PyRuntimeError::new_err("the table of budgets is full"));
            }
        }
        Ok(())
    }

    /// What was used of a budget in its current window, as counters hold it (money in millionths of a dollar).
    fn budget_used(&self, scope: &str, kind: &str, window: &str) -> PyResult<u64> {
        let kind = Kind::ALL.into_iter().find(|k| k.name() == kind);
        let window = Window::ALL.into_iter().find(|w| w.name() == window);
        let (Some(kind), Some(window)) = (kind, window) else {
            return Err(PyValueError::new_err("no such kind or window"));
        };
        let (begin, end) = window.around(now_unix());
        Ok(budget::used(&self.memory, budget::Counter { key: counter_key(scope, kind, window), begin, end }))
    }

    /// Gives back what a worker held of concurrency limits and zeroes its gauges; its counters stay. Only for a
    /// worker whose process is gone.
    fn clear_worker(&self, slot: usize) {
        pygate_core::observe::retire(&self.memory, slot);
        if slot < self.memory.layout().workers {
            limit::concurrency::clear_worker(&self.memory, slot);
        }
    }
}

fn now_unix() -> u64 {
    crate::gateway::now().wall_ns / 1_000_000_000
}

/// Key of a service's endpoint in shared memory, by its URL as configured.
#[pyfunction]
pub fn endpoint_key(service: &str, url: &str) -> u64 {
    balance::endpoint_key(service, url)
}

/// The endpoints a configuration (JSON) wants checked, one dict each: `service`, `endpoint` (label), `key`,
/// `host` and `port` or `socket`, `host_header`, `path` or `grpc` (the other is None), `interval`, `timeout` (seconds),
/// `healthy_after`, `unhealthy_after`. Services that do not compile are left out. Raises `ValueError` when it is none at all.
#[pyfunction]
pub fn health_targets<'py>(py: Python<'py>, config: &[u8]) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let config: Config = serde_json::from_slice(config).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let mut targets = Vec::new();
    for (name, service) in &config.services {
        let Ok(ServicePlan { endpoints, health: Some(health), .. }) = ServicePlan::compile(name, service) else {
            continue;
        };
        for endpoint in endpoints.into_iter().filter(|e| e.weight > 0) {
            let target = PyDict::new(py);
            target.set_item("service", name)?;
            target.set_item("endpoint", &endpoint.label)?;
            target.set_item("key", endpoint.key)?;
            let (host, port, socket) = match endpoint.address {
                Address::Tcp { host, port } => (host, port, String::new()),
                Address::Unix(path) => (String::new(), 0, path),
            };
            target.set_item("host", host)?;
            target.set_item("port", port)?;
            target.set_item("socket", socket)?;
            let own = || String::from_utf8_lossy(&endpoint.host_header).into_owned();
            target.set_item("host_header", health.host.clone().unwrap_or_else(own))?;
            target.set_item("tls", endpoint.spoken == Spoken::Https)?;
            target.set_item("path", &health.path)?;
            target.set_item("grpc", &health.grpc)?;
            target.set_item("interval", health.interval.0.as_secs_f64())?;
            target.set_item("timeout", health.timeout.0.as_secs_f64())?;
            target.set_item("healthy_after", health.healthy_after)?;
            target.set_item("unhealthy_after", health.unhealthy_after)?;
            targets.push(target);
        }
    }
    Ok(targets)
}
