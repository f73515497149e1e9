//! The user that a session or a sender is bound to, against the user that a message names.
//!
//! A call acts as the bound user, with roles of that user only. A refusal never names the bound user.

use crate::request::User;

/// Why a message's user is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BindingError {
    field: &'static str,
    problem: String,
}

/// The user as whom a call acts: the bound one, with the roles that the message narrows it to.
///
/// # Errors
/// The message names another user or type, or a role that the user is not bound with.
pub fn bind(bound: &User, said: Option<&User>) -> Result<User, BindingError> {
    let Some(said) = said else {
        return Ok(bound.clone());
    };
    let refuse = |field, problem: String| Err(BindingError { field, problem });
    if said.id != bound.id {
        return refuse("user.id", "is another user's".to_owned());
    }
    if said.kind.is_some() && said.kind != bound.kind {
        return refuse("user.type", "is not the type that is bound".to_owned());
    }
    if let Some(role) = said.roles.iter().find(|role| !bound.roles.contains(role)) {
        return refuse("user.roles", format!("`{role}` is not among the roles that are bound"));
    }
    let roles = if said.roles.is_empty() { &bound.roles } else { &said.roles };
    Ok(User { roles: roles.clone(), ..bound.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str, kind: Option<&str>, roles: &[&str]) -> User {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        User { id: id.to_owned(), kind: kind.map(str::to_owned), roles }
    }

    #[test]
    fn a_message_may_omit_or_narrow_the_bound_user() {
        let bound = user("ann", Some("internal"), &["support", "admin"]);
        assert_eq!(bind(&bound, None).unwrap(), bound);
        assert_eq!(bind(&bound, Some(&user("ann", None, &[]))).unwrap(), bound);
        let narrowed = bind(&bound, Some(&user("ann", Some("internal"), &["support"]))).unwrap();
        assert_eq!(narrowed, user("ann", Some("internal"), &["support"]));
    }

    #[test]
    fn another_user_type_or_role_is_refused_by_its_field() {
        let bound = user("ann", None, &["support"]);
        for (said, field) in [
            (user("eve", None, &["support"]), "user.id"),
            (user("ann", Some("internal"), &[]), "user.type"),
            (user("ann", None, &["support", "admin"]), "user.roles"),
        ] {
            let text = bind(&bound, Some(&said)).unwrap_err().to_string();
            assert!(text.starts_with(field), "{text}");
        }
    }
}
