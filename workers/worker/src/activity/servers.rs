//! What the worker asks of each server: requests under way, and the attempts of the last minutes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::fleet::{Histogram, Minute, ServerSeen, WINDOW_MS};
use toolfleet_core::ids::ServerId;
use toolfleet_core::time::Timestamp;

use super::lock::lock;

/// The most servers; requests to others are not counted.
const MOST_SERVERS: usize = 5_000;

/// The servers of a worker.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    known: RwLock<HashMap<ServerId, Arc<OfServer>>>,
    /// Requests to servers beyond the bound.
    others: Arc<OfServer>,
}

#[derive(Debug, Default)]
struct OfServer {
    in_flight: AtomicU64,
    /// The minutes of the window that have attempts.
    minutes: Mutex<Vec<(Minute, Attempts)>>,
}

#[derive(Debug, Default)]
struct Attempts {
    ended: u64,
    failed: u64,
    latency: Histogram,
}

/// A request to a server that is under way.
#[derive(Debug)]
pub(crate) struct Request {
    of: Arc<OfServer>,
    begun: Instant,
}

impl Servers {
    pub(super) fn request(&self, server: &ServerId) -> Request {
        let of = self.of(server);
        of.in_flight.fetch_add(1, Ordering::Relaxed);
        Request { of, begun: Instant::now() }
    }

    /// What was seen of each server in the last minutes. Forgets servers of which nothing was.
    pub(crate) fn seen(&self, now: Timestamp) -> BTreeMap<ServerId, ServerSeen> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = BTreeMap::new();
        known.retain(|server, of| {
            let seen = of.seen(now);
            let any = seen.in_flight > 0 || seen.attempts > 0;
            if any {
                all.insert(server.clone(), seen);
            }
            any || Arc::strong_count(of) > 1
        });
        all
    }

    fn of(&self, server: &ServerId) -> Arc<OfServer> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = known.get(server) {
            return of.clone();
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_SERVERS && !known.contains_key(server) {
            return self.others.clone();
        }
        known.entry(server.clone()).or_default().clone()
    }
}

impl OfServer {
    fn ended(&self, failed: bool, took: Duration, now: Timestamp) {
        let mut minutes = lock(&self.minutes);
        let minute = Minute::of(now);
        if minutes.last().is_none_or(|(last, _)| *last != minute) {
            retain_window(&mut minutes, now);
            minutes.push((minute, Attempts::default()));
        }
        if let Some((_, attempts)) = minutes.last_mut() {
            attempts.ended = attempts.ended.saturating_add(1);
            attempts.failed = attempts.failed.saturating_add(u64::from(failed));
            attempts.latency.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn seen(&self, now: Timestamp) -> ServerSeen {
        let mut seen =
            ServerSeen { in_flight: self.in_flight.load(Ordering::Relaxed), ..ServerSeen::default() };
        let mut minutes = lock(&self.minutes);
        retain_window(&mut minutes, now);
        for (_, attempts) in minutes.iter() {
            seen.attempts = seen.attempts.saturating_add(attempts.ended);
            seen.failures = seen.failures.saturating_add(attempts.failed);
            seen.latency.merge(&attempts.latency);
        }
        seen
    }
}

fn retain_window(minutes: &mut Vec<(Minute, Attempts)>, now: Timestamp) {
    minutes.retain(|(minute, _)| now.ms_since(minute.start()) < WINDOW_MS);
}

impl Request {
    /// It has ended.
    pub(crate) fn ended(self, failed: bool, now: Timestamp) {
        self.of.ended(failed, self.begun.elapsed(), now);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.of.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_count_for_five_minutes() {
        let (servers, crm) = (Servers::default(), ServerId::parse("crm").unwrap());
        for (minute, failed) in [(0, true), (1, false), (4, true)] {
            let request = servers.request(&crm);
            tokio::time::advance(Duration::from_millis(8)).await;
            request.ended(failed, at(minute * 60_000));
        }
        let _open = servers.request(&crm);
        let seen = |ms| servers.seen(at(ms)).remove(&crm).unwrap();
        let all = seen(4 * 60_000);
        assert_eq!((all.in_flight, all.attempts, all.failures), (1, 3, 2));
        assert_eq!(all.latency.quantile_us(50), Some(7_935));
        let later = seen(5 * 60_000);
        assert_eq!((later.attempts, later.failures), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_is_no_longer_under_way() {
        let (servers, crm) = (Servers::default(), ServerId::parse("crm").unwrap());
        let request = servers.request(&crm);
        assert_eq!(servers.seen(at(0))[&crm].in_flight, 1);
        drop(request);
        assert!(servers.seen(at(0)).is_empty());
        assert!(servers.known.read().unwrap().is_empty(), "it is forgotten");
    }
}
