//! What a check found, and what to do about it.

use serde_json::{Value, json};

/// Where each check is explained; its heading is the check's id.
const PAGE: &str = "docs/reference/doctor.md";

/// What deploys the stack that has queues, tables and the bucket.
pub(super) const DEPLOY: &str = "aws cloudformation deploy --stack-name toolfleet --template-file infra/cloudformation/data.yaml --capabilities CAPABILITY_IAM";

/// Something that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Check {
    /// Which fleet is meant.
    FleetChosen,
    /// A queue answers.
    QueueAnswers,
    /// A queue of calls gives messages up late enough, to a dead-letter queue.
    QueueRedrives,
    /// Messages of a queue are encrypted.
    QueueEncrypted,
    /// A queue hides a message for as long as an invocation of Lambda takes.
    InvocationsHidden,
    /// No dead letters wait for an operator.
    DeadLetters,
    /// A table answers.
    TableAnswers,
    /// A table has its indexes, and its rows end.
    TableSetUp,
    /// A table can be recovered, is encrypted by a key that can be withdrawn, and is not deleted by mistake.
    TableProtected,
    /// The bucket of payloads answers.
    BucketAnswers,
    /// Its objects end, and not before their rows.
    ObjectsEnd,
    /// Workers run.
    WorkersRun,
    /// No worker died lately.
    WorkersAlive,
    /// All workers run one version.
    WorkersOneVersion,
    /// The clocks of workers and this machine agree.
    ClocksAgree,
    /// Each worker knows what operators have set.
    SwitchesRead,
    /// The role of workers allows what they do.
    WorkersAllowed,
    /// No breaker is open.
    ServersAnswer,
    /// No limit holds more calls back than it lets through.
    LimitsKeepUp,
    /// No operator has paused anything.
    NothingPaused,
    /// The catalog can be read.
    CatalogReads,
    /// Each entry of the catalog can be executed.
    EntriesExecutable,
    /// Each secret that its servers name can be read.
    SecretsRead,
    /// Each server of the catalog lists its tools.
    ServersList,
    /// Lambda would invoke each function.
    FunctionsInvocable,
    /// The address of each HTTP interface answers.
    InterfacesAnswer,
    /// Each queue of notices answers.
    RepliesAnswer,
}

