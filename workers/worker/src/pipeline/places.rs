//! The place of a call at its server and its seat among the worker's slots, and when a call leaves its slot to others.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::admit::AdmittedCall;
use super::inbound::InboundCall;
use super::slot::Slot;
use super::wait::Wait;
use crate::context::WorkerContext;
use crate::gate::{Place, Seat};

/// After a longer wait for a seat it is asked again whether the server is silent.
const SOON: Duration = Duration::from_millis(50);

/// A place at the call's server and a seat among the worker's slots.
///
/// # Errors
/// What the call waits for.
pub(super) async fn place_and_seat(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &AdmittedCall,
) -> Result<(Place, Seat), Wait> {
    let (server, request) = (&call.server.id, &call.request);
    let place = async || {
        let place = context.gate.place(call.subject(), context.now()).await;
        place.map_err(|silent| Wait::for_a_silent_server(context, inbound, server, call.deadline, &silent))
    };
    let first = place().await?;
    let asked = Instant::now();
    let seat = context.gate.seat(server, &request.key.tenant, request.priority).await;
    let seat = seat.map_err(|full| Wait::for_a_seat(context, inbound, server, call.deadline, &full))?;
    if asked.elapsed() < SOON {
        return Ok((first, seat));
    }
    // The server may have become silent meanwhile, and the seat may be one that another call to it has left.
    drop(first);
    Ok((place().await?, seat))
}

/// Runs the rest of a call. While it only waits for a server that answers nothing, its slot and its seat are for other calls.
pub(super) async fn while_silent<T>(
    executed: impl Future<Output = T>,
    place: &mut Place,
    slot: &mut impl Slot,
    leave: impl FnOnce(),
) -> T {
    let mut executed = std::pin::pin!(executed);
    tokio::select! {
        biased;
        done = &mut executed => return done,
        () = place.lends() => {}
    }
    slot.set_down();
    leave();
    executed.await
}
