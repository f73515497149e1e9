//! Caches a token: requested once for all callers (single flight), renewed before it expires, replaced when it is refused.
//!
//! Each token request is its own task, so a caller that stops waiting leaves it to the other callers and to the next call. While the
//! cached token is valid nobody waits for its renewal, so a slow authorization server delays no call.
//!
//! **Invariant:** at most one token request runs at a time, and all waiting callers share its result.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use crate::error::CredentialError;
use crate::keyring::SecretText;

/// A token is renewed when a fifth of its lifetime is left, at most this long before it expires.
const RENEW_AHEAD: Duration = Duration::from_secs(60);
/// How long a failure is cached, and how long after a failed renewal the next one is tried.
const FAILURE_TTL: Duration = Duration::from_secs(1);
/// A token that replaced a refused one is not replaced again within this time.
const REPLACE_INTERVAL: Duration = Duration::from_secs(5);

/// The response of an authorization server.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) token: SecretText,
    pub(crate) lifetime: Duration,
    /// The number of scope changes when it was requested.
    pub(crate) scopes: u64,
}

/// A token in use.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: SecretText,
    /// Tells a token from its successor.
    pub(crate) serial: u64,
    scopes: u64,
    renew_at: Instant,
    ends_at: Instant,
    replaced_at: Option<Instant>,
}

type TokenResult = Result<Token, CredentialError>;
type PendingToken = Shared<BoxFuture<'static, TokenResult>>;

/// The cached token of one server and tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenCache(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    failed: Option<(Instant, CredentialError)>,
    pending: Option<PendingToken>,
    serial: u64,
}

impl State {
    fn valid_token(&self, now: Instant) -> Option<Token> {
        self.token.clone().filter(|token| now < token.ends_at)
    }

    fn recent_failure(&self, now: Instant) -> Option<CredentialError> {
        let (at, error) = self.failed.as_ref()?;
        (now.saturating_duration_since(*at) < FAILURE_TTL).then(|| error.clone())
    }
}

impl TokenCache {
    /// The cached token, or a new one.
    pub(crate) async fn get<F>(&self, obtain: impl FnOnce() -> F) -> TokenResult
    where
        F: Future<Output = Result<Grant, CredentialError>> + Send + 'static,
    {
        let pending = {
            let mut held = self.lock();
            let now = Instant::now();
            if let Some(token) = held.valid_token(now) {
                if now >= token.renew_at && held.pending.is_none() {
                    // Nobody waits for it.
                    drop(self.start(&mut held, obtain(), false));
                }
                return Ok(token);
            }
            self.join(&mut held, now, obtain, false)?
        };
        pending.await
    }

    /// A token in place of a refused one; `None` where that one had itself just replaced a refused one.
    pub(crate) async fn replace<F>(
        &self,
        used: u64,
        obtain: impl FnOnce() -> F,
    ) -> Result<Option<Token>, CredentialError>
    where
        F: Future<Output = Result<Grant, CredentialError>> + Send + 'static,
    {
        let pending = {
            let mut held = self.lock();
            let now = Instant::now();
            if let Some(token) = held.valid_token(now) {
                if token.serial != used {
                    return Ok(Some(token));
                }
                if token.replaced_at.is_some_and(|at| now.saturating_duration_since(at) < REPLACE_INTERVAL) {
                    return Ok(None);
                }
            }
            self.join(&mut held, now, obtain, true)?
        };
        pending.await.map(Some)
    }

    /// A token that was requested after scope change number `scopes`.
    pub(crate) async fn with_scopes<F>(&self, scopes: u64, obtain: impl Fn() -> F) -> TokenResult
    where
        F: Future<Output = Result<Grant, CredentialError>> + Send + 'static,
    {
        loop {
            let (pending, ours) = {
                let mut held = self.lock();
                if let Some(token) = held.valid_token(Instant::now()).filter(|token| token.scopes >= scopes) {
                    return Ok(token);
                }
                match held.pending.clone() {
                    Some(theirs) => (theirs, false),
                    None => (self.start(&mut held, obtain(), false), true),
                }
            };
            let obtained = pending.await;
            // A request that was already running may have begun before the scopes changed; our own has not.
            if ours || obtained.is_err() {
                return obtained;
            }
        }
    }

