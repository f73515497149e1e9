//! Names files that are no catalog and no configuration of MCP servers, and says what to do with them.

use serde_json::{Map, Value};

/// How blocks of Terraform begin.
const TERRAFORM: [&str; 8] = [
    "resource \"",
    "module \"",
    "variable \"",
    "provider \"",
    "data \"",
    "terraform {",
    "locals {",
    "output \"",
];

/// What a text that is no JSON is, and the remedy.
pub(crate) fn of_text(text: &str) -> Option<String> {
    let plain = crate::text::plain(text);
    let trimmed = plain.trim();
    if trimmed.is_empty() {
        return Some(
            "is empty; write {\"servers\": [], \"tenants\": {\"queue\": [\"*\"]}}, or give the file of an MCP client (`mcpServers`)"
                .to_owned(),
        );
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let has = |start: &str| lines().any(|line| line.starts_with(start));
    let first = lines().next().unwrap_or_default();
    let servers = "write its servers as JSON: {\"mcpServers\": {\"NAME\": {\"url\": ..}}} or {\"mcpServers\": {\"NAME\": {\"command\": .., \"args\": [..]}}}";
    if text.lines().any(|line| is_table(line, "mcp_servers") || is_table(line, "mcp")) {
        return Some(format!("is Codex's config.toml, and TOML is not read here; {servers}"));
    }
    if trimmed.starts_with('{') || trimmed.starts_with('[') && !is_table_line(first) {
        return of_broken_json(trimmed);
    }
    if trimmed.starts_with('<') {
        return Some(
            "is HTML or XML; give the JSON file itself (of GitHub: the file behind `Raw`)".to_owned(),
        );
    }
    if lines().any(|line| TERRAFORM.iter().any(|start| line.starts_with(start))) {
        return Some(format!("is a Terraform file; {servers}"));
    }
    if is_table_line(first) || lines().all(|line| is_table_line(line) || line.contains('=')) && has("[") {
        return Some(format!("is a TOML file, which is not read here; {servers}"));
    }
    if lines().all(|line| {
        let line = line.strip_prefix("export ").unwrap_or(line);
        line.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    }) {
        return Some(
            "is a file of environment variables (.env); set them where `toolfleet dev` is started (`set -a; . ./.env; set +a`), and \
             give a file of servers that names them as `${NAME}`"
                .to_owned(),
        );
    }
    if ["import ", "export ", "const ", "from ", "def ", "#!/", "module.exports", "package "]
        .iter()
        .any(|start| text.trim_start().starts_with(start))
    {
        return Some(format!("is a program; {servers}"));
    }
    let lines = content(text);
    let commas = |line: &str| line.matches(',').count();
    let columns = lines.first().map_or(0, |line| commas(line));
    let is_table =
        !is_yaml(text) && columns > 0 && lines.len() > 1 && lines.iter().all(|line| commas(line) >= columns);
    is_table.then(|| format!("is a table of comma-separated values (CSV); {servers}"))
}

/// The lines that say something.
fn content(text: &str) -> Vec<&str> {
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    text.lines().filter(says).collect()
}

/// Whether a text that is no JSON is meant as YAML: its first line has a key or is an item of a list.
pub(crate) fn is_yaml(text: &str) -> bool {
    let trimmed = text.trim_start();
    let first =
        content(text).into_iter().map(str::trim).find(|line| !line.starts_with(['%', '/']) && *line != "---");
    !trimmed.starts_with(['{', '[', '"'])
        && first.is_some_and(|line| line.starts_with("- ") || line.contains(": ") || line.ends_with(':'))
}

fn of_broken_json(text: &str) -> Option<String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let whole = |line: &str| serde_json::from_str::<Value>(line).is_ok();
    let several = lines.clone().count() > 1 && lines.all(whole);
    several.then(|| {
        "is JSON Lines, one value a line; a catalog is one object: put the entries into one array".to_owned()
    })
}

/// A line such as `[mcp_servers.x]`.
fn is_table(line: &str, name: &str) -> bool {
    let line = line.trim();
    is_table_line(line)
        && line
            .trim_start_matches('[')
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.') || rest.starts_with(']'))
}

