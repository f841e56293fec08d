//! The gateway as Python holds it: an engine, the transports it speaks through, and the audit log behind it.
//!
//! Rules:
//! 1. One lock around the engine, held while it thinks and never while Python runs: actions are taken out,
//!    the lock is released, *then* transports are called – `pause_writing` comes back from inside `write`.
//! 2. Records go to the audit writer before the actions of the same callback are carried out.
//! 3. Nothing raises into the event loop: every callback ends in [`Gateway::guarded`].

use crate::audit_writer::AuditWriter;
use crate::poll::{self, Poll, Ready};
use crate::revision::Revision;
use crate::shared::Shared;
use crate::tls::TlsStore;
use crate::transport::{Handle, Input};
use crate::wire::{Acceptor, Wire};
use pygate_core::balance::Address;
use pygate_core::exchange::{Action, AfterEof, Batch, Change, ConnId, Decision, Engine};
use pygate_core::observe::Counter;
use pygate_core::policy::Answer;
use pygate_core::time::{Instant, Now};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use smallvec::SmallVec;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

struct State {
    engine: Engine,
    downs: Vec<Option<Arc<Handle>>>,
    ups: Vec<Option<Arc<Handle>>>,
    records: Vec<u8>,
    /// What sockets are read into.
    buffer: Vec<u8>,
    /// Log sequence of the record before the engine's first.
    base: u64,
    broken: bool,
}

/// What the callbacks of one worker share.
pub struct Gateway {
    state: Mutex<State>,
    writer: AuditWriter,
    poll: Poll,
    /// `connect(protocol, host, port, path, timeout)`: starts opening a connection.
    connect: Py<PyAny>,
    /// `plugin(exchange, serial, response)`, or None.
    plugin: Option<Py<PyAny>>,
    /// The loop's `call_soon`, and what it is to call when sessions have something to send.
    soon: OnceLock<(Py<PyAny>, Py<PyAny>)>,
}

/// For each action its connection's transport, if it has one.
type Handles = SmallVec<[Option<Arc<Handle>>; 8]>;

impl Gateway {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside the engine was counted and its connection closed; the rest goes on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the engine work and carries out what it asks for. `input` is what it was given.
    pub fn run<R>(
        self: &Arc<Self>,
        py: Python<'_>,
        input: Input<'_, '_>,
        work: impl FnOnce(&mut Engine, Now) -> R,
    ) -> R {
        self.run_at(py, now(), input, work)
    }

    /// The same at a time that was read before.
    fn run_at<R>(
        self: &Arc<Self>,
        py: Python<'_>,
        now: Now,
        input: Input<'_, '_>,
        work: impl FnOnce(&mut Engine, Now) -> R,
    ) -> R {
        let mut state = self.lock();
        let result = work(&mut state.engine, now);
        self.hand_over_records(&mut state);
        let actions = state.engine.take_actions();
        let handles: Handles = actions.iter().map(|action| state.handle_of(action)).collect();
        drop(state);
        if !actions.is_empty() {
            self.perform(py, &actions, &handles, input);
            self.lock().engine.recycle(actions);
        }
        result
    }

    /// Gives what the engine recorded to the writer, before anything else happens.
    fn hand_over_records(&self, state: &mut State) {
        let State { engine, records, base, broken, .. } = state;
        loop {
            let batch: Batch = engine.take_records(records);
            if batch.records == 0 || self.writer.append(records, batch.records, batch.durable).is_some() {
                return;
            }
            // Nothing was taken: what was counted as made will never be durable. Everybody who waits is
            // settled at once, so that no later count can be taken for one of these; what is recorded in
            // doing so is offered in the next turn.
            *base = base.wrapping_sub(u64::from(batch.records));
            *broken = true;
            engine.meter().add(Counter::AuditFailed, batch.records.into());
            engine.audit_broken(now(), true);
        }
    }

    /// Tells the engine how far the log is and whether it can be written.
    fn follow_log(self: &Arc<Self>, py: Python<'_>) {
        let broken = self.writer.is_broken();
        let (changed, durable) = {
            let mut state = self.lock();
            let durable = self.writer.durable_seq().wrapping_sub(state.base);
            (std::mem::replace(&mut state.broken, broken) != broken, durable)
        };
        self.run(py, Input::default(), |engine, now| {
            engine.durable(now, durable);
            if changed {
                engine.audit_broken(now, broken);
            }
        });
    }

