//! Fairness between tenants and servers: who is above its share of the slots, who is next, and how often a worker looks for calls of others.
//!
//! A share is max-min fair by weight: a tenant that wants less than its part leaves the rest to those that want more. Who is next is
//! decided by start-time fair queueing: each tenant has a virtual time, which grows with its slot-seconds divided by its weight, and the
//! tenant with the smallest is next. A tenant that comes back continues at the floor, the smallest virtual time of those with calls, so
//! idle time is no credit. Servers and tools that answer nothing have a share of their own, so that their calls leave the slots to others.

mod accounts;
mod looks;
mod share;
mod silence;

pub use accounts::{Accounts, SEEN_MS};
pub use looks::{LONGEST_LOOK_GAP_MS, LookBudget, Room};
pub use share::{Load, TenantUse, is_above_share};
pub use silence::{Placed, SILENT_MS, Silences, Silent, SlotUse};
