//! The order of a call: negotiate, send, and one remedy for each kind of refusal.
//!
//! **Invariant:** a call ends by its deadline, and is sent again only after a refusal that proves that nothing ran, where the call is
//! safe to repeat, or where the server asks for the same request again.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until};
use toolfleet_core::failure::RetryClass;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::progress::ProgressNote;
use toolfleet_core::request::Operation;

use crate::answer::{Answer, AnswerKind, kind_beside, same_request_again};
use crate::client::idle_timer::Heard;
use crate::client::remedy::{Refused, Taken};
use crate::client::state::{McpClient, Negotiated, Shared};
use crate::fault::{Fault, NotSentCause};
use crate::tool_call::{Resume, ToolCall, admitted};
use crate::transport::sent::Sent;

/// How often a server may ask for the same request again within one attempt.
const MAX_ROUNDS: u32 = 8;

impl McpClient {
    /// One attempt of `tools/call`, `resources/read`, `prompts/get` or `completion/complete`. It ends by its deadline whatever the server does; dropping
    /// it cancels the call.
    ///
    /// A fault whose [`may_have_run`](Fault::may_have_run) is `No` means that the tool did not run. Time spent on finding
    /// out how to speak to the server counts against the same deadline.
    pub async fn call_tool(&self, call: ToolCall<'_>) -> Result<Answer, Fault> {
        let Some(patience) = call.patience else {
            return self.attempt(&call, sleep_until(call.deadline)).await;
        };
        let heard = Heard::now();
        let listen = |note: ProgressNote| {
            heard.hear(&note);
            if let Some(hear) = call.on_note {
                hear(note);
            }
        };
        let call = ToolCall { on_note: Some(&listen), ..call };
        Box::pin(self.attempt(&call, heard.silence(patience, call.deadline))).await
    }

    async fn attempt(&self, call: &ToolCall<'_>, over: impl Future<Output = ()>) -> Result<Answer, Fault> {
        let begun = Instant::now();
        let sent = Sent::default();
        let mut rounds = Box::pin(self.0.rounds(call, &sent));
        let answer = tokio::select! {
            biased;
            answer = &mut rounds => Some(answer),
            () = over => None,
        };
        match answer {
            Some(Ok(answer)) => answer.without_echo(call.endpoint).await,
            Some(Err(fault)) => Err(call.without_echo(fault)),
            None => {
                // While the request is still known to its program.
                let standing = self.0.standing(call.endpoint, call.conversation);
                let not_sent = sent.give_up();
                drop(rounds);
                Err(call.without_echo(if not_sent {
                    out_of_time(&standing)
                } else {
                    timed_out(begun, standing)
                }))
            }
        }
    }
}

pub(crate) fn out_of_time(standing: &str) -> Fault {
    let standing = if standing.is_empty() { String::new() } else { format!("; {standing}") };
    let detail = format!("the attempt's time was over before a tool call could be sent{standing}");
    Fault::NotSent { detail, cause: NotSentCause::Time }
}

pub(crate) fn timed_out(begun: Instant, detail: String) -> Fault {
    Fault::AttemptTimeout { after_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), detail }
}

