//! Rule sets as Python sees them: for `pygate guard`, the configuration check, tests and benchmarks. The
//! engine uses `pygate_core::guard` directly.

use pygate_core::config::Engine;
use pygate_core::error::Problem;
use pygate_core::guard::{self, ContentKind, Direction, Judgement, Pack, Plan, Verdict};
use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::path::PathBuf;
use std::sync::Arc;

create_exception!(
    pygate._core,
    PackError,
    PyValueError,
    "Packs that cannot be compiled; `args[0]` lists the problems as dictionaries (path, message, expected, nearest)."
);
create_exception!(pygate._core, Unjudgeable, PyValueError, "A body that cannot be judged; the message says why.");

/// Bodies from this size on are judged without the GIL; below it, letting go costs more than it gives.
const DETACH: usize = 16 << 10;

/// A Hyperscan database compiled from the rules with this fingerprint, and the library to run it with.
#[pyclass(frozen, module = "pygate._core")]
pub struct HyperscanDb(pub guard::HyperscanDb);

#[pymethods]
impl HyperscanDb {
    #[new]
    fn new(bytes: Vec<u8>, library: PathBuf, version: String, fingerprint: String) -> Self {
        HyperscanDb(guard::HyperscanDb { bytes, library, version, fingerprint })
    }
    #[getter]
    fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.bytes)
    }
    #[getter]
    fn library(&self) -> PathBuf {
        self.0.library.clone()
    }
    #[getter]
    fn version(&self) -> &str {
        &self.0.version
    }
    #[getter]
    fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }
}

/// Compiled packs: `Ruleset(packs_json, engine="auto", shadow=[], hyperscan=None)`.
#[pyclass(frozen, module = "pygate._core")]
pub struct Ruleset(pub Arc<guard::Ruleset>);

#[pymethods]
impl Ruleset {
    /// `packs_json` is a JSON array of packs in the shape of their TOML files. Raises PackError.
    #[new]
    #[pyo3(signature = (packs_json, engine="auto", shadow=Vec::new(), hyperscan=None))]
    fn new(
        py: Python<'_>,
        packs_json: &[u8],
        engine: &str,
        shadow: Vec<String>,
        hyperscan: Option<&HyperscanDb>,
    ) -> PyResult<Self> {
        let engine = match engine {
            "auto" => Engine::Auto,
            "hyperscan" => Engine::Hyperscan,
            "rust" => Engine::Rust,
            other => return Err(PyValueError::new_err(format!("{other:?} is not an engine: auto, hyperscan, rust"))),
        };
        let packs = read_packs(packs_json).map_err(|problem| refused(py, vec![problem]))?;
        let compiled = py.detach(|| guard::Ruleset::compile(&packs, engine, &shadow, hyperscan.map(|db| &db.0)));
        Ok(Ruleset(Arc::new(compiled.map_err(|problems| refused(py, problems))?)))
    }

    /// `"rust"` or `"hyperscan"`.
    #[getter]
    fn engine(&self) -> &'static str {
        self.0.engine()
    }
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.notes().to_vec()
    }
    #[getter]
    fn fingerprint(&self) -> &str {
        self.0.fingerprint()
    }

    /// All rules in their order, as dictionaries.
    fn rules<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for rule in self.0.rules() {
            let dict = PyDict::new(py);
            dict.set_item("rule", &*rule.name)?;
            dict.set_item("pattern", &*rule.pattern)?;
            dict.set_item("ending", &*rule.ending)?;
            dict.set_item("action", rule.action.name())?;
            dict.set_item("severity", rule.severity.name())?;
            dict.set_item("owasp", &*rule.owasp)?;
            dict.set_item("mask", &*rule.mask)?;
            dict.set_item("shadow", rule.shadow)?;
            list.append(dict)?;
        }
        Ok(list)
    }

    /// The rules of these packs in this direction (`"request"`, `"response"`); without packs, all of them.
    #[pyo3(signature = (packs=None, direction="request"))]
    fn plan(&self, py: Python<'_>, packs: Option<Vec<String>>, direction: &str) -> PyResult<RulePlan> {
        let Some(packs) = packs else { return Ok(RulePlan(self.0.everything())) };
        let direction = match direction {
            "request" => Direction::Request,
            "response" => Direction::Response,
            other => return Err(PyValueError::new_err(format!("{other:?} is not a direction: request, response"))),
        };
        self.0.plan(&packs, direction).map(RulePlan).map_err(|problem| refused(py, vec![problem]))
    }
}

