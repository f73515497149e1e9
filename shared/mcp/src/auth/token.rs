//! Owns a token's life: obtained once for all who ask, renewed ahead of its end, replaced when it is refused.
//!
//! Each request for a token is a task of its own: whoever gives up waiting leaves it to the others and to the next call.
//! While the token at hand is good nobody waits for its successor, so a slow authorization server delays no call.
//!
//! **Invariant:** one request for a token is under way at a time, and it ends whatever becomes of those who wait; all of
//! them share what comes of it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;
use toolfleet_core::fault::{Fault, RetryClass};

use super::keyring::SecretText;

/// A token is renewed when a fifth of its life is left, but no sooner than this before its end.
const AHEAD: Duration = Duration::from_secs(60);
/// So long a failure stands for all who ask, and so long a token that could not be renewed is used before the next try.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// A token that was obtained because the one before was refused is not replaced again within this time.
const REPLACED_FOR: Duration = Duration::from_secs(5);

/// What an authorization server gave.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) token: SecretText,
    pub(crate) life: Duration,
    /// How often the scopes had changed when it was asked for.
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

type Obtained = Result<Token, Fault>;
type Obtaining = Shared<BoxFuture<'static, Obtained>>;

/// The token of one server and tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    token: Option<Token>,
    failed: Option<(Instant, Fault)>,
    obtaining: Option<Obtaining>,
    serial: u64,
}

impl Held {
    fn at_hand(&self, now: Instant) -> Option<Token> {
        self.token.clone().filter(|token| now < token.ends_at)
    }

    fn recent_failure(&self, now: Instant) -> Option<Fault> {
        let (at, fault) = self.failed.as_ref()?;
        (now.saturating_duration_since(*at) < FAILED_FOR).then(|| fault.clone())
    }
}

impl Tokens {
    /// The token at hand, or the one that obtaining gives.
    pub(crate) async fn get<F>(&self, obtain: impl FnOnce() -> F) -> Obtained
    where
        F: Future<Output = Result<Grant, Fault>> + Send + 'static,
    {
        let obtaining = {
            let mut held = self.lock();
            let now = Instant::now();
            if let Some(token) = held.at_hand(now) {
                if now >= token.renew_at && held.obtaining.is_none() {
                    // Nobody waits for it.
                    drop(self.begin(&mut held, obtain(), false));
                }
                return Ok(token);
            }
            self.join(&mut held, now, obtain, false)?
        };
        obtaining.await
    }

    /// A token in place of one that was refused; none if that one was itself obtained for such a reason a moment ago.
    pub(crate) async fn replace<F>(
        &self,
        used: u64,
        obtain: impl FnOnce() -> F,
    ) -> Result<Option<Token>, Fault>
    where
        F: Future<Output = Result<Grant, Fault>> + Send + 'static,
    {
        let obtaining = {
            let mut held = self.lock();
            let now = Instant::now();
            if let Some(token) = held.at_hand(now) {
                if token.serial != used {
                    return Ok(Some(token));
                }
                if token.replaced_at.is_some_and(|at| now.saturating_duration_since(at) < REPLACED_FOR) {
                    return Ok(None);
                }
            }
            self.join(&mut held, now, obtain, true)?
        };
        obtaining.await.map(Some)
    }

    /// A token that was asked for with the scopes as they are since their change number `scopes`.
    pub(crate) async fn with_scopes<F>(&self, scopes: u64, obtain: impl Fn() -> F) -> Obtained
    where
        F: Future<Output = Result<Grant, Fault>> + Send + 'static,
    {
        loop {
            let (obtaining, ours) = {
                let mut held = self.lock();
                if let Some(token) = held.at_hand(Instant::now()).filter(|token| token.scopes >= scopes) {
                    return Ok(token);
                }
                match held.obtaining.clone() {
                    Some(theirs) => (theirs, false),
                    None => (self.begin(&mut held, obtain(), false), true),
                }
            };
            let obtained = obtaining.await;
            // What was under way may have been asked for before the scopes changed; what is begun now was not.
            if ours || obtained.is_err() {
                return obtained;
            }
        }
    }

    fn join<F>(
        &self,
        held: &mut Held,
        now: Instant,
        obtain: impl FnOnce() -> F,
        replaces: bool,
    ) -> Result<Obtaining, Fault>
    where
        F: Future<Output = Result<Grant, Fault>> + Send + 'static,
    {
        if let Some(obtaining) = &held.obtaining {
            return Ok(obtaining.clone());
        }
        match held.recent_failure(now) {
            Some(fault) => Err(fault),
            None => Ok(self.begin(held, obtain(), replaces)),
        }
    }

