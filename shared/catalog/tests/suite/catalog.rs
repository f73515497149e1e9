//! The catalog: what is accepted, what is refused by name, who may speak for whom.

use serde_json::json;
use toolfleet_catalog::{Budget, Catalog, CatalogError, InputSchema, Pin, Verdict};
use toolfleet_core::ids::{ServerId, Tenant, ToolId};
use toolfleet_core::limits::{OnLoss, RateLimit};
use toolfleet_core::request::User;

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
    let cases: [(Change, &str); 15] = [
        (|c| c["tools"][0]["cache"] = json!("yes"), "tools.t.cache: is neither true, false nor an object"),
        (|c| c["tools"][0]["cache"] = json!({"ttl_ms": 0}), "tools.t.cache.ttl_ms: is no time to live"),
        (|c| c["servers"][0]["cache"] = json!({"scope": "all"}), "servers.s.cache.scope: is no scope"),
        (|c| c["tools"][0]["batch"] = json!({"max": 5}), "tools.t.batch.argument: is missing; give the name"),
        (
            |c| c["tools"][0]["batch"] = json!({"argument": "n"}),
            "tools.t.batch: is set for a tool that is not known to be read-only; register it as `idempotent`",
        ),
        (
            |c| {
                let functions = json!([{"name": "a"}, {"name": "b"}]);
                c["tools"][0] = json!({"id": "t", "server": "s", "idempotent": true, "functions": functions, "batch": {"argument": "n"}});
            },
            "tools.t.batch: is set for a tool with 2 functions; register each",
        ),
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
    assert!(twice.unwrap_err().contains("tools.t: is duplicated"));
}

#[test]
fn a_name_that_could_mean_two_tools_is_refused() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 4] = [
        (
            |c| c["tools"] = json!([{"id": "a.b", "server": "s"}, {"id": "a", "server": "s", "functions": [{"name": "b"}]}]),
            "`a.b` is both function `b` of tool `a` and tool `a.b`",
        ),
        (
            |c| {
                c["tools"] = json!([
                    {"id": "a", "server": "s", "functions": [{"name": "b.c"}]},
                    {"id": "a.b", "server": "s", "functions": [{"name": "c"}]}
                ])
            },
            "`a.b.c` is both",
        ),
        (
            |c| c["tools"] = json!([{"id": "a", "server": "s", "functions": [{"name": "b"}, {"name": "b"}]}]),
            "`a.b` is both",
        ),
        (
            |c| c["tools"] = json!([{"id": "s/find", "server": "s", "name": "other"}]),
            "tools.s/find: is written like the tool `find` of server `s`",
        ),
    ];
    for (change, expected) in cases {
        let error = catalog(change).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    catalog(|c| c["tools"] = json!([{"id": "other/find", "server": "s"}]))
        .expect("no server `other` stands in the way");
}

#[test]
fn of_two_values_under_one_key_none_is_chosen() {
    let cases = [
        r#"{"servers": [], "servers": [], "tenants": {"queue": ["a"]}}"#,
        r#"{"servers": [{"id": "s", "url": "http://h/", "headers": {"A": "1", "A": "2"}}], "tenants": {"queue": ["a"]}}"#,
        r#"{"servers": [], "tenants": {"queue": ["a"], "fleet": ["x"], "senders": {"R": ["a"], "R": ["b"]}}}"#,
    ];
    for text in cases {
        let error = Catalog::parse(text).unwrap_err().to_string();
        assert!(error.contains("is duplicated in one object at line 1"), "{error}");
    }
}

