//! Owns the order of a call: learn the generation and have a session (`tongue`), send, and the one remedy that each refusal allows
//! (`remedy`).
//!
//! **Invariant:** a call ends by its deadline, and is sent again only after a refusal that proves that nothing ran, or where its
//! server asks for just that.

mod cut;
mod listing;
mod options;
mod remedy;
mod tasks;
mod tongue;
mod tool_list;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use toolfleet_core::credential::{Credential, Template};
use toolfleet_core::fault::{Fault, NotSentCause, RetryClass};
use toolfleet_core::ids::Tenant;
use toolfleet_core::message::Operation;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::progress::ProgressNote;
use url::Url;

pub use cut::Entries;
pub use options::ClientOptions;
use remedy::{Refused, Taken};
pub use tasks::{TaskHandle, TaskQuestion, TaskState};
pub(crate) use tasks::{asking_task, handle_in};

use crate::answer::{Answer, AnswerKind, kind_beside, same_request_again};
use crate::endpoint::{Endpoint, Resume, ToolCall};
use crate::era::RevisionCache;
use crate::exchange::Exchange;
use crate::patience::Heard;
use crate::register::{OpenSession, SessionStore};
use crate::session::{Session, Sessions};
use crate::stdio::{Greeter, Lease, Limits, Pool};
use crate::stream::SIDE_REQUEST_TIMEOUT;
use crate::tools::Mirrored;
use crate::transport::{Connection, Sent, Transport};
use crate::wire::{ClientInfo, MODERN};
use crate::wrong_address::WrongAddresses;
use toolfleet_credentials::{Auth, AuthSite, Keyring, TokenHttpClient};
use toolfleet_egress::{BuildError, HttpClients};

/// How often a server may ask for the same request again within one attempt.
const MAX_ROUNDS: u32 = 8;

/// The MCP client. Clones share connections and everything learned.
#[derive(Debug, Clone)]
pub struct McpClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    exchange: Exchange,
    eras: RevisionCache,
    wrong_addresses: WrongAddresses,
    sessions: Sessions,
    children: Pool,
    register: Option<Arc<dyn SessionStore>>,
    mirrored: Mirrored,
    cognito_endpoint: Option<Url>,
}

/// How a server is spoken to.
#[derive(Debug)]
enum Negotiated {
    Modern,
    Legacy(Session),
    Child(Lease),
}

impl Negotiated {
    fn connection(&self) -> Connection<'_> {
        match self {
            Self::Modern => Connection::Modern,
            Self::Legacy(session) => Connection::Legacy(session),
            Self::Child(child) => Connection::Child(child),
        }
    }

    fn version(&self) -> &'static str {
        match self {
            Self::Modern => MODERN,
            Self::Legacy(session) => session.version,
            Self::Child(child) => child.version(),
        }
    }
}

impl McpClient {
    /// A client with its own connections and caches.
    pub fn new(options: ClientOptions) -> Result<Self, BuildError> {
        let clients = Arc::new(HttpClients::new(options.http())?);
        let info = ClientInfo { name: options.client_name, version: options.client_version };
        let limits = Limits {
            max_children: options.max_children,
            idle: options.child_idle,
            start_within: options.child_start,
            max_line_bytes: options.max_body_bytes,
        };
        let max_body_bytes = options.max_body_bytes;
        let transport = Transport { clients, info: info.clone(), max_body_bytes };
        let exchange = Exchange::new(transport);
        let greeter = Greeter { info, ids: Arc::clone(&exchange.ids) };
        Ok(Self(Arc::new(Shared {
            exchange,
            children: Pool::new(limits, greeter),
            eras: RevisionCache::new(options.era_ttl),
            wrong_addresses: WrongAddresses::default(),
            sessions: Sessions::new(options.max_sessions),
            register: options.register,
            mirrored: Mirrored::default(),
            cognito_endpoint: options.cognito_endpoint,
        })))
    }

    /// The credential that a catalog describes for a server, with the headers that go along. Nothing is read yet.
    pub fn auth(
        &self,
        credential: &Credential,
        headers: impl IntoIterator<Item = (String, Template)>,
        server: &Url,
        keyring: Arc<dyn Keyring>,
    ) -> Auth {
        let transport = &self.0.exchange.transport;
        let clients = &transport.clients;
        let http = TokenHttpClient { http: clients.plain().clone(), policy: Arc::clone(clients.policy()) };
        let cognito_endpoint = self.0.cognito_endpoint.clone();
        Auth::new(credential, headers, AuthSite { server, http, cognito_endpoint }, keyring)
    }

