//! All that the screens of a fleet show, read once: the queues, what operators have set, and the summary of the workers.

use toolfleet_aws::AwsError;
use toolfleet_core::control::ControlEntry;
use toolfleet_core::fleet::{FleetSummary, LimitPart, LimitSeen, OTHER_LIMITS, QueueSeen};
use toolfleet_core::limits::LimitKey;
use toolfleet_core::time::Timestamp;

use crate::client::Client;
use crate::queue_depths::QueueDepth;

/// The fleet as it was read.
#[derive(Debug, Clone)]
pub struct FleetView {
    /// The queues of calls and their dead-letter queues.
    pub queues: Vec<QueueDepth>,
    /// What operators have set.
    pub entries: Vec<ControlEntry>,
    /// None where no worker has ever reported.
    pub summary: Option<FleetSummary>,
    /// When it was read.
    pub read_at: Timestamp,
}

/// A limit of the fleet: its text, its part, its value, who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitShown {
    /// The limit's text, such as `server:crm`; none for the sum of those that are not listed.
    pub key: Option<(String, LimitPart)>,
    /// What it did to calls.
    pub seen: LimitSeen,
    /// The operator who changed it live; none where the catalog's value holds.
    pub by: Option<String>,
}

impl FleetView {
    /// Reads it.
    ///
    /// # Errors
    /// A queue or the fleet table failed.
    pub async fn read(client: &Client) -> Result<Self, AwsError> {
        let controls = client.controls();
        // Three requests at once are kilobytes of state.
        let reads =
            Box::pin(async { futures::try_join!(client.depths(), controls.entries(), client.summary()) });
        let (queues, entries, summary) = reads.await?;
        Ok(Self { queues, entries, summary, read_at: (client.now)() })
    }

    /// What the workers saw of a queue.
    pub fn seen_of(&self, queue: &QueueDepth) -> Option<QueueSeen> {
        self.summary.as_ref()?.queues.get(&queue.name).copied()
    }

    /// All limits, those that made calls wait first.
    pub fn limits(&self) -> Vec<LimitShown> {
        self.summary.as_ref().map_or_else(Vec::new, |summary| limits(summary, &self.entries))
    }
}

/// All limits, those that made calls wait first. What operators have set a moment ago, the summary does not know yet.
pub fn limits(summary: &FleetSummary, entries: &[ControlEntry]) -> Vec<LimitShown> {
    let mut listed: std::collections::BTreeMap<String, LimitShown> = summary
        .limits
        .iter()
        .map(|(name, seen)| {
            let key = LimitPart::split(name).map(|(key, part)| (key.to_owned(), part));
            (name.clone(), LimitShown { key, seen: seen.clone(), by: None })
        })
        .collect();
    for entry in entries {
        let ControlEntry::Limit { limit, change, by, .. } = entry else { continue };
        let limit = LimitKey::stored(limit).map_or_else(|_| limit.clone(), |key| key.to_string());
        let rate = change.rate.map(|rate| (LimitPart::Rate, rate.to_string()));
        let most = change.concurrency.map(|most| (LimitPart::Concurrency, most.to_string()));
        for (part, value) in rate.into_iter().chain(most) {
            let key = Some((limit.clone(), part));
            let new = LimitShown { key, seen: LimitSeen::idle(None), by: None };
            let shown = listed.entry(part.of(&limit)).or_insert(new);
            (shown.seen.value, shown.by) = (Some(value), Some(by.clone()));
        }
    }
    let mut all: Vec<_> = listed.into_iter().collect();
    all.sort_by_key(|(name, shown)| {
        (std::cmp::Reverse(shown.seen.times()), name == OTHER_LIMITS, name.clone())
    });
    all.into_iter().map(|(_, shown)| shown).collect()
}

impl LimitShown {
    /// What is limited.
    pub fn target(&self) -> String {
        match &self.key {
            Some((key, LimitPart::Rate | LimitPart::Concurrency | LimitPart::Adaptive)) => {
                LimitKey::name_of(key)
            }
            Some((key, LimitPart::RetryBudget)) => format!("{} retries", LimitKey::name_of(key)),
            None => "limits not listed".to_owned(),
        }
    }

    /// How much is allowed.
    pub fn value(&self) -> String {
        let value = self.seen.value.clone();
        match self.key.as_ref().map(|(_, part)| part) {
            Some(LimitPart::Rate) => value.unwrap_or_else(|| "rate".to_owned()),
            Some(LimitPart::Concurrency) => {
                value.map_or_else(|| "concurrency".to_owned(), |most| format!("{most} at once"))
            }
            Some(LimitPart::Adaptive) => "adaptive".to_owned(),
            Some(LimitPart::RetryBudget) => "a fifth".to_owned(),
            None => "-".to_owned(),
        }
    }

    /// Whose calls met it most, with how often.
    pub fn tenants(&self) -> String {
        let mut tenants: Vec<_> = self.seen.tenants.iter().collect();
        tenants.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        tenants.into_iter().map(|(tenant, times)| format!("{tenant} {times}")).collect::<Vec<_>>().join(", ")
    }

    /// What it did to calls in the last five minutes, as a sentence.
    pub fn sentence(&self) -> String {
        let LimitSeen { waited, requeued, late, .. } = self.seen;
        let some = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let counts = [some(waited, "waited"), some(requeued, "went back"), some(late, "sent late")];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        let tenants =
            if self.seen.tenants.is_empty() { String::new() } else { format!(" ({})", self.tenants()) };
        let value = if self.key.is_some() { format!(" {}", self.value()) } else { String::new() };
        format!("{}{value}: {}{tenants}", self.target(), counts.join(", "))
    }
}
