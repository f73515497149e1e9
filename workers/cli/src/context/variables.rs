//! The variables that a context may have.

use std::collections::BTreeMap;

/// Variables and their values.
pub(crate) type Variables = BTreeMap<String, String>;

/// What names a fleet: a context replaces all of it.
const OF_THE_FLEET: [&str; 15] = [
    "TOOLFLEET_QUEUE_URL",
    "TOOLFLEET_QUEUE_URL_HIGH",
    "TOOLFLEET_QUEUE_URL_LOW",
    "TOOLFLEET_TABLE_PREFIX",
    "TOOLFLEET_HISTORY_SHARDS",
    "TOOLFLEET_PAYLOAD_BUCKET",
    "TOOLFLEET_SCALE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_S3",
];

/// What a context may have beside it. Where it has none, that of the shell stays.
const BESIDE: [&str; 7] = [
    "TOOLFLEET_CATALOG",
    "TOOLFLEET_TENANT",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "TOOLFLEET_ALLOW_STDIO",
    "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES",
    "TOOLFLEET_ALLOW_HTTP",
];

/// Credentials of AWS: a profile has them, no context.
const CREDENTIALS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The names of all variables that a context may have.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    OF_THE_FLEET.into_iter().chain(BESIDE)
}

/// The variables of the environment that do not hold while these do.
pub(crate) fn replaced(set: &Variables) -> Vec<&'static str> {
    let mut replaced = OF_THE_FLEET.to_vec();
    if set.contains_key("AWS_PROFILE") {
        // The SDK would take keys of the environment before those of the profile.
        replaced.extend(CREDENTIALS);
    }
    if set.contains_key("AWS_ACCESS_KEY_ID") {
        replaced.push("AWS_SESSION_TOKEN");
    }
    replaced
}

/// The variables of a context, with the region of its queue where it names none.
pub(crate) fn with_region(mut variables: Variables) -> Variables {
    if !variables.contains_key("AWS_REGION") {
        let region = variables.get("TOOLFLEET_QUEUE_URL").and_then(|url| region_of(url)).map(str::to_owned);
        variables.extend(region.map(|region| ("AWS_REGION".to_owned(), region)));
    }
    variables
}

/// The region of a queue's URL, `https://sqs.REGION.amazonaws.com/...`.
fn region_of(url: &str) -> Option<&str> {
    let (region, rest) = url.strip_prefix("https://sqs.")?.split_once('.')?;
    rest.starts_with("amazonaws.com").then_some(region)
}

/// A setting of a context as a command line gives it, NAME=VALUE. No value takes the variable out of the context.
pub(crate) fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    check(name)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether a context may have that variable.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if CREDENTIALS.contains(&name) {
        return Err(format!(
            "{name}: a context keeps no credentials; put them into a profile, and its name into AWS_PROFILE"
        ));
    }
    if names().any(|known| known == name) {
        return Ok(());
    }
    Err(format!(
        "{name}: is no variable of a context; accepted are {}",
        names().collect::<Vec<_>>().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_keeps_no_credentials() {
        assert!(parse_setting("AWS_SECRET_ACCESS_KEY=x").unwrap_err().contains("AWS_PROFILE"));
        assert!(parse_setting("TOOLFLEET_QUEUE=x").unwrap_err().contains("TOOLFLEET_QUEUE_URL"));
        assert_eq!(parse_setting("AWS_REGION=eu-west-1"), Ok(("AWS_REGION".into(), "eu-west-1".into())));
    }

    #[test]
    fn a_region_that_is_not_named_is_that_of_the_queue_and_not_of_the_profile() {
        let url = "https://sqs.eu-west-1.amazonaws.com/1/q";
        let set = |more: &[(&str, &str)]| {
            let all = [&[("TOOLFLEET_QUEUE_URL", url), ("AWS_PROFILE", "prod")], more].concat();
            with_region(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(set(&[]).get("AWS_REGION").map(String::as_str), Some("eu-west-1"));
        assert_eq!(set(&[("AWS_REGION", "us-east-1")])["AWS_REGION"], "us-east-1");
    }

    #[test]
    fn keys_of_the_environment_do_not_overrule_a_profile() {
        let set = Variables::from([("AWS_PROFILE".to_owned(), "prod".to_owned())]);
        assert!(replaced(&set).contains(&"AWS_ACCESS_KEY_ID"));
        assert!(!replaced(&Variables::new()).contains(&"AWS_ACCESS_KEY_ID"));
        assert!(
            replaced(&Variables::new()).contains(&"AWS_ENDPOINT_URL_SQS"),
            "endpoints are of another fleet"
        );
    }
}
