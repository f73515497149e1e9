//! How many requests are answered at once: of all callers, and of one tenant, so that none of them keeps the others out.
//!
//! **Invariant:** a slot is held until its response is written, or its connection is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use toolfleet_core::ids::Tenant;

/// A response is given to its connection in pieces of that size: the connection takes the next one when it has written others.
const PIECE_BYTES: usize = 65_536;

/// The slots of a gateway.
#[derive(Clone)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    /// How many of them one tenant may have.
    share: usize,
    tenants: Arc<Mutex<HashMap<Tenant, usize>>>,
}

/// A slot of a request, and its part of the tenant's share once the tenant is known.
pub(crate) struct Slot {
    _slot: OwnedSemaphorePermit,
    tenant: Option<Tenant>,
    slots: Slots,
}

impl Slots {
    /// `most` slots; where there are several tenants, one of them has at most a quarter.
    pub(crate) fn new(most: usize, several_tenants: bool) -> Self {
        let share = if several_tenants { most.div_ceil(4) } else { most };
        Self { all: Arc::new(Semaphore::new(most)), share, tenants: Arc::default() }
    }

    /// A slot, if one is free.
    pub(crate) fn take(&self) -> Option<Slot> {
        let slot = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Slot { _slot: slot, tenant: None, slots: self.clone() })
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<Tenant, usize>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Counts the slot to the tenant's share; false if that is used up.
    pub(crate) fn count_to(&mut self, tenant: &Tenant) -> bool {
        let mut tenants = self.slots.tenants();
        let count = tenants.entry(tenant.clone()).or_default();
        if *count >= self.slots.share {
            return false;
        }
        *count += 1;
        drop(tenants);
        self.tenant = Some(tenant.clone());
        true
    }

    /// The response, which holds the slot until it is written.
    pub(crate) fn held_by(self, response: Response) -> Response {
        let (mut parts, body) = response.into_parts();
        if let Some(length) = body.size_hint().exact() {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let pieces = body.into_data_stream().flat_map(|read| stream::iter(pieces_of(read)));
        let held = pieces.map(move |piece| {
            let _held = &self;
            piece
        });
        Response::from_parts(parts, Body::from_stream(held))
    }
}

fn pieces_of<E>(read: Result<Bytes, E>) -> Vec<Result<Bytes, E>> {
    match read {
        Ok(mut bytes) => {
            let mut pieces = Vec::with_capacity(bytes.len().div_ceil(PIECE_BYTES));
            while !bytes.is_empty() {
                pieces.push(Ok(bytes.split_to(PIECE_BYTES.min(bytes.len()))));
            }
            pieces
        }
        Err(error) => vec![Err(error)],
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(tenant) = &self.tenant else { return };
        let mut tenants = self.slots.tenants();
        match tenants.get_mut(tenant) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                tenants.remove(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_share_and_leaves_the_rest() {
        let slots = Slots::new(8, true);
        let tenant = |name| Tenant::parse(name).unwrap();
        let slot_of = |name| slots.take().and_then(|mut slot| slot.count_to(&tenant(name)).then_some(slot));
        let held: Vec<_> = (0..2).map(|_| slot_of("acme").unwrap()).collect();
        assert!(slot_of("acme").is_none() && slot_of("acme").is_none(), "a refused one takes nothing");
        let others: Vec<_> =
            ["b", "c", "d"].into_iter().flat_map(|name| [slot_of(name), slot_of(name)]).collect();
        assert!(others.iter().all(Option::is_some) && slots.take().is_none());
        drop(held);
        assert!(slot_of("acme").is_some());
        drop(others);
        assert!(slots.tenants().is_empty());
        // One tenant has all of them.
        let alone = Slots::new(2, false);
        let both: Vec<_> =
            (0..2).filter_map(|_| alone.take()).map(|mut slot| slot.count_to(&tenant("acme"))).collect();
        assert_eq!(both, [true, true]);
    }

    #[tokio::test]
    async fn a_slot_is_held_until_the_response_is_read() {
        let slots = Slots::new(1, false);
        let response = slots.take().unwrap().held_by(Response::new(Body::from(vec![7; PIECE_BYTES + 1])));
        assert_eq!(response.headers()["content-length"], "65537");
        let mut body = response.into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap().len(), PIECE_BYTES);
        assert!(slots.take().is_none());
        assert_eq!(body.next().await.unwrap().unwrap().len(), 1);
        assert!(body.next().await.is_none());
        drop(body);
        assert!(slots.take().is_some());
    }
}
