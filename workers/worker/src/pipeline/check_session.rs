//! Checks the session and the user of a request: who may act, and what the session grants.

use std::sync::Arc;

use toolfleet_aws::AwsError;
use toolfleet_catalog::{Catalog, Server};
use toolfleet_core::grants;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::request::{CallRequest, User};
use toolfleet_core::session::SessionRow;
use toolfleet_core::time::Timestamp;
use toolfleet_core::user_binding::bind;

use super::inbound::InboundCall;
use crate::context::WorkerContext;
use toolfleet_core::retention::RETENTION_MS;

/// Makes the request's user the one that its sender and its session are bound to; refuses it where it names another one, or has no
/// session although its tenant wants one. Gives the session, if it exists.
pub(super) async fn act_as_bound(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: &mut CallRequest,
) -> Result<Result<Option<Arc<SessionRow>>, Outcome>, AwsError> {
    let catalog = inbound.catalog();
    if let Some(bound) = catalog.bound_user(inbound.sender.as_deref())
        && let Err(outcome) = bind_to(bound, "the message's sender", request)
    {
        return Ok(Err(outcome));
    }
    let tenant = &request.key.tenant;
    let Some(id) = request.session.clone() else {
        if !catalog.requires_session(tenant) {
            return Ok(Ok(None));
        }
        let text = format!(
            "session: is missing, and every call of tenant `{tenant}` needs one. Send the call anew with the session you were given."
        );
        return Ok(Err(Outcome::refused(Code::SessionInvalid, text)));
    };
    let key = (tenant.clone(), id.clone());
    let session = match context.session_cache.get(&key) {
        Some(session) => Some(session),
        None => {
            let read = async { Ok(context.sessions.read(&key.0, &id).await?.map(Arc::new)) };
            Box::pin(context.session_cache.learn(&key, read)).await?
        }
    };
    if let Some(bound) = session.as_ref().and_then(|session| session.user.as_ref())
        && let Err(outcome) = bind_to(bound, &format!("session `{id}`"), request)
    {
        return Ok(Err(outcome));
    }
    Ok(Ok(session))
}

fn bind_to(bound: &User, whom: &str, request: &mut CallRequest) -> Result<(), Outcome> {
    match bind(bound, request.user.as_ref()) {
        Ok(user) => {
            request.user = Some(user);
            Ok(())
        }
        Err(error) => {
            let text = format!(
                "{error}: {whom} is bound to one user. Leave `user` out, or name that user and no more roles than it has."
            );
            Err(Outcome::refused(Code::AccessDenied, text))
        }
    }
}

/// Refuses the call where its session has ended or does not grant it. A new session is opened if its tenant allows
/// that.
pub(super) async fn refused_by_session(
    context: &WorkerContext,
    catalog: &Catalog,
    request: &CallRequest,
    session: Option<Arc<SessionRow>>,
    server: &Server,
) -> Result<Option<Outcome>, AwsError> {
    let Some(id) = &request.session else {
        return Ok(None);
    };
    let tenant = &request.key.tenant;
    let refuse = |text: String| Ok(Some(Outcome::refused(Code::SessionInvalid, text)));
    let session = match session {
        Some(session) => session,
        None if catalog.opens_sessions(tenant) => opened(context, tenant, id).await?,
        None => {
            return refuse(format!(
                "Session `{id}` is not registered, and tenant `{tenant}` opens none by itself. Use the session you were given, or let \
                 an operator create it (toolfleet sessions create)."
            ));
        }
    };
    let Some(refusal) = session_refuses(context, &session, request, server) else {
        return Ok(None);
    };
    // The cached row may be older than the operator's last change. Only a row that was just read refuses a call.
    let fresh = Box::pin(context.sessions.read(tenant, id)).await?.map(Arc::new);
    let refusal = match fresh {
        Some(row) => {
            let refusal = session_refuses(context, &row, request, server);
            context.session_cache.put((tenant.clone(), id.clone()), row);
            refusal
        }
        // A row is removed long after its session has ended.
        None => Some(refusal),
    };
    match refusal {
        Some(SessionRefusal::Ended { at }) => {
            context.ended_sessions.add(tenant.clone(), id.clone());
            refuse(format!("Session `{id}` ended at {at}. Open a new session."))
        }
        Some(SessionRefusal::NotGranted { grants }) => {
            refuse(format!("Session `{id}` does not grant `{}`; it grants {grants}.", request.target))
        }
        None => Ok(None),
    }
}

/// Why a session refuses a call.
enum SessionRefusal {
    Ended { at: Timestamp },
    NotGranted { grants: String },
}

fn session_refuses(
    context: &WorkerContext,
    session: &SessionRow,
    request: &CallRequest,
    server: &Server,
) -> Option<SessionRefusal> {
    if session.expires_at <= context.now() {
        return Some(SessionRefusal::Ended { at: session.expires_at });
    }
    if !grants::open(&session.grants, &request.target, &server.id) {
        return Some(SessionRefusal::NotGranted { grants: session.grants.join(", ") });
    }
    None
}

/// The row of a conversation that was not registered: it grants all and lasts as long as its calls.
async fn opened(
    context: &WorkerContext,
    tenant: &Tenant,
    id: &SessionId,
) -> Result<Arc<SessionRow>, AwsError> {
    let key = (tenant.clone(), id.clone());
    let open = async {
        let expires_at = context.now().plus_ms(RETENTION_MS);
        let row = SessionRow { expires_at, grants: vec!["*".into()], user: None };
        Ok::<_, AwsError>(match context.sessions.create(tenant, id, &row).await? {
            true => Some(Arc::new(row)),
            // Another worker opened the session at the same moment.
            false => context.sessions.read(tenant, id).await?.map(Arc::new),
        })
    };
    let session = Box::pin(context.session_cache.learn(&key, open)).await?;
    session.ok_or_else(|| AwsError::passing("a session's row went as it was read"))
}
