//! Reading the audit log from Python: following it, asking for calls, verifying it.

use crate::access_lines::{Access, Wanted};
use crate::audit_calls::{Call, Filter, Join, Kept};
use crate::audit_log::{logs, segment_name, segments};
use crate::audit_tail::{name_of, Event, Mark, Tail};
use pygate_core::audit::codec::{Encoded, Sink};
use pygate_core::audit::read::{Position, Segment, Step};
use pygate_core::audit::Finding;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Follows the logs of all workers below `dir`.
///
/// `start`: "begin", "end" (only what comes from now on), or marks saved from `marks()`.
#[pyclass(frozen, module = "pygate._core")]
pub struct AuditTail(Mutex<Following>);

struct Following {
    tail: Tail,
    join: Join,
    access: Access,
}

type Marks = BTreeMap<String, (u64, u64, u64)>;

#[derive(FromPyObject)]
pub enum Start {
    Named(String),
    Marks(Marks),
}

#[pymethods]
impl AuditTail {
    #[new]
    #[pyo3(signature = (dir, start=Start::Named("end".into()), sampled_only=false))]
    fn new(dir: PathBuf, start: Start, sampled_only: bool) -> PyResult<Self> {
        let marks = match start {
            Start::Named(name) if name == "begin" => BTreeMap::new(),
            Start::Named(name) if name == "end" => Tail::ends(&dir)?,
            Start::Named(_) => return Err(PyValueError::new_err("start: \"begin\", \"end\" or marks")),
            Start::Marks(marks) => marks
                .into_iter()
                .map(|(name, (index, offset, sequence))| (name, Mark { index, offset, sequence }))
                .collect(),
        };
        let join = Join::new(Filter { sampled_only, ..Default::default() });
        Ok(AuditTail(Mutex::new(Following { tail: Tail::new(&dir, marks), join, access: Access::default() })))
    }

    /// The next records as `(list of dicts, more)`; about `limit` of them, `more` when the next are there already.
    #[pyo3(signature = (limit=10_000))]
    fn records<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<(Bound<'py, PyList>, bool)> {
        let mut following = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = PyList::empty(py);
        let mut failed = None;
        let more = following.tail.poll(limit, &mut |event| {
            if let Event::Record { log, sequence, record } = event {
                let told = record_dict(py, log, sequence, &record).and_then(|dict| list.append(dict));
                failed = failed.take().or(told.err());
            }
        })?;
        failed.map_or(Ok((list, more)), Err)
    }

    /// The calls that ended since the last time, as `(list of dicts, more)`. Reads about `limit` records.
    #[pyo3(signature = (limit=10_000))]
    fn calls<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<(Bound<'py, PyList>, bool)> {
        let (calls, more) = py.detach(|| {
            let mut following = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Following { tail, join, .. } = &mut *following;
            let mut calls = Vec::new();
            let more = tail.poll(limit, &mut |event| join.feed(event, &mut |call| calls.push(call.keep())))?;
            PyResult::Ok((calls, more))
        })?;
        Ok((call_list(py, &calls)?, more))
    }

