//! Names and message shapes of the Model Context Protocol (MCP) over HTTP and stdio, for clients and servers alike.
//!
//! The MCP client, the demo server, the load test's server and the scripted test server use these names. What each of them does with
//! a message is its own code: a server that must misbehave cannot share the code of a server that must not.
//!
//! Sources: the MCP specifications of the versions in [`ProtocolVersion`], JSON-RPC 2.0, and the reference packages (PyPI `mcp` 2.3,
//! npm `@modelcontextprotocol/server` 2). The tests of this crate repeat the values as literals.

mod message;
mod version;

pub mod cache_scope;
pub mod error_code;
pub mod header;
pub mod meta_key;
pub mod method;
pub mod result_type;

pub use message::{
    DiscoverResult, ErrorObject, ErrorResponse, Implementation, InitializeResult, Received, Request,
    Response, ServerCapabilities, UnsupportedVersion,
};
pub use version::{ProtocolRevision, ProtocolVersion};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_specification() {
        let headers = [
            header::PROTOCOL_VERSION,
            header::SESSION_ID,
            header::METHOD,
            header::NAME,
            header::PARAM_PREFIX,
        ];
        assert_eq!(
            headers,
            ["mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "mcp-param-"]
        );
        assert_eq!((header::LAST_EVENT_ID, header::BASE64_PREFIX), ("last-event-id", "=?base64?"));
        let methods =
            [method::INITIALIZE, method::DISCOVER, method::PING, method::TOOLS_LIST, method::TOOLS_CALL];
        assert_eq!(methods, ["initialize", "server/discover", "ping", "tools/list", "tools/call"]);
        let tasks = [method::TASKS_GET, method::TASKS_UPDATE, method::TASKS_CANCEL];
        assert_eq!(tasks, ["tasks/get", "tasks/update", "tasks/cancel"]);
        assert_eq!([method::TASKS_RESULT, method::TASKS_LIST], ["tasks/result", "tasks/list"]);
        let changed =
            [method::TOOLS_LIST_CHANGED, method::PROMPTS_LIST_CHANGED, method::RESOURCES_LIST_CHANGED];
        assert_eq!(
            changed,
            [
                "notifications/tools/list_changed",
                "notifications/prompts/list_changed",
                "notifications/resources/list_changed"
            ]
        );
        let notifications = [method::INITIALIZED, method::CANCELLED, method::PROGRESS, method::LOG_MESSAGE];
        assert_eq!(
            notifications.map(|name| name.strip_prefix("notifications/").unwrap()),
            ["initialized", "cancelled", "progress", "message"]
        );
        let keys = [
            meta_key::PROTOCOL_VERSION,
            meta_key::CLIENT_INFO,
            meta_key::CLIENT_CAPABILITIES,
            meta_key::LOG_LEVEL,
            meta_key::SERVER_INFO,
            meta_key::TASKS_EXTENSION,
            meta_key::SUBSCRIPTION_ID,
            meta_key::RELATED_TASK,
        ];
        assert_eq!(
            keys.map(|key| key.strip_prefix("io.modelcontextprotocol/").unwrap()),
            [
                "protocolVersion",
                "clientInfo",
                "clientCapabilities",
                "logLevel",
                "serverInfo",
                "tasks",
                "subscriptionId",
                "related-task"
            ]
        );
        assert_eq!(meta_key::PROGRESS_TOKEN, "progressToken");
        let types = [result_type::COMPLETE, result_type::INPUT_REQUIRED, result_type::TASK];
        assert_eq!(types, ["complete", "input_required", "task"]);
        assert_eq!([cache_scope::PUBLIC, cache_scope::PRIVATE], ["public", "private"]);
    }

    #[test]
    fn the_error_codes_are_those_of_the_specification() {
        let json_rpc = [
            error_code::PARSE_ERROR,
            error_code::INVALID_REQUEST,
            error_code::METHOD_NOT_FOUND,
            error_code::INVALID_PARAMS,
            error_code::INTERNAL_ERROR,
        ];
        assert_eq!(json_rpc, [-32700, -32600, -32601, -32602, -32603]);
        let mcp = [
            error_code::NO_SESSION,
            error_code::SESSION_NOT_FOUND,
            error_code::HEADER_MISMATCH,
            error_code::MISSING_CAPABILITY,
            error_code::UNSUPPORTED_VERSION,
        ];
        assert_eq!(mcp, [-32000, -32001, -32020, -32021, -32022]);
    }
}