    fn perform(
        self: &Arc<Self>,
        py: Python<'_>,
        actions: &[Action],
        handles: &[Option<Arc<Handle>>],
        input: Input<'_, '_>,
    ) {
        let mut at = 0;
        while at < actions.len() {
            let (action, handle) = (&actions[at], &handles[at]);
            // Consecutive writes to one connection become one call.
            let mut next = at + 1;
            if let Some(conn) = written(action) {
                while next < actions.len() && written(&actions[next]) == Some(conn) {
                    next += 1;
                }
            }
            let done = match (action, handle) {
                (Action::Flush, _) => self.flush_soon(py),
                (Action::Connect { up, address, timeout }, _) => self.open(py, *up, address, *timeout),
                (Action::Plugin { exchange, serial, response }, _) => {
                    self.plugin.as_ref().map_or(Ok(()), |p| p.call1(py, (*exchange, *serial, *response)).map(drop))
                }
                (_, None) => Ok(()),
                (Action::Write { .. } | Action::Sealed { .. } | Action::WriteInput { .. }, Some(handle)) => {
                    handle.send(py, &self.poll, &actions[at..next], input)
                }
                (Action::WriteEof(_), Some(h)) => h.write_eof(py),
                (Action::Close(_), Some(h)) => h.close(py, &self.poll),
                (Action::Abort(_), Some(h)) => h.abort(py, &self.poll),
                (Action::Pause(_), Some(h)) => h.pause(py, &self.poll),
                (Action::Resume(conn), Some(h)) => h.resume(py, *conn, &self.poll),
                // Where no loop watches the poll, transports go on reading.
                (Action::Direct(_), _) if self.soon.get().is_none() => Ok(()),
                (Action::Direct(conn), Some(h)) => h.go_direct(py, *conn, &self.poll),
            };
            if let Err(error) = done {
                // A transport that is already closing refuses work; anything else is a defect and counted.
                if !error.is_instance_of::<pyo3::exceptions::PyRuntimeError>(py) {
                    self.lock().engine.count_panic();
                    error.write_unraisable(py, None);
                }
            }
            at = next;
        }
    }

    /// Has sessions flushed when the callbacks of this turn of the loop are done; at once where there is no loop.
    fn flush_soon(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        match self.soon.get() {
            Some((call_soon, flush)) => call_soon.call1(py, (flush,)).map(drop),
            None => {
                self.run(py, Input::default(), |engine, now| engine.flush(now));
                Ok(())
            }
        }
    }

    /// Reads the sockets that are readable without their transports.
    fn read_direct(self: &Arc<Self>, py: Python<'_>) {
        let mut buffer = std::mem::take(&mut self.lock().buffer);
        buffer.resize(poll::READ, 0);
        let mut budget = poll::BUDGET;
        let begun = now().mono;
        // What has come meanwhile is served, too: to ask here costs less than a turn of the loop.
        loop {
            let (now, mut served) = (now(), false);
            for ready in self.poll.ready() {
                served = true;
                self.guarded(py, Doomed::Connection(ready.conn), || {
                    self.read_one(py, now, ready, &mut buffer, &mut budget)
                });
            }
            if !served || budget == 0 || now.mono.since(begun) > poll::TURN {
                break;
            }
        }
        self.lock().buffer = buffer;
    }

    /// Reads once from a socket, unless the budget is spent, and lets the engine have it.
    fn read_one(
        self: &Arc<Self>,
        py: Python<'_>,
        now: Now,
        ready: Ready,
        buffer: &mut [u8],
        budget: &mut usize,
    ) -> PyResult<()> {
        let conn = ready.conn;
        let Some(handle) = self.handle(conn) else { return Ok(()) };
        // Another connection's doings in this turn may have closed or paused it.
        let Some(socket) = handle.watched() else { return Ok(()) };
        let room = poll::READ.min(*budget);
        if room == 0 {
            return Ok(self.poll.again(socket, conn)?);
        }
        let bytes = match poll::read(socket, &mut buffer[..room]) {
            Ok(None) => return Ok(()),
            Ok(Some(0)) => {
                handle.end(&self.poll);
                return match self.run_at(py, now, Input::default(), |engine, now| engine.eof(now, conn)) {
                    AfterEof::KeepOpen => Ok(()),
                    AfterEof::Close => handle.close(py, &self.poll),
                };
            }
            Ok(Some(read)) => &buffer[..read],
            Err(_) => return handle.abort(py, &self.poll),
        };
        let more = ready.ending || bytes.len() == room;
        *budget -= bytes.len();
        self.run_at(py, now, Input { bytes, object: None }, |engine, now| engine.input(now, conn, bytes));
        match handle.watched() {
            Some(socket) if more => Ok(self.poll.again(socket, conn)?),
            _ => Ok(()),
        }
    }

