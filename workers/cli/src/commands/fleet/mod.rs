//! The verbs that show the running fleet: its workers, its servers, all of it on one screen, and the calls by tool.

pub(crate) mod numbers;
pub(crate) mod servers;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod workers;
