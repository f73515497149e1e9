//! Imports the targets of an Amazon Bedrock AgentCore gateway: what `get-gateway-target` gives, what `create-gateway-target` takes, and
//! the resources `AWS::BedrockAgentCore::GatewayTarget` of a CloudFormation template. A target that is an MCP server or a Lambda function
//! becomes a server, and so does one that is an HTTP interface with an OpenAPI document.

use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::mcp_servers::{Entry, Imported};
use super::openapi;
use toolfleet_core::redact::quoted;

const RESOURCE: &str = "AWS::BedrockAgentCore::GatewayTarget";

/// Takes the targets out of a file of that form.
pub(crate) fn take(file: &mut Map<String, Value>) -> Option<Imported> {
    if let Some(Value::Object(resources)) = file.get("Resources") {
        let targets: Vec<_> = resources
            .iter()
            .filter(|(_, resource)| resource.get("Type").and_then(Value::as_str) == Some(RESOURCE))
            .map(|(name, resource)| {
                let properties = resource.get("Properties").cloned().unwrap_or_default();
                entry(&in_small_letters(properties), name)
            })
            .collect();
        if targets.is_empty() {
            return None;
        }
        let template = [
            "Resources",
            "AWSTemplateFormatVersion",
            "Description",
            "Parameters",
            "Outputs",
            "Conditions",
            "Mappings",
            "Metadata",
            "Transform",
            "Rules",
        ];
        file.retain(|key, _| !template.contains(&key.as_str()));
        return Some(Imported { servers: targets, remarks: Vec::new() });
    }
    for field in ["items", "targets"] {
        if let Some(Value::Array(items)) = file.get(field)
            && let Some(imported) = take_list(items)
        {
            file.remove(field);
            file.remove("nextToken");
            return Some(imported);
        }
    }
    let whole = Value::Object(file.clone());
    is_target(&whole).then(|| {
        file.clear();
        Imported { servers: vec![entry(&in_small_letters(whole), "target")], remarks: Vec::new() }
    })
}

/// Takes a list of targets by itself.
pub(crate) fn take_list(items: &[Value]) -> Option<Imported> {
    let is_list = !items.is_empty() && items.iter().all(|item| is_target(item) || is_summary(item));
    is_list.then(|| {
        let entries = items.iter().enumerate();
        let servers =
            entries.map(|(i, item)| entry(&in_small_letters(item.clone()), &format!("target-{}", i + 1)));
        Imported { servers: servers.collect(), remarks: Vec::new() }
    })
}

fn is_target(value: &Value) -> bool {
    ["targetConfiguration", "TargetConfiguration"]
        .iter()
        .any(|field| value.get(field).is_some_and(Value::is_object))
}

/// What `list-gateway-targets` says of a target.
fn is_summary(value: &Value) -> bool {
    value.get("targetId").is_some_and(Value::is_string) && value.get("status").is_some_and(Value::is_string)
}

/// CloudFormation begins the names of fields with a capital, the interface with a small letter. Of the maps that people fill in, only
/// the properties of a schema are read here: they keep their names.
fn in_small_letters(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                let key: String = first.into_iter().chain(letters).collect();
                let value = match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => properties
                        .into_iter()
                        .map(|(name, schema)| (name, in_small_letters(schema)))
                        .collect::<Map<_, _>>()
                        .into(),
                    (_, value) => in_small_letters(value),
                };
                (key, value)
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(in_small_letters).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// What the gateway adds to its requests for tokens: what a fleet can add as well, and the names of the rest.
fn custom_parameters(parameters: Option<&Value>, auth: &mut Value, asked: &mut Asked) {
    let mut lost = Vec::new();
    for (name, value) in parameters.and_then(Value::as_object).into_iter().flatten() {
        match (name.as_str(), value, auth.as_object_mut()) {
            ("audience" | "resource", Value::String(_), Some(auth)) => {
                auth.insert(name.clone(), value.clone());
            }
            (_, _, _) => lost.push(quoted(name)),
        }
    }
    if !lost.is_empty() {
        let text = format!(
            "is asked for without the gateway's `customParameters` {}; the authorization server may refuse that",
            lost.join(", ")
        );
        asked.remark("auth", text);
    }
}

/// What a target says that is not used here.
fn not_used(target: &Value, asked: &mut Asked) {
    let status = target.get("status").and_then(Value::as_str).unwrap_or_default();
    if ["FAILED", "DELETING", "UPDATE_UNSUCCESSFUL", "SYNCHRONIZE_UNSUCCESSFUL"].contains(&status) {
        asked.remark("status", format!("is {status} at the gateway; the target is taken all the same"));
    }
}