/// Rules chosen from a rule set.
#[pyclass(frozen, module = "pygate._core")]
pub struct RulePlan(pub Plan);

#[pymethods]
impl RulePlan {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Judges a whole body: `(verdict, findings, masked)`.
    ///
    /// `kind` is a `content-type` value; `verdict` is `"pass"`, `"masked"` or `"block"`; findings are
    /// `(rule, action, shadow, channel, start, end, raw_start, raw_end)` in the order of the text; `masked`
    /// is the body to send instead, or None. Raises Unjudgeable; ValueError for a type that is not text.
    #[allow(clippy::type_complexity)]
    fn judge<'py>(
        &self,
        py: Python<'py>,
        content_type: &str,
        body: &[u8],
    ) -> PyResult<(&'static str, Vec<Found<'_>>, Option<Bound<'py, PyBytes>>)> {
        let mut masked = Vec::new();
        let judgement = self.run(py, content_type, body, &mut masked)?;
        let verdict = match judgement.verdict {
            Verdict::Pass => "pass",
            Verdict::Masked => "masked",
            Verdict::Block { .. } => "block",
        };
        let rules = self.0.ruleset().rules();
        let findings = judgement
            .findings
            .iter()
            .map(|f| {
                let name = rules.get(usize::from(f.rule)).map_or("", |rule| &*rule.name);
                (name, f.action.name(), f.shadow, f.channel, f.start, f.end, f.raw_start, f.raw_end)
            })
            .collect();
        let masked = (judgement.verdict == Verdict::Masked).then(|| PyBytes::new(py, &masked));
        Ok((verdict, findings, masked))
    }

    /// Judges a body and only counts the findings.
    fn count(&self, py: Python<'_>, content_type: &str, body: &[u8]) -> PyResult<usize> {
        Ok(self.run(py, content_type, body, &mut Vec::new())?.findings.len())
    }
}

type Found<'a> = (&'a str, &'static str, bool, u32, u32, u32, u32, u32);

impl RulePlan {
    fn run(&self, py: Python<'_>, content_type: &str, body: &[u8], masked: &mut Vec<u8>) -> PyResult<Judgement> {
        let kind = ContentKind::of(content_type.as_bytes())
            .map_err(|why| Unjudgeable::new_err(why.to_string()))?
            .ok_or_else(|| PyValueError::new_err(format!("{content_type:?} is not a type of text")))?;
        let mut judge = || self.0.judge(kind, body, masked);
        let result = if body.len() < DETACH { judge() } else { py.detach(judge) };
        result.map_err(|why| Unjudgeable::new_err(why.to_string()))
    }
}

/// The JSON Schema of one rule pack.
#[pyfunction]
pub fn pack_schema() -> String {
    guard::pack_schema().to_string()
}

fn read_packs(json: &[u8]) -> Result<Vec<Pack>, Problem> {
    serde_json::from_slice(json).map_err(|error| Problem::new("packs", error.to_string()))
}

fn refused(py: Python<'_>, problems: Vec<Problem>) -> PyErr {
    let list = PyList::empty(py);
    for problem in problems {
        let dict = PyDict::new(py);
        let filled = dict
            .set_item("path", problem.path)
            .and_then(|()| dict.set_item("message", problem.message))
            .and_then(|()| dict.set_item("expected", problem.expected))
            .and_then(|()| dict.set_item("nearest", problem.nearest))
            .and_then(|()| list.append(dict));
        if let Err(error) = filled {
            return error;
        }
    }
    PackError::new_err((list.unbind(),))
}