#[test]
fn a_name_that_several_tools_offer_stands_for_the_first_by_id() {
    let two = catalog(|c| {
        c["tools"] =
            json!([{"id": "z", "server": "s", "name": "f"}, {"id": "m", "server": "s", "name": "f"}]);
    })
    .unwrap();
    let server = ServerId::parse("s").unwrap();
    assert_eq!(two.tool_on(&server, "f").unwrap().id.as_str(), "m");
    assert!(two.tool_on(&server, "g").is_none());
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
fn access_needs_type_and_role_of_one_enabled_rule() {
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
fn invalid_arguments_are_named_by_place_without_value() {
    let catalog = catalog(|_| ()).unwrap();
    let tool = catalog.tool(&ToolId::parse("t").unwrap()).unwrap();
    let schema = tool.functions[0].schema.as_ref().unwrap();
    assert!(problems(schema, &json!({"n": 1}).to_string()).is_empty());
    let found = problems(schema, &json!({"n": "secret-value"}).to_string()).join(";");
    assert!(found.contains("arguments/n") && !found.contains("secret-value"), "{found}");
    assert!(problems(schema, r#"{"n": 1}"#).is_empty());
    let twice = problems(schema, r#"{"n": "secret-value", "n": 1}"#).join(";");
    assert!(twice.contains("`n` is duplicated") && !twice.contains("secret-value"), "{twice}");
    assert!(problems(schema, &json!({}).to_string()).join(";").contains("\"n\" is a required property"));
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
fn sessions_need_registration_only_where_the_catalog_says_so() {
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
    assert!(
        of(r#"{"a b": "open"}"#).unwrap_err().to_string().contains("tenants.sessions: is not a valid tenant")
    );
}

#[test]
fn a_tenant_may_require_or_register_sessions() {
    let text = r#"{"servers": [], "tenants": {"queue": ["*"], "sessions": {"*": "required", "acme": "registered", "globex": "open"}}}"#;
    let catalog = Catalog::parse(text).unwrap();
    let of = |tenant: &str| {
        let tenant = Tenant::parse(tenant).unwrap();
        (catalog.requires_session(&tenant), catalog.opens_sessions(&tenant))
    };
    assert_eq!([of("acme"), of("globex"), of("initech")], [(true, false), (false, true), (true, true)]);
}

#[test]
fn reply_queues_are_open_to_all_tenants_or_to_those_named() {
    let of = |queues: &str| {
        let text = format!(r#"{{"servers": [], "tenants": {{"queue": ["*"]}}, "reply_queues": {queues}}}"#);
        Catalog::parse(&text)
    };
    let open = |catalog: &Catalog, url: &str| {
        ["acme", "globex"].map(|tenant| catalog.allows_reply_queue(&Tenant::parse(tenant).unwrap(), url))
    };
    assert_eq!(open(&of(r#"["q"]"#).unwrap(), "q"), [true, true]);
    let by_tenant = of(r#"{"acme": ["a"], "*": ["q"]}"#).unwrap();
    assert_eq!(
        (open(&by_tenant, "a"), open(&by_tenant, "q"), open(&by_tenant, "x")),
        ([true, false], [true, true], [false; 2])
    );
    for (queues, field) in [
        (r#""q""#, "reply_queues"),
        (r#"{"acme": "a"}"#, "reply_queues.acme"),
        (r#"{"a b": []}"#, "reply_queues"),
        (r#"{"acme": [7]}"#, "reply_queues.acme"),
    ] {
        let error = of(queues).unwrap_err().to_string();
        assert!(error.contains(field), "{queues}: {error}");
    }
}

#[test]
fn a_sender_may_be_bound_to_a_user() {
    let of = |sender: &str| {
        let text = format!(
            r#"{{"servers": [], "tenants": {{"senders": {{"AROA": {sender}}}, "fleet": ["AROAFLEET"]}}}}"#
        );
        Catalog::parse(&text)
    };
    let acme = Tenant::parse("acme").unwrap();
    let catalog = of(r#"{"tenants": ["acme"], "user": {"id": "ann", "roles": ["admin"]}}"#).unwrap();
    assert!(catalog.may_speak_for(Some("AROA:one"), &acme));
    let user = catalog.bound_user(Some("AROA:one")).unwrap();
    assert_eq!((user.id.as_str(), user.roles.as_slice()), ("ann", ["admin".to_owned()].as_slice()));
    assert!(catalog.bound_user(Some("AROAFLEET")).is_none() && catalog.bound_user(None).is_none());
    assert!(of(r#"["acme"]"#).unwrap().bound_user(Some("AROA")).is_none());
    for sender in [
        r#"{"tenants": ["acme"]}"#,
        r#"{"tenants": ["acme"], "user": {"id": "a", "role": "x"}}"#,
        "7",
        r#"{"tenants": ["acme"], "user": ["root"]}"#,
    ] {
        let error = of(sender).unwrap_err().to_string();
        assert!(error.contains("tenants.senders.AROA"), "{sender}: {error}");
    }
}

#[test]
fn a_pin_does_not_depend_on_the_order_of_keys() {
    let entry = json!({"name": "f", "inputSchema": {"type": "object"}});
    let pin = Pin::of_listed(&entry);
    let reordered: serde_json::Value =
        serde_json::from_str(r#"{"inputSchema": {"type": "object"}, "name": "f"}"#).unwrap();
    assert_eq!(pin, Pin::of_listed(&reordered));
    assert_ne!(pin, Pin::of_listed(&json!({"name": "f", "inputSchema": {"type": "object"}, "title": "F"})));
    let server = ServerId::parse("s").unwrap();
    let ways: [fn(&mut serde_json::Value, &str, &serde_json::Value); 4] = [
        |c, pin, _| c["tools"][0]["pin"] = json!(pin),
        |c, pin, _| {
            c["tools"] = json!([{"id": "x", "server": "s", "functions": [{"name": "t", "pin": pin}]}])
        },
        |c, pin, _| c["pins"] = json!({"s/t": pin}),
        |c, _, entry| c["pins"] = json!({"s/t": entry}),
    ];
    for way in ways {
        let pinned = catalog(|c| way(c, &pin.to_string(), &entry)).unwrap();
        assert_eq!(pinned.approved(&server, "t").map(|a| &a.pin), Some(&pin));
        assert!(pinned.approved(&server, "other").is_none());
        assert_eq!(pinned.pinned().len(), 1);
    }
}

#[test]
fn a_pin_that_cannot_hold_is_refused_with_its_place() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 6] = [
        (|c| c["tools"][0]["pin"] = json!("sha256:abc"), "tools.t.pin: is not a pin"),
        (|c| c["pins"] = json!({"s/t": "abc"}), "pins.s/t: is not a pin"),
        (|c| c["pins"] = json!({"s/t": 3}), "pins.s/t: is a number"),
        (|c| c["pins"] = json!({"x/t": {}}), "pins.x/t: is not `{server}/{name}` of a server"),
        (|c| c["pins"] = json!({"s": {}}), "pins.s: is not `{server}/{name}`"),
        (
            |c| {
                c["tools"][0]["pin"] = json!(Pin::of_listed(&json!({"a": 1})).to_string());
                c["pins"] = json!({"s/t": {"a": 2}});
            },
            "pins.s/t: differs from another pin of `s/t`",
        ),
    ];
    for (change, expected) in cases {
        let error = catalog(change).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_tools_progress_setting_overrides_its_servers() {
    let asked = |server: serde_json::Value, tool: serde_json::Value| {
        let catalog = catalog(|c| {
            c["servers"][0]["progress"] = server;
            if !tool.is_null() {
                c["tools"][0]["progress"] = tool;
            }
        });
        let tool = catalog.unwrap().tool(&ToolId::parse("t").unwrap()).unwrap().clone();
        (tool.progress, tool.definition.to_string())
    };
    let (by_default, definition) = asked(json!(false), json!(null));
    assert!(!by_default);
    assert_eq!(asked(json!(true), json!(null)), (true, definition.clone()));
    assert_eq!(asked(json!(true), json!(false)), (false, definition.clone()));
    assert_eq!(asked(json!(false), json!(true)), (true, definition));
}

/// The catalog, if all that it names can be called; else its error, or what stands in the way of the first entry, as an error is written.
pub(crate) fn all_executable(found: Result<Catalog, CatalogError>) -> Result<Catalog, String> {
    let catalog = found.map_err(|error| error.to_string())?;
    let servers = catalog.not_executable_servers().map(|(_, found)| found);
    let mut unusable = catalog.not_executable_tools().map(|(_, found)| found).chain(servers);
    let left_out =
        catalog.remarks().iter().find_map(|r| Some((r.entry.clone(), r.text.strip_prefix("is left out: ")?)));
    let first = unusable.next().map(|found| (found.entry.clone(), found.reason.as_str())).or(left_out);
    let Some((entry, reason)) = first else {
        drop(unusable);
        return Ok(catalog);
    };
    Err(match reason.strip_prefix('`').and_then(|reason| reason.split_once("` ")) {
        Some((field, problem)) => format!("catalog: {entry}.{field}: {problem}"),
        None => format!("catalog: {entry}: {reason}"),
    })
}

/// What a schema says of a text, where it says anything.
pub(crate) fn problems(schema: &InputSchema, arguments: &str) -> Vec<String> {
    match schema.compile().unwrap().judge(arguments, Budget::MOST) {
        Verdict::Fits => Vec::new(),
        Verdict::Problems(problems) => problems,
        Verdict::OverBudget => panic!("a small schema is within the budget"),
    }
}

#[test]
fn limits_stand_at_servers_tools_and_tenants() {
    let text = r#"{
        "servers": [{"id": "crm", "url": "https://crm.example/mcp", "limits": {"rate": "20/s", "adaptive": true}}],
        "tools": [{"id": "crm.find", "server": "crm", "name": "find", "limits": {"concurrency": {"limit": 5, "on_loss": "free"}}}],
        "tenants": {"queue": ["*"], "limits": {
            "acme": {"rate": "100/m", "tools": {"crm.find": {"concurrency": 2}}},
            "*": {"rate": "10/m"}
        }}
    }"#;
    let catalog = Catalog::parse(text).unwrap();
    let tenant = |name: &str| Tenant::parse(name).unwrap();
    let rate = |text: &str| Some(text.parse::<RateLimit>().unwrap());
    let server = catalog.server(&ServerId::parse("crm").unwrap()).unwrap();
    assert_eq!((server.limits.rate, server.limits.adaptive), (rate("20/s"), true));
    let tool = catalog.tool(&ToolId::parse("crm.find").unwrap()).unwrap();
    assert_eq!(tool.limits.concurrency.unwrap().on_loss, OnLoss::Free);
    assert_eq!(catalog.tenant_limits(&tenant("acme")).rate, rate("100/m"));
    assert_eq!(catalog.tenant_limits(&tenant("globex")).rate, rate("10/m"));
    let of_tool = catalog.tenant_tool_limits(&tenant("acme"), "crm.find");
    assert_eq!(of_tool.concurrency.unwrap().limit.get(), 2);
    assert!(catalog.tenant_tool_limits(&tenant("globex"), "crm.find").is_empty());
}

#[test]
fn a_wrong_limit_is_named_with_its_place_and_the_remedy() {
    for (limits, tenants, place, why) in [
        (r#"{"rate": "20"}"#, "{}", "servers.crm.limits.rate", "20/s, 100/m"),
        (r#"{"rate": 20}"#, "{}", "servers.crm.limits.rate", "a rate as a text"),
        (r#"{"concurrency": 0}"#, "{}", "servers.crm.limits.concurrency", "whole number from 1"),
        (
            r#"{"concurrency": {"limit": 1, "on_los": "free"}}"#,
            "{}",
            "servers.crm.limits.concurrency.on_los",
            "on_loss",
        ),
        (r#"{"speed": 1}"#, "{}", "servers.crm.limits.speed", "unknown field"),
        ("{}", r#"{"acme": {"rate": "0/s"}}"#, "tenants.limits.acme.rate", "is no rate"),
        ("{}", r#"{"acme": {"tools": {"": {}}}}"#, "tenants.limits.acme.tools", "neither the id"),
    ] {
        let text = format!(
            r#"{{"servers": [{{"id": "crm", "url": "https://crm.example/mcp", "limits": {limits}}}],
                "tenants": {{"queue": ["*"], "limits": {tenants}}}}}"#
        );
        let error = Catalog::parse(&text).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(why), "{limits} {tenants}: {error}");
    }
}

#[test]
fn a_limit_of_a_tenant_for_an_unknown_tool_is_remarked() {
    let text = r#"{"servers": [{"id": "crm", "url": "https://crm.example/mcp"}], "tools": [{"id": "find", "server": "crm"}],
        "tenants": {"queue": ["*"], "limits": {"acme": {"tools": {"find": {"rate": "1/s"}, "find.find": {"rate": "1/s"},
            "crm/other": {"rate": "1/s"}, "fnd": {"rate": "1/s"}, "find.fin": {"rate": "1/s"}, "cmr/find": {"rate": "1/s"}}}}}}"#;
    let catalog = Catalog::parse(text).unwrap();
    let entries: Vec<_> = catalog.remarks().iter().map(|remark| remark.entry.as_str()).collect();
    let of = |tool| format!("tenants.limits.acme.tools.{tool}");
    assert_eq!(entries, [of("cmr/find"), of("find.fin"), of("fnd")]);
}