    /// One attempt of `tools/call`, `resources/read` or `prompts/get`. It ends by its deadline whatever the server does; dropping
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

    /// Ends the conversation's session at the server, as far as it can be reached.
    pub async fn end_conversation(&self, endpoint: &Endpoint, conversation: &str) {
        self.0.children.end(&endpoint.server, endpoint.tenant.as_ref(), conversation);
        let end = async {
            if let Some(session) = self.0.sessions.take(endpoint, conversation).await
                && session.id.is_some()
            {
                self.0.exchange.transport.delete(endpoint, &session).await;
            }
        };
        let _ = timeout(SIDE_REQUEST_TIMEOUT, end).await;
    }

    /// Ends a session of the conversation that some client of the fleet has opened, as far as the server can be reached.
    pub async fn end_session(&self, endpoint: &Endpoint, conversation: &str, open: &OpenSession) {
        let end = async {
            let ours = self.0.sessions.take(endpoint, conversation).await;
            let theirs = self.0.exchange.resumed(open);
            let same = |a: &Session, b: &Session| a.id == b.id;
            if let Some(ours) = ours
                .filter(|ours| ours.id.is_some() && theirs.as_ref().is_none_or(|theirs| !same(ours, theirs)))
            {
                self.0.exchange.transport.delete(endpoint, &ours).await;
            }
            if let Some(theirs) = theirs {
                self.0.exchange.transport.delete(endpoint, &theirs).await;
            }
        };
        let _ = timeout(SIDE_REQUEST_TIMEOUT, end).await;
    }

    /// The conversations that this client has sessions or programs of, each once.
    pub fn conversations(&self) -> BTreeSet<(Tenant, String)> {
        let mut all = self.0.sessions.conversations();
        all.append(&mut self.0.children.conversations());
        all
    }

    /// What is known of a program whose answer did not come in time: how long it has been starting, and its last lines of stderr. Empty where
    /// nothing is.
    pub fn standing(&self, endpoint: &Endpoint, conversation: Option<&str>) -> String {
        self.0.standing(endpoint, conversation)
    }

    /// How many servers that are programs run.
    pub fn programs(&self) -> usize {
        self.0.children.count()
    }

    /// Ends all programs, and waits a few seconds at most until nothing of them is left. None is started any more.
    pub async fn close(&self) {
        self.0.children.close().await;
    }

    /// Forgets a conversation that is over.
    pub fn forget_conversation(&self, tenant: &Tenant, conversation: &str) {
        self.0.sessions.forget_all(tenant, conversation);
        self.0.children.end_conversation(tenant, conversation);
    }
}

fn out_of_time(standing: &str) -> Fault {
    let standing = if standing.is_empty() { String::new() } else { format!("; {standing}") };
    let detail = format!("the attempt's time was over before a tool call could be sent{standing}");
    Fault::NotSent { detail, cause: NotSentCause::Time }
}

fn timed_out(begun: Instant, detail: String) -> Fault {
    Fault::AttemptTimeout { after_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), detail }
}

impl Shared {
    /// What is known of a server that is a program, for a call whose time is over.
    fn standing(&self, endpoint: &Endpoint, conversation: Option<&str>) -> String {
        if endpoint.program.is_none() {
            return String::new();
        }
        self.children.standing(endpoint, conversation)
    }

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
            if let Negotiated::Legacy(session) = &tongue
                && !resume.is_none()
            {
                let fault = Fault::NotResumable { version: session.version.to_owned() };
                return Err(after_doubt(fault, sent));
            }
            let mirrored = match call.operation {
                Operation::ToolsCall => self.mirrored.headers(call.endpoint, call.name, call.arguments),
                Operation::ToolsList
                | Operation::ResourcesRead
                | Operation::ResourcesList
                | Operation::PromptsGet
                | Operation::PromptsList => Vec::new(),
            };
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

async fn answer(result: Box<RawValue>, tongue: Negotiated) -> Result<Answer, Fault> {
    let (kind, result) = kind_beside(result).await;
    Ok(answered(kind?, result, tongue))
}

fn answered(kind: AnswerKind, result: Box<RawValue>, tongue: Negotiated) -> Answer {
    let protocol_version = tongue.version().to_owned();
    let mcp_session = match tongue {
        Negotiated::Modern | Negotiated::Child(_) => None,
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
