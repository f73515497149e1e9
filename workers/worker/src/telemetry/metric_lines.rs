//! Metrics of the whole fleet as lines of the log, in CloudWatch's embedded metric format: CloudWatch Logs makes metrics of them, at a
//! resolution of one second. The worker that makes the summary writes them, so that they are there once and need no collector; where it has no
//! lines, those that have write them.

use std::fmt;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};

use serde_json::{Map, Value, json};
use toolfleet_core::fleet::{FleetSummary, Runnable};

/// Writes the lines of one fleet.
pub struct MetricLines {
    fleet: String,
    /// The log group that an agent sends the lines to.
    log_group: Option<String>,
    write: Box<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for MetricLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricLines").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

impl MetricLines {
    /// Lines of the fleet of that name, each given to `write`.
    pub fn new(fleet: &str, write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { fleet: fleet.to_owned(), log_group: None, write: Box::new(write) }
    }

    /// Lines for an agent of CloudWatch on this machine, which sends them to the log group `/toolfleet/NAME/agent-metrics`.
    ///
    /// # Errors
    /// The system gives no socket.
    pub fn to_agent(fleet: &str, agent: SocketAddr) -> std::io::Result<Self> {
        let any: SocketAddr = if agent.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        // An agent that is not there yet misses a line, and gets the next.
        let lines = Self::new(fleet, move |line| drop(socket.send_to(line.as_bytes(), agent)));
        Ok(Self { log_group: Some(format!("/toolfleet/{fleet}/agent-metrics")), ..lines })
    }

    /// Lines among those of the log.
    pub fn to_stderr(fleet: &str) -> Self {
        // A log that nobody reads any more is no reason to stop.
        Self::new(fleet, |line| drop(writeln!(std::io::stderr(), "{line}")))
    }

    /// Writes the metrics of a summary; nothing where the work of the fleet is not known.
    pub(crate) fn write(&self, summary: &FleetSummary) {
        if let Some(runnable) = &summary.runnable {
            (self.write)(&self.line(summary, runnable).to_string());
        }
    }

    fn line(&self, summary: &FleetSummary, runnable: &Runnable) -> Value {
        let values = [
            ("toolfleet.fleet.runnable_seconds", "Seconds", runnable.seconds()),
            ("toolfleet.fleet.waiting_seconds", "Seconds", runnable.waiting_seconds()),
            ("toolfleet.fleet.wanted_slots", "Count", runnable.wanted_slots),
            ("toolfleet.fleet.slots", "Count", summary.workers.slots),
        ];
        let metric =
            |(name, unit, _): &(&str, &str, u64)| json!({"Name": name, "Unit": unit, "StorageResolution": 1});
        let directive = json!({
            "Namespace": format!("toolfleet/{}", self.fleet), "Dimensions": [["Fleet"]],
            "Metrics": values.iter().map(metric).collect::<Vec<_>>(),
        });
        let mut line = Map::new();
        let mut about = Map::from_iter([
            ("Timestamp".to_owned(), json!(summary.at.as_ms())),
            ("CloudWatchMetrics".to_owned(), json!([directive])),
        ]);
        about.extend(self.log_group.iter().map(|group| ("LogGroupName".to_owned(), json!(group))));
        line.insert("_aws".into(), about.into());
        line.insert("Fleet".into(), self.fleet.as_str().into());
        line.insert("worker".into(), summary.by.as_str().into());
        line.extend(values.into_iter().map(|(name, _, value)| (name.to_owned(), value.into())));
        Value::Object(line)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use toolfleet_core::ids::WorkerId;
    use toolfleet_core::time::Timestamp;

    use super::*;

    fn summary(runnable: Option<Runnable>) -> FleetSummary {
        let at = Timestamp::from_ms(1_795_000_000_000);
        let mut summary = FleetSummary::of(&[], at, WorkerId::parse("w-1").unwrap());
        summary.workers.slots = 80;
        summary.runnable = runnable;
        summary
    }

    #[test]
    fn an_agent_is_told_the_log_group() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let lines = MetricLines::to_agent("prod", agent.local_addr().unwrap()).unwrap();
        lines.write(&summary(Some(Runnable::default())));
        let mut buffer = [0; 2_000];
        let length = agent.recv(&mut buffer).unwrap();
        let line: Value = serde_json::from_slice(&buffer[..length]).unwrap();
        assert_eq!(line["_aws"]["LogGroupName"], "/toolfleet/prod/agent-metrics");
    }

    #[test]
    fn every_metric_of_a_line_has_its_value_beside_it() {
        let written: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = MetricLines::new("prod", {
            let written = Arc::clone(&written);
            move |line| written.lock().unwrap().push(line.to_owned())
        });
        lines.write(&summary(None));
        let runnable =
            Runnable { running_ms: 500, waiting_ms: 21_000, wanted_slots: 3, ..Runnable::default() };
        lines.write(&summary(Some(runnable)));
        let written = written.lock().unwrap();
        let [line] = written.as_slice() else { panic!("{written:?}") };
        assert!(!line.contains('\n'), "an event of the log is one line");
        let line: Value = serde_json::from_str(line).unwrap();
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "toolfleet/prod");
        assert_eq!((&directive["Dimensions"], &line["Fleet"]), (&json!([["Fleet"]]), &json!("prod")));
        assert_eq!(line["_aws"]["Timestamp"], 1_795_000_000_000_i64);
        for metric in directive["Metrics"].as_array().unwrap() {
            assert!(line[metric["Name"].as_str().unwrap()].is_u64(), "{metric}");
            assert_eq!(metric["StorageResolution"], 1, "an alarm of ten seconds needs it");
        }
        assert_eq!(line["toolfleet.fleet.runnable_seconds"], 22);
        assert_eq!(
            (&line["toolfleet.fleet.wanted_slots"], &line["toolfleet.fleet.slots"]),
            (&json!(3), &json!(80))
        );
    }
}
