//! Frames of `top` in terminals of several sizes, compared with golden screens, and frames of fleets that lack something.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};
use toolfleet_core::fleet::FleetSummary;
use toolfleet_core::time::Timestamp;
use unicode_width::UnicodeWidthStr as _;

use super::frame::{Size, frame};
use super::terminal::fill;
use super::ui::{Pane, Ui};
use super::*;

const NOW_MS: i64 = 1_795_000_000_000;

fn now() -> Timestamp {
    Timestamp::from_ms(NOW_MS)
}

fn at(before_ms: i64) -> Timestamp {
    Timestamp::from_ms(NOW_MS - before_ms)
}

fn depth(
    name: &str,
    dead_letter: bool,
    [visible, in_flight, delayed]: [u64; 3],
) -> toolfleet_client::QueueDepth {
    let depth = toolfleet_aws::queue::Depth { visible, in_flight, delayed };
    toolfleet_client::QueueDepth { name: name.into(), url: String::new(), priority: None, dead_letter, depth }
}

fn servers() -> Value {
    json!({
        "crm": {"i": 3, "n": 420, "f": 11, "b": "open", "w": "connection refused (os error 111)", "open": 2},
        "billing": {"i": 1, "n": 90, "t": {"acme": {"b": "half_open", "w": "HTTP 503"}, "globex": {"p": at(-30_000)}}},
        "search": {"n": 1200, "f": 1},
    })
}

fn summary() -> FleetSummary {
    let mut summary: FleetSummary = serde_json::from_value(json!({
        "at": at(2_000), "by": "w-1", "beat_ms": 5000,
        "workers": {"alive": 3, "draining": 1, "dead": 1, "slots": 72, "busy": 31, "in_hand": 44, "versions": {"0.1.0": 2, "0.2.0": 1}},
        "received_a_minute": 1520, "ended_a_minute": 1480, "held_a_minute": {"rate_limit": 40, "share": 3},
        "queues": {"toolfleet-calls": {"n": 1400, "age": 3100}, "toolfleet-high": {"n": 120, "age": 40}},
        "runnable": {"messages": 1234, "slot_ms": 700, "running_ms": 21_700, "waiting_ms": 863_800, "wanted_slots": 118},
        "servers": servers(),
        "slot_ms_a_minute": {"acme": 780_000, "globex": 200_000, "initech": 20_000}, "other_slot_ms_a_minute": 5_000,
        "tools": {"crm.find": {"n": 40, "f": 11}, "search.all": {"n": 1200, "f": 1}, "billing.pay": {"n": 90}},
        "limits": {
            "server:crm rate": {"v": "20/s", "w": 120, "r": 300, "at": at(500), "t": {"acme": 400, "globex": 20}},
            "tenant:acme/tool:crm.find concurrency": {"v": "5", "r": 12, "t": {"acme": 12}},
            "tool:search.all adaptive": {"v": "adaptive", "r": 2, "t": {"globex": 2}},
            "server:crm retry_budget": {"r": 1, "t": {"acme": 1}},
            "tenant:* rate": {"v": "50/s"},
            "*": {"w": 3, "r": 4},
        },
    }))
    .unwrap();
    for server in summary.servers.values_mut() {
        (1..=100).for_each(|ms| server.seen.latency.add(ms * 1_000));
    }
    summary
}

fn view() -> FleetView {
    let pause = json!({
        "kind": "pause", "target": "tool:crm.find", "by": "ann", "why": "it drops\u{1b}[31m orders", "since": at(60_000), "until": at(-600_000)
    });
    let limit = json!({
        "kind": "limit", "limit": "server:crm", "change": {"rate": "10/s"}, "by": "bob", "why": "overload", "since": at(1_000)
    });
    FleetView {
        queues: vec![
            depth("toolfleet-calls", false, [1_234, 31, 40]),
            depth("toolfleet-high", false, [0, 2, 0]),
            depth("toolfleet-calls-dead", true, [7, 0, 0]),
        ],
        entries: vec![serde_json::from_value(pause).unwrap(), serde_json::from_value(limit).unwrap()],
        summary: Some(summary()),
        read_at: now(),
    }
}

/// What a terminal of that size shows.
fn shown(view: &FleetView, ui: &Ui, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|target| fill(target.buffer_mut(), |size| frame(view, size, ui, now()))).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(width.into());
    let text = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    rows.map(|row| text(row).trim_end().to_owned() + "\n").collect()
}

fn is_golden(shown: &str, golden: &str, name: &str) {
    assert!(shown == golden, "tests/golden/{name} differs from what is shown now:\n{shown}");
}

