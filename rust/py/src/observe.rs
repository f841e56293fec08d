//! The metrics in shared memory, as the control process reads them.

use crate::shared::Shared;
use pygate_core::observe::{retire, Snapshot};
use pygate_core::time::Instant;
use pyo3::exceptions::PyRuntimeError;
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

    /// Zeroes the gauges of a worker that is gone and has no successor in its slot; counters stay.
    fn retire(&self, worker: usize) {
        retire(&self.shared.get().memory, worker);
    }
}

/// CLOCK_MONOTONIC, which all processes of a host share.
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