fn entry(target: &Value, otherwise: &str) -> Entry {
    let name = target.get("name").and_then(Value::as_str).unwrap_or(otherwise).to_owned();
    let mut asked = Asked::of(&name);
    let value = fields(target, &mut asked).map(Value::Object);
    Entry { section: "targets", name, value, remarks: asked.remarks }
}

fn fields(target: &Value, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    not_used(target, asked);
    let Some(configuration) = target.get("targetConfiguration") else {
        return Err("has no `targetConfiguration`, which `list-gateway-targets` leaves out; give what `aws bedrock-agentcore-control \
                    get-gateway-target` says of each target"
            .to_owned());
    };
    if let Some(lambda) = configuration.pointer("/mcp/lambda") {
        return function(target, lambda, asked);
    }
    if let Some(schema) = configuration.pointer("/mcp/openApiSchema") {
        let fields = Map::from_iter([("openapi".to_owned(), document(schema)?)]);
        let of_auth = "needs the authorization server, which the target does not name: write its `issuer` or `token_url`";
        return with_credentials(target, fields, of_auth, asked);
    }
    let Some(server) = configuration.pointer("/mcp/mcpServer") else {
        return Err(not_a_server(configuration));
    };
    let Some(endpoint) = server.get("endpoint").and_then(Value::as_str) else {
        return Err("has no `endpoint` that is a text; a template's function (`Ref`, `Fn::Sub`) is not computed here: write the address"
            .to_owned());
    };
    let fields = Map::from_iter([("url".to_owned(), Value::from(endpoint))]);
    let of_auth = "finds the authorization server through the MCP server; if it cannot, write its `issuer` or `token_url`";
    with_credentials(target, fields, of_auth, asked)
}

/// The fields with what is the same for every target that has an address. `of_auth` says where the authorization server is known from.
fn with_credentials(
    target: &Value,
    mut fields: Map<String, Value>,
    of_auth: &str,
    asked: &mut Asked,
) -> Result<Map<String, Value>, String> {
    if let Some(text) = target.get("description").filter(|text| text.is_string()) {
        fields.insert("description".to_owned(), text.clone());
    }
    let providers = target.get("credentialProviderConfigurations").and_then(Value::as_array);
    for provider in providers.into_iter().flatten() {
        credential(provider, of_auth, &mut fields, asked)?;
    }
    if target.get("metadataConfiguration").is_some_and(|value| !value.is_null()) {
        asked.remark(
            "metadataConfiguration",
            "is not used here: no header or parameter of a caller is passed on",
        );
    }
    Ok(fields)
}

/// The OpenAPI document of a target: itself, or its place in S3.
fn document(schema: &Value) -> Result<Value, String> {
    match (schema.get("inlinePayload"), schema.pointer("/s3/uri")) {
        (Some(Value::String(text)), _) => {
            let wrong = |what: &str| format!("has an `openApiSchema.inlinePayload` that {what}");
            let document = openapi::value_of(text).map_err(|reason| wrong(&reason.to_string()))?;
            Some(document).filter(Value::is_object).ok_or_else(|| wrong("is no OpenAPI document"))
        }
        (None, Some(Value::String(uri))) if uri.starts_with("s3://") => Ok(Value::from(uri.as_str())),
        _ => Err("has no `openApiSchema.inlinePayload` that is a text, and no `s3.uri` that begins with s3://; a template's function \
                  (`Ref`, `Fn::Sub`) is not computed here: write the document, or its place"
            .to_owned()),
    }
}

/// A target that is a Lambda function, with the tools that the target declares for it.
fn function(target: &Value, lambda: &Value, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    let Some(arn) = lambda.get("lambdaArn").and_then(Value::as_str) else {
        return Err("has no `lambdaArn` that is a text; a template's function (`Ref`, `Fn::GetAtt`) is not computed here: write the ARN"
            .to_owned());
    };
    let Some(tools) = lambda.pointer("/toolSchema/inlinePayload").and_then(Value::as_array) else {
        return Err("has no `toolSchema.inlinePayload` that is a list; a schema in S3 is not read here: write its list of tools in its place"
            .to_owned());
    };
    let mut fields = Map::from_iter([
        ("lambda".to_owned(), Value::from(arn)),
        ("payload".to_owned(), Value::from("arguments")),
        ("tools".to_owned(), Value::Array(tools.clone())),
    ]);
    for (field, of) in [("description", "description"), ("name", "target_name")] {
        if let Some(text) = target.get(field).filter(|text| text.is_string()) {
            fields.insert(of.to_owned(), text.clone());
        }
    }
    if tools.iter().any(|tool| tool.get("outputSchema").is_some_and(|schema| !schema.is_null())) {
        asked.remark("tools", "have an `outputSchema`, which is not used here: no answer is refused by one");
    }
    asked.remark(
        "lambda",
        "is invoked with the workers' own role, in the place of the gateway's; give it lambda:InvokeFunction",
    );
    Ok(fields)
}

