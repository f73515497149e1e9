//! How many requests are answered at once, and how many event streams last: of all callers, and of one tenant, so that none of them keeps the others out.
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

/// A slot of a request, and its part of the tenant's share.
pub(crate) struct Slot {
    _slot: OwnedSemaphorePermit,
    tenant: Tenant,
    slots: Slots,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// All are taken.
    Full,
    /// The tenant has its share.
    Share,
}

impl NoSlot {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Full => "the gateway answers as many requests as it may; try again",
            Self::Share => "the gateway answers as many requests of this tenant as it may; try again",
        }
    }
}

impl Slots {
    /// `most` slots; where there are several tenants, one of them has at most a quarter.
    pub(crate) fn new(most: usize, several_tenants: bool) -> Self {
        let share = if several_tenants { most.div_ceil(4) } else { most };
        Self { all: Arc::new(Semaphore::new(most)), share, tenants: Arc::default() }
    }

    /// A slot for a request of that tenant.
    ///
    /// # Errors
    /// None is free, or the tenant has its share.
    pub(crate) fn take(&self, tenant: &Tenant) -> Result<Slot, NoSlot> {
        let slot = Arc::clone(&self.all).try_acquire_owned().map_err(|_| NoSlot::Full)?;
        let mut tenants = self.tenants();
        let count = tenants.entry(tenant.clone()).or_default();
        if *count >= self.share {
            return Err(NoSlot::Share);
        }
        *count += 1;
        drop(tenants);
        Ok(Slot { _slot: slot, tenant: tenant.clone(), slots: self.clone() })
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<Tenant, usize>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
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
        let mut tenants = self.slots.tenants();
        match tenants.get_mut(&self.tenant) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                tenants.remove(&self.tenant);
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
        let slot_of = |name| slots.take(&tenant(name));
        let held: Vec<_> = (0..2).map(|_| slot_of("acme").ok().unwrap()).collect();
        for _ in 0..2 {
            assert_eq!(slot_of("acme").err(), Some(NoSlot::Share), "a refused one takes nothing");
        }
        let others: Vec<_> =
            ["b", "c", "d"].into_iter().flat_map(|name| [slot_of(name), slot_of(name)]).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(slot_of("e").err(), Some(NoSlot::Full));
        drop(held);
        assert!(slot_of("acme").is_ok());
        drop(others);
        assert!(slots.tenants().is_empty());
        // One tenant has all of them.
        let alone = Slots::new(2, false);
        let both = [alone.take(&tenant("acme")), alone.take(&tenant("acme"))];
        assert!(both.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn a_slot_is_held_until_the_response_is_read() {
        let slots = Slots::new(1, false);
        let slot_of_one = || slots.take(&Tenant::parse("acme").unwrap()).ok();
        let response = slot_of_one().unwrap().held_by(Response::new(Body::from(vec![7; PIECE_BYTES + 1])));
        assert_eq!(response.headers()["content-length"], "65537");
        let mut body = response.into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap().len(), PIECE_BYTES);
        assert!(slot_of_one().is_none());
        assert_eq!(body.next().await.unwrap().unwrap().len(), 1);
        assert!(body.next().await.is_none());
        drop(body);
        assert!(slot_of_one().is_some());
    }
}
