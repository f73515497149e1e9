//! The test bed of a load: the bed with the load's own MCP server and catalog.

use serde_json::json;
use toolfleet_catalog::DEFAULT_ATTEMPT_MS;

use crate::bed::{Bed, Front, WorkerSettings};
use crate::distribution::Distribution;
use crate::faults::FaultKind;
use crate::run_args::RunArgs;
use crate::server::LoadServer;
use crate::tool::Tool;
use crate::worker::WorkerCommand;

/// The tenant of all calls.
pub(crate) const TENANT: &str = "load";

/// The test bed of one run.
pub(crate) struct TestBed {
    pub(crate) bed: Bed,
    pub(crate) server: LoadServer,
}

impl TestBed {
    pub(crate) async fn create(args: &RunArgs) -> anyhow::Result<Self> {
        let server = LoadServer::start(!args.hold).await?;
        let counts = args.count_requests.then(Front::default);
        let bed = Bed::create(args.faults.contains(FaultKind::Endpoints), counts).await?;
        bed.write_catalog(&catalog(&server.url, &args.slow))?;
        Ok(Self { bed, server })
    }

    /// The command that starts a worker of the load.
    pub(crate) fn worker(&self, args: &RunArgs) -> anyhow::Result<WorkerCommand> {
        self.bed.worker(WorkerSettings {
            binary: args.worker_bin.as_deref(),
            slots: args.slots,
            lease_ms: args.lease_ms,
        })
    }

    /// The command of a worker on a queue that stays empty.
    pub(crate) fn idle_worker(&self, args: &RunArgs) -> anyhow::Result<WorkerCommand> {
        let mut command = self.worker(args)?;
        command.environment.push(("TOOLFLEET_QUEUE_URL".to_owned(), self.bed.addresses.idle_queue.clone()));
        Ok(command)
    }
}

fn catalog(url: &str, slow: &Distribution) -> String {
    let tool = |tool: &Tool| {
        // The attempt must last longer than its tool, or the load would measure repeats.
        let timeout_ms = DEFAULT_ATTEMPT_MS + if tool.is_slow() { slow.longest_ms() } else { 0 };
        // A pause that a server asks for delays all its calls, so this tool has a server of its own.
        let server = if *tool == Tool::Busy { "load-busy" } else { "load" };
        json!({"id": tool.name(), "server": server, "idempotent": tool.is_safe(), "timeout_ms": timeout_ms})
    };
    json!({
        "servers": [{"id": "load", "url": url}, {"id": "load-busy", "url": url}],
        "tools": Tool::ALL.iter().map(tool).collect::<Vec<_>>(),
        "tenants": {"queue": [TENANT]},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    #[test]
    fn an_attempt_lasts_longer_than_the_slowest_tool() {
        for slow in ["60000", "lognormal:50000:2", "p0=5,p50=20,p100=90000"] {
            let slow: Distribution = slow.parse().unwrap();
            let catalog: serde_json::Value =
                serde_json::from_str(&catalog("http://127.0.0.1:1/mcp", &slow)).unwrap();
            let tools = catalog["tools"].as_array().unwrap();
            let timeout_ms =
                |name: &str| tools.iter().find(|t| t["id"] == name).unwrap()["timeout_ms"].as_u64();
            let mut rng = Rng::with_seed(7);
            let longest_ms = (0..10_000).map(|_| slow.sample(&mut rng)).max().unwrap();
            assert!(timeout_ms("slow").unwrap() > longest_ms && timeout_ms("payment").unwrap() > longest_ms);
            assert_eq!(timeout_ms("echo"), Some(DEFAULT_ATTEMPT_MS));
        }
    }
}