    /// The calls that ended since the last time, for telemetry: `(lines, count, list of dicts, more)`. Reads about
    /// `limit` records.
    ///
    /// `lines` are those of the access log, `count` of them, one after the other; empty unless asked for. Dicts, as
    /// `calls` gives them, are made of `wanted` calls alone: "all", "sampled", or "latest" (the last sampled one per
    /// route, method, scheme, status, code and duration bucket). Malformed records count as damaged.
    #[pyo3(signature = (limit=4_000, *, lines=true, wanted="sampled"))]
    #[allow(clippy::type_complexity)]
    fn access<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        lines: bool,
        wanted: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, usize, Bound<'py, PyList>, bool)> {
        let wanted = match wanted {
            "all" => Wanted::All,
            "sampled" => Wanted::Sampled,
            "latest" => Wanted::Latest,
            _ => return Err(PyValueError::new_err("wanted: \"all\", \"sampled\" or \"latest\"")),
        };
        let (told, more) = py.detach(|| {
            let mut following = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Following { tail, join, access } = &mut *following;
            let mut malformed = 0;
            let polled = tail.poll(limit, &mut |event| {
                join.feed(event, &mut |call| malformed += u64::from(access.take(&call, lines, wanted).is_err()));
            });
            tail.damaged += malformed;
            // What was read before a failure is told first; the next poll fails again.
            let more = if access.is_empty() { polled? } else { polled.unwrap_or(true) };
            PyResult::Ok((std::mem::take(access), more))
        })?;
        let calls = PyList::empty(py);
        for call in &told.calls {
            match call_dict(py, call) {
                Ok(dict) => calls.append(dict)?,
                Err(malformed) if malformed.is_instance_of::<PyValueError>(py) => {
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).tail.damaged += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok((PyBytes::new(py, &told.lines.text), told.lines.count, calls, more))
    }

    /// `{log: (segment index, offset, next sequence)}`, to go on from later. Calls that still wait for their
    /// outcome are not part of it: after a restart their outcomes come alone.
    fn marks(&self) -> Marks {
        let following = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        following.tail.marks().into_iter().map(|(name, m)| (name, (m.index, m.offset, m.sequence))).collect()
    }

    /// Damaged pieces that were skipped.
    fn damaged(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tail.damaged
    }
}

/// The youngest `limit` calls below `dir` that match, oldest first, as dicts.
#[pyfunction]
#[pyo3(signature = (dir, *, limit=50, since_ns=0, route=None, status=None, unknown_only=false, exchange=None))]
#[allow(clippy::too_many_arguments)]
pub fn audit_calls<'py>(
    py: Python<'py>,
    dir: PathBuf,
    limit: usize,
    since_ns: u64,
    route: Option<String>,
    status: Option<(u16, u16)>,
    unknown_only: bool,
    exchange: Option<[u8; 16]>,
) -> PyResult<Bound<'py, PyList>> {
    let filter = Filter { sampled_only: false, since_ns, route, status, unknown_only, exchange };
    let calls = py.detach(|| -> PyResult<Vec<Call>> {
        let mut tail = Tail::new(&dir, first_segments(&dir, since_ns)?);
        let mut join = Join::new(filter);
        let mut youngest = Youngest { limit, heap: BinaryHeap::new(), count: 0 };
        while tail.poll(1 << 20, &mut |event| join.feed(event, &mut |call| youngest.push(call.keep())))? {}
        join.finish(&mut |call| youngest.push(call.keep()));
        Ok(youngest.sorted())
    })?;
    call_list(py, &calls)
}

/// Where to begin for calls not older than `since_ns`: a segment can be passed over when the one after it was
/// begun before that time.
fn first_segments(dir: &std::path::Path, since_ns: u64) -> PyResult<BTreeMap<String, Mark>> {
    let mut marks = BTreeMap::new();
    if since_ns == 0 {
        return Ok(marks);
    }
    for log in logs(dir)? {
        let found = segments(&log)?;
        for (index, path) in found.into_iter().rev() {
            marks.insert(name_of(&log), Mark { index, offset: 0, sequence: 0 });
            if begun_ns(&path).is_some_and(|begun| begun < since_ns) {
                break;
            }
        }
    }
    Ok(marks)
}

fn begun_ns(path: &std::path::Path) -> Option<u64> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(128 << 10).read_to_end(&mut head).ok()?;
    Some(Segment::open(&head).ok()??.header.wall_ns)
}

/// Keeps the youngest calls.
struct Youngest {
    limit: usize,
    heap: BinaryHeap<Reverse<(u64, u64, Boxed)>>,
    count: u64,
}

/// Compared by nothing: the time and the order of arrival before it decide.
struct Boxed(Call);

impl PartialEq for Boxed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Boxed {}
impl PartialOrd for Boxed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Boxed {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Youngest {
    fn push(&mut self, call: Call) {
        self.count += 1;
        self.heap.push(Reverse((call.wall_ns(), self.count, Boxed(call))));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }
    fn sorted(self) -> Vec<Call> {
        let mut all = self.heap.into_vec();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().map(|Reverse((_, _, Boxed(call)))| call).collect()
    }
}

/// Verifies every log below `dir`, one segment per `step()`.
#[pyclass(frozen, module = "pygate._core")]
pub struct AuditVerifier {
    work: Mutex<Verifying>,
    bytes: u64,
    segments: usize,
    pruned: bool,
}

struct Verifying {
    /// Segments left, last one first: (log, index, path, bytes, last of its log).
    left: Vec<(String, u64, PathBuf, bool)>,
    log: String,
    /// `None` after damage: the next segment's own word is taken for what came before it.
    position: Option<Position>,
}

#[pymethods]
impl AuditVerifier {
    /// `pruned`: the first segments of a log may be missing (they were archived or expired).
    #[new]
    #[pyo3(signature = (dir, pruned=false))]
    fn new(dir: PathBuf, pruned: bool) -> PyResult<Self> {
        let mut left = Vec::new();
        let mut bytes = 0;
        for log in logs(&dir)? {
            let found = segments(&log)?;
            let last = found.len();
            for (n, (index, path)) in found.into_iter().enumerate() {
                bytes += std::fs::metadata(&path)?.len();
                left.push((name_of(&log), index, path, n + 1 == last));
            }
        }
        left.reverse();
        let segments = left.len();
        let work = Mutex::new(Verifying { left, log: String::new(), position: None });
        Ok(AuditVerifier { work, bytes, segments, pruned })
    }

