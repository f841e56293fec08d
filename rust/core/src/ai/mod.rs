//! Who may call which model, and where a call goes: providers, virtual models, keys, the choice of a target.
//!
//! Rules:
//! 1. What is here is compiled into a revision and does not change ([`Plan`]), is published beside it ([`KeyTable`]), or
//!    is one worker's memory of how targets fared ([`Targets`]) and of answers ([`cache`]).
//! 2. What crosses the wire is [`crate::llm`]'s business, who is connected to is `balance`'s: this module decides
//!    between them.
//! 3. A provider's address, credential and model never come from a client.

pub mod cache;
pub mod keys;
pub mod plan;
pub mod provider;
pub mod targets;

pub use keys::{Key, KeyTable};
pub use plan::{ModelPlan, Plan, RoutePlan, TargetPlan};
pub use provider::{Auth, ProviderPlan};
pub use targets::Targets;
