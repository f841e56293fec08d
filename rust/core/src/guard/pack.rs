//! Rule packs as their authors write them (`rules/*.toml`, read in Python, handed over as JSON).
//!
//! Rules:
//! 1. These types are the only definition of a pack; unknown keys are errors, every key is documented here.
//! 2. Nothing in here is compiled: what a pattern means is decided in `pattern` and `ruleset`.

use super::validate::Checksum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One rule pack: a `[pack]` table and any number of `[[rule]]` tables.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    pub pack: Head,
    #[serde(default)]
    pub rule: Vec<RuleSpec>,
}

/// JSON Schema of a pack file.
pub fn pack_schema() -> serde_json::Value {
    schemars::schema_for!(Pack).to_value()
}

/// What a pack is called.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Name that routes and `guard.shadow` use: lowercase letters, digits and `-`.
    pub name: String,
    /// Free text, by convention `YYYY.M.PATCH`.
    pub version: String,
    /// One line for `pygate guard list`.
    #[serde(default)]
    pub description: String,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Unique in its pack: lowercase letters, digits and `-`.
    pub id: String,
    /// What it finds, in one line.
    #[serde(default)]
    pub description: String,
    /// Regular expression over bytes, in the syntax that Rust `regex` and Hyperscan share. A group named
    /// `secret` narrows the finding (and the mask) to that part of the match.
    pub pattern: String,
    /// Where the rule applies; empty means everywhere.
    #[serde(default)]
    pub scope: Vec<Scope>,
    /// What happens to a finding.
    #[serde(default)]
    pub action: Action,
    /// How bad a finding is.
    #[serde(default)]
    pub severity: Severity,
    /// Tests a match must pass to become a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<Validate>,
    /// OWASP Top 10 for LLM applications (2025) entry, `LLM01` to `LLM10`.
    #[serde(default)]
    pub owasp: String,
    /// What replaces a masked finding; default `[pack:id]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Texts the rule must find something in. The character `¦` is taken out before use, so that scanners
    /// of source code do not take a made-up token for a real one.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
    /// Texts the rule must find nothing in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_match: Vec<String>,
}

/// Text a rule may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Request bodies.
    Request,
    /// Response bodies.
    Response,
    /// Arguments of tool calls.
    ToolArguments,
}

/// What happens to a finding, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Exempt the text: other rules' findings inside the match do not count.
    Allow,
    /// Record it.
    #[default]
    Tag,
    /// Record it and replace the text.
    Mask,
    /// Record it and refuse the message.
    Block,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Tag => "tag",
            Action::Mask => "mask",
            Action::Block => "block",
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// Tests on the matched text (the `secret` group when there is one). All that are given must pass.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Validate {
    /// Check digits or structure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Least Shannon entropy, in bits per byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
    /// Words (any case) whose presence in the match means it is a placeholder, not the thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}
