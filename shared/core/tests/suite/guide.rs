//! What docs/guides/callers.md says, held: the ids it derives, the fields of a notice.

use toolfleet_core::ids::Tenant;
use toolfleet_core::notice::Notice;
use toolfleet_core::request::derive_call_id;

const GUIDE: &str = include_str!("../../../../docs/guides/callers.md");

#[test]
fn the_guides_vectors_are_the_ids_that_workers_derive() {
    let vectors = GUIDE.lines().filter_map(|line| line.strip_prefix("assert call_id_of(\""));
    let mut seen = 0;
    for vector in vectors {
        let parts: Vec<&str> = vector.split('"').collect();
        let [tenant, _, key, _, id, ..] = parts.as_slice() else { panic!("{vector}") };
        let derived = derive_call_id(&Tenant::parse(*tenant).unwrap(), key).unwrap();
        assert_eq!(derived.as_str(), *id);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn the_guide_names_every_field_of_a_notice_and_no_other() {
    let schema = schemars::schema_for!(Notice).to_value();
    let mut fields: Vec<&str> =
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let section = GUIDE.split("## The notice").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    let mut named: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    fields.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, fields);
}
