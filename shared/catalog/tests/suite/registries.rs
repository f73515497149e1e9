//! Servers as registries and gateways describe them: the MCP registry, Docker's MCP catalog, and files in YAML.

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, LocalEnvironment, Programs};
use toolfleet_core::ids::ServerId;

pub(crate) fn read_with(text: &str, variables: &[&str]) -> Result<Catalog, String> {
    let variables = variables.iter().map(|name| ((*name).to_owned(), format!("value-of-{name}"))).collect();
    let material = CatalogSources {
        programs: Programs::Allowed,
        tenants: Some(vec!["*".to_owned()]),
        local_environment: Some(LocalEnvironment { variables }),
        ..CatalogSources::default()
    };
    Catalog::parse_with(text, &material).map_err(|error| error.to_string())
}

pub(crate) fn read(value: &Value) -> Catalog {
    read_with(&value.to_string(), &[]).unwrap_or_else(|error| panic!("{value}: {error}"))
}

pub(crate) fn server(catalog: &Catalog, id: &str) -> Value {
    let server = catalog.server(&ServerId::parse(id).unwrap()).unwrap_or_else(|| panic!("{id}: {catalog:?}"));
    serde_json::to_value(&**server).unwrap()
}

pub(crate) fn header(catalog: &Catalog, id: &str, name: &str) -> Option<String> {
    let server = catalog.server(&ServerId::parse(id).unwrap()).unwrap();
    server.http().unwrap().headers.get(name).map(|value| value.expose().to_owned())
}

pub(crate) fn reason(catalog: &Catalog, id: &str) -> String {
    let id = ServerId::parse(id).unwrap();
    assert!(catalog.server(&id).is_none(), "{id}");
    catalog.not_executable_server(&id).unwrap_or_else(|| panic!("{id}: {catalog:?}")).reason.clone()
}

pub(crate) fn told(catalog: &Catalog) -> String {
    catalog.remarks().iter().map(|remark| format!("{}: {}\n", remark.entry, remark.text)).collect()
}