impl Shared {
    /// Sends the call, and again where the server answers that it wants nothing but that.
    async fn rounds(&self, call: &ToolCall<'_>, sent: &Sent) -> Result<Answer, Fault> {
        let mut answer = self.call(call, call.resume, sent).await?;
        let mut pause = Duration::from_millis(50);
        for _ in 0..MAX_ROUNDS {
            let again = match answer.kind {
                AnswerKind::InputRequired => same_request_again(&answer.result),
                AnswerKind::Complete
                | AnswerKind::ToolError { .. }
                | AnswerKind::Task(_)
                | AnswerKind::Unknown(_) => None,
            };
            let Some(state) = again else { break };
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(1));
            let resume = Resume { request_state: Some(&state), input_responses: None };
            // The server has begun with the call: what this round did not do, an earlier one may have done.
            sent.keep();
            answer = Box::pin(self.call(call, resume, sent)).await.map_err(after_an_earlier_round)?;
        }
        Ok(answer)
    }

    /// One request, and its repetition after a remedy.
    async fn call(&self, call: &ToolCall<'_>, resume: Resume<'_>, sent: &Sent) -> Result<Answer, Fault> {
        let (begun, mut taken) = (Instant::now(), Taken::default());
        loop {
            let tongue = self.tongue(call.endpoint, call.conversation).await;
            let tongue = tongue.map_err(|fault| after_doubt(fault, sent))?;
            let legacy = match &tongue {
                Negotiated::Legacy(session) => Some(session.version),
                Negotiated::Channel(channel) if !channel.is_modern() => Some(channel.version()),
                Negotiated::Channel(_) | Negotiated::Modern => None,
            };
            if let Some(version) = legacy.filter(|_| !resume.is_none()) {
                let fault = Fault::NotResumable { version: version.to_owned() };
                return Err(after_doubt(fault, sent));
            }
            let mirrored = match call.operation {
                Operation::ToolsCall => self.mirrored.headers(call.endpoint, call.name, call.arguments),
                Operation::ToolsList
                | Operation::ResourcesRead
                | Operation::ResourcesList
                | Operation::ResourceTemplatesList
                | Operation::ResourcesSubscribe
                | Operation::PromptsGet
                | Operation::PromptsList
                | Operation::CompletionComplete => Vec::new(),
            };
            admitted(call.admit).await.map_err(|fault| after_doubt(fault, sent))?;
            let mut error = match self.exchange.call(call, resume, tongue.connection(), mirrored, sent).await
            {
                Ok(result) => return answer(result, tongue).await,
                Err(error) => error,
            };
            if let Negotiated::Legacy(session) = &tongue
                && session.id.is_some()
            {
                error.within_session(session.existed_before(begun));
            }
            if !error.proves_nothing_ran() {
                sent.keep();
            }
            sent.clear();
            let refused = Refused {
                endpoint: call.endpoint,
                conversation: call.conversation,
                tongue: &tongue,
                begun,
                repeatable: call.repeatable,
            };
            let remedied = Box::pin(self.remedy(refused, error, &mut taken)).await;
            remedied.map_err(|fault| after_doubt(fault, sent))?;
        }
    }
}

pub(crate) async fn answer(result: Box<RawValue>, tongue: Negotiated) -> Result<Answer, Fault> {
    let (kind, result) = kind_beside(result).await;
    Ok(answered(kind?, result, tongue))
}

pub(crate) fn answered(kind: AnswerKind, result: Box<RawValue>, tongue: Negotiated) -> Answer {
    let protocol_version = tongue.version().to_owned();
    let mcp_session = match tongue {
        Negotiated::Modern | Negotiated::Channel(_) => None,
        Negotiated::Legacy(session) => session.id.map(|id| id.to_string()),
    };
    Answer { kind, result, protocol_version, mcp_session }
}

/// The fault of a repetition, where the request before it may have run the tool.
fn after_doubt(fault: Fault, sent: &Sent) -> Fault {
    if sent.was_kept() { after_an_earlier_round(fault) } else { fault }
}

/// A fault of a later round, which can no longer say that the tool has not run.
fn after_an_earlier_round(fault: Fault) -> Fault {
    match (fault.retry_class(), fault.may_have_run()) {
        (RetryClass::NotExecuted | RetryClass::Pause { .. }, MayHaveRun::No) => {
            Fault::AnswerLost { detail: fault.to_string() }
        }
        (RetryClass::Permanent, MayHaveRun::No) => Fault::InvalidAnswer { detail: fault.to_string() },
        (
            RetryClass::Permanent
            | RetryClass::Ambiguous
            | RetryClass::NotExecuted
            | RetryClass::Pause { .. },
            _,
        ) => fault,
    }
}