fn is_table_line(line: &str) -> bool {
    let Some(name) =
        line.strip_prefix('[').and_then(|line| line.split(" #").next()?.trim_end().strip_suffix(']'))
    else {
        return false;
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"'@/ ".contains(c))
        && !matches!(name, "true" | "false" | "null")
}

/// What an OpenAPI document is, also one with `servers` of its own, and how a catalog names it.
pub(crate) fn openapi(file: &Map<String, Value>) -> Option<String> {
    let says = |field: &str| file.get(field).is_some_and(Value::is_string);
    let is_one =
        (says("openapi") || says("swagger")) && (file.contains_key("paths") || file.contains_key("info"));
    is_one.then(|| {
        "is an OpenAPI document of an HTTP interface; `toolfleet tools import openapi FILE` shows its tools. Name it in a catalog: \
         {\"servers\": [{\"id\": \"NAME\", \"openapi\": \"FILE\"}], \"tenants\": {\"queue\": [\"*\"]}}"
            .to_owned()
    })
}

/// What a value is that has no section of a catalog, and the remedy.
pub(crate) fn of_value(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => items.first().and_then(of_list),
        Value::Object(_) => of_object(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// A list of tools as model interfaces and servers write it.
fn of_list(first: &Value) -> Option<String> {
    let has = |field: &str| first.get(field).is_some();
    let what = if first.pointer("/function/name").is_some() || has("parameters") && has("name") && has("type")
    {
        "tools as OpenAI's interface takes them"
    } else if has("input_schema") && has("name") {
        "tools as Anthropic's interface takes them"
    } else if has("inputSchema") && has("name") {
        "tools as an MCP server lists them"
    } else if has("toolSpec") {
        "tools as Bedrock's Converse takes them"
    } else if has("functionDeclarations") || has("function_declarations") {
        "tools as Gemini's interface takes them"
    } else if has("url") || has("command") {
        return Some(
            "is a list of servers by itself; put it under `servers`: {\"servers\": [..], \"tenants\": {\"queue\": [\"*\"]}}"
                .to_owned(),
        );
    } else {
        return None;
    };
    Some(format!(
        "holds {what}: descriptions for a model, which do not say what runs the tools. Name the MCP servers that offer them: \
         {{\"mcpServers\": {{\"NAME\": {{\"url\": ..}}}}}}"
    ))
}

fn of_object(value: &Value) -> Option<String> {
    let at = |pointer: &str| value.pointer(pointer);
    let has = |field: &str| value.get(field).is_some();
    let listed = ["/tools/0", "/toolConfig/tools/0", "/result/tools/0", "/functions/0"];
    if let Some(text) = listed.iter().filter_map(|pointer| at(pointer)).find_map(of_list) {
        return Some(text);
    }
    if has("openapi") || has("swagger") || (has("paths") && has("info")) {
        return Some("is a part of an OpenAPI document; give the whole document, with `openapi` (or `swagger`) and `paths`".to_owned());
    }
    let servers = "name its servers: {\"mcpServers\": {\"NAME\": {\"url\": ..}}}";
    let what = if has("dxt_version") || at("/server/mcp_config").is_some() {
        return Some(
            "is the manifest of a desktop extension (MCPB); copy `server.mcp_config` to {\"mcpServers\": {\"NAME\": {\"command\": .., \"args\": [..]}}}"
                .to_owned(),
        );
    } else if has("devDependencies") || has("dependencies") || (has("scripts") && has("name")) {
        "is a package.json"
    } else if has("compilerOptions") {
        "is a tsconfig.json"
    } else if has("AWSTemplateFormatVersion") || (has("Resources") && !has("servers")) {
        "is a CloudFormation template without targets of an AgentCore gateway"
    } else if has("services") {
        return Some(
            "is a Docker Compose file; start the gateway or the container, and write {\"mcpServers\": {\"NAME\": {\"command\": \
             \"docker\", \"args\": [\"run\", \"-i\", \"--rm\", IMAGE]}}} or its address as `url`"
                .to_owned(),
        );
    } else if has("apiVersion") && has("kind") {
        "is a Kubernetes manifest"
    } else if at("/experimental/modelContextProtocolServers").is_some() {
        "is Continue's config.json in its older form (`experimental.modelContextProtocolServers`)"
    } else if at("/info/schema").is_some() && has("item") {
        "is a Postman collection"
    } else if has("skills") && has("url") && has("version") {
        "is an agent's card (A2A)"
    } else if has("projects") {
        return Some(
            "has servers of single folders alone (`projects`); copy the ones you mean into `mcpServers`"
                .to_owned(),
        );
    } else if has("url") || has("command") {
        return Some(
            "is one server by itself; give it a name: {\"mcpServers\": {\"NAME\": {..}}}, or put it into `servers` with an `id`".to_owned(),
        );
    } else if has("$schema") && has("properties") {
        "is a JSON Schema"
    } else {
        return None;
    };
    Some(format!("{what}, and no catalog; {servers}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_kinds_are_named_with_what_to_do() {
        for (text, expected) in [
            ("", "is empty"),
            (" // nothing\n", "is empty"),
            ("model = \"o3\"\n\n[mcp_servers.git]\ncommand = \"uvx\"\n", "Codex's config.toml"),
            ("[package]\nname = \"x\"\n", "is a TOML file"),
            ("# keys\nTOKEN=abc\nexport B=\"c d\"\n", "(.env)"),
            ("id,url\na,http://h/mcp\n", "(CSV)"),
            ("resource \"aws_sqs_queue\" \"q\" {\n  name = \"x\"\n}\n", "Terraform"),
            ("<!doctype html>\n<html>", "HTML or XML"),
            ("export default {\n}", "is a program"),
            ("{\"a\": 1}\n{\"a\": 2}\n", "JSON Lines"),
        ] {
            let found = of_text(text).unwrap_or_else(|| panic!("{text}"));
            assert!(found.contains(expected), "{found}");
        }
        for yaml in ["services:\n  git:\n    image: mcp/git\n", "a: 1\nb:\n  - 2\n", "# x\n---\n- a: 1\n"] {
            assert!(of_text(yaml).is_none() && is_yaml(yaml), "{yaml}");
        }
        assert!(!is_yaml("hello\n") && !is_yaml("{\"a\": 1"));
        assert_eq!(of_text("{\"servers\": [}"), None, "a mistake in JSON is named by its line and column");
    }

    #[test]
    fn json_of_other_kinds_is_named_with_what_to_do() {
        for (text, expected) in [
            (r#"[{"type": "function", "function": {"name": "a", "parameters": {}}}]"#, "OpenAI"),
            (r#"{"tools": [{"type": "function", "name": "a", "parameters": {}}]}"#, "OpenAI"),
            (r#"[{"name": "a", "input_schema": {}}]"#, "Anthropic"),
            (r#"{"result": {"tools": [{"name": "a", "inputSchema": {}}]}}"#, "an MCP server lists"),
            (r#"{"toolConfig": {"tools": [{"toolSpec": {"name": "a"}}]}}"#, "Converse"),
            (r#"[{"functionDeclarations": []}]"#, "Gemini"),
            (r#"[{"id": "a", "url": "https://h/mcp"}]"#, "put it under `servers`"),
            (r#"{"url": "https://h/mcp"}"#, "one server by itself"),
            (r#"{"openapi": "3.1.0", "paths": {}}"#, "OpenAPI"),
            (r#"{"name": "x", "version": "1", "dependencies": {}}"#, "package.json"),
            (r#"{"services": {"git": {"image": "mcp/git"}}}"#, "a Docker Compose file"),
            (r#"{"apiVersion": "v1", "kind": "Secret"}"#, "Kubernetes"),
            (r#"{"dxt_version": "0.1", "server": {}}"#, "desktop extension"),
            (r#"{"projects": {"/x": {"mcpServers": {}}}}"#, "single folders"),
        ] {
            let found = of_value(&serde_json::from_str(text).unwrap()).unwrap_or_else(|| panic!("{text}"));
            assert!(found.contains(expected), "{found}");
        }
    }
}
