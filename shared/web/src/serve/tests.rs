use axum::response::sse::{Event, Sse};
use axum::routing::get;
use futures::stream::{self, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::timed_stream::{HEAD_TIME_OUT, WRITE_TIME_OUT};

const IDLE: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(5);
const BOUNDS: Bounds = Bounds { connections: 2, idle: IDLE, keep_alive: true, drain: DRAIN };
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Connections in memory, so that time can be paused.
struct Dialled(UnboundedReceiver<DuplexStream>);

impl Listener for Dialled {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Served {
    dial: UnboundedSender<DuplexStream>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    fn start(routes: Router) -> Self {
        Self::within(routes, BOUNDS)
    }

    fn within(routes: Router, bounds: Bounds) -> Self {
        let (dial, dialled) = unbounded_channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(serve_on(Dialled(dialled), routes, bounds, stopped));
        Self { dial, stop, serving }
    }

    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(1_024);
        self.dial.send(far).unwrap();
        near
    }
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

async fn ask(stream: &mut DuplexStream) {
    stream.write_all(GET).await.unwrap();
    assert!(read_until(stream, "hello").await.starts_with("HTTP/1.1 200"));
}

async fn read_until(stream: &mut DuplexStream, end: &str) -> String {
    let (mut read, mut buffer) = (String::new(), [0; 256]);
    while !read.ends_with(end) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "it ended after {read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    read
}

/// How long it takes until the stream ends.
async fn ends_after(stream: &mut DuplexStream) -> Duration {
    let since = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    since.elapsed()
}

fn about(found: Duration, expected: Duration) -> bool {
    found >= expected && found < expected + Duration::from_millis(50)
}

#[tokio::test(start_paused = true)]
async fn half_a_head_ends_its_connection() {
    let served = Served::start(hello());
    for part in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\nx: "] {
        let mut stream = served.connect();
        stream.write_all(part).await.unwrap();
        let took = ends_after(&mut stream).await;
        assert!(about(took, HEAD_TIME_OUT), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_keep_their_connections_leave_room_where_each_answers_once() {
    let served = Served::within(hello(), Bounds { keep_alive: false, ..BOUNDS });
    let mut kept = Vec::new();
    let begun = Instant::now();
    for _ in 0..BOUNDS.connections + 1 {
        let mut stream = served.connect();
        stream.write_all(GET).await.unwrap();
        assert!(read_until(&mut stream, "hello").await.contains("connection: close"));
        kept.push(stream);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_gives_no_more_time() {
    let served = Served::start(hello());
    let mut stream = served.connect();
    ask(&mut stream).await;
    let since = Instant::now();
    // The first byte ends the idle time.
    for byte in GET {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    ends_after(&mut stream).await;
    let took = since.elapsed();
    assert!(took >= HEAD_TIME_OUT && took <= HEAD_TIME_OUT + Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_kept_for_its_idle_time() {
    let served = Served::start(hello());
    let mut stream = served.connect();
    ask(&mut stream).await;
    sleep(IDLE - Duration::from_secs(1)).await;
    ask(&mut stream).await;
    let took = ends_after(&mut stream).await;
    assert!(about(took, IDLE), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_longer_than_any_of_the_times() {
    let slow = Router::new().route(
        "/",
        get(|| async {
            sleep(Duration::from_secs(600)).await;
            "hello"
        }),
    );
    let served = Served::start(slow);
    let mut stream = served.connect();
    ask(&mut stream).await;
    assert!(about(ends_after(&mut stream).await, IDLE), "then it is idle");
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_is_not_cut() {
    let events = || async {
        let events = stream::unfold(0, |count| async move {
            sleep(Duration::from_secs(300)).await;
            (count < 10).then(|| (Ok::<_, Infallible>(Event::default().data(count.to_string())), count + 1))
        });
        Sse::new(events.boxed())
    };
    let served = Served::start(Router::new().route("/", get(events)));
    let mut stream = served.connect();
    stream.write_all(GET).await.unwrap();
    read_until(&mut stream, "data: 9\n\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_of_an_answer_is_cut() {
    let served = Served::start(Router::new().route("/", get(|| async { "x".repeat(100_000) })));
    let mut stream = served.connect();
    stream.write_all(GET).await.unwrap();
    // Each read gives more time: a slow reader is served.
    for _ in 0..20 {
        sleep(WRITE_TIME_OUT - Duration::from_secs(1)).await;
        let mut buffer = [0; 512];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
    }
    sleep(WRITE_TIME_OUT + Duration::from_secs(1)).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 2_048, "{} bytes came after the time-out", rest.len());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_a_connection_waits_for_another_one_to_end() {
    let served = Served::start(hello());
    let (mut one, mut two, mut three) = (served.connect(), served.connect(), served.connect());
    ask(&mut one).await;
    three.write_all(GET).await.unwrap();
    let answered = timeout(Duration::from_secs(5), read_until(&mut three, "hello")).await;
    assert!(answered.is_err(), "two connections are open");
    // The second one is silent, and loses its place.
    let since = Instant::now();
    read_until(&mut three, "hello").await;
    assert!(about(since.elapsed(), HEAD_TIME_OUT - Duration::from_secs(5)), "{:?}", since.elapsed());
    ends_after(&mut two).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_idle_connections_and_waits_for_requests() {
    let slow = Router::new().route(
        "/slow",
        get(|| async {
            sleep(Duration::from_secs(3)).await;
            "hello"
        }),
    );
    let mut served = Served::start(hello().merge(slow));
    let (mut idle, mut busy) = (served.connect(), served.connect());
    ask(&mut idle).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    served.stop.cancel();
    assert!(ends_after(&mut idle).await < Duration::from_millis(50));
    assert!(read_until(&mut busy, "hello").await.contains("connection: close"));
    ends_after(&mut busy).await;
    (&mut served.serving).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_no_longer_than_its_bound() {
    let served = Served::start(Router::new().route("/", get(std::future::pending::<&'static str>)));
    let mut stream = served.connect();
    stream.write_all(GET).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let since = Instant::now();
    served.stop.cancel();
    served.serving.await.unwrap();
    assert!(about(since.elapsed(), DRAIN), "{:?}", since.elapsed());
    assert!(ends_after(&mut stream).await.is_zero(), "its connection is closed");
}
