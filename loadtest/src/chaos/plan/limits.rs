//! The limits that the catalog of a run has: about as much as the calls need.

use super::server::Server;
use super::shape::Shape;

/// The limits of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The starts in a second at the rated server.
    pub rate: u32,
    /// The open requests at the narrow server.
    pub concurrency: u32,
}

impl Limits {
    /// The limits of a run of that size.
    pub fn of(shape: Shape) -> Self {
        Self {
            rate: rounded_up(per_second(shape, Server::Rated) * 1.1).max(2),
            concurrency: rounded_up(per_second(shape, Server::Narrow) * 0.4).max(2),
        }
    }
}

fn per_second(shape: Shape, server: Server) -> f64 {
    let share = f64::from(server.share()) / 100.0;
    f64::from(shape.calls) * share / shape.length.as_secs_f64().max(1.0)
}

fn rounded_up(value: f64) -> u32 {
    let mut up = 0_u32;
    while f64::from(up) < value {
        up += 1;
    }
    up
}
