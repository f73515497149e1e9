//! The executor of HTTP interfaces that an OpenAPI document describes: a call is one HTTP request.

mod answer;
mod body;
mod encode;
pub(crate) mod executor;
mod listing;
mod multipart;
mod style;
mod value;
mod xml;

#[cfg(test)]
mod golden;
