//! Chooses among the connections of a stateless server that the conversations of one tenant share.
//!
//! A call goes to the first channel that is not busy. While all are busy another one is started, up to a quarter of the server's places, and
//! until it is ready calls go to the channel with the fewest leases.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::endpoint::Endpoint;
use crate::transport::channels::key::{Key, User};
use crate::transport::channels::table::{Channels, Phase, lock};
use crate::transport::stdio::program::Ready;

/// So many calls under way make a channel busy.
const BUSY: u32 = 4;
/// The most channels that the conversations of one tenant share.
const MOST: usize = 8;

enum SharedState {
    Up { holders: u32 },
    Starting,
    Absent,
}

impl Channels {
    /// The number of the channel for the next call of that server and tenant.
    pub(crate) fn least_used(self: &Arc<Self>, key: &Key, endpoint: &Endpoint, ready: &Ready) -> usize {
        let most = (self.limits.most(key.kind) / 4).clamp(1, MOST);
        let numbered = |number| Key { user: User::All(number), ..key.clone() };
        let standing: Vec<_> =
            (0..most).map(|number| (number, self.standing_of(&numbered(number), ready.mark))).collect();
        let up = standing.iter().filter_map(|(number, standing)| match standing {
            SharedState::Up { holders } => Some((*holders, *number)),
            SharedState::Starting | SharedState::Absent => None,
        });
        let first_free = up.clone().find(|(holders, _)| *holders < BUSY);
        if let Some((_, number)) = first_free {
            return number;
        }
        let first = |wanted: fn(&SharedState) -> bool| {
            standing.iter().find(|(_, standing)| wanted(standing)).map(|(number, _)| *number)
        };
        let starting = first(|standing| matches!(standing, SharedState::Starting));
        let absent = first(|standing| matches!(standing, SharedState::Absent));
        match (up.min(), starting, absent) {
            (Some((_, number)), None, Some(another)) => {
                self.begin_beside(&numbered(another), endpoint, ready);
                number
            }
            (Some((_, number)), _, _) | (None, Some(number), _) => number,
            (None, None, absent) => absent.unwrap_or(0),
        }
    }

    fn standing_of(&self, key: &Key, mark: u64) -> SharedState {
        let slots = lock(&self.slots);
        match slots.get(key).filter(|slot| slot.mark == mark).map(|slot| slot.phase.borrow().clone()) {
            Some(Phase::Up(channel)) => {
                channel.holders().map_or(SharedState::Absent, |holders| SharedState::Up { holders })
            }
            Some(Phase::Starting) => SharedState::Starting,
            Some(Phase::Failed(_)) | None => SharedState::Absent,
        }
    }

    /// Starts another one where that takes nothing from anybody.
    fn begin_beside(self: &Arc<Self>, key: &Key, endpoint: &Endpoint, ready: &Ready) {
        let of = self.of_server(key);
        let spare = of.places.available_permits() > 0 && of.pause(&key.tenant).is_zero();
        if spare && !self.closed.load(Ordering::Acquire) {
            // Whoever needs it finds it once it is up.
            let _begun = self.begin(key, endpoint, ready.clone());
        }
    }
}
