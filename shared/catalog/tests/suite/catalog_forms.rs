//! The forms of others: Pika's tool definitions and the GenAI IDP accelerator's secret, as they are, and what is wrong with them.

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, LambdaPayload, Literals, Tool};
use toolfleet_core::credential::{Credential, Secret, Setting};
use toolfleet_core::ids::{ServerId, Tenant, ToolId};
use toolfleet_core::request::User;

use crate::catalog::{all_executable, problems};

const PIKA: &str = include_str!("../fixtures/pika-tools.json");
const IDP: &str = include_str!("../fixtures/idp-external-mcp-agents-secret.json");

/// A catalog that is a secret as a whole.
fn sealed(text: &str) -> Result<Catalog, String> {
    let catalog = Catalog::parse_with(
        text,
        &CatalogSources { literals: Literals::Accepted, ..CatalogSources::default() },
    );
    all_executable(catalog)
}

fn tool<'a>(catalog: &'a Catalog, id: &str) -> &'a Tool {
    catalog.tool(&ToolId::parse(id).unwrap()).unwrap_or_else(|| panic!("no tool `{id}`"))
}

fn user(kind: &str, role: &str) -> User {
    User { id: "u".into(), kind: Some(kind.into()), roles: vec![role.into()] }
}

fn pika(definition: Value) -> Result<Catalog, String> {
    all_executable(Catalog::parse(&json!([definition]).to_string()))
}

fn with(field: &str, value: Value) -> Result<Catalog, String> {
    let mut definition =
        json!({"toolId": "t", "executionType": "mcp", "url": "https://h.example/mcp", "description": "d"});
    definition[field] = value;
    pika(definition)
}

#[test]
fn pikas_definitions_are_accepted_as_they_are() {
    let catalog = Catalog::parse(PIKA).unwrap();
    let ids: Vec<_> = catalog.tools().iter().map(|t| t.id.to_string()).collect();
    let expected = [
        "api-mcp-tool",
        "crm-mcp-tool",
        "custom-business-logic",
        "customer-db-mcp.internal.example",
        "sensitive-mcp-tool",
        "weather-mcp-tool",
    ];
    assert_eq!(ids, expected);

    let crm = tool(&catalog, "crm-mcp-tool");
    let names: Vec<_> = crm.functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!((names, crm.open), (vec!["get_customer_info", "create_opportunity"], false));
    let auth = serde_json::to_value(&crm.server.http().unwrap().auth).unwrap();
    let expected = json!({"type": "oauth2_client_credentials", "client_id": "secret://crm/client-id",
        "client_secret": "secret://crm/client-secret", "algorithm": "ES256", "resource": "none", "step_up": true,
        "token_url": "https://auth.internal.example/oauth/token", "scopes": ["read:customers", "write:opportunities"]});
    assert_eq!(auth, expected);

    let api = tool(&catalog, "api-mcp-tool");
    assert!(api.open && api.functions.is_empty(), "without a functionSchema its server's list stands");
    assert_eq!(api.server.http().unwrap().headers["X-API-Key"].expose(), "secret://api/key");

    let lambda = tool(&catalog, "custom-business-logic");
    let function = lambda.server.lambda().unwrap();
    assert!(function.function.as_str().ends_with("custom-business-logic"));
    assert_eq!(
        (function.payload, lambda.server.id.as_str()),
        (LambdaPayload::Bedrock, "custom-business-logic")
    );

    let weather = tool(&catalog, "weather-mcp-tool").functions[0].schema.clone().unwrap();
    assert!(problems(&weather, &json!({"location": "Oslo"}).to_string()).is_empty());
    assert!(problems(&weather, &json!({"location": 3}).to_string()).join("").contains("arguments/location"));
}