#[test]
fn the_screens_of_three_sizes_are_golden() {
    let overview = |size| shown(&view(), &Ui::default(), size);
    is_golden(&overview((60, 20)), include_str!("../../../../tests/golden/top-60x20.txt"), "top-60x20.txt");
    is_golden(&overview((80, 24)), include_str!("../../../../tests/golden/top-80x24.txt"), "top-80x24.txt");
    is_golden(
        &overview((120, 40)),
        include_str!("../../../../tests/golden/top-120x40.txt"),
        "top-120x40.txt",
    );
}

#[test]
fn the_panes_are_golden() {
    let mut all = String::new();
    for pane in Pane::ALL.into_iter().skip(1) {
        all.push_str(&shown(&view(), &Ui { pane, ..Ui::default() }, (80, 14)));
    }
    is_golden(&all, include_str!("../../../../tests/golden/top-panes.txt"), "top-panes.txt");
}

#[test]
fn what_matters_is_visible_in_the_smallest_terminal() {
    let shown = shown(&view(), &Ui::default(), (60, 20));
    for part in [
        "data 2 s old",
        "3 running (1 draining), 1 dead; 31 of 72 slots",
        "1520 received, 1480 ended",
        "toolfleet-calls ",
        "3.1 s",
        "1234",
        "crm open in 2 workers",
        "server:crm 10/s: 120 waited, 300 went back",
        "tool:crm.find paused by ann",
        "acme 77.6 %",
        "crm.find: 11 of 40 calls",
        "q quit",
    ] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
}

#[test]
fn no_size_panics_or_is_exceeded() {
    for width in (0..130).step_by(7) {
        for height in 0..45 {
            for pane in Pane::ALL {
                let ui = Ui { pane, scroll: 3, failure: Some("no answer".into()), frozen: true };
                let lines = frame(&view(), Size { width, height }, &ui, now());
                assert_eq!(lines.len(), height, "{width}x{height} {pane:?}");
                assert!(lines.iter().all(|line| line.text.width() <= width), "{width}x{height} {pane:?}");
                assert!(!lines.iter().any(|line| line.text.contains(char::is_control)));
            }
        }
    }
}

#[test]
fn a_fleet_without_workers_or_without_a_fresh_summary_says_so() {
    let none = FleetView { summary: None, ..view() };
    let text = shown(&none, &Ui::default(), (60, 20));
    assert!(text.contains("no data") && text.contains("none has ever reported"), "{text}");
    assert!(text.contains("1234"), "the queues are known without workers: {text}");
    let old = FleetView { summary: Some(FleetSummary { at: at(65_000), ..summary() }), ..view() };
    let text = shown(&old, &Ui::default(), (60, 20));
    assert!(text.contains("data 65 s old") && text.contains("none has reported for 1 min 5 s"), "{text}");
    for pane in Pane::ALL {
        let ui = Ui { pane, ..Ui::default() };
        assert!(shown(&none, &ui, (60, 20)).contains("none has ever reported"), "{pane:?}");
    }
}

#[test]
fn a_pane_scrolls_to_its_last_line_and_not_further() {
    let mut many = view();
    let tools =
        (0..50).map(|n| (format!("tool{n:02}"), json!({"n": 100 - n}))).collect::<serde_json::Map<_, _>>();
    many.summary.as_mut().unwrap().tools = serde_json::from_value(Value::Object(tools)).unwrap();
    let text = |scroll| shown(&many, &Ui { pane: Pane::Tools, scroll, ..Ui::default() }, (60, 20));
    assert!(text(0).contains("tool00") && !text(0).contains("tool49"));
    assert!(text(10_000).contains("tool49") && !text(10_000).contains("tool00"), "{}", text(10_000));
}

#[test]
fn a_frozen_screen_keeps_its_data_and_a_failure_is_shown() {
    let (mut seen, mut ui) = (view(), Ui { frozen: true, ..Ui::default() });
    take(&mut seen, &mut ui, Ok(FleetView { summary: None, ..view() }));
    assert!(seen.summary.is_some() && shown(&seen, &ui, (60, 20)).contains("FROZEN"));
    take(&mut seen, &mut ui, Err(CommandError::usage("no such table")));
    assert!(shown(&seen, &ui, (60, 20)).contains("cannot read the fleet: no such table"));
    ui.frozen = false;
    take(&mut seen, &mut ui, Ok(FleetView { summary: None, ..view() }));
    assert_eq!((seen.summary, ui.failure), (None, None));
}

#[test]
fn without_a_terminal_the_error_names_the_remedy() {
    let text = |json, terminal| live_is_possible(json, terminal).unwrap_err().message();
    assert!(text(false, false).contains("--once"));
    assert!(text(true, true).contains("top --once --json"));
    assert!(live_is_possible(false, true).is_ok());
}
