//! Services: where they run, which endpoint takes the next request, and which connections are kept.
//!
//! Rules:
//! 1. A [`ServicePlan`] is what a revision says; it never changes. Everything that does change is keyed by
//!    what it belongs to – service name, endpoint key – and so outlives revisions.
//! 2. What must be known to all workers (health, ejection, breakers) lives in shared memory ([`state`]) and
//!    is soft: losing it makes the gateway forget, never stop. What one worker counts for itself (requests
//!    in flight, turns, connections) lives in its [`Balancer`] and [`Pool`].
//! 3. Nothing here connects, resolves or waits: callers do, and report back.

mod address;
mod balancer;
mod plan;
mod pool;
pub mod state;

pub use address::{Address, Spoken};
pub use balancer::{ejected_until, Balancer};
pub use plan::{endpoint_key, share_of, EndpointPlan, ServicePlan};
pub use pool::{Pool, Ticket};
