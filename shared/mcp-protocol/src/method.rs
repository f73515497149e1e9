//! Names of JSON-RPC methods.

/// Opens a session (until 2025-11-25).
pub const INITIALIZE: &str = "initialize";
/// Names the versions and capabilities of a server (2026-07-28).
pub const DISCOVER: &str = "server/discover";
/// Asks whether the other side is there (until 2025-11-25).
pub const PING: &str = "ping";
/// Lists tools, a page at a time.
pub const TOOLS_LIST: &str = "tools/list";
/// Calls a tool.
pub const TOOLS_CALL: &str = "tools/call";
/// Lists prompts, a page at a time.
pub const PROMPTS_LIST: &str = "prompts/list";
/// Gets a prompt.
pub const PROMPTS_GET: &str = "prompts/get";
/// Lists resources, a page at a time.
pub const RESOURCES_LIST: &str = "resources/list";
/// Lists templates of resources, a page at a time.
pub const RESOURCE_TEMPLATES_LIST: &str = "resources/templates/list";
/// Reads a resource.
pub const RESOURCES_READ: &str = "resources/read";
/// Asks for notifications about a resource (until 2025-11-25).
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
/// Ends them.
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
/// Asks for notifications (2026-07-28).
pub const SUBSCRIPTIONS_LISTEN: &str = "subscriptions/listen";
/// Completes an argument of a prompt or of a resource template.
pub const COMPLETION_COMPLETE: &str = "completion/complete";
/// Asks for the state of a task (2026-07-28 by the extension `tasks`; 2025-11-25).
pub const TASKS_GET: &str = "tasks/get";
/// Answers what a task asks for.
pub const TASKS_UPDATE: &str = "tasks/update";
/// Cancels a task.
pub const TASKS_CANCEL: &str = "tasks/cancel";
/// Waits for the result of a task (2025-11-25).
pub const TASKS_RESULT: &str = "tasks/result";
/// Lists tasks (2025-11-25).
pub const TASKS_LIST: &str = "tasks/list";
/// The client has read the result of `initialize`.
pub const INITIALIZED: &str = "notifications/initialized";
/// A request is cancelled.
pub const CANCELLED: &str = "notifications/cancelled";
/// Progress of a request.
pub const PROGRESS: &str = "notifications/progress";
/// The list of tools is another one.
pub const TOOLS_LIST_CHANGED: &str = "notifications/tools/list_changed";
/// The list of prompts is another one.
pub const PROMPTS_LIST_CHANGED: &str = "notifications/prompts/list_changed";
/// The list of resources, or that of their templates, is another one.
pub const RESOURCES_LIST_CHANGED: &str = "notifications/resources/list_changed";
/// A log line of the server.
pub const LOG_MESSAGE: &str = "notifications/message";
