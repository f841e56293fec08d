//! The shared memory file, as Python holds it.

use pygate_core::shared::{Layout, Shared as Memory};
use pyo3::prelude::*;
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
        Ok(Shared { memory: Arc::new(Memory::create(&path, Layout::for_workers(workers))?) })
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
}
