//! The pages. Each is a file: what it reads, and what it makes of that for its template.

mod call;
mod concerns;
mod dead_letters;
mod group;
mod history;
mod now;
mod own;
mod server;
mod servers;
mod tool;
mod tools;

use crate::console::Visit;
use crate::failure::Failure;

/// Their addresses.
pub(crate) const PATHS: [&str; 9] =
    ["/", "/servers", "/server", "/tools", "/tool", "/history", "/call", "/group", "/dead-letters"];

/// The page of the visit.
pub(crate) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    match visit.path {
        "/" if visit.scope().tenants().is_some() => own::page(visit).await,
        "/" => Box::pin(now::page(visit)).await,
        "/servers" => servers::page(visit).await,
        "/server" => server::page(visit).await,
        "/tools" => tools::page(visit).await,
        "/tool" => tool::page(visit).await,
        "/history" => history::page(visit).await,
        "/call" => call::page(visit).await,
        "/group" => group::page(visit).await,
        "/dead-letters" => dead_letters::page(visit).await,
        _ => Err(Failure::not_found("There is no such page.")),
    }
}
