//! `toolfleet-peer PORT`: the server of rmcp on 127.0.0.1, until it is killed.
//!
//! It listens on 127.0.0.1 only.

use anyhow::Context as _;
use tokio::net::TcpListener;
use toolfleet_peer::{Generation, server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port: u16 = std::env::args().nth(1).context("usage: toolfleet-peer PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    Ok(server::serve(listener, Generation::Newest).await?)
}