impl Check {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 27] = [
        Self::FleetChosen,
        Self::QueueAnswers,
        Self::QueueRedrives,
        Self::QueueEncrypted,
        Self::InvocationsHidden,
        Self::DeadLetters,
        Self::TableAnswers,
        Self::TableSetUp,
        Self::TableProtected,
        Self::BucketAnswers,
        Self::ObjectsEnd,
        Self::WorkersRun,
        Self::WorkersAlive,
        Self::WorkersOneVersion,
        Self::ClocksAgree,
        Self::SwitchesRead,
        Self::WorkersAllowed,
        Self::ServersAnswer,
        Self::LimitsKeepUp,
        Self::NothingPaused,
        Self::CatalogReads,
        Self::EntriesExecutable,
        Self::SecretsRead,
        Self::ServersList,
        Self::FunctionsInvocable,
        Self::InterfacesAnswer,
        Self::RepliesAnswer,
    ];

    /// The heading under which it is printed.
    pub(super) const fn group(self) -> &'static str {
        match self {
            Self::FleetChosen => "fleet",
            Self::QueueAnswers
            | Self::QueueRedrives
            | Self::QueueEncrypted
            | Self::InvocationsHidden
            | Self::DeadLetters => "queues",
            Self::TableAnswers | Self::TableSetUp | Self::TableProtected => "tables",
            Self::BucketAnswers | Self::ObjectsEnd => "payloads",
            Self::WorkersRun
            | Self::WorkersAlive
            | Self::WorkersOneVersion
            | Self::ClocksAgree
            | Self::SwitchesRead
            | Self::WorkersAllowed => "workers",
            Self::ServersAnswer | Self::LimitsKeepUp => "servers",
            Self::NothingPaused => "switches",
            Self::CatalogReads
            | Self::EntriesExecutable
            | Self::SecretsRead
            | Self::ServersList
            | Self::FunctionsInvocable
            | Self::InterfacesAnswer
            | Self::RepliesAnswer => "catalog",
        }
    }

    /// Its id, a heading of its page.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::FleetChosen => "fleet-chosen",
            Self::QueueAnswers => "queue-answers",
            Self::QueueRedrives => "queue-redrives",
            Self::QueueEncrypted => "queue-encrypted",
            Self::InvocationsHidden => "invocations-hidden",
            Self::DeadLetters => "dead-letters",
            Self::TableAnswers => "table-answers",
            Self::TableSetUp => "table-set-up",
            Self::TableProtected => "table-protected",
            Self::BucketAnswers => "bucket-answers",
            Self::ObjectsEnd => "objects-end",
            Self::WorkersRun => "workers-run",
            Self::WorkersAlive => "workers-alive",
            Self::WorkersOneVersion => "workers-one-version",
            Self::ClocksAgree => "clocks-agree",
            Self::SwitchesRead => "switches-read",
            Self::WorkersAllowed => "workers-allowed",
            Self::ServersAnswer => "servers-answer",
            Self::LimitsKeepUp => "limits-keep-up",
            Self::NothingPaused => "nothing-paused",
            Self::CatalogReads => "catalog-reads",
            Self::EntriesExecutable => "entries-executable",
            Self::SecretsRead => "secrets-read",
            Self::ServersList => "servers-list",
            Self::FunctionsInvocable => "functions-invocable",
            Self::InterfacesAnswer => "interfaces-answer",
            Self::RepliesAnswer => "replies-answer",
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and an operator should look at it.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "look",
            Self::Failed => "FAILED",
        }
    }
}

/// What one check found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: Check,
    /// What was looked at, such as a queue's name.
    subject: String,
    pub(super) verdict: Verdict,
    text: String,
    /// A command.
    remedy: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub(super) fn ok(check: Check, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), verdict: Verdict::Ok, text: text.into(), remedy: None }
    }

    /// An operator should look at it, with that command.
    pub(super) fn warning(
        check: Check,
        subject: impl Into<String>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self { check, subject: subject.into(), verdict: Verdict::Warning, text: text.into(), remedy }
    }

    /// It does not work; that command is the remedy, or shows more.
    pub(super) fn failed(
        check: Check,
        subject: impl Into<String>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(check, subject, text, remedy) }
    }

    /// The same as a finding of another check.
    #[must_use]
    pub(super) fn under(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// The lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("  {:<7} {}: {}", self.verdict.word(), self.subject, self.text)];
        if let Some(remedy) = &self.remedy {
            lines.push(format!("          do:  {remedy}"));
            lines.push(format!("          see: {PAGE}#{}", self.check.id()));
        }
        lines
    }

    /// The same as JSON.
    pub(super) fn document(&self) -> Value {
        json!({
            "group": self.check.group(), "check": self.check.id(), "subject": self.subject, "verdict": self.verdict.word().to_lowercase(),
            "text": self.text, "remedy": self.remedy, "see": format!("{PAGE}#{}", self.check.id()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_explained_on_its_page() {
        let page = include_str!("../../../../../docs/reference/doctor.md");
        let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        assert_eq!(headings, Check::ALL.map(Check::id), "the headings of {PAGE}, in the order of the checks");
    }

    #[test]
    fn what_fails_has_a_remedy_and_a_place_to_read() {
        let finding = Finding::failed(Check::WorkersRun, "workers", "none runs", "toolfleet-worker");
        let lines = finding.lines().join("\n");
        for part in [
            "FAILED  workers: none runs",
            "do:  toolfleet-worker",
            "see: docs/reference/doctor.md#workers-run",
        ] {
            assert!(lines.contains(part), "{lines}");
        }
    }
}