    /// Bytes in all segments.
    #[getter]
    fn bytes(&self) -> u64 {
        self.bytes
    }

    #[getter]
    fn segments(&self) -> usize {
        self.segments
    }

    /// Verifies the next segment; None when all are done. The dict's `state` is "ok", "torn" (the tail of a log
    /// whose writer died; nothing acknowledged is in it) or "damaged".
    fn step<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let report = py.detach(|| -> std::io::Result<Option<Report>> {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((log, index, path, last)) = work.left.pop() else { return Ok(None) };
            let bytes = std::fs::read(&path)?;
            if work.log != log {
                work.position = (!self.pruned).then(Position::start);
                work.log.clone_from(&log);
            }
            let mut report = verify(&bytes, index, last, &mut work.position);
            report.log = log;
            report.file = path;
            Ok(Some(report))
        })?;
        let Some(report) = report else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("log", report.log)?;
        dict.set_item("file", report.file.to_string_lossy())?;
        dict.set_item("bytes", report.bytes)?;
        dict.set_item("frames", report.frames)?;
        dict.set_item("records", report.records)?;
        dict.set_item("first_sequence", report.first_sequence)?;
        dict.set_item("next_sequence", report.next_sequence)?;
        dict.set_item("sealed", report.sealed)?;
        dict.set_item("chain", report.chain)?;
        dict.set_item("recovered", report.recovered)?;
        let (state, offset, what) = match report.verdict {
            Verdict::Ok => ("ok", None, None),
            Verdict::Torn(offset) => ("torn", Some(offset), None),
            Verdict::Damaged(offset, what) => ("damaged", Some(offset), Some(what)),
        };
        dict.set_item("state", state)?;
        dict.set_item("offset", offset)?;
        dict.set_item("what", what)?;
        Ok(Some(dict))
    }
}

#[derive(Default)]
struct Report {
    log: String,
    file: PathBuf,
    bytes: u64,
    frames: u64,
    records: u64,
    first_sequence: u64,
    next_sequence: u64,
    sealed: bool,
    chain: String,
    /// Text of a repair that the segment's header tells of.
    recovered: Option<String>,
    verdict: Verdict,
}

#[derive(Default)]
enum Verdict {
    #[default]
    Ok,
    Torn(u64),
    Damaged(u64, String),
}

/// Verifies one segment as the one after `position`, which moves on.
fn verify(bytes: &[u8], index: u64, last: bool, position: &mut Option<Position>) -> Report {
    let before = position.take();
    let sequence = before.map_or(0, |before| before.next_sequence);
    let mut report =
        Report { bytes: bytes.len() as u64, first_sequence: sequence, next_sequence: sequence, ..Default::default() };
    let mut segment = match Segment::open(bytes) {
        Ok(Some(segment)) => segment,
        Ok(None) => {
            report.verdict = match last {
                true => Verdict::Torn(0),
                false => Verdict::Damaged(0, "ends inside its header, but is not the last segment".into()),
            };
            return report;
        }
        Err(fault) => {
            report.verdict = Verdict::Damaged(fault.offset, fault.what);
            return report;
        }
    };
    report.first_sequence = segment.header.first_sequence;
    report.recovered =
        segment.header.recovered.as_ref().map(|r| {
            format!("{} bytes torn off {} at {} by a crash, kept as {}", r.bytes, r.file, r.offset, r.kept_as)
        });
    if let Some(fault) = before.and_then(|before| segment.follows(&before).err()) {
        report.verdict = Verdict::Damaged(0, fault.what);
    } else if segment.header.index != index {
        let what = format!("calls itself {}", segment_name(segment.header.index));
        report.verdict = Verdict::Damaged(0, what);
    }
    loop {
        match segment.step() {
            Step::Frame(frame) => {
                report.frames += 1;
                report.records += u64::from(frame.header.records);
            }
            Step::End => {
                *position = Some(segment.position);
                break;
            }
            Step::Torn { offset } if last => {
                if matches!(report.verdict, Verdict::Ok) {
                    report.verdict = Verdict::Torn(offset);
                }
                break;
            }
            Step::Torn { offset } => {
                let what = "ends inside a frame, but is not the last segment".into();
                report.verdict = Verdict::Damaged(offset, what);
                break;
            }
            Step::Damaged(fault) => {
                report.verdict = Verdict::Damaged(fault.offset, fault.what);
                break;
            }
        }
    }
    report.next_sequence = segment.position.next_sequence;
    report.chain = hex(&segment.position.chain.0);
    report.sealed = segment.sealed;
    report
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn record_dict<'py>(py: Python<'py>, log: &str, sequence: u64, record: &Encoded<'_>) -> PyResult<Bound<'py, PyDict>> {
    let mut sink = DictSink { dict: PyDict::new(py), wall: "wall_ns", skip_kind: false, failed: None };
    sink.dict.set_item(PyString::intern(py, "log"), log)?;
    sink.dict.set_item(PyString::intern(py, "sequence"), sequence)?;
    sink.take(record)?;
    Ok(sink.dict)
}

fn call_list<'py>(py: Python<'py>, calls: &[Call]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for call in calls {
        list.append(call_dict(py, call)?)?;
    }
    Ok(list)
}