#[test]
fn pikas_access_rules_hold_by_either_name_of_a_tool() {
    let catalog = Catalog::parse(PIKA).unwrap();
    let server = ServerId::parse("sensitive-mcp-tool").unwrap();
    for tool in [tool(&catalog, "sensitive-mcp-tool"), catalog.tool_on(&server, "whatever_it_lists").unwrap()]
    {
        assert!(tool.is_open_to(Some(&user("internal-user", "admin"))));
        assert!(!tool.is_open_to(Some(&user("external-user", "admin"))));
        assert!(!tool.is_open_to(Some(&user("internal-user", "guest"))));
        assert!(!tool.is_open_to(None));
    }
    let rules = |apply: &str| json!([{"enabled": true, "userTypes": ["internal-user"], "userRoles": ["admin"], "applyRulesAs": apply}]);
    let either = with("accessRules", rules("or")).unwrap();
    let both = with("accessRules", rules("and")).unwrap();
    let outsider = user("external-user", "admin");
    assert!(tool(&either, "t").is_open_to(Some(&outsider)) && !tool(&both, "t").is_open_to(Some(&outsider)));
}

#[test]
fn pikas_tokens_and_keys_become_headers() {
    for (authentication, name, expected) in [
        (json!({"type": "bearer", "token": "secret://t"}), "Authorization", "Bearer secret://t"),
        (json!({"type": "api-key", "key": "secret://k"}), "X-API-Key", "secret://k"),
        (
            json!({"type": "api-key", "headerName": "X-Key", "apiKey": "secret://k#a"}),
            "X-Key",
            "secret://k#a",
        ),
    ] {
        let catalog = with("authentication", authentication).unwrap();
        assert_eq!(tool(&catalog, "t").server.http().unwrap().headers[name].expose(), expected);
    }
    for (authentication, expected) in [
        (json!({"type": "bearer"}), "pika.t: needs one of"),
        (
            json!({"type": "bearer", "token": "a-token-1"}),
            "pika.t.headers.Authorization: holds a secret itself",
        ),
        (
            json!({"type": "api-key", "key": "secret://k", "place": "query"}),
            "pika.t.authentication.place: is not known",
        ),
        (
            json!({"type": "api-key", "key": "secret://k", "header": "a b"}),
            "pika.t.headers.a b: is not a name",
        ),
    ] {
        let error = with("authentication", authentication).unwrap_err();
        assert!(
            error.contains(expected.split(": ").last().unwrap()) && !error.contains("a-token-1"),
            "{error}"
        );
    }
}

#[test]
fn an_array_names_no_tenant_until_the_operator_does() {
    let nobody = Catalog::parse(PIKA).unwrap();
    let acme = Tenant::parse("acme").unwrap();
    assert!(nobody.names_nobody() && !nobody.may_speak_for(Some("AROA1"), &acme));
    let material = CatalogSources { tenants: Some(vec!["acme".into()]), ..CatalogSources::default() };
    let told = Catalog::parse_with(PIKA, &material).unwrap();
    assert!(!told.names_nobody() && told.may_speak_for(Some("AROA1"), &acme));
}

#[test]
fn sections_may_be_included_by_name() {
    let text = json!({
        "servers": [{"id": "own", "url": "https://own.example/mcp"}],
        "tools": [{"id": "x", "server": "own"}],
        "pika": "pika-tools.json", "idp": "secret://idp/agents", "tenants": {"queue": ["acme"]}
    })
    .to_string();
    assert_eq!(Catalog::references(&text).unwrap().sections, ["pika-tools.json", "secret://idp/agents"]);
    let missing = Catalog::parse(&text).unwrap_err().to_string();
    assert!(missing.contains("pika: names `pika-tools.json`"), "{missing}");
    let included = [("pika-tools.json", PIKA), ("secret://idp/agents", IDP)];
    let included = included.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let catalog =
        Catalog::parse_with(&text, &CatalogSources { included, ..CatalogSources::default() }).unwrap();
    assert_eq!((catalog.tools().len(), catalog.servers().len()), (7, 9));
}

