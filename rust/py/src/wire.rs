//! Protocol objects: what uvloop calls when a connection lives.
//!
//! One class for both legs. It owns nothing but its number and its transport's name: all state is the
//! engine's. Frozen; every callback is guarded.

use crate::gateway::{Doomed, Gateway};
use crate::transport::{Handle, Input};
use pygate_core::exchange::{AfterEof, ConnId, Engine};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

/// Transport buffers: pause above, resume below. uvloop's own low mark of 16 bytes would stall every stream.
const HIGH_WATER: usize = 256 << 10;
const LOW_WATER: usize = 64 << 10;
const NOBODY: u32 = u32::MAX;

/// Makes a protocol for every accepted connection.
#[pyclass(frozen, module = "pygate._core")]
pub struct Acceptor {
    gateway: Arc<Gateway>,
    entrypoint: Arc<str>,
}

impl Acceptor {
    pub fn new(gateway: Arc<Gateway>, entrypoint: String) -> Acceptor {
        Acceptor { gateway, entrypoint: entrypoint.into() }
    }
}

#[pymethods]
impl Acceptor {
    fn __call__(&self) -> Wire {
        Wire {
            gateway: self.gateway.clone(),
            role: Role::Down(self.entrypoint.clone()),
            id: AtomicU32::new(NOBODY),
            connected: AtomicBool::new(false),
        }
    }
}

enum Role {
    /// Accepted on this entrypoint.
    Down(Arc<str>),
    Up,
}

/// An asyncio protocol.
#[pyclass(frozen, module = "pygate._core")]
pub struct Wire {
    gateway: Arc<Gateway>,
    role: Role,
    id: AtomicU32,
    /// `connection_made` was called.
    connected: AtomicBool,
}

impl Wire {
    pub fn upstream(gateway: Arc<Gateway>, id: u32) -> Wire {
        Wire { gateway, role: Role::Up, id: AtomicU32::new(id), connected: AtomicBool::new(false) }
    }

    fn conn(&self) -> Option<ConnId> {
        match (&self.role, self.id.load(Ordering::Relaxed)) {
            (_, NOBODY) => None,
            (Role::Down(_), id) => Some(ConnId::Down(id)),
            (Role::Up, id) => Some(ConnId::Up(id)),
        }
    }

    fn made(&self, py: Python<'_>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let limits = PyDict::new(py);
        limits.set_item(intern!(py, "high"), HIGH_WATER)?;
        limits.set_item(intern!(py, "low"), LOW_WATER)?;
        transport.call_method(intern!(py, "set_write_buffer_limits"), (), Some(&limits))?;
        let handle = Handle::new(py, transport)?;
        match &self.role {
            Role::Down(entrypoint) => {
                let (ip, port) = end_of(py, transport, intern!(py, "peername"))?;
                let (here, at) = end_of(py, transport, intern!(py, "sockname"))?;
                let local = (!here.is_unspecified()).then_some(SocketAddr::new(here, at));
                let accept = |engine: &mut Engine, now| engine.accept(now, entrypoint, ip, port, local);
                let accepted = self.gateway.run(py, Input::default(), accept);
                match accepted {
                    Some(id) => {
                        self.id.store(id, Ordering::Relaxed);
                        self.gateway.attach(ConnId::Down(id), handle);
                        self.gateway.run(py, Input::default(), |engine, now| engine.opened(now));
                    }
                    None => {
                        transport.call_method0(intern!(py, "abort"))?;
                    }
                }
            }
            Role::Up => {
                let id = self.id.load(Ordering::Relaxed);
                if id == NOBODY {
                    // Given up before it was open.
                    transport.call_method0(intern!(py, "abort"))?;
                    return Ok(());
                }
                self.gateway.attach(ConnId::Up(id), handle);
                self.gateway.run(py, Input::default(), |engine, now| engine.connected(now, id));
            }
        }
        Ok(())
    }
}

#[pymethods]
impl Wire {
    fn connection_made(&self, py: Python<'_>, transport: &Bound<'_, PyAny>) {
        let own = transport.clone().unbind();
        self.connected.store(true, Ordering::Relaxed);
        self.gateway.guarded(py, Doomed::Transport(&own), || self.made(py, transport));
    }

    fn data_received(&self, py: Python<'_>, data: &Bound<'_, PyAny>) {
        let Some(conn) = self.conn() else { return };
        self.gateway.guarded(py, Doomed::Connection(conn), || {
            let bytes = data.cast::<PyBytes>()?;
            let input = Input { bytes: bytes.as_bytes(), object: Some(bytes) };
            self.gateway.run(py, input, |engine, now| engine.input(now, conn, bytes.as_bytes()));
            Ok(())
        });
    }

    /// True keeps the transport open for writing.
    fn eof_received(&self, py: Python<'_>) -> bool {
        let Some(conn) = self.conn() else { return false };
        let mut keep = false;
        self.gateway.guarded(py, Doomed::Connection(conn), || {
            keep = self.gateway.run(py, Input::default(), |engine, now| engine.eof(now, conn)) == AfterEof::KeepOpen;
            Ok(())
        });
        keep
    }

    fn connection_lost(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) {
        let Some(conn) = self.conn() else { return };
        self.id.store(NOBODY, Ordering::Relaxed);
        self.gateway.guarded(py, Doomed::Connection(conn), || {
            let handle = self.gateway.detach(conn);
            self.gateway.run(py, Input::default(), |engine, now| engine.lost(now, conn));
            drop(handle);
            Ok(())
        });
    }

    fn pause_writing(&self, py: Python<'_>) {
        self.blocked(py, true);
    }

    fn resume_writing(&self, py: Python<'_>) {
        self.blocked(py, false);
    }

    /// The connection could not be opened.
    fn failed(&self, py: Python<'_>, timed_out: bool) {
        if self.connected.load(Ordering::Relaxed) {
            // The deadline passed between the connection and its report: it ends by `connection_lost`.
            return;
        }
        let id = self.id.swap(NOBODY, Ordering::Relaxed);
        if id != NOBODY {
            self.gateway.guarded(py, Doomed::Nothing, || {
                self.gateway.run(py, Input::default(), |engine, now| engine.connect_failed(now, id, timed_out));
                Ok(())
            });
        }
    }
}

impl Wire {
    fn blocked(&self, py: Python<'_>, blocked: bool) {
        let Some(conn) = self.conn() else { return };
        self.gateway.guarded(py, Doomed::Connection(conn), || {
            self.gateway.run(py, Input::default(), |engine, now| engine.write_blocked(now, conn, blocked));
            Ok(())
        });
    }
}

/// Address of one end of a connection; the unspecified address for unix sockets.
fn end_of(py: Python<'_>, transport: &Bound<'_, PyAny>, which: &Bound<'_, PyString>) -> PyResult<(IpAddr, u16)> {
    let name = transport.call_method1(intern!(py, "get_extra_info"), (which,))?;
    if let Ok(tuple) = name.cast::<PyTuple>() {
        if tuple.len() >= 2 {
            let text: String = tuple.get_item(0)?.extract()?;
            // A scope (`fe80::1%eth0`) is of no use beyond this host.
            let ip = text.split('%').next().and_then(|t| t.parse().ok());
            return Ok((ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), tuple.get_item(1)?.extract()?));
        }
    }
    Ok((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
}
