//! The catalog: what is accepted, what is refused by name, who may speak for whom.

use serde_json::json;
use toolfleet_core::catalog::Catalog;
use toolfleet_core::ids::{Tenant, ToolId};
use toolfleet_core::message::User;

fn catalog(change: impl FnOnce(&mut serde_json::Value)) -> Result<Catalog, String> {
    let mut value = json!({
        "servers": [{"id": "s", "url": "http://127.0.0.1:1/mcp"}],
        "tools": [{
            "id": "t", "server": "s",
            "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            "access": [{"user_types": ["internal"], "user_roles": ["admin", "power"]}]
        }],
        "tenants": {"queue": ["acme"]}
    });
    change(&mut value);
    Catalog::parse(&value.to_string()).map_err(|e| e.to_string())
}

#[test]
fn a_mistake_is_named_with_its_entry_and_what_is_accepted() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 9] = [
        (|c| c["tools"][0]["server"] = json!("x"), "tools.t.server: `x` is not among the servers (s)"),
        (|c| c["tools"][0]["colour"] = json!(1), "unknown field `colour`"),
        (|c| c["tools"][0]["max_attempts"] = json!(0), "tools.t.max_attempts: is 0; accepted are 1 to 100"),
        (
            |c| c["tools"][0]["input_schema"] = json!({"type": "objekt"}),
            "tools.t.input_schema: is not a usable JSON Schema",
        ),
        (
            |c| c["tools"][0]["input_schema"] = json!({"$ref": "https://example.com/schema.json"}),
            "tools.t.input_schema: is not a usable JSON Schema",
        ),
        (|c| c["servers"][0]["url"] = json!("ftp://h/x"), "servers.s.url: has the scheme `ftp`"),
        (|c| c["servers"][0]["url"] = json!("http://u:p@h/x"), "servers.s.url: carries a user or password"),
        (|c| c["tenants"] = json!({}), "tenants: names nobody"),
        (|c| c["tenants"] = json!({"senders": {"AROA1": ["acme"]}}), "tenants.fleet: is empty"),
    ];
    for (change, expected) in cases {
        let error = catalog(change).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let twice = catalog(|c| {
        let tool = c["tools"][0].clone();
        c["tools"].as_array_mut().unwrap().push(tool);
    });
    assert!(twice.unwrap_err().contains("tools.t: stands twice"));
}

#[test]
fn a_sender_speaks_for_its_own_tenants_and_no_other() {
    let catalog = catalog(|c| {
        c["tenants"] = json!({"queue": ["open"], "senders": {"AROA1": ["acme"]}, "fleet": ["AROA9"]});
    })
    .unwrap();
    let tenant = |name: &str| Tenant::parse(name).unwrap();
    assert!(catalog.may_speak_for(Some("AROA1:session-7"), &tenant("acme")));
    assert!(!catalog.may_speak_for(Some("AROA2:session-7"), &tenant("acme")));
    assert!(!catalog.may_speak_for(None, &tenant("acme")));
    assert!(catalog.may_speak_for(None, &tenant("open")));
    assert!(catalog.is_fleet_sender(Some("AROA9:worker")) && !catalog.is_fleet_sender(Some("AROA1:x")));
}

#[test]
fn access_wants_the_type_and_one_of_the_roles_of_an_enabled_rule() {
    let opened = catalog(|_| ()).unwrap();
    let tool = opened.tool(&ToolId::parse("t").unwrap()).unwrap().clone();
    let user =
        |kind: &str, role: &str| User { id: "u".into(), kind: Some(kind.into()), roles: vec![role.into()] };
    assert!(tool.is_open_to(Some(&user("internal", "power"))));
    assert!(!tool.is_open_to(Some(&user("internal", "guest"))));
    assert!(!tool.is_open_to(Some(&user("external", "admin"))));
    assert!(!tool.is_open_to(None));
    let closed = catalog(|c| c["tools"][0]["access"][0]["enabled"] = json!(false)).unwrap();
    let tool = closed.tool(&ToolId::parse("t").unwrap()).unwrap().clone();
    assert!(
        !tool.is_open_to(Some(&user("internal", "admin"))),
        "a tool with rules and none enabled is closed"
    );
}

#[test]
fn what_does_not_fit_a_schema_is_named_by_place_without_its_value() {
    let catalog = catalog(|_| ()).unwrap();
    let tool = catalog.tool(&ToolId::parse("t").unwrap()).unwrap();
    let schema = tool.functions[0].schema.as_ref().unwrap();
    assert!(schema.problems(&json!({"n": 1})).is_empty());
    let problems = schema.problems(&json!({"n": "secret-value"})).join(";");
    assert!(problems.contains("arguments/n") && !problems.contains("secret-value"), "{problems}");
    assert!(schema.problems(&json!({})).join(";").contains("\"n\" is a required property"));
}

#[test]
fn a_changed_definition_has_another_digest() {
    let digest = |catalog: &Catalog| catalog.tool(&ToolId::parse("t").unwrap()).unwrap().definition.clone();
    let first = digest(&catalog(|_| ()).unwrap());
    assert_eq!(first, digest(&catalog(|_| ()).unwrap()));
    assert_ne!(first, digest(&catalog(|c| c["tools"][0]["idempotent"] = json!(true)).unwrap()));
    assert_ne!(
        first,
        digest(&catalog(|c| c["servers"][0]["url"] = json!("http://127.0.0.1:2/mcp")).unwrap())
    );
}

#[test]
fn a_tenants_conversations_open_by_themselves_unless_the_catalog_wants_them_registered() {
    let of = |sessions: &str| {
        let text = format!(r#"{{"servers": [], "tenants": {{"queue": ["*"], "sessions": {sessions}}}}}"#);
        Catalog::parse(&text)
    };
    let opens = |catalog: &Catalog| {
        ["acme", "globex"].map(|tenant| catalog.opens_sessions(&Tenant::parse(tenant).unwrap()))
    };
    assert_eq!(opens(&of("{}").unwrap()), [true, true]);
    assert_eq!(opens(&of(r#"{"acme": "registered"}"#).unwrap()), [false, true]);
    assert_eq!(opens(&of(r#"{"*": "registered", "acme": "open"}"#).unwrap()), [true, false]);
    let error = of(r#"{"acme": "closed"}"#).unwrap_err().to_string();
    assert!(error.contains("tenants.sessions") && error.contains("registered"), "{error}");
    assert!(of(r#"{"a b": "open"}"#).unwrap_err().to_string().contains("tenants.sessions: `a b`"));
}