/// The command line of a package.
pub(crate) fn line(package: Value) -> String {
    let catalog = read(&json!({"name": "io.example/s", "version": "1.0.0", "packages": [package]}));
    let server = server(&catalog, "io.example-s");
    let args: Vec<_> = server["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    format!("{} {}", server["command"].as_str().unwrap(), args.join(" "))
}

#[test]
fn a_package_of_the_registry_becomes_its_command_line() {
    let named = |name: &str, value: &str| json!({"type": "named", "name": name, "value": value});
    let words = [
        json!({"type": "positional", "value": "mcp"}),
        json!({"type": "positional", "valueHint": "dir", "default": "/d"}),
    ];
    for (package, expected) in [
        (json!({"registryType": "npm", "identifier": "@a/b", "version": "1.2.3"}), "npx -y @a/b@1.2.3"),
        (
            json!({"registry_type": "npm", "identifier": "b", "version": "1", "runtime_arguments": ["-y"]}),
            "npx -y b@1",
        ),
        (
            json!({"registryType": "npm", "identifier": "b", "version": "1", "packageArguments": words}),
            "npx -y b@1 mcp /d",
        ),
        (
            json!({"registryType": "npm", "identifier": "@a/b", "version": "1", "runtimeArguments": [{"type": "positional", "value": "@a/b@1"}]}),
            "npx -y @a/b@1",
        ),
        (
            json!({"registryType": "npm", "identifier": "b", "packageArguments": [
                {"type": "named", "name": "--verbose"}, {"type": "named", "name": "--port", "format": "number"},
                {"type": "named", "name": "--quiet", "format": "boolean", "default": "true"},
                {"type": "named", "name": "--x", "format": "boolean", "default": "false"}
            ]}),
            "npx -y b --verbose --quiet",
        ),
        (json!({"registryType": "pypi", "identifier": "w", "version": "0.5.0"}), "uvx w@0.5.0"),
        (
            json!({"registryType": "pypi", "identifier": "w", "version": "2", "runtimeArguments": [
                named("--from", "w==2"), {"type": "positional", "value": "serve"}
            ]}),
            "uvx --from w==2 serve",
        ),
        (
            json!({"registryType": "oci", "registryBaseUrl": "https://docker.io", "identifier": "mcp/fs", "version": "1.0.2",
                "runtimeArguments": [named("--mount", "type=bind,src={src},dst=/p")], "packageArguments": words[..1],
                "environmentVariables": [{"name": "LOG_LEVEL", "default": "info"}]}),
            "docker run -i --rm --mount type=bind,src={src},dst=/p -e LOG_LEVEL mcp/fs:1.0.2 mcp",
        ),
        (
            json!({"registryType": "oci", "registryBaseUrl": "https://ghcr.io", "identifier": "a/b", "runtimeArguments": ["run", "-i", "--rm"]}),
            "docker run -i --rm ghcr.io/a/b",
        ),
        (
            json!({"registryType": "oci", "identifier": "ghcr.io/a/b:2", "version": "3"}),
            "docker run -i --rm ghcr.io/a/b:2",
        ),
        (
            json!({"registryType": "nuget", "identifier": "K.S", "version": "0.4.0-beta", "packageArguments": words[..1]}),
            "dnx K.S@0.4.0-beta --yes -- mcp",
        ),
    ] {
        assert_eq!(line(package.clone()), expected, "{package}");
    }
}

#[test]
fn what_a_package_asks_for_is_a_variable_with_a_remark() {
    let package = json!({
        "registryType": "oci", "identifier": "example/db", "version": "3.1.0",
        "runtimeArguments": [{"type": "named", "name": "-e", "value": "DB_TYPE={db_type}", "variables": {"db_type": {"isRequired": true}}}],
        "packageArguments": [{"type": "positional", "valueHint": "database_name", "isRequired": true}],
        "environmentVariables": [
            {"name": "DB_PASSWORD", "isRequired": true, "isSecret": true}, {"name": "SSL_MODE", "default": "prefer"}, {"name": "EXTRA"}
        ],
    });
    let text = json!({"name": "io.example/db", "version": "3.1.0", "packages": [package]}).to_string();
    let unset = read_with(&text, &[]).unwrap();
    assert!(
        reason(&unset, "io.example-db").contains("needs the variable `IO_EXAMPLE_DB_DATABASE_NAME`"),
        "{unset:?}"
    );
    let set =
        read_with(&text, &["IO_EXAMPLE_DB_DB_TYPE", "IO_EXAMPLE_DB_DATABASE_NAME", "DB_PASSWORD"]).unwrap();
    let server = server(&set, "io.example-db");
    assert_eq!(server["env"]["DB_PASSWORD"], "secret://toolfleet-dev/io.example-db/env.DB_PASSWORD");
    assert_eq!(server["env"]["SSL_MODE"], "prefer");
    assert_eq!(server["env"]["DB_TYPE"], "value-of-IO_EXAMPLE_DB_DB_TYPE");
    assert_eq!(
        server["args"],
        json!([
            "run",
            "-i",
            "--rm",
            "-e",
            "DB_PASSWORD",
            "-e",
            "DB_TYPE",
            "-e",
            "SSL_MODE",
            "example/db:3.1.0",
            "value-of-IO_EXAMPLE_DB_DATABASE_NAME"
        ])
    );
    let told = told(&set);
    for expected in [
        "servers.io.example-db.env.DB_PASSWORD: is filled in from the variable `DB_PASSWORD`",
        "servers.io.example-db.args: is filled in from the variable `IO_EXAMPLE_DB_DATABASE_NAME`",
        "servers.io.example-db.env: may also have `EXTRA`",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn a_remote_gets_its_variables_under_its_own_name_alone() {
    let remote = |url: &str| {
        json!({"type": "streamable-http", "url": url, "variables": {"region": {"default": "eu"}},
            "headers": [{"name": "Authorization", "value": "Bearer {token}", "variables": {"token": {"isRequired": true, "isSecret": true}}},
                {"name": "X-Trace"}]})
    };
    let page = json!({"servers": [
        {"server": {"name": "a.example/one", "version": "1", "remotes": [remote("https://{region}.one.example/{tenant}/mcp")]}},
        {"server": {"name": "b.example/two", "version": "1", "remotes": [remote("https://two.example/mcp")]}},
    ], "metadata": {"count": 2}});
    let variables = ["A_EXAMPLE_ONE_TENANT", "A_EXAMPLE_ONE_TOKEN", "TOKEN", "TENANT"];
    let catalog = read_with(&page.to_string(), &variables).unwrap();
    let one = server(&catalog, "a.example-one");
    assert_eq!(one["url"], "https://eu.one.example/value-of-A_EXAMPLE_ONE_TENANT/mcp");
    let secret = "Bearer secret://toolfleet-dev/a.example-one/headers.Authorization";
    assert_eq!(header(&catalog, "a.example-one", "Authorization").as_deref(), Some(secret));
    assert_eq!(header(&catalog, "a.example-one", "X-Trace"), None);
    let two = server(&catalog, "b.example-two");
    assert_eq!(two["headers"], json!({}), "another server's secret is not sent");
    assert!(told(&catalog).contains("needs the variable `B_EXAMPLE_TWO_TOKEN`"), "{}", told(&catalog));
}

#[test]
fn the_first_way_that_can_be_used_is_taken() {
    let bundle = json!({"registryType": "mcpb", "identifier": "https://x.example/a.mcpb"});
    let npm = json!({"registryType": "npm", "identifier": "b"});
    let listens = json!({"registryType": "npm", "identifier": "b", "transport": {"type": "streamable-http", "url": "http://localhost/mcp"}});
    let new = json!({"type": "streamable-http", "url": "https://x.example/mcp"});
    let old = json!({"type": "sse", "url": "https://x.example/sse"});
    let with = |packages: Value, remotes: Value| json!({"name": "s", "version": "1", "packages": packages, "remotes": remotes});
    let both = read(&with(json!([npm]), json!([old, new])));
    assert_eq!(server(&both, "s")["url"], "https://x.example/mcp");
    assert!(
        told(&both).contains("servers.s.remotes[1]: is used; 2 more in the description are not"),
        "{}",
        told(&both)
    );
    let second = read(&with(json!([bundle, npm]), json!([old])));
    assert_eq!(server(&second, "s")["command"], "npx");
    assert!(told(&second).contains("servers.s.packages[0]: is an MCPB bundle"), "{}", told(&second));
    for (packages, remotes, expected) in [
        (json!([bundle]), json!([]), "`packages[0]` is an MCPB bundle"),
        (json!([listens]), json!([]), "register its address as `url`"),
        (json!([{"registryType": "cargo", "identifier": "b"}]), json!([]), "cargo install"),
        (json!([{"registryType": "npm", "identifier": "--help"}]), json!([]), "none that names a package"),
        (
            json!([{"registryType": "npm", "identifier": "b", "packageArguments": [{"type": "positional", "isRequired": true}]}]),
            json!([]),
            "`packageArguments[0]`",
        ),
        (json!([]), json!([]), "neither `remotes` nor `packages`"),
    ] {
        let catalog = read(&with(packages, remotes));
        assert!(reason(&catalog, "s").contains(expected), "{}", reason(&catalog, "s"));
    }
}

#[test]
fn a_list_of_the_registry_gives_each_server_in_its_latest_version() {
    let item = |version: &str, latest: bool, status: &str| {
        json!({"server": {"name": "x/s", "version": version, "remotes": [{"type": "streamable-http", "url": format!("https://x.example/{version}")}]},
            "_meta": {"io.modelcontextprotocol.registry/official": {"isLatest": latest, "status": status}}})
    };
    let items = json!([item("1", false, "active"), item("3", true, "active"), item("2", false, "active")]);
    for form in [json!({"servers": items}), items.clone()] {
        let catalog = read(&form);
        assert_eq!(server(&catalog, "x-s")["url"], "https://x.example/3");
        assert!(told(&catalog).contains("several versions; 2 is left out"), "{}", told(&catalog));
    }
    let one = read(&item("1", true, "deleted"));
    assert!(reason(&one, "x-s").contains("is deleted in the registry"));
}

#[test]
fn dockers_servers_run_as_containers_or_are_addresses() {
    let catalog = "registry:
  db:
    image: mcp/db
    type: server
    user: '1000'
    secrets: [{name: db.password, env: PASSWORD}]
    env: [{name: URL, value: '{{db.url}}'}, {name: MODE, value: '{{db.mode}}'}, {name: L, value: '{{db.l|or:1}}'}]
    volumes: ['/srv:/data:ro']
    command: [--transport=stdio]
    config: [{name: db, properties: {mode: {type: string, default: fast}}}]
  hub:
    type: remote
    remote: {url: 'https://hub.example/mcp', transport_type: streaming, headers: {Authorization: 'Bearer ${TOKEN}'}}
    secrets: [{name: hub.token, env: TOKEN}]
";
    let catalog = read_with(catalog, &["DB_PASSWORD", "DB_URL", "HUB_TOKEN", "TOKEN", "PASSWORD"]).unwrap();
    let db = server(&catalog, "db");
    assert_eq!(
        db["args"],
        json!([
            "run",
            "-i",
            "--rm",
            "--init",
            "--security-opt",
            "no-new-privileges",
            "-e",
            "MODE",
            "-e",
            "PASSWORD",
            "-e",
            "URL",
            "-v",
            "/srv:/data:ro",
            "-u",
            "1000",
            "mcp/db",
            "--transport=stdio"
        ])
    );
    assert_eq!(
        db["env"],
        json!({"MODE": "fast", "PASSWORD": "secret://toolfleet-dev/db/env.PASSWORD", "URL": "value-of-DB_URL"})
    );
    assert!(told(&catalog).contains("registry.db.env.L: is what Docker Desktop makes"), "{}", told(&catalog));
    assert!(told(&catalog).contains("the variable `HUB_TOKEN`"), "{}", told(&catalog));
    let secret = "Bearer secret://toolfleet-dev/hub/headers.Authorization";
    assert_eq!(header(&catalog, "hub", "Authorization").as_deref(), Some(secret));
}

#[test]
fn an_entry_of_dockers_collection_is_a_server() {
    // After servers/atlassian/server.yaml of github.com/docker/mcp-registry (MIT).
    let text = "name: atlassian
image: mcp/atlassian
type: server
about: {title: Atlassian, description: Tools for Confluence and Jira.}
source: {project: 'https://github.com/sooperset/mcp-atlassian'}
config:
  description: The MCP server is allowed to access these paths
  secrets:
    - name: atlassian.jira.api_token
      env: JIRA_API_TOKEN
      example: your_api_token
  env:
    - name: JIRA_URL
      example: https://your-company.atlassian.net
      value: '{{atlassian.jira.url}}'
";
    let catalog = read_with(text, &["ATLASSIAN_JIRA_API_TOKEN", "ATLASSIAN_JIRA_URL"]).unwrap();
    let server = server(&catalog, "atlassian");
    assert_eq!(server["description"], "Tools for Confluence and Jira.");
    assert_eq!(server["env"]["JIRA_URL"], "value-of-ATLASSIAN_JIRA_URL");
    assert_eq!(server["args"].as_array().unwrap().last().unwrap(), "mcp/atlassian");
}

#[test]
fn containers_that_do_not_speak_mcp_are_named() {
    let text =
        "name: curl\ntype: poci\nabout: {title: Curl}\ntools: [{name: curl, container: {image: curl}}]\n";
    assert!(
        reason(&read_with(text, &[]).unwrap(), "curl")
            .contains("a container of its own that does not speak MCP")
    );
}

#[test]
fn yaml_is_read_like_json_and_a_mistake_names_its_line() {
    let own = "# our own form\nservers:\n  docs: {url: 'https://docs.example/mcp', description: no}\ntenants:\n  queue: [acme]\n";
    assert_eq!(server(&read_with(own, &[]).unwrap(), "docs")["description"], "no");
    for (text, expected) in [
        ("mcpServers:\n  a: {url: 'Zq7hunter2\n", "is not usable YAML"),
        ("mcpServers:\n  a: {url: x}\n  a: {url: Zq7hunter2}\n", "a key is given twice at line 3 column 3"),
        ("a: 1\nb:\n  - 2\n", "unknown field"),
        ("services:\n  a:\n    image: mcp/git\n", "a Docker Compose file"),
        ("openapi: 3.1.0\ninfo: {title: x}\n", "OpenAPI"),
    ] {
        let error = read_with(text, &[]).unwrap_err();
        assert!(error.contains(expected) && !error.contains("Zq7"), "{error}");
    }
    let bomb = format!("a: &a [x,x,x,x,x,x,x,x]\n{}", (b'b'..b'k').map(|c| {
        let (name, before) = (char::from(c), char::from(c - 1));
        format!("{name}: &{name} [*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before}]\n")
    }).collect::<String>());
    assert!(read_with(&bomb, &[]).unwrap_err().contains("is not usable YAML"));
}

#[test]
fn gooses_extensions_are_taken_with_the_variables_they_name() {
    let text = "extensions:
  git:
    type: stdio
    enabled: true
    cmd: uvx
    args: [mcp-server-git]
    env_keys: [GIT_TOKEN]
    envs: {LEVEL: 1}
    timeout: 7200
    available_tools: [log]
  memory: {type: builtin, enabled: true}
";
    let catalog = read_with(text, &["GIT_TOKEN"]).unwrap();
    let git = server(&catalog, "git");
    assert_eq!(git["env"], json!({"GIT_TOKEN": "secret://toolfleet-dev/git/env.GIT_TOKEN", "LEVEL": "1"}));
    assert_eq!((&git["timeout_ms"], &git["discover"]), (&json!(7_200_000), &json!(false)));
    assert_eq!(catalog.tools().into_iter().map(|tool| tool.id.to_string()).collect::<Vec<_>>(), ["git.log"]);
    assert!(reason(&catalog, "memory").contains("a part of Goose itself"));
}

#[test]
fn a_description_of_the_whole_command_line_is_not_doubled() {
    // After server.json of github.com/github/github-mcp-server (MIT).
    let named = |name: &str| json!({"type": "named", "name": name, "value": "true", "format": "boolean"});
    let package = json!({
        "registryType": "oci", "identifier": "ghcr.io/github/github-mcp-server:1.0.0",
        "runtimeArguments": [
            {"type": "positional", "value": "run", "isRequired": true}, named("-i"), named("--rm"),
            {"type": "named", "name": "-e", "value": "GITHUB_HOST={host}", "variables": {"host": {"default": "github.com"}}},
            {"type": "positional", "valueHint": "image_name", "value": "ghcr.io/github/github-mcp-server", "isRequired": true}
        ]
    });
    assert_eq!(line(package), "docker run -i --rm -e GITHUB_HOST ghcr.io/github/github-mcp-server:1.0.0");
}

#[test]
fn a_secret_of_docker_run_goes_to_the_programs_variables() {
    // After the entry io.github.github/github-mcp-server of the MCP registry (MIT).
    let text = json!({"name": "io.github.github/github-mcp-server", "version": "1.12.2", "packages": [{
        "registryType": "oci", "identifier": "ghcr.io/github/github-mcp-server:1.12.2", "transport": {"type": "stdio"},
        "runtimeArguments": [
            {"name": "-e", "value": "GITHUB_OAUTH_CALLBACK_PORT=8085", "type": "named"},
            {"name": "-e", "value": "GITHUB_PERSONAL_ACCESS_TOKEN={token}", "type": "named",
                "variables": {"token": {"format": "string", "isSecret": true}}}
        ]
    }]})
    .to_string();
    let id = "io.github.github-github-mcp-server";
    let unset = server(&read_with(&text, &[]).unwrap(), id);
    assert_eq!(
        unset["env"],
        json!({"GITHUB_OAUTH_CALLBACK_PORT": "8085"}),
        "what is optional is not in the way"
    );
    let set = server(&read_with(&text, &["IO_GITHUB_GITHUB_GITHUB_MCP_SERVER_TOKEN"]).unwrap(), id);
    let secret = "secret://toolfleet-dev/io.github.github-github-mcp-server/env.GITHUB_PERSONAL_ACCESS_TOKEN";
    assert_eq!(set["env"]["GITHUB_PERSONAL_ACCESS_TOKEN"], secret);
    let words = ["GITHUB_OAUTH_CALLBACK_PORT", "GITHUB_PERSONAL_ACCESS_TOKEN"];
    let image = "ghcr.io/github/github-mcp-server:1.12.2";
    assert_eq!(set["args"], json!(["run", "-i", "--rm", "-e", words[0], "-e", words[1], image]));
}
