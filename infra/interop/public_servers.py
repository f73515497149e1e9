"""The public MCP servers that `public.py` runs: their packages, how they are started, and the calls of each.

npm packages have their versions in `public/package.json`; a PyPI package gets an environment of its own, because their SDKs exclude each
other. `{folder}` in a text is the folder of the run, `{port}` the server's port, `{here}` the folder of the npm packages.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
NPM = HERE / "public"
ENVIRONMENTS = HERE / ".interop" / "public"
NOWHERE = "http://127.0.0.1:1"


@dataclass
class Call:
    """A call and how it must end: `outcome`, and `says` in what the tool or the message says."""

    name: str
    arguments: dict
    outcome: str
    says: str = ""


def ok(name, arguments, says):
    return Call(name, arguments, "succeeded", says)


def error(name, arguments, says=""):
    """The tool itself says that it failed."""
    return Call(name, arguments, "tool_error", says)


def refused(name, arguments, says):
    """The arguments do not fit the listed schema, so that nothing is sent."""
    return Call(name, arguments, "refused", says)


@dataclass
class Server:
    id: str
    registry: str
    package: str
    command: list
    calls: list
    version: str = ""
    env: dict = field(default_factory=dict)
    # Where it listens, if it is started by us and called over streamable HTTP.
    path: str = ""
    # The name under which it lets itself be called.
    host: str = "127.0.0.1"
    # Requirements beside the package itself.
    beside: list = field(default_factory=list)
    remarks: str = ""
    # Only with `--all`: its installation is large, or how it ends without a network depends on how fast the machine is.
    heavy: bool = False
    # The code with which its tool list ends, if it gives none without a network.
    unlisted: str = ""

    @property
    def transport(self):
        return "streamable HTTP" if self.path else "stdio"


def npm(id, package, *args, calls, **more):
    """Started as people write it: by npx, which finds the package in the folder where it is installed."""
    return Server(id, "npm", package, ["npx", "-y", package, *args], calls, **more)


def pypi(id, package, version, *args, calls, script=None, **more):
    return Server(id, "PyPI", package, [str(ENVIRONMENTS / package / "bin" / (script or package)), *args], calls, version, **more)


def versions():
    """The versions of the npm packages."""
    return json.loads((NPM / "package.json").read_text())["dependencies"]


NO_KEY = "the key is false"

SERVERS = [
    npm("filesystem", "@modelcontextprotocol/server-filesystem", "{folder}", calls=[
        ok("read_text_file", {"path": "{folder}/words.txt"}, "naïve café"),
        ok("write_file", {"path": "{folder}/written.txt", "content": "ein Wort\n"}, "Successfully wrote"),
        ok("read_media_file", {"path": "{folder}/dot.png"}, "image/png"),
        error("read_text_file", {"path": "/etc/hostname"}, "Access denied"),
        refused("read_text_file", {"path": 7}, "arguments/path"),
    ]),
    npm("memory", "@modelcontextprotocol/server-memory", env={"MEMORY_FILE_PATH": "{folder}/memory.jsonl"}, calls=[
        ok("create_entities", {"entities": [{"name": "Ann", "entityType": "person", "observations": ["likes ☕"]}]}, "Ann"),
        ok("search_nodes", {"query": "Ann"}, "likes ☕"),
        error("add_observations", {"observations": [{"entityName": "nobody", "contents": ["x"]}]}, "not found"),
        refused("search_nodes", {"query": []}, "arguments/query"),
    ]),
    npm("sequential-thinking", "@modelcontextprotocol/server-sequential-thinking", calls=[
        ok("sequentialthinking", {"thought": "first", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1}, "thoughtHistoryLength"),
        refused("sequentialthinking", {"thought": "first", "nextThoughtNeeded": False, "thoughtNumber": 0, "totalThoughts": 1}, "thoughtNumber"),
    ]),
    npm("everything", "@modelcontextprotocol/server-everything", calls=[
        ok("echo", {"message": "hello"}, "hello"),
        ok("get-tiny-image", {}, "image/png"),
        ok("get-structured-content", {"location": "Chicago"}, "conditions"),
        refused("get-sum", {"a": "one", "b": 2}, "arguments/a"),
    ]),
    npm("everything-http", "@modelcontextprotocol/server-everything", "streamableHttp", path="/mcp", env={"PORT": "{port}"}, calls=[
        ok("get-sum", {"a": 1, "b": 2}, "3"),
        refused("get-sum", {"a": 1}, "\"b\""),
    ]),
    npm("playwright", "@playwright/mcp", "--headless", calls=[
        error("browser_navigate", {"url": NOWHERE}),
        refused("browser_tabs", {"action": "dance"}, "arguments/action"),
    ], remarks="no browser is installed: its tools say so"),
    npm("playwright-http", "@playwright/mcp", "--headless", "--host", "127.0.0.1", "--port", "{port}", path="/mcp", host="localhost", calls=[
        error("browser_navigate", {"url": NOWHERE}),
    ], remarks="no browser is installed: its tools say so"),
    npm("chrome-devtools", "chrome-devtools-mcp", "--headless", "--isolated", calls=[
        error("list_pages", {}),
        refused("select_page", {"pageId": "one"}, "arguments/pageId"),
    ], remarks="no browser is installed: its tools say so"),
    npm("context7", "@upstash/context7-mcp", calls=[
        Call("resolve-library-id", {"query": "queues", "libraryName": "tokio"}, "", ""),
        refused("query-docs", {}, "libraryId"),
    ], remarks="without a network it answers with a text that says so"),
    npm("notion", "@notionhq/notion-mcp-server", env={"NOTION_TOKEN": "ntn_false"}, calls=[
        Call("API-get-self", {}, "outcome_unknown"),
        refused("API-retrieve-a-page", {}, "page_id"),
    ], remarks=NO_KEY),
    npm("mongodb", "mongodb-mcp-server", env={"MDB_MCP_TELEMETRY": "disabled"}, calls=[
        error("list-databases", {"connectionId": "none"}),
        refused("count", {"database": "a"}, "collection"),
    ], remarks="no database is connected"),
    npm("mongodb-http", "mongodb-mcp-server", "--transport", "http", "--httpPort", "{port}", path="/mcp", env={"MDB_MCP_TELEMETRY": "disabled"}, calls=[
        error("list-databases", {"connectionId": "none"}),
    ], remarks="no database is connected"),
    npm("github", "@modelcontextprotocol/server-github", calls=[
        Call("search_repositories", {"query": "mcp"}, "outcome_unknown", "fetch"),
        refused("search_repositories", {}, "query"),
    ], remarks="TypeScript SDK of 2024; no key"),
    npm("postgres", "@modelcontextprotocol/server-postgres", "postgresql://127.0.0.1:1/none", calls=[
        Call("query", {"sql": "select 1"}, "outcome_unknown", "ECONNREFUSED"),
    ], remarks="TypeScript SDK of 2024; no database is connected"),
    npm("tavily", "tavily-mcp", env={"TAVILY_API_KEY": "tvly-false"}, calls=[
        error("tavily_search", {"query": "queues"}),
        refused("tavily_search", {"query": 7}, "arguments/query"),
    ], remarks=NO_KEY),
    npm("firecrawl", "firecrawl-mcp", env={"FIRECRAWL_API_KEY": "fc-false"}, calls=[
        error("firecrawl_map", {"url": NOWHERE}),
        refused("firecrawl_scrape", {}, "url"),
    ], remarks="FastMCP for TypeScript; " + NO_KEY),
    npm("exa", "exa-mcp-server", env={"EXA_API_KEY": "false"}, calls=[
        error("web_search_exa", {"query": "queues"}),
        refused("web_search_exa", {"query": ""}, "arguments/query"),
    ], remarks=NO_KEY),
    npm("sentry", "@sentry/mcp-server", "--access-token=false", calls=[
        error("whoami", {}),
        refused("search_docs", {"query": "q"}, "arguments/query"),
    ], remarks=NO_KEY),
    npm("supabase", "@supabase/mcp-server-supabase", env={"SUPABASE_ACCESS_TOKEN": "sbp_0000000000000000000000000000000000000000"}, calls=[
        Call("list_organizations", {}, "failed"),
    ], unlisted="rpc_error", heavy=True, remarks="its tool list needs a network"),
    npm("slack", "@modelcontextprotocol/server-slack", env={"SLACK_BOT_TOKEN": "xoxb-false", "SLACK_TEAM_ID": "T0"}, calls=[
        Call("slack_list_channels", {}, ""),
        refused("slack_post_message", {"channel_id": "C0"}, "text"),
    ], remarks=NO_KEY),
    npm("brave", "@modelcontextprotocol/server-brave-search", env={"BRAVE_API_KEY": "false"}, calls=[
        error("brave_web_search", {"query": "queues"}),
        refused("brave_web_search", {"query": "queues", "count": "ten"}, "arguments/count"),
    ], remarks=NO_KEY),
    npm("stripe", "@stripe/mcp", "--api-key=sk_test_false", calls=[
        Call("list_customers", {}, ""),
    ], unlisted="server_unreachable", heavy=True, remarks="a proxy; its start needs a network"),
    npm("desktop-commander", "@wonderwhy-er/desktop-commander", calls=[
        ok("list_directory", {"path": "{folder}"}, "words.txt"),
        ok("start_process", {"command": "printf 'a\\nb\\n'", "timeout_ms": 5000}, "b"),
        refused("start_process", {"command": "true"}, "timeout_ms"),
    ]),
    npm("kubernetes", "kubernetes-mcp-server", env={"KUBECONFIG": "{folder}/kubeconfig"}, calls=[
        error("namespaces_list", {}),
        refused("pods_get", {}, "name"),
    ], remarks="Go; no cluster is there"),
    npm("kubernetes-http", "kubernetes-mcp-server", "--port", "{port}", "--bind-address", "127.0.0.1", path="/mcp", env={"KUBECONFIG": "{folder}/kubeconfig"}, calls=[
        error("namespaces_list", {}),
    ], remarks="Go; no cluster is there"),
    npm("excel-go", "@negokaz/excel-mcp-server", calls=[
        ok("excel_write_to_sheet", {"fileAbsolutePath": "{folder}/words.xlsx", "sheetName": "Sheet1", "newSheet": False, "range": "A1:B1", "values": [["a", "ü"]]}, "A1:B1"),
        Call("excel_describe_sheets", {"fileAbsolutePath": "{folder}/missing.xlsx"}, "outcome_unknown", "no such file"),
        refused("excel_describe_sheets", {}, "fileAbsolutePath"),
    ], remarks="Go"),
    pypi("fetch", "mcp-server-fetch", "2026.10.24", "--ignore-robots-txt", "--allow-private-ips", calls=[
        ok("fetch", {"url": "http://127.0.0.1:{pages}/large.txt", "max_length": 999_999, "raw": True}, "large page"),
        error("fetch", {"url": NOWHERE}),
        refused("fetch", {"url": NOWHERE, "max_length": 0}, "arguments/max_length"),
    ]),
    pypi("sqlite", "mcp-server-sqlite", "2025.4.25", "--db-path", "{folder}/tables.db", beside=["mcp<2"], calls=[
        ok("create_table", {"query": "create table t (name text)"}, "created"),
        ok("write_query", {"query": "insert into t values ('Ünïcode 🦀')"}, "affected_rows"),
        ok("read_query", {"query": "select * from t"}, "🦀"),
        Call("read_query", {"query": "select * from nowhere"}, ""),
        refused("describe_table", {}, "table_name"),
    ], remarks="needs the SDK's first generation (`mcp<2`)"),
    pypi("git", "mcp-server-git", "2026.10.19", "--repository", "{folder}/repository", calls=[
        ok("git_log", {"repo_path": "{folder}/repository"}, "the only commit"),
        error("git_show", {"repo_path": "{folder}/repository", "revision": "none"}),
        refused("git_log", {"repo_path": "{folder}/repository", "max_count": "ten"}, "arguments/max_count"),
    ]),
    pypi("time", "mcp-server-time", "2026.10.19", "--local-timezone", "UTC", calls=[
        ok("convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}, "21:00"),
        error("get_current_time", {"timezone": "Mars/Olympus"}),
        refused("get_current_time", {}, "timezone"),
    ]),
    pypi("aws-documentation", "awslabs.aws-documentation-mcp-server", "1.2.3", calls=[
        Call("read_documentation", {"url": "https://docs.aws.amazon.com/lambda/latest/dg/welcome.html"}, ""),
        refused("read_documentation", {"url": "https://docs.aws.amazon.com/x.html", "max_length": 0}, "arguments/max_length"),
    ]),
    pypi("aws-dynamodb", "awslabs.dynamodb-mcp-server", "2.1.8", calls=[
        ok("dynamodb_data_modeling", {}, "DynamoDB"),
        refused("source_db_analyzer", {}, "source_db_type"),
    ], remarks="a text of 60 kB"),
    pypi("markitdown", "markitdown-mcp", "0.0.1a8", calls=[
        ok("convert_to_markdown", {"uri": "data:text/html,<h1>Title</h1>"}, "# Title"),
        error("convert_to_markdown", {"uri": "gopher://x"}),
        refused("convert_to_markdown", {}, "uri"),
    ]),
    pypi("markitdown-http", "markitdown-mcp", "0.0.1a8", "--http", "--port", "{port}", path="/mcp", calls=[
        ok("convert_to_markdown", {"uri": "data:text/plain,words"}, "words"),
    ]),
    pypi("motherduck", "mcp-server-motherduck", "1.1.0", "--db-path", ":memory:", "--read-write", calls=[
        ok("execute_query", {"sql": "select 6 * 7 as answer"}, "42"),
        Call("execute_query", {"sql": "select * from nowhere"}, ""),
        refused("execute_query", {"sql": None}, "arguments/sql"),
    ], remarks="DuckDB in memory"),
    pypi("motherduck-http", "mcp-server-motherduck", "1.1.0", "--db-path", ":memory:", "--read-write", "--transport", "http", "--port", "{port}", path="/mcp", calls=[
        ok("execute_query", {"sql": "select 6 * 7 as answer"}, "42"),
    ], remarks="DuckDB in memory"),
    pypi("qdrant", "mcp-server-qdrant", "0.8.1", calls=[
        Call("qdrant-find", {"query": "x"}, "failed"),
    ], env={"QDRANT_LOCAL_PATH": "{folder}/qdrant", "COLLECTION_NAME": "c"}, unlisted="server_unreachable", heavy=True,
        remarks="local mode; its start fetches an embedding model, which needs a network"),
    pypi("excel", "excel-mcp-server", "2.2.2", "stdio", calls=[
        ok("create_workbook", {"path": "{folder}/py.xlsx"}, "py.xlsx"),
        error("read_range", {"path": "{folder}/missing.xlsx", "sheet": "Sheet1"}),
        refused("create_workbook", {}, "path"),
    ]),
    pypi("redis", "redis-mcp-server", "0.5.1", "--url", "redis://127.0.0.1:1/0", calls=[
        Call("get", {"key": "a"}, ""),
        refused("get", {}, "key"),
    ], remarks="no Redis is there"),
    pypi("duckduckgo", "duckduckgo-mcp-server", "0.7.0", calls=[
        Call("search", {"query": "queues"}, ""),
        refused("search", {"query": 7}, "arguments/query"),
    ], remarks="without a network it answers with a text that says so"),
    pypi("nixos", "mcp-nixos", "3.1.0", calls=[
        Call("nix", {"action": "dance"}, ""),
        refused("nix", {}, "action"),
    ], remarks="FastMCP 4"),
    pypi("shell", "mcp-shell-server", "1.1.14", env={"ALLOW_COMMANDS": "cat,pwd"}, calls=[
        ok("shell_execute", {"command": ["cat"], "stdin": "früh\n", "directory": "{folder}"}, "früh"),
        error("shell_execute", {"command": ["rm", "-rf", "x"], "directory": "{folder}"}),
        refused("shell_execute", {"command": "pwd"}, "arguments/command"),
    ]),
    pypi("text-editor", "mcp-text-editor", "1.0.2", beside=["mcp<2"], calls=[
        ok("get_text_file_contents", {"files": [{"file_path": "{folder}/words.txt", "ranges": [{"start": 1}]}]}, "content_size"),
        refused("get_text_file_contents", {"files": [{}]}, "file_path"),
    ]),
    pypi("alchemy", "mcp-alchemy", "2026.10.15.202659", env={"DB_URL": "sqlite:///{folder}/alchemy.db"}, calls=[
        ok("execute_query", {"query": "select 'ß' as letter"}, "ß"),
        refused("execute_query", {}, "query"),
    ], remarks="SQLAlchemy, on SQLite"),
    pypi("clickhouse", "mcp-clickhouse", "0.7.0", env={"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": "1", "CLICKHOUSE_USER": "u", "CLICKHOUSE_PASSWORD": "false"}, calls=[
        error("list_databases", {}),
        refused("run_query", {}, "query"),
    ], remarks="no database is connected"),
    pypi("neo4j-data-modeling", "mcp-neo4j-data-modeling", "0.8.2", calls=[
        ok("list_example_data_models", {}, "patient_journey"),
        error("get_example_data_model", {"example_name": "none"}),
        refused("validate_node", {"node": {"label": ""}}, "arguments/node"),
    ], remarks="`anyOf` and `$ref` in its schemas"),
    pypi("word", "office-word-mcp-server", "1.1.11", script="word_mcp_server", calls=[
        ok("create_document", {"filename": "{folder}/letter.docx", "title": "Brief"}, "created"),
        Call("get_document_text", {"filename": "{folder}/missing.docx"}, ""),
        refused("create_document", {}, "filename"),
    ]),
    pypi("wikipedia", "wikipedia-mcp", "2.0.1", calls=[
        Call("get_summary", {"title": "Queue"}, ""),
        refused("search_wikipedia", {"query": "q", "limit": "ten"}, "arguments/limit"),
    ]),
    pypi("arxiv", "arxiv-mcp-server", "0.8.2", "--storage-path", "{folder}/papers", calls=[
        ok("list_papers", {}, "papers"),
        refused("list_papers", {"compact": "yes"}, "arguments/compact"),
    ]),
    pypi("grafana", "mcp-grafana", "2.1.1", env={"GRAFANA_URL": NOWHERE}, calls=[
        ok("get_tempo_traceql_docs", {"topic": "basic"}, "TraceQL"),
        error("list_datasources", {}),
        refused("get_tempo_traceql_docs", {"topic": "none"}, "arguments/topic"),
    ], remarks="Go; no Grafana is there"),
    pypi("grafana-http", "mcp-grafana", "2.1.1", "-t", "streamable-http", "-address", "127.0.0.1:{port}", path="/mcp", env={"GRAFANA_URL": NOWHERE}, calls=[
        ok("get_tempo_traceql_docs", {"topic": "metrics"}, "rate"),
    ], remarks="Go; no Grafana is there"),
    pypi("toolbox", "toolbox-server", "1.15.0", "--prebuilt", "sqlite", "--stdio", env={"SQLITE_DATABASE": "{folder}/toolbox.db"}, heavy=True, calls=[
        ok("execute_sql", {"sql": "select 6 * 7 as answer"}, "42"),
        Call("execute_sql", {"sql": "select * from nowhere"}, ""),
        refused("execute_sql", {}, "sql"),
    ], remarks="Go (MCP Toolbox for Databases)"),
    pypi("atlassian", "mcp-atlassian", "0.23.1", env={"JIRA_URL": NOWHERE, "JIRA_PERSONAL_TOKEN": "false"}, heavy=True, calls=[
        Call("jira_get_issue", {"issue_key": "AB-1"}, ""),
        refused("jira_get_issue", {"issue_key": "none"}, "arguments/issue_key"),
    ], remarks=NO_KEY),
    pypi("serena", "serena-agent", "2.1.0", "start-mcp-server", "--enable-web-dashboard", "false", script="serena", heavy=True, calls=[
        ok("initial_instructions", {}, "Serena"),
        refused("activate_project", {}, "project"),
    ]),
]
