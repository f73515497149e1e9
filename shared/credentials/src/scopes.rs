//! The scopes that a server asked for beyond those of the catalog, and those that were denied.
//!
//! **Invariant:** at most [`MAX`] scopes are requested, and a denied scope is not requested again within [`DENIED_TTL`].

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::credential::is_scope;

/// The most scopes requested at once.
const MAX: usize = 32;
/// How long a denied scope is not requested again.
const DENIED_TTL: Duration = Duration::from_secs(60);

/// The additional and denied scopes.
#[derive(Debug, Default)]
pub(crate) struct Scopes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    more: BTreeSet<String>,
    denied: Vec<(Instant, String)>,
    changes: u64,
}

impl Scopes {
    /// Adds the scopes that a server wants. Returns the number of the change since which all of them are requested, or `None` where
    /// they may not be requested.
    pub(crate) fn widen(&self, first: &[String], wanted: &str) -> Option<u64> {
        let mut asked = self.lock();
        let now = Instant::now();
        asked.denied.retain(|(at, _)| now.saturating_duration_since(*at) < DENIED_TTL);
        let mut new = BTreeSet::new();
        for scope in wanted.split_ascii_whitespace() {
            if !is_scope(scope) || asked.denied.iter().any(|(_, denied)| denied == scope) {
                return None;
            }
            if !asked.more.contains(scope) && !first.iter().any(|known| known == scope) {
                new.insert(scope.to_owned());
            }
        }
        if first.len().saturating_add(asked.more.len()).saturating_add(new.len()) > MAX {
            return None;
        }
        if !new.is_empty() {
            asked.more.append(&mut new);
            asked.changes = asked.changes.saturating_add(1);
        }
        Some(asked.changes)
    }

    /// Removes all added scopes, because they were denied; `false` where there were none.
    pub(crate) fn narrow(&self) -> bool {
        let mut asked = self.lock();
        let (now, more) = (Instant::now(), std::mem::take(&mut asked.more));
        if more.is_empty() {
            return false;
        }
        asked.denied = more.into_iter().map(|scope| (now, scope)).collect();
        asked.changes = asked.changes.saturating_add(1);
        true
    }

    /// Whether all of them are requested.
    pub(crate) fn hold(&self, first: &[String], wanted: &str) -> bool {
        let asked = self.lock();
        wanted
            .split_ascii_whitespace()
            .all(|scope| asked.more.contains(scope) || first.iter().any(|known| known == scope))
    }

    /// The scopes to request, as one text, and the number of the last change.
    pub(crate) fn all(&self, first: &[String]) -> (String, u64) {
        let asked = self.lock();
        let all: BTreeSet<&str> = first.iter().chain(&asked.more).map(String::as_str).collect();
        (all.into_iter().collect::<Vec<_>>().join(" "), asked.changes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn scopes_are_added_once_and_denied_ones_are_not_repeated() {
        let (scopes, first) = (Scopes::default(), vec!["a".to_owned()]);
        assert_eq!(scopes.widen(&first, "a"), Some(0));
        assert_eq!(scopes.widen(&first, "c a b"), Some(1));
        assert_eq!(scopes.widen(&first, "b"), Some(1));
        assert_eq!(scopes.all(&first), ("a b c".to_owned(), 1));
        assert!(scopes.hold(&first, "a c") && !scopes.hold(&first, "d"));
        assert!(scopes.narrow() && !scopes.narrow());
        assert_eq!((scopes.all(&first), scopes.widen(&first, "b")), (("a".to_owned(), 2), None));
        tokio::time::advance(DENIED_TTL).await;
        assert_eq!(scopes.widen(&first, "b"), Some(3));
    }

    #[test]
    fn too_many_or_invalid_scopes_are_not_requested() {
        let scopes = Scopes::default();
        let many: Vec<String> = (0..=MAX).map(|n| format!("s{n}")).collect();
        assert_eq!(scopes.widen(&[], &many.join(" ")), None);
        assert_eq!(scopes.widen(&[], "a\"b"), None);
        assert_eq!(scopes.all(&[]), (String::new(), 0));
    }
}
