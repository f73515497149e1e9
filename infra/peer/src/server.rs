//! A server on rmcp with two tools: `echo`, and `build`, which becomes a task for clients that support tasks.
//!
//! **Invariant:** every execution is logged on stderr when it starts, so the log shows how often a tool ran.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ContentBlock,
    CreateTaskResult, GetTaskParams, GetTaskResult, JsonObject, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ServerCapabilities, ServerConfig, Tool, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Generation;

/// How long a task may live, in milliseconds.
const TASK_TTL_MS: u64 = 600_000;

#[derive(Clone)]
struct Peer {
    generation: Generation,
    tasks: TaskManager,
}

/// Serves `/mcp` on the listener, for ever.
///
/// # Errors
/// What the network says.
pub async fn serve(listener: TcpListener, generation: Generation) -> std::io::Result<()> {
    let peer = Peer { generation, tasks: TaskManager::new() };
    let config = StreamableHttpServerConfig::default().with_json_response(true);
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(peer.clone()), sessions, config);
    let listener = listener.tap_io(|stream| {
        // Without it every answer on a kept connection takes 40 ms; if it fails, figures are merely worse.
        let _slower = stream.set_nodelay(true);
    });
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await
}

impl ServerHandler for Peer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match self.generation {
            Generation::Newest => Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS),
            Generation::Sessions => {
                Cow::Owned(vec![ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2025_06_18])
            }
        }
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = |properties: Value| {
            let schema = json!({ "type": "object", "properties": properties });
            schema.as_object().cloned().unwrap_or_default()
        };
        Ok(ListToolsResult::with_all_items(vec![
            Tool::new("echo", "Says its text again.", schema(json!({ "text": { "type": "string" } }))),
            Tool::new(
                "build",
                "Takes `ms` milliseconds; a task where the client follows tasks, to be asked after every `poll_ms`. With `asks`, the \
                 task asks for a name by that sentence before it goes on.",
                schema(json!({
                    "label": { "type": "string" }, "ms": { "type": "integer" }, "poll_ms": { "type": "integer" },
                    "asks": { "type": "string" },
                })),
            ),
        ]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        match request.name.as_ref() {
            "echo" => Ok(said(text(&arguments, "text")).into()),
            "build" => {
                let build = Build::of(&arguments);
                let follows = context.client_capabilities().is_some_and(|can| can.supports_tasks());
                eprintln!("began {}", build.label);
                if !follows {
                    tokio::time::sleep(build.takes).await;
                    return Ok(said(&build.label).into());
                }
                let options =
                    TaskOptions::new().with_ttl_ms(TASK_TTL_MS).with_poll_interval_ms(build.poll_ms);
                let task = self.tasks.spawn(options, move |task| {
                    Box::pin(async move {
                        let work = async {
                            let name = build.name(&task).await?;
                            tokio::time::sleep(build.takes).await;
                            Ok(said(&format!("{}{name}", build.label)))
                        };
                        tokio::select! {
                            () = task.cancelled() => {
                                eprintln!("cancelled {}", build.label);
                                Err(TaskExit::Cancelled)
                            }
                            done = work => done,
                        }
                    })
                });
                Ok(CallToolResponse::Task(CreateTaskResult::new(task)))
            }
            other => Err(ErrorData::invalid_params(format!("no tool `{other}`"), None)),
        }
    }

    async fn get_task(
        &self,
        asked: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.tasks.get_task(&asked.task_id)?))
    }

    async fn update_task(
        &self,
        answers: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.update_task(&answers.task_id, answers.input_responses)
    }

    async fn cancel_task(
        &self,
        asked: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&asked.task_id)
    }
}

struct Build {
    label: String,
    takes: Duration,
    poll_ms: u64,
    asks: Option<String>,
}

impl Build {
    fn of(arguments: &JsonObject) -> Self {
        let number = |name: &str| arguments.get(name).and_then(Value::as_u64);
        Self {
            label: text(arguments, "label").to_owned(),
            takes: Duration::from_millis(number("ms").unwrap_or(0)),
            poll_ms: number("poll_ms").unwrap_or(1_000),
            asks: arguments.get("asks").and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// The name that it asks its caller for, if it asks for one.
    async fn name(&self, task: &TaskContext) -> Result<String, TaskExit> {
        let Some(sentence) = &self.asks else {
            return Ok(String::new());
        };
        let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
        let params = json!({ "mode": "form", "message": sentence, "requestedSchema": schema });
        let question = serde_json::from_value(json!({ "method": "elicitation/create", "params": params }));
        let question =
            question.map_err(|error| TaskExit::Error(ErrorData::internal_error(error.to_string(), None)))?;
        let answer = task.request_input("name", question).await?;
        eprintln!("answered {}", self.label);
        let name = answer.pointer("/content/name").and_then(Value::as_str);
        Ok(format!(" for {}", name.unwrap_or("nobody")))
    }
}

fn text<'a>(arguments: &'a JsonObject, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn said(text: &str) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}