    fn begin<F>(&self, held: &mut Held, request: F, replaces: bool) -> Obtaining
    where
        F: Future<Output = Result<Grant, Fault>> + Send + 'static,
    {
        let (tokens, asked) = (self.clone(), Instant::now());
        let task = tokio::spawn(async move {
            let granted = AssertUnwindSafe(request).catch_unwind().await;
            tokens.settle(granted.unwrap_or_else(|_| Err(broken_off())), asked, replaces)
        });
        let obtaining = async move { task.await.unwrap_or_else(|_| Err(broken_off())) }.boxed().shared();
        held.obtaining = Some(obtaining.clone());
        obtaining
    }

    /// A token's life counts from when it was asked for: the answer may have taken long.
    fn settle(&self, granted: Result<Grant, Fault>, asked: Instant, replaces: bool) -> Obtained {
        let mut held = self.lock();
        held.obtaining = None;
        match granted {
            Ok(grant) => {
                held.serial = held.serial.saturating_add(1);
                let token = Token {
                    text: grant.token,
                    serial: held.serial,
                    scopes: grant.scopes,
                    renew_at: later(asked, grant.life.saturating_sub(AHEAD.min(grant.life / 5))),
                    ends_at: later(asked, grant.life),
                    replaced_at: replaces.then(Instant::now),
                };
                held.failed = None;
                held.token = Some(token.clone());
                Ok(token)
            }
            Err(fault) => {
                let now = Instant::now();
                if let Some(token) = held.token.as_mut().filter(|token| now < token.ends_at) {
                    token.renew_at = token.renew_at.max(later(now, FAILED_FOR));
                    let passes = fault.retry_class() != RetryClass::Permanent;
                    tracing::warn!(%fault, passes, "no new token; the one at hand is used to its end");
                }
                held.failed = Some((now, fault.clone()));
                Err(fault)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken_off() -> Fault {
    Fault::CredentialPending { detail: "the request for a token was broken off".to_owned() }
}

fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;

    use super::*;

    /// An authorization server that counts what it is asked, and takes a while.
    #[derive(Clone, Default)]
    struct Issuer(Arc<AtomicU64>);

    impl Issuer {
        fn grants(&self) -> impl Future<Output = Result<Grant, Fault>> + Send + use<> {
            self.grants_of(0)
        }

        fn grants_of(&self, scopes: u64) -> impl Future<Output = Result<Grant, Fault>> + Send + use<> {
            let asked = self.0.clone();
            async move {
                let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
                let token = SecretText::new(format!("token-{n}"));
                Ok(Grant { token, life: Duration::from_secs(100), scopes })
            }
        }

        fn refuses(&self) -> impl Future<Output = Result<Grant, Fault>> + Send + use<> {
            let asked = self.0.clone();
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(Fault::CredentialPending { detail: "away".to_owned() })
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
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
        let all = join_all((0..50).map(|_| tokens.get(|| issuer.grants()))).await;
        assert!(all.into_iter().all(|token| token.unwrap().text.expose() == "token-1"));
        assert_eq!(issuer.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_ahead_of_its_end_by_one_request_for_which_nobody_waits() {
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
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
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
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
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
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
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
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
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
        let hasty = tokio::time::timeout(Duration::from_millis(10), tokens.get(|| issuer.grants()));
        let patient = tokens.get(|| issuer.grants());
        let (hasty, patient) = tokio::join!(hasty, patient);
        hasty.unwrap_err();
        assert_eq!(patient.unwrap().text.expose(), "token-1");

        let tokens = Tokens::default();
        tokio::time::timeout(Duration::from_millis(10), tokens.get(|| issuer.grants())).await.unwrap_err();
        pass(1).await;
        assert_eq!(tokens.get(|| issuer.grants()).await.unwrap().text.expose(), "token-2");
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_panics_strands_nobody() {
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
        let broken = || async { panic!("a scripted panic") };
        let (first, second) = tokio::join!(tokens.get(broken), tokens.get(broken));
        assert!(matches!(first.unwrap_err(), Fault::CredentialPending { .. }));
        second.unwrap_err();
        pass(2).await;
        tokens.get(|| issuer.grants()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_wider_scope_is_asked_for_anew_where_one_of_narrower_scope_was_under_way() {
        let (tokens, issuer) = (Tokens::default(), Issuer::default());
        let narrow = tokens.get(|| issuer.grants_of(0));
        let wide = || tokens.with_scopes(1, || issuer.grants_of(1));
        let (narrow, first, second) = tokio::join!(narrow, wide(), wide());
        assert_eq!((narrow.unwrap().serial, first.unwrap().serial, second.unwrap().serial), (1, 2, 2));
        assert_eq!(wide().await.unwrap().serial, 2);
        assert_eq!(issuer.asked(), 2);
    }
}
