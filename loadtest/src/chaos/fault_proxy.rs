//! The faulty proxy between the workers and an AWS endpoint: refuses, throttles and loses answers, doubles and delays messages, and withholds those
//! that kill their worker.
//!
//! **Invariant:** a fault is counted when it is injected, and the calls whose rows it concerns are entered in [`Writes`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::io::{self, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deadly::Deadly;
use super::redelivery::Redelivery;
use super::throttle::{self, Throttled};
use super::writes::{Answered, Writes};
use crate::flow::server::micros;
use crate::proxy::{Head, Side, closed, forward_rest, read_body};

/// A worker is killed within so long after it has received a message that kills it; one that cannot be, since it is frozen or leaves, loses the
/// answer.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// How many of a thousand requests a fault takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Answered 500, and not forwarded.
    pub(crate) failed: u32,
    /// Refused as throttled: as a whole, or some statements of a batch.
    pub(crate) throttled: u32,
    /// Refused because the worker's credentials are said to have expired, and not forwarded.
    pub(crate) expired: u32,
    /// Forwarded, and the answer is lost.
    pub(crate) lost: u32,
    /// Received messages that are delivered twice, and others that are delivered late.
    pub(crate) redelivered: u32,
}

/// The counts that a run must have of each endpoint: SQS is never throttled, and of the bucket only its absence is injected.
pub(crate) const OF_DYNAMODB: [&str; 4] = [FAILED, THROTTLED, STATEMENTS, LOST];
pub(crate) const OF_SQS: [&str; 5] = [FAILED, EXPIRED, LOST, TWICE, LATE];
pub(crate) const OF_S3: [&str; 1] = [REFUSED];
const FAILED: &str = "requests answered 500";
const THROTTLED: &str = "requests throttled";
const STATEMENTS: &str = "statements throttled in a batch";
const EXPIRED: &str = "requests refused for expired credentials";
const LOST: &str = "answers lost";
const TWICE: &str = "messages delivered twice";
const LATE: &str = "messages delivered late and out of order";
pub(crate) const REFUSED: &str = "connections refused while it is away";

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Forward,
    Fail,
    Throttle,
    Expire,
    Lose,
}

/// A faulty proxy on 127.0.0.1. Dropping it stops it.
pub(crate) struct FaultProxy {
    pub(crate) url: String,
    state: Arc<State>,
    _connections: JoinSet<()>,
}

struct State {
    upstream: String,
    writes: Arc<Writes>,
    /// When the servers' clock was 0.
    start: Instant,
    rates: Mutex<Rates>,
    rng: Mutex<Rng>,
    redelivery: Mutex<Redelivery>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    deadly: Deadly,
    /// Whether it refuses every connection.
    away: watch::Sender<bool>,
}

impl FaultProxy {
    /// Starts a proxy in front of an endpoint such as `http://127.0.0.1:9324`.
    pub(crate) async fn start(
        upstream: &str,
        seed: u64,
        writes: Arc<Writes>,
        start: Instant,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port for a faulty proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State {
            upstream: upstream.trim_start_matches("http://").trim_end_matches('/').to_owned(),
            writes,
            start,
            rates: Mutex::default(),
            rng: Mutex::new(Rng::with_seed(seed)),
            redelivery: Mutex::default(),
            counts: Mutex::default(),
            deadly: Deadly::default(),
            away: watch::Sender::new(false),
        });
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, state.clone()));
        Ok(Self { url, state, _connections: connections })
    }

    /// The faults from now on.
    pub(crate) fn set_rates(&self, rates: Rates) {
        *lock(&self.state.rates) = rates;
    }

    /// Makes the endpoint unreachable, or reachable again.
    pub(crate) fn set_away(&self, away: bool) {
        self.state.away.send_replace(away);
    }

    /// The messages that kill.
    pub(crate) fn deadly(&self) -> Deadly {
        self.state.deadly.clone()
    }

    /// How often each fault was injected.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.state.counts).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut carrying = JoinSet::new();
    loop {
        while carrying.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else { continue };
        if *state.away.borrow() {
            state.count(REFUSED);
            // If it fails the connection is closed instead, which clients treat alike.
            let _ignored = client.set_zero_linger();
            continue;
        }
        let state = state.clone();
        carrying.spawn(async move {
            let mut away = state.away.subscribe();
            tokio::select! {
                // Either side may close at any time; the other one is closed with it.
                _closed = carry(client, &state) => {}
                // The sender lives as long as the proxy.
                _away = away.wait_for(|away| *away) => state.count("connections cut when it went away"),
            }
        });
    }
}

