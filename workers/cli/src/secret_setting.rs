//! A setting that is a secret: the text itself, or where it is.

use toolfleet_config::catalog::{Place, Stores};
use toolfleet_config::settings::ConfigError;

use crate::exit::CommandError;

/// The text of a setting that may be `secret://NAME`; none where it is not set.
pub(crate) async fn secret_of(
    variable: &str,
    value: Option<&str>,
    stores: &Stores,
) -> Result<Option<String>, CommandError> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else { return Ok(None) };
    match Place::of(value) {
        place @ Place::Secret(_) => stores.text(&place).await.map(Some).map_err(|error| {
            let error = ConfigError::new(variable, format!("cannot be read: {error}"));
            CommandError::usage(error.to_string())
        }),
        Place::File(_) | Place::Row(_) => Ok(Some(value.to_owned())),
    }
}
