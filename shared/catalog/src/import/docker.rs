//! Imports the catalog of Docker's MCP Toolkit: images that `docker run` starts as programs, and addresses of servers elsewhere. An
//! entry of Docker's public collection (`server.yaml`), which is one such server, is taken as well.

use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::mcp_servers::{Entry, Imported};
use crate::placeholders::variable_name;

/// The arguments with which a container is started whose stdin and stdout are used; other words for the same are left out.
pub(super) const RUN: [&str; 6] = ["run", "-i", "--rm", "--interactive", "-it", "-t"];

/// The first arguments of `docker`.
pub(super) fn run() -> Vec<String> {
    ["run", "-i", "--rm"].map(str::to_owned).into()
}

/// Takes the servers out of a file of that form.
pub(crate) fn take(file: &mut Map<String, Value>) -> Option<Imported> {
    let is_server =
        |value: &Value| ["image", "remote", "sseEndpoint"].iter().any(|field| value.get(field).is_some());
    let is_catalog = file.get("registry").and_then(Value::as_object).is_some_and(|servers| {
        !servers.is_empty()
            && servers.values().all(|server| is_server(server) || server.get("type").is_some())
    });
    if is_catalog {
        let Some(Value::Object(servers)) = file.remove("registry") else {
            return None;
        };
        for field in ["version", "name", "displayName"] {
            file.remove(field);
        }
        let servers = servers.into_iter().map(|(name, server)| entry(name, &server)).collect();
        return Some(Imported { servers, remarks: Vec::new() });
    }
    let of_collection = file.get("name").is_some_and(Value::is_string)
        && (is_server(&Value::Object(file.clone())) || file.get("type").is_some_and(|kind| kind == "poci"))
        && ["about", "meta", "source"].iter().any(|field| file.get(*field).is_some_and(Value::is_object));
    of_collection.then(|| {
        let server = flat(std::mem::take(file));
        let name = server.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        Imported { servers: vec![entry(name, &server)], remarks: Vec::new() }
    })
}

/// The collection keeps in sections what a catalog has beside each other.
fn flat(mut server: Map<String, Value>) -> Value {
    for section in ["run", "about", "config"] {
        let Some(Value::Object(parts)) = server.remove(section) else {
            continue;
        };
        for (field, value) in parts {
            // A parameter's description is none of the server's.
            if section != "config" || field != "description" {
                server.entry(field).or_insert(value);
            }
        }
    }
    // The variables of `run` are a map.
    if let Some(Value::Object(env)) = server.get("env") {
        let list = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        server.insert("env".to_owned(), Value::Array(list));
    }
    Value::Object(server)
}

fn entry(name: String, server: &Value) -> Entry {
    let mut asked = Asked::of(&name);
    let value = fields(server, &mut asked).map(Value::Object);
    Entry { section: "registry", name, value, remarks: asked.remarks }
}

fn fields(server: &Value, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    let text = |field: &str| server.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let address =
        server.get("remote").and_then(|remote| remote.get("url")).or_else(|| server.get("sseEndpoint"));
    let mut fields = match (text("type"), address.and_then(Value::as_str), text("image")) {
        (Some("poci"), ..) => {
            return Err("is of the type `poci`: each of its tools is a container of its own that does not speak MCP; start an MCP \
                        server that offers them, and register it"
                .to_owned());
        }
        (_, Some(address), _) => remote(server, address, asked),
        (_, None, Some(image)) => container(server, image, asked)?,
        (_, None, None) => return Err("has neither `image` nor `remote.url`; write one of them".to_owned()),
    };
    for (field, of) in [("name", "title"), ("description", "description")] {
        if let Some(text) = text(of) {
            fields.insert(field.to_owned(), Value::from(text));
        }
    }
    Ok(fields)
}

/// The secrets of a server: what Docker calls each, and the variable it is given in.
fn secrets(server: &Value) -> Vec<(&str, &str)> {
    let providers = server.pointer("/oauth/providers").or_else(|| server.get("oauth"));
    let lists = [server.get("secrets"), providers];
    let items = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
    items
        .filter_map(|item| {
            let name = item.get("name").or_else(|| item.get("secret"))?.as_str()?;
            Some((name, item.get("env")?.as_str()?))
        })
        .collect()
}