    /// Begins to open a connection to an endpoint.
    fn open(self: &Arc<Self>, py: Python<'_>, up: u32, address: &Address, timeout: Duration) -> PyResult<()> {
        let wire = Py::new(py, Wire::upstream(self.clone(), up))?;
        let seconds = timeout.as_secs_f64();
        let started = match address {
            Address::Tcp { host, port } => {
                self.connect.call1(py, (&wire, host.as_str(), *port, py.None(), seconds)).map(drop)
            }
            Address::Unix(path) => self.connect.call1(py, (&wire, py.None(), 0, path.as_str(), seconds)).map(drop),
        };
        if started.is_err() {
            self.run(py, Input::default(), |engine, now| engine.connect_failed(now, up, false));
        }
        started
    }

    /// Ties a transport to the engine's number for it.
    pub fn attach(&self, conn: ConnId, handle: Handle) {
        let mut state = self.lock();
        let (list, id) = match conn {
            ConnId::Down(id) => (&mut state.downs, id as usize),
            ConnId::Up(id) => (&mut state.ups, id as usize),
        };
        if list.len() <= id {
            list.resize_with(id + 1, || None);
        }
        list[id] = Some(Arc::new(handle));
    }

    /// Forgets a transport; the caller drops it outside the lock.
    pub fn detach(&self, conn: ConnId) -> Option<Arc<Handle>> {
        let mut state = self.lock();
        match conn {
            ConnId::Down(id) => state.downs.get_mut(id as usize).and_then(Option::take),
            ConnId::Up(id) => state.ups.get_mut(id as usize).and_then(Option::take),
        }
    }

    /// Runs a callback so that neither panic nor exception reaches the loop. `doomed` names the connection that
    /// is aborted then: whoever is at its other end sees it close instead of waiting for ever.
    pub fn guarded(&self, py: Python<'_>, doomed: Doomed<'_>, callback: impl FnOnce() -> PyResult<()>) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(callback));
        let error = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        self.lock().engine.count_panic();
        if let Some(error) = error {
            error.write_unraisable(py, None);
        }
        let abort = intern!(py, "abort");
        let _ = match doomed {
            Doomed::Nothing => return,
            Doomed::Transport(transport) => transport.call_method0(py, abort),
            Doomed::Connection(conn) => match self.handle(conn) {
                Some(handle) => return drop(handle.abort(py, &self.poll)),
                None => return,
            },
        };
    }

    fn handle(&self, conn: ConnId) -> Option<Arc<Handle>> {
        let state = self.lock();
        match conn {
            ConnId::Down(id) => state.downs.get(id as usize).cloned().flatten(),
            ConnId::Up(id) => state.ups.get(id as usize).cloned().flatten(),
        }
    }
}

impl State {
    fn handle_of(&self, action: &Action) -> Option<Arc<Handle>> {
        let (list, id) = match action.connection()? {
            ConnId::Down(id) => (&self.downs, id),
            ConnId::Up(id) => (&self.ups, id),
        };
        list.get(id as usize)?.clone()
    }
}

/// What is aborted when a callback fails.
pub enum Doomed<'a> {
    Nothing,
    Transport(&'a Py<PyAny>),
    Connection(ConnId),
}

fn written(action: &Action) -> Option<ConnId> {
    match action {
        Action::Write { conn, .. } | Action::Sealed { conn, .. } | Action::WriteInput { conn, .. } => Some(*conn),
        _ => None,
    }
}

/// Both clocks.
pub fn now() -> Now {
    let read = |clock| {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is valid for writing and both clocks exist on Linux.
        unsafe { libc::clock_gettime(clock, &mut t) };
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    };
    Now { mono: Instant(read(libc::CLOCK_MONOTONIC)), wall_ns: read(libc::CLOCK_REALTIME) }
}

