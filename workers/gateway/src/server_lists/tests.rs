//! How lists are kept, shown and given up.

use serde_json::json;
use toolfleet_catalog::Catalog;
use toolfleet_client::{Aws, AwsOptions, Tables, system_clock};

use super::*;

fn listed(text: &str, kind: ListKind) -> Result<(Vec<String>, Option<String>), String> {
    let outcome = Outcome::succeeded(RawValue::from_string(text.to_owned()).unwrap());
    let part = part_of(&outcome, kind).map_err(|not| not.why)?;
    Ok((part.entries.into_iter().map(|(name, _)| name).collect(), part.next))
}

#[test]
fn a_part_has_the_entries_that_have_a_name_and_says_where_the_list_goes_on() {
    let text = r#"{"resources": [{"uri": "a:1"}, {"name": "no address"}, {"uri": 7}, 7], "nextCursor": "c"}"#;
    assert_eq!(listed(text, ListKind::Resources), Ok((vec!["a:1".to_owned()], Some("c".to_owned()))));
    let text = r#"{"resourceTemplates": [{"uriTemplate": "a:{x}"}], "nextCursor": null}"#;
    assert_eq!(listed(text, ListKind::ResourceTemplates), Ok((vec!["a:{x}".to_owned()], None)));
    for none in ["{}", "[]", r#"{"prompts": {}}"#] {
        assert_eq!(listed(none, ListKind::Prompts), Err("the answer is no list of prompts".to_owned()));
    }
}

fn server(url: &str) -> Arc<Server> {
    let catalog = json!({
        "servers": [{"id": "main", "url": url, "discover": true}],
        "tenants": {"queue": ["*"]},
        "publish": {"servers": {"main": true}},
    });
    let catalog = Catalog::parse(&catalog.to_string()).unwrap();
    Arc::clone(catalog.published().servers().next().unwrap().1)
}

fn entries(names: &[&str]) -> Entries {
    let entry = |name: &&str| ((*name).to_owned(), RawValue::from_string("{}".to_owned()).unwrap());
    Entries { by_name: Arc::new(names.iter().map(entry).collect()), ..Entries::default() }
}

#[test]
fn a_change_is_what_differs_from_what_callers_were_shown() {
    let here = server("https://a.example/mcp");
    let cell = Cell::at(Instant::now());
    assert!(!cell.keep(&here, entries(&["a"])), "it may have been dropped for another list");
    assert!(!cell.keep(&here, entries(&["a"])));
    assert!(cell.keep(&here, entries(&["b"])));
    let missed = Cell::at(Instant::now());
    missed.is_missed.store(true, Ordering::Relaxed);
    assert!(missed.keep(&here, entries(&["a"])));
    assert!(!missed.keep(&here, entries(&["a"])));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_shown_as_long_as_its_server_says_within_bounds() {
    let ttl = Duration::from_secs(300);
    let shown_for = |served_ms| Entries { served_ms, ..Entries::default() }.shown_for(ttl).as_secs();
    let seconds = [None, Some(0), Some(60_000), Some(86_400_000)].map(shown_for);
    assert_eq!(seconds, [300, 10, 60, 300]);
    let brief = Entries { served_ms: Some(60_000), ..Entries::default() };
    assert_eq!(brief.shown_for(Duration::from_secs(1)).as_secs(), 1);
    let content = RawValue::from_string(r#"{"tools": [], "ttlMs": 5000}"#.to_owned()).unwrap();
    let part = part_of(&Outcome::succeeded(content), ListKind::Tools).ok().unwrap();
    assert_eq!(part.served_ms, Some(5_000));
    let (caller, kept) = (crate::tests::request("2026-07-28").caller, Some(Arc::new(entries(&["a"]))));
    let now = Instant::now();
    let (until, of_calls_until) = (Some(now + PAUSE), Some(now + 2 * PAUSE));
    let state = State { until, of_calls_until, ..State::default() };
    assert!(state.known_to(&caller, kept.clone(), Use::Shown).is_some());
    tokio::time::advance(PAUSE).await;
    assert!(state.known_to(&caller, kept.clone(), Use::Shown).is_none());
    assert!(state.known_to(&caller, kept, Use::OfCall).is_some(), "a call waits for no list");
}

#[test]
fn a_list_is_of_the_server_at_that_place() {
    let cell = Cell::at(Instant::now());
    cell.keep(&server("https://a.example/mcp"), entries(&["a"]));
    assert!(cell.kept_of(&server("https://a.example/mcp")).is_some(), "the catalog was read again");
    let moved = server("https://b.example/mcp");
    assert!(cell.kept_of(&moved).is_none());
    let mut state = State { until: Some(Instant::now() + PAUSE), ..State::default() };
    state.become_of(&moved);
    assert!(state.until.is_none());
}

#[tokio::test]
async fn a_list_that_is_late_is_used_on_and_a_change_is_of_one_tenant() {
    let options = AwsOptions {
        region: Some("us-east-1".to_owned()),
        static_credentials: Some(("none".to_owned(), "none".to_owned())),
        ..AwsOptions::default()
    };
    let (aws, tables) = (Aws::connect(options).await, Tables::with_prefix("none"));
    let client = Client::new(&aws, "http://127.0.0.1:9/none", &tables, system_clock());
    let lists = Arc::new(ServerLists::new(client, PAUSE));
    let (caller, here) = (crate::tests::request("2026-07-28").caller, server("https://a.example/mcp"));
    let cell = lists.cell((caller.tenant.clone(), here.id.clone(), ListKind::Tools)).await;
    let reading = cell.state.lock().await;
    let now = Instant::now();
    let tools = (ListKind::Tools, Use::Shown);
    assert!(lists.of(&caller, &here, tools, now).await.is_err());
    cell.keep(&here, entries(&["a"]));
    assert!(lists.of(&caller, &here, tools, now).await.unwrap().by_name.contains_key("a"));
    let moved = server("https://b.example/mcp");
    assert!(lists.of(&caller, &moved, tools, now).await.is_err());
    drop(reading);
    let key = (caller.tenant.clone(), here.id.clone());
    let later = Some(now + Duration::from_secs(3_600));
    for (since, expires) in [(Duration::ZERO, true), (PAUSE / 2, false), (PAUSE, true)] {
        cell.state.lock().await.until = later;
        if let Some(before) = lock(&cell.expired).as_mut() {
            *before = Instant::now() - since;
        }
        lists.expire(&key.0, &key.1);
        assert_eq!(cell.state.lock().await.until < later, expires, "{since:?}");
    }
    lists.count_change(&caller.tenant);
    assert_eq!(lists.changes(&caller.tenant), 1);
    assert_eq!(lists.changes(&Tenant::parse("globex").unwrap()), 0);
}
