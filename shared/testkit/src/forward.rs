//! A forward proxy: `CONNECT` for https, absolute form for http, and a table of host names and their targets.
//!
//! **Invariant:** a host name that is not in the table is answered with 502.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::accept::accept;
use crate::http1::{self, Kind, Message};

/// A forward proxy on 127.0.0.1. It ends when dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    state: Arc<State>,
    port: u16,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Authorities and the addresses they lead to.
    routes: HashMap<String, String>,
    /// What was asked for: `CONNECT authority` or `METHOD url`, with the value of `Proxy-Authorization`.
    asked: Mutex<Vec<(String, Option<String>)>>,
}

impl ForwardProxy {
    /// Starts a proxy that leads each authority (`name:port`, or `name` for http) to an address (`127.0.0.1:port`).
    #[expect(clippy::expect_used, reason = "a test without its proxy cannot go on")]
    pub async fn start(routes: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this machine");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let routes = routes.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let state = Arc::new(State { routes, asked: Mutex::default() });
        let serves = Arc::clone(&state);
        let accepting = tokio::spawn(accept(listener, move |client| carry(client, Arc::clone(&serves))));
        Self { state, port, accepting }
    }

    /// Where it listens, with a user and a password to show if they are given as `user:password@`.
    pub fn url(&self, user: &str) -> String {
        format!("http://{user}127.0.0.1:{}", self.port)
    }

    /// What was asked for so far: `CONNECT authority` or `METHOD url`, with the value of `Proxy-Authorization`.
    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        self.state.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection: a tunnel to its end, or one request in absolute form after the other.
async fn carry(client: TcpStream, state: Arc<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    while let Some(request) = http1::read(&mut client, Kind::Request).await? {
        let asked = format!("{} {}", request.word(0), request.word(1));
        let user = request.header("proxy-authorization").map(str::to_owned);
        state.asked.lock().unwrap_or_else(PoisonError::into_inner).push((asked, user));
        let connect = request.word(0) == "CONNECT";
        let rest = request.word(1).trim_start_matches("http://");
        let authority = rest.split('/').next().unwrap_or_default();
        let Some(address) = state.routes.get(authority) else {
            client.get_mut().write_all(b"HTTP/1.1 502 No Way\r\ncontent-length: 0\r\n\r\n").await?;
            continue;
        };
        let mut server = TcpStream::connect(address).await?;
        server.set_nodelay(true)?;
        if connect {
            client.get_mut().write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
            copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
        server.write_all(&in_origin_form(&request)).await?;
        let answer = http1::read(&mut BufReader::new(server), Kind::Response).await?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        client.get_mut().write_all(&answer.raw).await?;
    }
    Ok(())
}

/// The request as a server wants it: its path alone, and nothing that is meant for proxies.
fn in_origin_form(request: &Message) -> Vec<u8> {
    let url = request.word(1).trim_start_matches("http://");
    let path = url.find('/').and_then(|at| url.get(at..)).unwrap_or("/");
    let mut bytes = format!("{} {path} HTTP/1.1\r\n", request.word(0)).into_bytes();
    for (name, value) in request.headers.iter().filter(|(n, _)| !n.to_ascii_lowercase().starts_with("proxy-"))
    {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&request.body);
    bytes
}