async fn carry(client: TcpStream, state: &State) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    let mut server: Option<Side> = None;
    while let Some(head) = Head::read(&mut client).await? {
        let Some(length) = head.length else {
            return forward_rest(head, client, connect(&state.upstream).await?).await;
        };
        let body = read_body(&mut client, length).await?;
        let verdict = state.judge(&head.operation);
        let throttled = match verdict {
            Verdict::Throttle => throttle::split(&body, &mut lock(&state.rng)),
            Verdict::Forward | Verdict::Fail | Verdict::Expire | Verdict::Lose => None,
        };
        if verdict == Verdict::Fail {
            state.fail(FAILED, &head, &body);
            client.write_all(&answer_of(500, "InternalServerError")).await?;
            continue;
        }
        if verdict == Verdict::Expire {
            state.fail(EXPIRED, &head, &body);
            client.write_all(&answer_of(400, "ExpiredToken")).await?;
            continue;
        }
        if verdict == Verdict::Throttle && throttled.is_none() {
            state.fail(THROTTLED, &head, &body);
            client.write_all(&answer_of(400, throttle::WHOLE)).await?;
            continue;
        }
        let mut forwarding = Forwarding { client: &mut client, server: &mut server, state };
        let answer = match forwarding.forward(&head, &body, throttled).await {
            Ok(Some(answer)) => answer,
            ended @ (Ok(None) | Err(_)) => {
                // The endpoint was killed, or the worker: nobody knows what became of the request.
                state.not_written(&head, &body);
                return ended.map(|_nothing| ());
            }
        };
        if verdict == Verdict::Lose {
            state.fail(LOST, &head, &body);
            return Ok(());
        }
        match answer {
            Forwarded::Answer(answer) => client.write_all(&answer).await?,
            Forwarded::Deadly => {
                state.deadly.strike(head.application);
                let _killed = tokio::time::timeout(KILLED_WITHIN, closed(&mut client)).await;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn connect(upstream: &str) -> io::Result<Side> {
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    Ok(BufReader::new(server))
}

/// What comes back for a request.
enum Forwarded {
    Answer(Vec<u8>),
    /// A message that kills the worker.
    Deadly,
}

/// The connections over which a request goes on.
struct Forwarding<'a> {
    client: &'a mut Side,
    server: &'a mut Option<Side>,
    state: &'a State,
}

impl Forwarding<'_> {
    /// Forwards a request and returns the whole answer; none if a side closed its connection.
    async fn forward(
        &mut self,
        head: &Head,
        body: &[u8],
        throttled: Option<Throttled>,
    ) -> io::Result<Option<Forwarded>> {
        let state = self.state;
        let server = match self.server {
            Some(server) => server,
            None => self.server.insert(connect(&state.upstream).await?),
        };
        let sent = throttled.as_ref().map_or(body, |throttled| throttled.kept.as_slice());
        if let Some(throttled) = &throttled {
            state.add(STATEMENTS, throttled.refused.len());
            let (worker, now_us) = (&head.application, state.now_us());
            let failed = |statement: &String| state.writes.statement_failed(worker, statement, now_us);
            throttled.refused.iter().for_each(failed);
        }
        let sent_us = state.now_us();
        state.writes.forwards(&head.application, sent, sent_us);
        server.write_all(&[head.with_length(sent.len()).as_bytes(), sent].concat()).await?;
        let answer = tokio::select! {
            answer = Head::read(server) => answer?,
            () = closed(self.client) => return Ok(None),
        };
        let Some(answer) = answer else { return Ok(None) };
        let Some(length) = answer.length else { return Err(io::ErrorKind::Unsupported.into()) };
        let got = read_body(server, length).await?;
        let (worker, now_us) = (head.application.as_str(), state.now_us());
        state.writes.answered(Answered { worker, request: sent, answer: &got, sent_us, now_us });
        let got = match throttled {
            Some(throttled) => throttled.merge(&got),
            None if head.operation == "ReceiveMessage" => {
                let got = state.redeliver(body, got);
                match state.deadly.without(body, got) {
                    Some(got) => got,
                    None => return Ok(Some(Forwarded::Deadly)),
                }
            }
            None => got,
        };
        let got = [answer.with_length(got.len()).as_bytes(), &got].concat();
        Ok(Some(Forwarded::Answer(got)))
    }
}

/// An error as the JSON protocols of DynamoDB and SQS have it.
fn answer_of(status: u16, error: &str) -> Vec<u8> {
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{error}"), "message": "injected"});
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Injected\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

impl State {
    fn now_us(&self) -> u64 {
        micros(self.start.elapsed())
    }

    fn judge(&self, operation: &str) -> Verdict {
        let Rates { failed, throttled, expired, lost, .. } = *lock(&self.rates);
        // A long poll whose answer is lost hides its messages, as on a real network.
        let drawn = lock(&self.rng).u32(..1_000);
        let bounds = [
            (failed, Verdict::Fail),
            (throttled, Verdict::Throttle),
            (expired, Verdict::Expire),
            (lost, Verdict::Lose),
        ];
        let mut least = 0;
        for (share, verdict) in bounds {
            least += share;
            if drawn < least && !(verdict == Verdict::Throttle && operation == "TransactWriteItems") {
                return verdict;
            }
        }
        Verdict::Forward
    }

    /// Changes the answer to a receive: some messages come twice, some later, and all in another order.
    fn redeliver(&self, request: &[u8], answer: Vec<u8>) -> Vec<u8> {
        let share = lock(&self.rates).redelivered;
        let mut redelivery = lock(&self.redelivery);
        if share == 0 && redelivery.is_empty() {
            return answer;
        }
        let (Ok(request), Ok(mut changed)) =
            (serde_json::from_slice::<Value>(request), serde_json::from_slice::<Value>(&answer))
        else {
            return answer;
        };
        let done = redelivery.apply(&request, &mut changed, share, &mut lock(&self.rng), Instant::now());
        self.add(TWICE, done.doubled);
        self.add(LATE, done.late);
        changed.to_string().into_bytes()
    }

    fn fail(&self, what: &'static str, head: &Head, request: &[u8]) {
        self.count(what);
        self.not_written(head, request);
    }

    /// Enters the rows of a request whose effect its sender does not know. A read has none.
    fn not_written(&self, head: &Head, request: &[u8]) {
        if !matches!(head.operation.as_str(), "GetItem" | "BatchGetItem" | "Query") {
            self.writes.failed(&head.application, request, self.now_us());
        }
    }

    fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&self, what: &'static str, times: usize) {
        if times > 0 {
            *lock(&self.counts).entry(what).or_default() += u64::try_from(times).unwrap_or(u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::super::writes::SentBy;
    use super::*;

    const WRITE: &str =
        r#"{"Statements":[{"Statement":"UPDATE \"toolfleet-calls\"","Parameters":[{"S":"t#chaos-1-1"}]}]}"#;

    async fn proxy(upstream: &TcpListener) -> FaultProxy {
        let url = format!("http://{}", upstream.local_addr().unwrap());
        FaultProxy::start(&url, 1, Arc::default(), Instant::now()).await.unwrap()
    }

    async fn send(proxy: &FaultProxy) -> TcpStream {
        let mut client = TcpStream::connect(proxy.url.trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nuser-agent: aws-sdk-rust app/w\r\nx-amz-target: D.BatchExecuteStatement\r\ncontent-length: {}\r\n\r\n{WRITE}",
            WRITE.len()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        client
    }

    /// Answers one request upstream.
    async fn answer(upstream: &TcpListener) -> TcpStream {
        let (mut server, _) = upstream.accept().await.unwrap();
        let mut got = vec![0; 1_024];
        while server.read(&mut got).await.unwrap() == got.len() {}
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        server
    }

    async fn whole(mut client: TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Whether the write of the call that its worker had sent is known to have failed.
    fn is_cut(proxy: &FaultProxy) -> bool {
        let sent = SentBy { worker: "w".into(), at_us: 0 };
        proxy.state.writes.take()["chaos-1-1"].is_cut(&[], &[sent])
    }

    #[tokio::test]
    async fn a_failed_request_is_not_forwarded_and_its_call_is_known() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = proxy(&upstream).await;
        proxy.set_rates(Rates { failed: 1_000, ..Rates::default() });
        let mut client = send(&proxy).await;
        client.shutdown().await.unwrap();
        assert!(whole(client).await.starts_with("HTTP/1.1 500 Injected"));
        assert_eq!(proxy.counts()["requests answered 500"], 1);
        assert!(is_cut(&proxy));
    }

    #[tokio::test]
    async fn a_lost_answer_closes_the_connection_after_the_effect() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = proxy(&upstream).await;
        proxy.set_rates(Rates { lost: 1_000, ..Rates::default() });
        let client = send(&proxy).await;
        let _server = answer(&upstream).await;
        assert_eq!(whole(client).await, "");
        assert_eq!(proxy.counts()["answers lost"], 1);
        assert!(is_cut(&proxy));
    }

    #[tokio::test]
    async fn an_endpoint_that_is_away_cuts_connections_and_refuses_new_ones() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = proxy(&upstream).await;
        let client = send(&proxy).await;
        let (_server, _) = upstream.accept().await.unwrap();
        proxy.set_away(true);
        assert_eq!(whole(client).await, "");
        let mut refused = send(&proxy).await;
        assert!(!matches!(refused.read(&mut [0]).await, Ok(1..)));
        assert_eq!(proxy.counts()[REFUSED], 1);
        proxy.set_away(false);
        let client = send(&proxy).await;
        let _server = answer(&upstream).await;
        let mut back = [0; 12];
        BufReader::new(client).read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"HTTP/1.1 200");
    }
}