#[test]
fn pikas_other_fields_are_honoured() {
    let paused = with("lifecycle", json!({"status": "retired", "migrationPath": "t2"})).unwrap();
    assert!(tool(&paused, "t").paused);
    assert!(!tool(&with("lifecycle", json!({"status": "enabled"})).unwrap(), "t").paused);
    assert_eq!(tool(&with("executionTimeout", json!(2.5)).unwrap(), "t").timeout_ms, 2_500);
    assert_eq!(tool(&with("executionTimeout", Value::Null).unwrap(), "t").timeout_ms, 30_000);
    for (display, value) in [
        ("displayName", json!("T")),
        ("version", json!(3)),
        ("tags", json!({"a": "b"})),
        ("supportedAgentFrameworks", json!(["bedrock"])),
        ("createdBy", json!("someone")),
        ("colour", json!("red")),
        ("toolId", json!("weather-basic@1")),
    ] {
        with(display, value).unwrap_or_else(|e| panic!("{display}: {e}"));
    }
    let bedrock = with(
        "functionSchema",
        json!([{"name": "f", "requireConfirmation": "DISABLED", "parameters": {
            "city": {"type": "string", "description": "where", "required": true}, "days": {"type": "integer"}}}]),
    )
    .unwrap();
    let schema = tool(&bedrock, "t").functions[0].schema.clone().unwrap();
    assert!(problems(&schema, &json!({"city": "Oslo", "days": 2}).to_string()).is_empty());
    assert_eq!(problems(&schema, &json!({"days": "2"}).to_string()).len(), 2);
}