/// The text with a placeholder for each `${NAME}` and `$NAME` that is the variable of a secret. What a placeholder says is not looked at again.
fn with_secrets(text: &str, secrets: &[(&str, &str)], field: &str, asked: &mut Asked) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (variable, behind) = braced.unwrap_or_else(|| {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at(end)
        });
        match secrets.iter().find(|(_, of)| *of == variable && !variable.is_empty()) {
            Some((secret, _)) => {
                filled.push_str(&asked.exact(field, &variable_name(secret)));
                rest = behind;
            }
            None => {
                filled.push('$');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

fn remote(server: &Value, address: &str, asked: &mut Asked) -> Map<String, Value> {
    let remote = server.get("remote").unwrap_or(&Value::Null);
    let kind = match remote.get("transport_type").and_then(Value::as_str) {
        None if remote.get("url").is_none() => "sse",
        None | Some("streaming" | "") => "streamable-http",
        Some(other) => other,
    };
    let mut headers = Map::new();
    for (name, value) in remote.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let field = format!("headers.{name}");
        let text = with_secrets(value.as_str().unwrap_or_default(), &secrets(server), &field, asked);
        headers.insert(name.clone(), Value::from(text));
    }
    if server.get("oauth").is_some() && headers.is_empty() {
        asked.remark(
            "oauth",
            "has a person sign in with a browser, which nobody does here; write `auth` or `headers` with a secret of the fleet's own",
        );
    }
    let mut fields = Map::from_iter([("url".to_owned(), address.into()), ("type".to_owned(), kind.into())]);
    if !headers.is_empty() {
        fields.insert("headers".to_owned(), Value::Object(headers));
    }
    fields
}

fn container(server: &Value, image: &str, asked: &mut Asked) -> Result<Map<String, Value>, String> {
    let list = |field: &str| server.get(field).and_then(Value::as_array).into_iter().flatten();
    if image.starts_with('-') || image.contains(char::is_whitespace) {
        return Err("has an `image` that names no image".to_owned());
    }
    let mut args = run();
    args.extend(["--init", "--security-opt", "no-new-privileges"].map(str::to_owned));
    if server.get("disableNetwork") == Some(&Value::Bool(true)) {
        args.extend(["--network", "none"].map(str::to_owned));
    }
    let mut env = Map::new();
    for (secret, variable) in secrets(server) {
        let placeholder = asked.exact(&format!("env.{variable}"), &variable_name(secret));
        env.insert(variable.to_owned(), Value::from(placeholder));
    }
    for item in list("env") {
        let Some(name) = item.get("name").and_then(Value::as_str) else {
            return Err("has a variable in `env` without a name".to_owned());
        };
        let field = format!("env.{name}");
        let value = item.get("value").map(word).unwrap_or_default();
        match filled(server, &field, &value, asked) {
            Ok(value) if value.is_empty() => {}
            Ok(value) => {
                env.insert(name.to_owned(), Value::from(value));
            }
            Err(text) => asked.remark(&field, format!("{text}; it is left out")),
        }
    }
    for name in env.keys() {
        args.extend(["-e".to_owned(), name.clone()]);
    }
    let user = server.get("user").map(word);
    let options = [("-v", "volumes"), ("--add-host", "extraHosts")];
    let options = options
        .into_iter()
        .flat_map(|(option, field)| list(field).map(move |item| (option, field, word(item))));
    for (option, field, value) in options.chain(user.map(|user| ("-u", "user", user))) {
        let value = filled(server, field, &value, asked).map_err(|text| format!("`{field}` {text}"))?;
        if value.starts_with('-') {
            return Err(format!("`{field}` begins with `-`, which docker would take for an option"));
        }
        args.extend([option.to_owned(), value]);
    }
    args.push(image.to_owned());
    for item in list("command") {
        args.push(filled(server, "command", &word(item), asked).map_err(|text| format!("`command` {text}"))?);
    }
    if list("allowHosts").next().is_some() {
        asked.remark(
            "allowHosts",
            "is not used here: nothing limits the addresses that the container reaches",
        );
    }
    let mut fields =
        Map::from_iter([("command".to_owned(), "docker".into()), ("args".to_owned(), args.into())]);
    if !env.is_empty() {
        fields.insert("env".to_owned(), Value::Object(env));
    }
    Ok(fields)
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

/// The text with defaults and placeholders in the place of what Docker Desktop takes from its configuration, `{{server.setting}}`.
fn filled(server: &Value, field: &str, text: &str, asked: &mut Asked) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, inner)) = rest.split_once("{{") {
        let Some((name, after)) = inner.split_once("}}") else {
            break;
        };
        filled.push_str(before);
        let name = name.trim();
        if name.contains('|') {
            return Err("is what Docker Desktop makes of its own configuration with filters; write an entry with `command`, `args` and \
                        the values"
                .to_owned());
        }
        match default(server, name) {
            Some(value) => filled.push_str(&word(value)),
            None => filled.push_str(&asked.exact(field, &variable_name(name))),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The default of a setting, which `config` describes under the server's name.
fn default<'a>(server: &'a Value, name: &str) -> Option<&'a Value> {
    let (of, path) = name.split_once('.')?;
    let described = server.get("config").and_then(Value::as_array).into_iter().flatten();
    let described = described.filter(|config| config.get("name").and_then(Value::as_str) == Some(of));
    let mut described = described.chain(server.get("parameters"));
    let default = described.find_map(|config| {
        path.split('.').try_fold(config, |config, part| config.get("properties")?.get(part))?.get("default")
    });
    default.filter(|value| value.is_string() || value.is_number() || value.is_boolean())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_secrets_that_it_names_and_no_others() {
        let secrets = [("b", "API"), ("api.key", "API_KEY"), ("x", "B"), ("empty", "")];
        let filled = |text: &str| with_secrets(text, &secrets, "headers.A", &mut Asked::default());
        // The placeholder of the first secret is the text of the third's variable.
        assert_eq!(filled("Bearer $API ${B}"), "Bearer ${B} ${X}");
        assert_eq!(filled("$API_KEY-$API"), "${API_KEY}-${B}");
        for text in ["$", "a $ b", "$OTHER ${OTHER}", "${API", "${}"] {
            assert_eq!(filled(text), text);
        }
    }
}
