//! Checks that the entry of a server names one transport, and the fields of that one only.

use super::entry::{ServerEntry, without_transport};
use crate::error::CatalogError;
use crate::error::invalid;
use crate::permissions::Programs;
use toolfleet_core::credential::Credential;

/// The transports of an entry, by the fields that name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    /// Over a connection that is kept.
    Stream,
    Stdio,
    Lambda,
    OpenApi,
}

impl Kind {
    const fn field(self) -> &'static str {
        match self {
            Self::Http | Self::Stream => "url",
            Self::Stdio => "command",
            Self::Lambda => "lambda",
            Self::OpenApi => "openapi",
        }
    }
}

impl Kind {
    /// Whether the fields of that kind are fields of this one: an interface is reached by HTTP, with HTTP's credentials.
    const fn has_fields_of(self, owner: Self) -> bool {
        matches!(
            (self, owner),
            (Self::Http | Self::Stream | Self::OpenApi, Self::Http)
                | (Self::Stream, Self::Stream)
                | (Self::Stdio, Self::Stdio)
                | (Self::Lambda, Self::Lambda)
                | (Self::OpenApi, Self::OpenApi)
        )
    }
}

impl ServerEntry {
    /// The entry, if it names one transport and the fields of that one only; `entry` is the place to name in an error. With a `local`
    /// catalog arguments may hold secrets and names of variables, as they do for other programs on that machine.
    pub(crate) fn with_one_transport(
        self,
        entry: &str,
        programs: Programs,
        local: bool,
    ) -> Result<Self, CatalogError> {
        let kind = self.kind(entry)?;
        if kind == Kind::Stdio {
            self.check_program(entry, programs, local)?;
        }
        self.has_no_parts_of_others(kind, entry)?;
        if kind == Kind::Lambda {
            self.check_lambda_parts(entry)?;
        }
        if kind == Kind::OpenApi && self.transport.as_deref().is_some_and(|word| word != "http") {
            let text = "is for an MCP server, and this one is an HTTP interface (`openapi`); leave it out";
            return Err(invalid(&format!("{entry}.transport"), text));
        }
        if kind == Kind::OpenApi {
            self.check_openapi_parts(entry)?;
        }
        Ok(self)
    }

    fn kind(&self, entry: &str) -> Result<Kind, CatalogError> {
        let given = [
            // Beside `openapi` the address is that of the interface.
            (self.of_address(), self.url.is_some() && self.openapi.is_none()),
            (Kind::Stdio, self.command.is_some()),
            (Kind::Lambda, self.lambda.is_some()),
            (Kind::OpenApi, self.openapi.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, given)| *given).map(|(kind, _)| kind);
        match (given.next(), given.next()) {
            (None, _) => Err(without_transport(entry)),
            (Some(kind), None) => Ok(kind),
            (Some(one), Some(other)) => {
                let text = format!("is given beside `{}`; a server has one of them", one.field());
                Err(invalid(&format!("{entry}.{}", other.field()), text))
            }
        }
    }

    /// The kind of a server that has an address and no document; what its fields say of it is checked later.
    fn of_address(&self) -> Kind {
        let by_word = matches!(self.transport.as_deref(), Some("sse" | "websocket"));
        let by_scheme = self.url.as_ref().is_some_and(|url| matches!(url.scheme(), "ws" | "wss"));
        if by_word || by_scheme { Kind::Stream } else { Kind::Http }
    }

    fn has_no_parts_of_others(&self, kind: Kind, entry: &str) -> Result<(), CatalogError> {
        let parts = [
            ("args", Kind::Stdio, self.args.is_empty()),
            ("env", Kind::Stdio, self.env.is_empty()),
            ("cwd", Kind::Stdio, self.cwd.is_none()),
            ("stateless", Kind::Stdio, !self.stateless),
            ("start_timeout_ms", Kind::Stdio, self.start_timeout_ms.is_none()),
            ("headers", Kind::Http, self.headers.is_empty()),
            ("auth", Kind::Http, self.auth == Credential::None),
            ("client_certificate", Kind::Http, self.client_certificate.is_none()),
            ("include", Kind::OpenApi, self.include.is_empty()),
            ("exclude", Kind::OpenApi, self.exclude.is_empty()),
            ("query", Kind::OpenApi, self.query.is_empty()),
            ("idempotency_key", Kind::OpenApi, self.idempotency_key.is_none()),
            ("payload", Kind::Lambda, self.payload.is_none()),
            ("target_name", Kind::Lambda, self.target_name.is_none()),
            ("attributes", Kind::Lambda, self.attributes.is_none()),
            ("tell_user", Kind::Lambda, !self.tell_user),
            ("durable", Kind::Lambda, !self.durable),
            ("role_arn", Kind::Lambda, self.role_arn.is_none()),
            ("external_id", Kind::Lambda, self.external_id.is_none()),
        ];
        let is_shared = kind == Kind::Stream || kind == Kind::Stdio;
        let parts = parts.into_iter().filter(|(field, _, _)| *field != "stateless" || !is_shared);
        let mut parts = parts.chain([("transport", Kind::Http, self.transport.is_none())]);
        let misplaced = parts.find(|(_, owner, absent)| !kind.has_fields_of(*owner) && !absent);
        let Some((field, owner, _)) = misplaced else {
            return Ok(());
        };
        let remedy = match (owner, kind) {
            (Kind::Http, Kind::Stdio) => "; give a program its secrets in `env`",
            (Kind::Stdio, Kind::Http) if field == "stateless" => {
                "; a streamable HTTP server has no connection that is kept"
            }
            (Kind::Http, Kind::Lambda) => {
                "; the workers' own role invokes a function, or the one that `role_arn` names"
            }
            _ => "",
        };
        let text = format!(
            "belongs to a server with a `{}`; this one has a `{}`{remedy}",
            owner.field(),
            kind.field()
        );
        Err(invalid(&format!("{entry}.{field}"), text))
    }
}