/// What a target is that is neither, and what to do with it.
fn not_a_server(configuration: &Value) -> String {
    let kinds = configuration.get("mcp").or(Some(configuration)).and_then(Value::as_object);
    let kind = kinds.and_then(|kinds| kinds.keys().next()).map_or("", String::as_str);
    let (what, remedy) = match kind {
        "smithyModel" => (
            "an HTTP interface described in Smithy",
            "convert the model to an OpenAPI document (`smithy build` with the plugin `openapi`) and register it with `openapi`, or register the \
             gateway's own address as `url`",
        ),
        "apiGateway" => (
            "a stage of an API Gateway",
            "export its OpenAPI document (`aws apigateway get-export`) and register it with `openapi`, or register the gateway's own address as \
             `url`",
        ),
        "connector" => ("a connector of AgentCore itself", "register the gateway's own address as `url`"),
        _ => ("no MCP server", "register an MCP server's address as `url`"),
    };
    format!("is {what} ({}), which is not taken from this form; {remedy}", quoted(kind))
}

/// How the gateway proves to the server who it is, as far as a fleet can do the same.
fn credential(
    provider: &Value,
    of_auth: &str,
    fields: &mut Map<String, Value>,
    asked: &mut Asked,
) -> Result<(), String> {
    let of = |pointer: &str| provider.pointer(&format!("/credentialProvider/{pointer}"));
    let text = |pointer: &str| of(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    match provider.get("credentialProviderType").and_then(Value::as_str) {
        Some("API_KEY") => {
            if text("apiKeyCredentialProvider/credentialLocation") == Some("QUERY_PARAMETER") {
                if !fields.contains_key("openapi") {
                    return Err("sends its key as a parameter of the address, which only HTTP interfaces (`openapi`) can have here; use a \
                                header, if the server takes one: `headers` with `secret://name`"
                        .to_owned());
                }
                let name = text("apiKeyCredentialProvider/credentialParameterName").unwrap_or("api_key");
                let key = asked.scoped(&format!("query.{name}"), "API_KEY");
                fields.insert("query".to_owned(), json!({name: key}));
                return Ok(());
            }
            let header = text("apiKeyCredentialProvider/credentialParameterName").unwrap_or("Authorization");
            let prefix = text("apiKeyCredentialProvider/credentialPrefix")
                .map(str::trim)
                .filter(|prefix| !prefix.is_empty());
            let key = asked.scoped(&format!("headers.{header}"), "API_KEY");
            let value = prefix.map_or_else(|| key.clone(), |prefix| format!("{prefix} {key}"));
            fields.insert("headers".to_owned(), json!({header: value}));
        }
        Some("OAUTH") => {
            match text("oauthCredentialProvider/grantType") {
                None | Some("CLIENT_CREDENTIALS") => {
                    let id = asked.scoped("auth.client_id", "CLIENT_ID");
                    let secret = asked.scoped("auth.client_secret", "CLIENT_SECRET");
                    let mut auth = json!({"type": "oauth2_client_credentials", "client_id": id, "client_secret": secret});
                    if let (Some(scopes), Some(auth)) =
                        (of("oauthCredentialProvider/scopes"), auth.as_object_mut())
                    {
                        auth.insert("scopes".to_owned(), scopes.clone());
                    }
                    custom_parameters(of("oauthCredentialProvider/customParameters"), &mut auth, asked);
                    fields.insert("auth".to_owned(), auth);
                    asked.remark(
                    "auth",
                    format!("{of_auth} (`aws bedrock-agentcore-control get-oauth2-credential-provider` says it)"),
                );
                }
                Some(grant) => asked.remark(
                    "auth",
                    format!(
                        "is left out: the grant {} is for a person, and calls of a fleet have none",
                        quoted(grant)
                    ),
                ),
            }
        }
        Some("GATEWAY_IAM_ROLE") => {
            let mut auth = Map::from_iter([("type".to_owned(), Value::from("aws_sigv4"))]);
            for field in ["service", "region"] {
                if let Some(text) = text(&format!("iamCredentialProvider/{field}")) {
                    auth.insert(field.to_owned(), Value::from(text));
                }
            }
            fields.insert("auth".to_owned(), Value::Object(auth));
            asked.remark("auth", "signs with the worker's own role, in the place of the gateway's; give it the same permissions, or write a role that it assumes as `role_arn`");
        }
        other => {
            let text = format!(
                "is left out: {} passes on who called the gateway, which a fleet does not",
                quoted(other.unwrap_or_default())
            );
            asked.remark("auth", text);
        }
    }
    Ok(())
}
