//! The verbs by which operators steer the whole fleet. Workers take a change within five seconds; each change has an audit record.

pub(crate) mod drain;
mod known;
pub(crate) mod limit;
pub(crate) mod pause;
pub(crate) mod reason;
mod shown;
pub(crate) mod strike;
pub(crate) mod switches;
pub(crate) mod weight;
