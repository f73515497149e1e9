//! Chooses among the children of a stateless program that the conversations of one tenant share.
//!
//! A call goes to the first child that is not busy. While all are busy another one is started, up to a quarter of the server's places, and
//! until it is ready calls go to the child with the fewest leases.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::transport::stdio::children::{Children, Phase, lock};
use crate::transport::stdio::key::{Key, User};
use crate::transport::stdio::program::{Program, Ready};

/// So many calls under way make a child busy.
const BUSY: u32 = 4;
/// The most children that the conversations of one tenant share.
const MOST: usize = 8;

enum SharedProgramState {
    Up { holders: u32 },
    Starting,
    Absent,
}

impl Children {
    /// The number of the child for the next call of that server and tenant.
    pub(crate) fn least_used(self: &Arc<Self>, key: &Key, program: &Arc<Program>, ready: &Ready) -> usize {
        let most = (self.limits.max_children / 4).clamp(1, MOST);
        let numbered = |number| Key { user: User::All(number), ..key.clone() };
        let standing: Vec<_> =
            (0..most).map(|number| (number, self.standing_of(&numbered(number), ready.mark))).collect();
        let up = standing.iter().filter_map(|(number, standing)| match standing {
            SharedProgramState::Up { holders } => Some((*holders, *number)),
            SharedProgramState::Starting | SharedProgramState::Absent => None,
        });
        let first_free = up.clone().find(|(holders, _)| *holders < BUSY);
        if let Some((_, number)) = first_free {
            return number;
        }
        let first = |wanted: fn(&SharedProgramState) -> bool| {
            standing.iter().find(|(_, standing)| wanted(standing)).map(|(number, _)| *number)
        };
        let starting = first(|standing| matches!(standing, SharedProgramState::Starting));
        let absent = first(|standing| matches!(standing, SharedProgramState::Absent));
        match (up.min(), starting, absent) {
            (Some((_, number)), None, Some(another)) => {
                self.begin_beside(&numbered(another), program, ready);
                number
            }
            (Some((_, number)), _, _) | (None, Some(number), _) => number,
            (None, None, absent) => absent.unwrap_or(0),
        }
    }

    fn standing_of(&self, key: &Key, mark: u64) -> SharedProgramState {
        let slots = lock(&self.slots);
        match slots.get(key).filter(|slot| slot.mark == mark).map(|slot| slot.phase.borrow().clone()) {
            Some(Phase::Up(child)) => child
                .holders()
                .map_or(SharedProgramState::Absent, |holders| SharedProgramState::Up { holders }),
            Some(Phase::Starting) => SharedProgramState::Starting,
            Some(Phase::Failed(_)) | None => SharedProgramState::Absent,
        }
    }

    /// Starts another one where that takes nothing from anybody.
    fn begin_beside(self: &Arc<Self>, key: &Key, program: &Arc<Program>, ready: &Ready) {
        let of = self.of_server(&key.server);
        let spare = of.places.available_permits() > 0 && of.pause(&key.tenant).is_zero();
        if spare && !self.closed.load(Ordering::Acquire) {
            // Whoever needs it finds it once it is up.
            let _begun = self.begin(key, program, ready.clone());
        }
    }
}