#[test]
fn a_mistake_in_a_pika_definition_names_tool_and_field() {
    let cases = [
        (
            with("executionType", json!("inline")),
            "pika.t.executionType: is `inline`, code that Pika runs itself; accepted are `mcp` and `lambda`",
        ),
        (with("url", Value::Null), "pika.t.mcpServerUrl: is missing"),
        (with("mcpServerUrl", json!("https://other.example/mcp")), "pika.t.url: differs from `mcpServerUrl`"),
        (with("url", json!("ftp://h/x")), "pika.t.url: has the scheme `ftp`"),
        (with("toolId", json!("a b")), "pika.a b.toolId: is not a valid tool id: it has ' ' at character 2"),
        (with("executionTimeout", json!(0)), "pika.t.executionTimeout: is 0"),
        (with("accesRules", json!([])), "pika.t.accesRules: is not a field that is understood here"),
        (
            with("accessRules", json!([{"effect": "deny"}])),
            "pika.t.accessRules[0].effect: is not evaluated here",
        ),
        (
            with("accessRules", json!([{"enabled": true, "userTypes": []}])),
            "pika.t.accessRules[0].userTypes: is empty",
        ),
        (
            with("accessRules", json!([{"userTypes": ["a"]}])),
            "pika.t.accessRules[0]: missing field `enabled`",
        ),
        (
            with("lifecycle", json!({"status": "gone"})),
            "pika.t.lifecycle.status: is not what it should be; expected one of `enabled`",
        ),
        (with("lifecycle", json!({"state": "disabled"})), "pika.t.lifecycle.status: is missing"),
        (
            with("lifecycle", json!({"status": "enabled", "rules": []})),
            "pika.t.lifecycle.rules: is not a field",
        ),
        (
            with("functionSchema", json!([{"name": "f", "parameters": {"type": "objekt"}}])),
            "pika.t.functionSchema.f.parameters.type: is `objekt`; accepted are string",
        ),
        (
            with("functionSchema", json!([{"name": "f", "parameters": {"x": {"type": "colour"}}}])),
            "pika.t.functionSchema.f.parameters.x.type: is `colour`; accepted are string",
        ),
        (
            with("functionSchema", json!([{"name": "f", "requireConfirmation": "ENABLED"}])),
            "pika.t.functionSchema.f.requireConfirmation: asks a person",
        ),
        (
            with("functionSchema", json!([{"description": "f"}])),
            "pika.t.functionSchema[0]: missing field `name`",
        ),
        (with("authentication", json!({"type": "magic"})), "pika.t.authentication.type: is `magic`"),
        (
            with("authentication", json!({"type": "oauth2-client-credentials", "clientId": "a"})),
            "pika.t.authentication: missing field `clientSecret`",
        ),
        (
            with("authentication", json!({"type": "custom-headers", "headers": {"a b": "x"}})),
            "pika.t.headers.a b: is not a name that HTTP allows",
        ),
        (
            pika(json!({"toolId": "l", "executionType": "lambda", "lambdaArn": "WILL_BE_REPLACED"})),
            "pika.l.lambdaArn: is missing or no ARN",
        ),
        (pika(json!({"executionType": "mcp"})), "pika[0].toolId: is missing"),
    ];
    for (found, expected) in cases {
        let error = found.expect_err(expected);
        assert!(error.contains(expected), "{error}\n instead of {expected}");
    }
    let single = Catalog::parse(r#"{"toolId": "t", "executionType": "mcp"}"#).unwrap_err().to_string();
    assert!(single.contains("is a single object, one Pika tool; put it into an array"), "{single}");
}

#[test]
fn the_idp_secret_is_accepted_as_it_is() {
    let catalog = sealed(IDP).unwrap();
    let [named, unnamed] = catalog.servers()[..] else { panic!("{catalog:?}") };
    let (unnamed, named) = (named, unnamed);
    assert_eq!(named.id.as_str(), "my_custom_calculator_agent");
    assert_eq!(named.name.as_deref(), Some("My Custom Calculator Agent"));
    assert_eq!(unnamed.id.as_str(), "external-mcp-agent-2");
    assert_eq!(unnamed.name.as_deref(), Some("External MCP Agent 2"));
    assert!(named.discover && unnamed.discover && !named.trusted);
    let told = named.description_with(["add", "divide"]);
    assert_eq!(
        told,
        "Provides advanced mathematical calculations for document analysis The tools available are: add, divide."
    );
    assert_eq!(unnamed.description_with([]), unnamed.description.clone().unwrap());
    let Credential::Cognito(cognito) = &unnamed.http().unwrap().auth else { panic!("{unnamed:?}") };
    let Secret::Inline(password) = &cognito.password else { panic!("{cognito:?}") };
    assert_eq!(password.expose(), "example-password-2");
    assert_eq!(cognito.user_pool_id, Setting::Plain("us-east-1_YYYYYYYYY".to_owned()));
    let written = serde_json::to_string(&**unnamed).unwrap();
    assert!(!written.contains("example-password") && !written.contains("mcp-service-user"), "{written}");
    let printed = format!("{catalog:?}");
    assert!(!printed.contains("example-password") && !printed.contains("mcp-service-user"), "{printed}");
}

#[test]
fn an_empty_array_is_fine_and_a_single_object_is_refused() {
    let none = Catalog::parse("[]").unwrap();
    assert!(none.servers().is_empty() && none.tools().is_empty());
    let section = json!({"idp": [], "tenants": {"queue": ["acme"]}}).to_string();
    assert!(Catalog::parse(&section).unwrap().servers().is_empty());
    let one: Value = serde_json::from_str::<Vec<Value>>(IDP).unwrap().remove(0);
    let bare = Catalog::parse(&one.to_string()).unwrap_err().to_string();
    let section = json!({"idp": one, "tenants": {"queue": ["acme"]}}).to_string();
    let section = Catalog::parse(&section).unwrap_err().to_string();
    for error in [bare, section] {
        assert!(error.contains("is a single object") && error.contains("put it into an array"), "{error}");
        assert!(!error.contains("example-password"), "{error}");
    }
}

#[test]
fn an_idp_mistake_names_the_field_and_no_value() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 8] = [
        (
            |a| a["cognito_password"] = json!(1_234_567),
            "idp[1].cognito_password: is a number; accepted is a text",
        ),
        (|a| a["cognito_username"] = Value::Null, "idp[1].cognito_username: is null"),
        (|a| a["cognito_client_id"] = json!(""), "idp[1].cognito_client_id: is empty"),
        (|a| a["cognito_user_pool_id"] = json!("1234567"), "idp[1].cognito_user_pool_id: is not a pool's id"),
        (|a| a["mcp_url"] = json!("1234567"), "idp[1].mcp_url: is not a URL"),
        (|a| a["transport"] = json!("sse"), "idp[1].transport: is `sse`; accepted is `http`"),
        (|a| a["agent_name"] = json!("My custom Calculator agent"), "idp[1]: is duplicated"),
        (|a| a["cognito"] = json!({"password": "1234567"}), "idp[1].cognito: is not a field of an agent"),
    ];
    for (change, expected) in cases {
        let mut agents: Vec<Value> = serde_json::from_str(IDP).unwrap();
        change(&mut agents[1]);
        let error = sealed(&json!(agents).to_string()).expect_err(expected);
        assert!(error.contains(expected) && !error.contains("1234567"), "{error}\n instead of {expected}");
    }
    let text = sealed(r#"[{"mcp_url": "https://h/"}, "1234567"]"#).unwrap_err();
    assert!(text.contains("idp[0]."), "{text}");
}