fn call_dict<'py>(py: Python<'py>, call: &Call) -> PyResult<Bound<'py, PyDict>> {
    let mut sink = DictSink { dict: PyDict::new(py), wall: "start_ns", skip_kind: true, failed: None };
    sink.dict.set_item(PyString::intern(py, "log"), &call.log)?;
    let first = call.intent.as_ref().or(call.outcome.as_ref());
    sink.dict.set_item(PyString::intern(py, "sequence"), first.map_or(0, |kept| kept.sequence))?;
    sink.dict.set_item(PyString::intern(py, "complete"), call.outcome.is_some())?;
    if let Some(intent) = &call.intent {
        sink.take(&Kept::record(intent))?;
    }
    if let Some(outcome) = &call.outcome {
        sink.wall = "end_ns";
        sink.take(&Kept::record(outcome))?;
    }
    Ok(sink.dict)
}

/// Puts a record's facts into a dict.
struct DictSink<'py> {
    dict: Bound<'py, PyDict>,
    /// Name that `wall_ns` gets.
    wall: &'static str,
    skip_kind: bool,
    failed: Option<PyErr>,
}

impl<'py> DictSink<'py> {
    fn take(&mut self, record: &Encoded<'_>) -> PyResult<()> {
        record.visit(self).map_err(|malformed| PyValueError::new_err(malformed.to_string()))?;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn set(&mut self, name: &'static str, value: impl IntoPyObject<'py>) {
        let name = match name {
            "wall_ns" => self.wall,
            "kind" if self.skip_kind => return,
            other => other,
        };
        let set = self.dict.set_item(PyString::intern(self.dict.py(), name), value);
        self.failed = self.failed.take().or(set.err());
    }
}

impl Sink for DictSink<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.set(name, value);
    }
    fn int(&mut self, name: &'static str, value: u64) {
        self.set(name, value);
    }
    fn flag(&mut self, name: &'static str) {
        self.set(name, true);
    }
    fn finding(&mut self, finding: &Finding<'_>) {
        let py = self.dict.py();
        let add = || -> PyResult<()> {
            let one = PyDict::new(py);
            one.set_item("rule", finding.rule)?;
            one.set_item("action", finding.action)?;
            one.set_item("shadow", finding.shadow)?;
            one.set_item("response", finding.response)?;
            one.set_item("start", finding.start)?;
            one.set_item("end", finding.end)?;
            let name = PyString::intern(py, "findings");
            match self.dict.get_item(&name)? {
                Some(list) => list.cast::<PyList>()?.append(one),
                None => self.dict.set_item(name, PyList::new(py, [one])?),
            }
        };
        self.failed = self.failed.take().or(add().err());
    }
    fn other(&mut self, name: &str, value: &[u8]) {
        let py = self.dict.py();
        let bytes = PyBytes::new(py, value);
        let object = match name == pygate_core::audit::LLM {
            true => py.import("orjson").and_then(|orjson| orjson.call_method1("loads", (&bytes,))),
            false => Ok(bytes.clone().into_any()),
        };
        let set = self.dict.set_item(name, object.unwrap_or_else(|_| bytes.into_any()));
        self.failed = self.failed.take().or(set.err());
    }
}