    fn join<F>(
        &self,
        held: &mut State,
        now: Instant,
        obtain: impl FnOnce() -> F,
        replaces: bool,
    ) -> Result<PendingToken, CredentialError>
    where
        F: Future<Output = Result<Grant, CredentialError>> + Send + 'static,
    {
        if let Some(pending) = &held.pending {
            return Ok(pending.clone());
        }
        match held.recent_failure(now) {
            Some(error) => Err(error),
            None => Ok(self.start(held, obtain(), replaces)),
        }
    }

    fn start<F>(&self, held: &mut State, request: F, replaces: bool) -> PendingToken
    where
        F: Future<Output = Result<Grant, CredentialError>> + Send + 'static,
    {
        let (tokens, asked) = (self.clone(), Instant::now());
        let task = tokio::spawn(async move {
            let granted = AssertUnwindSafe(request).catch_unwind().await;
            tokens.store(granted.unwrap_or_else(|_| Err(aborted())), asked, replaces)
        });
        let pending = async move { task.await.unwrap_or_else(|_| Err(aborted())) }.boxed().shared();
        held.pending = Some(pending.clone());
        pending
    }

    /// Stores the result. The lifetime counts from the request: the response may have taken long.
    fn store(&self, granted: Result<Grant, CredentialError>, asked: Instant, replaces: bool) -> TokenResult {
        let mut held = self.lock();
        held.pending = None;
        match granted {
            Ok(grant) => {
                held.serial = held.serial.saturating_add(1);
                let token = Token {
                    text: grant.token,
                    serial: held.serial,
                    scopes: grant.scopes,
                    renew_at: later(
                        asked,
                        grant.lifetime.saturating_sub(RENEW_AHEAD.min(grant.lifetime / 5)),
                    ),
                    ends_at: later(asked, grant.lifetime),
                    replaced_at: replaces.then(Instant::now),
                };
                held.failed = None;
                held.token = Some(token.clone());
                Ok(token)
            }
            Err(error) => {
                let now = Instant::now();
                if let Some(token) = held.token.as_mut().filter(|token| now < token.ends_at) {
                    token.renew_at = token.renew_at.max(later(now, FAILURE_TTL));
                    let may_pass = !error.is_permanent();
                    tracing::warn!(%error, may_pass, "no new token; the cached one is used until it expires");
                }
                held.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn aborted() -> CredentialError {
    CredentialError::Pending { detail: "the token request was aborted".to_owned() }
}

fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;

    use super::*;

    /// An authorization server that counts requests and takes 100 ms for each.
    #[derive(Clone, Default)]
    struct Issuer(Arc<AtomicU64>);

    impl Issuer {
        fn grants(&self) -> impl Future<Output = Result<Grant, CredentialError>> + Send + use<> {
            self.grants_of(0)
        }

        fn grants_of(
            &self,
            scopes: u64,
        ) -> impl Future<Output = Result<Grant, CredentialError>> + Send + use<> {
            let asked = self.0.clone();
            async move {
                let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
                let token = SecretText::new(format!("token-{n}"));
                Ok(Grant { token, lifetime: Duration::from_secs(100), scopes })
            }
        }

        fn refuses(&self) -> impl Future<Output = Result<Grant, CredentialError>> + Send + use<> {
            let asked = self.0.clone();
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(CredentialError::Pending { detail: "down".to_owned() })
            }
        }

        fn asked(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_obtains_a_token_for_all_who_wait() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        let all = join_all((0..50).map(|_| tokens.get(|| issuer.grants()))).await;
        assert!(all.into_iter().all(|token| token.unwrap().text.expose() == "token-1"));
        assert_eq!(issuer.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_ahead_of_its_end_by_one_request_for_which_nobody_waits() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        tokens.get(|| issuer.grants()).await.unwrap();
        pass(79).await;
        assert_eq!(tokens.get(|| issuer.grants()).await.unwrap().serial, 1);
        pass(2).await;
        let before = Instant::now();
        let all = join_all((0..50).map(|_| tokens.get(|| issuer.grants()))).await;
        assert!(all.into_iter().all(|token| token.unwrap().serial == 1));
        assert_eq!(before.elapsed(), Duration::ZERO);
        pass(1).await;
        assert_eq!(tokens.get(|| issuer.grants()).await.unwrap().serial, 2);
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_cannot_be_renewed_is_used_to_its_end_and_not_asked_for_by_every_call() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        tokens.get(|| issuer.grants()).await.unwrap();
        pass(85).await;
        for _ in 0..10 {
            assert_eq!(tokens.get(|| issuer.refuses()).await.unwrap().serial, 1);
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
        assert_eq!(issuer.asked(), 2);
        pass(20).await;
        tokens.get(|| issuer.refuses()).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_request_that_fails_share_its_failure_and_later_ones_ask_again() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        let all = join_all((0..50).map(|_| tokens.get(|| issuer.refuses()))).await;
        assert!(all.into_iter().all(|token| token.is_err()));
        assert_eq!(issuer.asked(), 1);
        tokens.get(|| issuer.grants()).await.unwrap_err();
        assert_eq!(issuer.asked(), 1);
        pass(2).await;
        assert_eq!(tokens.get(|| issuer.grants()).await.unwrap().serial, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_replaced_once_for_all_who_met_the_refusal() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        let used = tokens.get(|| issuer.grants()).await.unwrap().serial;
        let all = join_all((0..50).map(|_| tokens.replace(used, || issuer.grants()))).await;
        assert!(all.into_iter().all(|token| token.unwrap().unwrap().serial == 2));
        assert_eq!(issuer.asked(), 2);
        // The server does not accept the new one either: asking again would change nothing, for a while.
        assert!(tokens.replace(2, || issuer.grants()).await.unwrap().is_none());
        assert_eq!(issuer.asked(), 2);
        pass(6).await;
        assert_eq!(tokens.replace(2, || issuer.grants()).await.unwrap().unwrap().serial, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_leaves_its_request_to_the_others_and_to_the_next_call() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        let hasty = tokio::time::timeout(Duration::from_millis(10), tokens.get(|| issuer.grants()));
        let patient = tokens.get(|| issuer.grants());
        let (hasty, patient) = tokio::join!(hasty, patient);
        hasty.unwrap_err();
        assert_eq!(patient.unwrap().text.expose(), "token-1");

        let tokens = TokenCache::default();
        tokio::time::timeout(Duration::from_millis(10), tokens.get(|| issuer.grants())).await.unwrap_err();
        pass(1).await;
        assert_eq!(tokens.get(|| issuer.grants()).await.unwrap().text.expose(), "token-2");
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_panics_strands_nobody() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        let broken = || async { panic!("a scripted panic") };
        let (first, second) = tokio::join!(tokens.get(broken), tokens.get(broken));
        assert!(matches!(first.unwrap_err(), CredentialError::Pending { .. }));
        second.unwrap_err();
        pass(2).await;
        tokens.get(|| issuer.grants()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_wider_scope_is_asked_for_anew_where_one_of_narrower_scope_was_under_way() {
        let (tokens, issuer) = (TokenCache::default(), Issuer::default());
        let narrow = tokens.get(|| issuer.grants_of(0));
        let wide = || tokens.with_scopes(1, || issuer.grants_of(1));
        let (narrow, first, second) = tokio::join!(narrow, wide(), wide());
        assert_eq!((narrow.unwrap().serial, first.unwrap().serial, second.unwrap().serial), (1, 2, 2));
        assert_eq!(wide().await.unwrap().serial, 2);
        assert_eq!(issuer.asked(), 2);
    }
}
