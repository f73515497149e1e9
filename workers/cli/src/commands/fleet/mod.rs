//! The verbs that show the running fleet: its workers, its servers, all of it on one screen and live, and the calls by tool.

mod lines;
mod overview;
pub(crate) mod servers;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod top;
mod view;
pub(crate) mod workers;
