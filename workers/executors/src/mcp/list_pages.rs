//! Cuts a listing that is larger than a record, and continues one that an earlier call has cut.
//!
//! The cursor is ours: the page of the server's own list, how many of its entries were given, and the digest of the last of them. It holds
//! all that is needed, so any worker can continue. A digest binds it to its server, tenant and operation; for others it is no cursor. A
//! list that has changed meanwhile continues after that last entry, wherever it is now; where that entry is gone, the caller starts again. Of
//! a list that does not change, every entry is given once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use toolfleet_core::digest::Digest;
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::OperationParams;
use toolfleet_mcp::Entries;

use crate::executor::Invocation;

/// What our cursors begin with.
const OURS: &str = "toolfleet:";
/// A record holds this much whatever it is, compressed or not.
const INLINE_BYTES: usize = 340 * 1024;

/// Where a cut listing goes on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// The server's own cursor, at which its part begins.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    theirs: Option<String>,
    /// How many entries of that part were given.
    #[serde(rename = "n")]
    given: usize,
    /// The digest of the last of them.
    #[serde(rename = "l")]
    last: String,
}

impl Place {
    /// What the call's own cursor asks for: a place of ours, or the server's page, which is the whole list without one.
    pub(crate) fn of(call: &Invocation<'_>, cursor: Option<&str>) -> Result<Self, Outcome> {
        let Some(ours) = cursor.and_then(|cursor| cursor.strip_prefix(OURS)) else {
            return Ok(Self { theirs: cursor.map(str::to_owned), ..Self::default() });
        };
        let place = ours.split_once('.').and_then(|(mark, text)| {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let place = serde_json::from_str(&text).ok()?;
            (mark == marked(call, &text)).then_some(place)
        });
        place.ok_or_else(|| {
            refused("is none that this list gave: it is cut off, or of another server, tenant or operation")
        })
    }

    /// The cursor to give to the server.
    pub(crate) fn theirs(&self) -> Option<&str> {
        self.theirs.as_deref()
    }

    fn cursor(&self, call: &Invocation<'_>) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{OURS}{}.{}", marked(call, &text), URL_SAFE_NO_PAD.encode(&text))
    }

    /// Where the list goes on: behind the last entry that was given.
    fn begin(&self, entries: &Entries) -> Option<usize> {
        let Some(last) = self.given.checked_sub(1) else {
            return Some(0);
        };
        let is_it = |at: usize| entries.text(at).is_some_and(|text| digest(text) == self.last);
        let at = if is_it(last) { last } else { (0..entries.len()).find(|at| is_it(*at))? };
        Some(at.saturating_add(1))
    }
}

fn digest(text: &str) -> String {
    Digest::of_text(text).short(16).to_owned()
}

/// What binds a place to the list that gave it.
fn marked(call: &Invocation<'_>, text: &str) -> String {
    let operation = call.request.operation.as_str();
    digest(&format!("{}\n{}\n{operation}\n{text}", call.server.id, call.tenant()))
}

fn refused(problem: &str) -> Outcome {
    let text = format!("`arguments.cursor` {problem}. List again without a cursor.");
    Outcome::refused(Code::InvalidArguments, text)
}

/// The outcome of a listing as a record holds it: from its place on, and cut where `fit` says that no record holds it, unless it is
/// `unbounded`. Any other outcome stays as it is.
pub(crate) async fn cut<F, Fut>(call: &Invocation<'_>, outcome: Outcome, unbounded: bool, fit: F) -> Outcome
where
    F: Fn(Outcome) -> Fut + Send + Sync,
    Fut: Future<Output = Option<Outcome>> + Send,
{
    let OperationParams::List { cursor } = call.params else {
        return outcome;
    };
    let place = match Place::of(call, cursor.as_deref()) {
        Ok(place) => place,
        Err(refused) => return refused,
    };
    let is_short = |content: &RawValue| unbounded || content.get().len() <= INLINE_BYTES;
    match outcome.content() {
        Some(content) if outcome.kind == OutcomeKind::Succeeded => {
            if place.given == 0 && (is_short(content) || fit(outcome.clone()).await.is_some()) {
                return outcome;
            }
            part(call, &place, content, unbounded, fit).await.unwrap_or(outcome)
        }
        Some(_) | None => outcome,
    }
}

/// The part from the place on. Nothing where the result has no list in it.
async fn part<F, Fut>(
    call: &Invocation<'_>,
    place: &Place,
    content: &RawValue,
    unbounded: bool,
    fit: F,
) -> Option<Outcome>
where
    F: Fn(Outcome) -> Fut + Send + Sync,
    Fut: Future<Output = Option<Outcome>> + Send,
{
    let entries = Entries::of(content, call.request.operation).ok()?;
    let Some(begin) = place.begin(&entries) else {
        return Some(refused("leads nowhere any more: the server's list has changed since it was given"));
    };
    let rest = Outcome::succeeded(entries.part(begin, entries.len(), None).ok()?);
    if unbounded {
        return Some(rest);
    }
    if let Some(rest) = fit(rest).await {
        return Some(rest);
    }
    let end = entries.end_within(begin, INLINE_BYTES);
    let last = digest(entries.text(end.checked_sub(1)?)?);
    let next = Place { theirs: place.theirs.clone(), given: end, last };
    let next = (end < entries.len()).then(|| next.cursor(call));
    Some(Outcome::succeeded(entries.part(begin, end, next.as_deref()).ok()?))
}
