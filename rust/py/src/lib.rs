//! pygate._core: carries bytes between uvloop transports and pygate-core.

use pyo3::prelude::*;

mod access_lines;
mod audit;
mod audit_calls;
mod audit_log;
mod audit_read;
mod audit_tail;
pub mod audit_writer;
mod errors;
mod explain;
mod gateway;
mod guard;
mod observe;
mod poll;
mod revision;
mod shared;
mod steps;
mod tls;
mod toml;
mod transport;
mod wire;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<audit::AuditLogWriter>()?;
    m.add_class::<audit_read::AuditTail>()?;
    m.add_class::<audit_read::AuditVerifier>()?;
    m.add_function(wrap_pyfunction!(audit_read::audit_calls, m)?)?;
    m.add_function(wrap_pyfunction!(audit::encode_audit_intent, m)?)?;
    m.add_function(wrap_pyfunction!(audit::encode_audit_outcome, m)?)?;
    m.add_function(wrap_pyfunction!(errors::error_table, m)?)?;
    m.add_function(wrap_pyfunction!(explain::explain, m)?)?;
    m.add_class::<shared::Shared>()?;
    m.add_class::<steps::HeadParser>()?;
    m.add_class::<revision::Revision>()?;
    m.add_function(wrap_pyfunction!(revision::check, m)?)?;
    m.add_class::<gateway::PyGateway>()?;
    m.add_class::<wire::Acceptor>()?;
    m.add_class::<wire::Wire>()?;
    m.add_function(wrap_pyfunction!(shared::endpoint_key, m)?)?;
    m.add_function(wrap_pyfunction!(shared::health_targets, m)?)?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<observe::MetricsReader>()?;
    m.add_class::<observe::MetricsWriter>()?;
    m.add_class::<tls::TlsStore>()?;
    m.add_function(wrap_pyfunction!(tls::tls_certificates, m)?)?;
    m.add_function(wrap_pyfunction!(toml::read_toml, m)?)?;
    m.add_function(wrap_pyfunction!(toml::schema, m)?)?;
    m.add_class::<guard::Ruleset>()?;
    m.add_class::<guard::RulePlan>()?;
    m.add_class::<guard::HyperscanDb>()?;
    m.add("PackError", m.py().get_type::<guard::PackError>())?;
    m.add("Unjudgeable", m.py().get_type::<guard::Unjudgeable>())?;
    m.add_function(wrap_pyfunction!(guard::pack_schema, m)?)?;
    Ok(())
}
