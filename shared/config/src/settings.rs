//! Reads settings from variables that are injected as strings. An error names the variable, its value and what is accepted.

/// A variable is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: String,
}

impl ConfigError {
    /// An error of that variable. `problem` says what is wrong and what to do.
    pub const fn new(variable: &'static str, problem: String) -> Self {
        Self { variable, problem }
    }
}

/// A whole number from `min` to `max`; `default` where the variable is not set.
pub fn number<T>(
    var: &dyn Fn(&str) -> Option<String>,
    variable: &'static str,
    default: T,
    min: T,
    max: T,
) -> Result<T, ConfigError>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    let Some(text) = var(variable) else {
        return Ok(default);
    };
    match text.trim().parse::<T>() {
        Ok(n) if n >= min && n <= max => Ok(n),
        Ok(_) | Err(_) => Err(ConfigError::new(
            variable,
            format!("is `{text}`; accepted is a whole number from {min} to {max} (unset: {default})"),
        )),
    }
}

/// True or false, if the variable is set.
pub fn flag(
    var: &dyn Fn(&str) -> Option<String>,
    variable: &'static str,
) -> Result<Option<bool>, ConfigError> {
    match var(variable).as_deref().map(str::trim) {
        None | Some("") => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(ConfigError::new(variable, format!("is `{other}`; accepted are true and false"))),
    }
}
