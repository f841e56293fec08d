//! Single steps of the data plane, callable from Python: what `bench/micro` measures. Serving never comes here.

use crate::revision::Revision;
use pygate_core::http1::{HeadLimits, RequestEvent, Server};
use pygate_core::message::{Peer, RequestHead};
use pygate_core::route::Found;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Mutex, PoisonError};

/// A parsed request head, and the buffers to parse the next one into.
#[pyclass(frozen, module = "pygate._core")]
#[derive(Default)]
pub struct HeadParser {
    head: Mutex<RequestHead>,
}

#[pymethods]
impl HeadParser {
    #[new]
    fn new() -> HeadParser {
        HeadParser::default()
    }

    /// Parses a complete HTTP/1.1 request head; returns its length. `ValueError` says what is wrong with it.
    fn parse(&self, bytes: &[u8]) -> PyResult<usize> {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        match Server::default().read(bytes, &HeadLimits::default(), &mut head) {
            Ok((used, RequestEvent::Head)) => Ok(used),
            Ok(_) => Err(PyValueError::new_err("the head is not complete")),
            Err(violation) => Err(PyValueError::new_err(violation.detail)),
        }
    }

    /// The number of the route that the parsed head takes in `revision`, if any.
    fn route(&self, revision: &Revision) -> Option<u32> {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        match revision.compiled.table.find(&head, &Peer::default()) {
            Found::Route(number) => Some(number),
            _ => None,
        }
    }
}
