//! Golden cases of OpenAPI: an operation, its arguments, and the request byte for byte. They are the tables of OpenAPI 3.0.4 and 3.1.1
//! ("Style Examples"), the collection formats of 2.0, and each kind of body.

mod bodies;
mod case;
mod parameters;

pub use case::OpenApiCase;

/// All of them.
pub fn openapi_cases() -> Vec<OpenApiCase> {
    parameters::cases().into_iter().chain(bodies::cases()).collect()
}
