//! `toolfleet-peer-worker`: the plain worker, configured by environment variables, until SIGTERM.

use toolfleet_peer::worker::{Settings, run};

/// The allocator that the product's worker uses too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(Settings::read(&variable)?).await
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here and injected")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