/// Latin-1, as fields are; what has no place in it becomes `?`.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// One worker's data plane.
#[pyclass(frozen, name = "Gateway", module = "pygate._core")]
pub struct PyGateway {
    gateway: Arc<Gateway>,
}

#[pymethods]
impl PyGateway {
    /// Starts the audit writer and the engine.
    ///
    /// `connect(protocol, host, port, path, timeout)` begins to open a connection; `plugin(exchange, serial,
    /// response)` runs a route's plugins. Raises `OSError` when the audit directory cannot be used.
    #[new]
    #[pyo3(signature = (shared, worker, revision, connect, plugin=None, tls=None))]
    fn new(
        shared: &Shared,
        worker: u32,
        revision: &Revision,
        connect: Py<PyAny>,
        plugin: Option<Py<PyAny>>,
        tls: Option<&TlsStore>,
    ) -> PyResult<PyGateway> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|e| pyo3::exceptions::PyOSError::new_err(e.to_string()))?;
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(seed.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b));
        }
        let audit = &revision.compiled.audit;
        let dir = std::path::Path::new(&audit.dir);
        let writer = AuditWriter::start(dir, worker, audit.segment_size.0, audit.flush_interval.0)?;
        let mut engine = Engine::new(shared.memory.clone(), worker as usize, words, revision.compiled.clone(), now());
        if let Some(tls) = tls {
            engine.publish_tls(tls.compiled.clone());
        }
        let state = State {
            engine,
            downs: Vec::new(),
            ups: Vec::new(),
            records: Vec::new(),
            buffer: Vec::new(),
            base: writer.durable_seq(),
            broken: false,
        };
        let soon = OnceLock::new();
        Ok(PyGateway {
            gateway: Arc::new(Gateway { state: Mutex::new(state), writer, poll: Poll::new()?, connect, plugin, soon }),
        })
    }

    /// Answers of one turn of `loop` leave together from now on. Called once, before anything is served.
    #[pyo3(name = "use_loop")]
    fn use_loop(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let call_soon = event_loop.getattr(intern!(slf.py(), "call_soon"))?.unbind();
        let flush = slf.getattr(intern!(slf.py(), "flush"))?.unbind();
        let gateway = &slf.get().gateway;
        let read = slf.getattr(intern!(slf.py(), "read_direct"))?;
        event_loop.call_method1(intern!(slf.py(), "add_reader"), (gateway.poll.descriptor(), read))?;
        let _ = gateway.soon.set((call_soon, flush));
        Ok(())
    }

    /// Sends what sessions have gathered; the loop calls it.
    fn flush(&self, py: Python<'_>) {
        self.gateway.guarded(py, Doomed::Nothing, || {
            self.gateway.run(py, Input::default(), |engine, now| engine.flush(now));
            Ok(())
        });
    }

    /// Reads what is readable without transports; the loop calls it.
    fn read_direct(&self, py: Python<'_>) {
        self.gateway.guarded(py, Doomed::Nothing, || {
            self.gateway.read_direct(py);
            Ok(())
        });
    }

    /// A protocol factory for `loop.create_server`.
    fn acceptor(&self, entrypoint: String) -> Acceptor {
        Acceptor::new(self.gateway.clone(), entrypoint)
    }

    /// New requests are served by `revision` from now on, new handshakes made with `tls`.
    #[pyo3(signature = (revision, tls=None))]
    fn publish(&self, revision: &Revision, tls: Option<&TlsStore>) {
        let mut state = self.gateway.lock();
        if let Some(tls) = tls {
            state.engine.publish_tls(tls.compiled.clone());
        }
        state.engine.publish(revision.compiled.clone());
    }

    /// New handshakes are made with `tls` from now on.
    fn publish_tls(&self, tls: &TlsStore) {
        self.gateway.lock().engine.publish_tls(tls.compiled.clone());
    }

    /// Virtual keys are those of `snapshot` from now on. `ValueError` says what is wrong with it.
    fn publish_keys(&self, py: Python<'_>, snapshot: &[u8]) -> PyResult<()> {
        let table = py.detach(|| pygate_core::ai::KeyTable::read(snapshot));
        let table = table.map_err(pyo3::exceptions::PyValueError::new_err)?;
        self.gateway.lock().engine.publish_keys(Arc::new(table));
        Ok(())
    }

    /// To be called every 20 ms.
    fn tick(&self, py: Python<'_>) {
        self.gateway.guarded(py, Doomed::Nothing, || {
            self.gateway.run(py, Input::default(), |engine, now| engine.tick(now));
            // A backlog that was full for a moment leaves no mark on the eventfd.
            if self.gateway.lock().broken != self.gateway.writer.is_broken() {
                self.gateway.follow_log(py);
            }
            Ok(())
        });
    }

    /// File descriptor to watch for reading; call `audit_ready` then.
    #[getter]
    fn audit_fd(&self) -> i32 {
        self.gateway.writer.eventfd()
    }

    fn audit_ready(&self, py: Python<'_>) {
        let gateway = &self.gateway;
        gateway.guarded(py, Doomed::Nothing, || {
            gateway.writer.clear_eventfd();
            gateway.follow_log(py);
            Ok(())
        });
    }

    /// What the plugins of a waiting exchange are to be shown, as a dictionary; None when it is over.
    fn plugin_view<'py>(&self, py: Python<'py>, exchange: u32, serial: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(view) = self.gateway.lock().engine.plugin_view(exchange, serial) else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("revision", view.revision)?;
        dict.set_item("plugins", view.plugins)?;
        dict.set_item("method", view.method)?;
        dict.set_item("path", view.path)?;
        dict.set_item("query", view.query)?;
        dict.set_item("scheme", view.scheme)?;
        dict.set_item("host", view.host)?;
        dict.set_item("client_ip", view.client_ip)?;
        dict.set_item("route", view.route)?;
        dict.set_item("exchange", view.exchange)?;
        dict.set_item("identity", view.identity)?;
        dict.set_item("fields", view.fields)?;
        dict.set_item("status", view.status)?;
        Ok(Some(dict))
    }

    /// The plugins let it pass, with changes `("set" | "add" | "remove", name, value)` in Latin-1.
    fn plugin_continue(&self, py: Python<'_>, exchange: u32, serial: u64, changes: Vec<(String, String, String)>) {
        let changes = changes
            .into_iter()
            .filter_map(|(kind, name, value)| match kind.as_str() {
                "set" => Some(Change::Set(latin(&name), latin(&value))),
                "add" => Some(Change::Add(latin(&name), latin(&value))),
                "remove" => Some(Change::Remove(latin(&name))),
                _ => None,
            })
            .collect();
        self.decided(py, exchange, serial, Decision::Continue(changes));
    }

    /// The plugins answer.
    fn plugin_answer(
        &self,
        py: Python<'_>,
        exchange: u32,
        serial: u64,
        status: u16,
        fields: Vec<(String, String)>,
        body: Vec<u8>,
    ) {
        let mut answer = Answer { status, body, ..Answer::default() };
        for (name, value) in fields {
            answer.fields.append(&latin(&name), &latin(&value));
        }
        self.decided(py, exchange, serial, Decision::Answer(Box::new(answer)));
    }

    /// A plugin failed and fails closed.
    fn plugin_fail(&self, py: Python<'_>, exchange: u32, serial: u64) {
        self.decided(py, exchange, serial, Decision::Fail);
    }

    /// No new connections or requests; idle connections close.
    fn drain(&self, py: Python<'_>) {
        self.gateway.run(py, Input::default(), |engine, now| engine.drain(now));
    }

    #[getter]
    fn open_connections(&self) -> usize {
        self.gateway.lock().engine.open_connections()
    }

    /// errno of the failure that keeps the audit log from being written, if there is one.
    #[getter]
    fn audit_broken(&self) -> Option<i32> {
        self.gateway.writer.broken()
    }

    #[getter]
    fn in_flight(&self) -> usize {
        self.gateway.lock().engine.in_flight()
    }

    /// Writes what is left of the audit log and ends its thread. Blocks; call it when nothing is served.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.gateway.writer.flush_and_stop())?)
    }
}

impl PyGateway {
    fn decided(&self, py: Python<'_>, exchange: u32, serial: u64, decision: Decision) {
        self.gateway.guarded(py, Doomed::Nothing, || {
            self.gateway.run(py, Input::default(), |engine, now| engine.plugin_done(now, exchange, serial, decision));
            Ok(())
        });
    }
}
