//! What the summary of the fleet and the rows of workers say about a call.

use super::evidence::{HolderSeen, WorkersSeen};
use crate::call::{CallRow, State};
use crate::fleet::{FleetSummary, WorkerRow};
use crate::ids::Tenant;
use crate::time::Timestamp;

impl WorkersSeen {
    /// The workers, as the summary has them. `rows` are the rows of workers, where they were read: they say whether the holder of the
    /// call's claim still reports. A summary that no worker renews any more says that none lives.
    pub fn of(
        summary: &FleetSummary,
        rows: Option<&[WorkerRow]>,
        tenant: &Tenant,
        call: Option<&CallRow>,
        now: Timestamp,
    ) -> Self {
        let holder = rows.zip(call).map_or(HolderSeen::NotKnown, |(rows, call)| holder(rows, call, now));
        if summary.is_stale(now) {
            let (alive, draining, slots, busy) = (0, 0, 0, 0);
            return Self { alive, draining, slots, busy, tenant_share: None, holder };
        }
        let workers = &summary.workers;
        Self {
            alive: u64::from(workers.alive),
            draining: u64::from(workers.draining),
            slots: workers.slots,
            busy: workers.busy,
            tenant_share: (summary.total_slot_ms() > 0).then(|| summary.share(tenant)),
            holder,
        }
    }
}

fn holder(rows: &[WorkerRow], call: &CallRow, now: Timestamp) -> HolderSeen {
    let Some(worker) = call.worker.as_ref().filter(|_| call.state == State::Claimed) else {
        return HolderSeen::NotKnown;
    };
    // A worker that starts again under its id has a second row.
    let own = rows.iter().filter(|row| row.id == *worker).max_by_key(|row| row.reported_at);
    match own {
        None => HolderSeen::Absent,
        Some(row) if row.is_alive(now) => HolderSeen::Reports(row.reported_at),
        Some(row) => HolderSeen::SilentSince(row.reported_at),
    }
}
