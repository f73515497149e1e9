//! The scripted MCP servers of a chaos run, on plain sockets, so that they can reset connections.
//!
//! **Invariant:** a tool that runs goes on when its caller hangs up, as on a real server.

mod answers;
mod exchange;
mod sessions;
mod shared;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use self::exchange::Exchange;
use self::sessions::Sessions;
use self::shared::{Next, Shared};
use self::tasks::Tasks;
use super::ledger::Ledger;
use super::plan::Server;
use crate::proxy::{Head, read_body};

pub(crate) use self::answers::{answer_text, responses_of, run_in};
pub(crate) use self::shared::WORKER_HEADER;
pub(crate) use self::tasks::{ID as TASK_ID, Task};

/// The servers. Dropping them ends every connection.
pub(crate) struct Servers {
    shared: Arc<Shared>,
    addresses: BTreeMap<Server, String>,
    /// Bound and not listening: its port is taken, and connections to it are refused.
    _dead: TcpSocket,
    _accepting: JoinSet<()>,
}

impl Servers {
    pub(crate) async fn start(seed: u64) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            seed,
            ledger: Ledger::new(),
            sessions: Sessions::default(),
            tasks: Tasks::default(),
            lost_answers: AtomicU64::new(0),
        });
        let dead = TcpSocket::new_v4()?;
        dead.bind(([127, 0, 0, 1], 0).into()).context("no free port for the dead server")?;
        let mut addresses = BTreeMap::new();
        let mut accepting = JoinSet::new();
        for server in Server::ALL {
            let address = if server == Server::Dead {
                dead.local_addr()?
            } else {
                let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port for a server")?;
                let address = listener.local_addr()?;
                accepting.spawn(accept(listener, server, shared.clone()));
                address
            };
            addresses.insert(server, format!("http://{address}/mcp"));
        }
        Ok(Self { shared, addresses, _dead: dead, _accepting: accepting })
    }

    /// The URL of that server.
    pub(crate) fn url(&self, server: Server) -> &str {
        self.addresses.get(&server).map_or("", String::as_str)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Forgets all sessions.
    pub(crate) fn lose_sessions(&self) {
        self.shared.sessions.lose();
    }

    /// All tasks that were started.
    pub(crate) fn tasks(&self) -> Vec<Task> {
        self.shared.tasks.all()
    }

    /// How often a request came in a session that was lost.
    pub(crate) fn lost_answers(&self) -> u64 {
        self.shared.lost_answers.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, server: Server, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, server, shared.clone()));
        }
    }
}

async fn serve(stream: TcpStream, server: Server, shared: Arc<Shared>) {
    // Without it answers on pooled connections take 40 ms; if it fails, only the figures are worse.
    let _ignored = stream.set_nodelay(true);
    let mut side = BufReader::new(stream);
    while let Ok(Some(head)) = Head::read(&mut side).await {
        let Ok(body) = read_body(&mut side, head.length.unwrap_or(0)).await else { return };
        let mut exchange = Exchange { side: &mut side, server, shared: &shared, head: &head };
        // Either side may close the connection at any time.
        match exchange.answer(&body).await.unwrap_or(Next::Close) {
            Next::Keep => {}
            Next::Close => return,
            Next::Reset => {
                // If it fails the connection is closed instead, which clients treat alike.
                let _ignored = side.get_ref().set_zero_linger();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
