//! The credentials that are not headers: a client certificate, and the keys that sign for AWS.
//!
//! An error names the field and never repeats its value, which may be a PEM in the wrong place.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::reference::{SecretRef, read};
use super::secret::Setting;

/// The certificate that workers show when a connection is opened (mutual TLS). It goes along with any other credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientCertificate {
    /// The certificate, and those between it and the authority, as PEM.
    pub certificate: SecretRef,
    /// Its private key as PEM.
    pub key: SecretRef,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    certificate: SecretRef,
    key: SecretRef,
}

impl<'de> Deserialize<'de> for ClientCertificate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Value::Object(fields) = Value::deserialize(deserializer)? else {
            let text = "is not an object; write {\"certificate\": \"secret://..\", \"key\": \"secret://..\"}";
            return Err(D::Error::custom(text));
        };
        let Fields { certificate, key } = read(fields).map_err(D::Error::custom)?;
        Ok(Self { certificate, key })
    }
}

/// AWS Signature Version 4, for servers that IAM protects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsSigv4 {
    /// The service's name in signatures; read from the host where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The region; read from the host where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The access key; without one, the worker's own identity signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Setting>,
    /// Its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretRef>,
    /// The session token of temporary keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretRef>,
    /// The role that the worker assumes to sign, in its own account or another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

impl AwsSigv4 {
    pub(super) fn checked(self) -> Result<Self, String> {
        for (field, text) in [("service", &self.service), ("region", &self.region)] {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if text.as_ref().is_some_and(|text| text.is_empty() || !text.chars().all(fits)) {
                return Err(format!("field `{field}` is no name of AWS; use small letters, digits and `-`"));
            }
        }
        check_role(self.role_arn.as_deref(), self.external_id.as_deref())
            .map_err(|(field, problem)| format!("field `{field}` {problem}"))?;
        if self.role_arn.is_some() && self.access_key_id.is_some() {
            return Err("has `role_arn` beside `access_key_id`; the worker assumes the role as itself, so give one of them".to_owned());
        }
        match (&self.access_key_id, &self.secret_access_key, &self.session_token) {
            (Some(_), Some(_), _) | (None, None, None) => Ok(self),
            (..) => Err("has a part of a key; give `access_key_id` and `secret_access_key` (and `session_token` for temporary keys), or none of them for the worker's own identity".to_owned()),
        }
    }
}

/// Checks a role that is to be assumed, and its external id.
///
/// # Errors
/// The field that is wrong, and why.
pub fn check_role(
    role_arn: Option<&str>,
    external_id: Option<&str>,
) -> Result<(), (&'static str, &'static str)> {
    if role_arn.is_some_and(|arn| !is_role(arn)) {
        return Err(("role_arn", "is no ARN of a role: arn:aws:iam::{account}:role/{name}"));
    }
    let Some(id) = external_id else {
        return Ok(());
    };
    if role_arn.is_none() {
        return Err(("external_id", "is given without the `role_arn` that asks for it"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c);
    if !(2..=1224).contains(&id.len()) || !id.chars().all(fits) {
        return Err(("external_id", "is not 2 to 1224 of the characters that STS accepts"));
    }
    Ok(())
}

fn is_role(arn: &str) -> bool {
    let is_word = |text: &str, beside: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || beside.contains(c))
    };
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", partition, "iam", "", account, role] => {
            is_word(partition, "-")
                && is_word(account, "")
                && role.strip_prefix("role/").is_some_and(|name| is_word(name, "/+=,.@_-"))
        }
        _ => false,
    }
}

/// The service and region that a host of AWS names: AgentCore, API Gateway, Lambda function URLs.
pub fn named_by_host(host: &str) -> Option<(&'static str, String)> {
    let labels: Vec<&str> = host.split('.').collect();
    let (service, region) = match labels.as_slice() {
        [.., "bedrock-agentcore", region, "amazonaws", "com"] => ("bedrock-agentcore", region),
        [_, "execute-api", region, "amazonaws", "com"] => ("execute-api", region),
        [_, "lambda-url", region, "on", "aws"] => ("lambda", region),
        _ => return None,
    };
    Some((service, (*region).to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Credential;
    use super::*;

    #[test]
    fn a_written_pem_is_refused_by_field_and_not_repeated() {
        for value in [
            json!({"certificate": "-----BEGIN CERTIFICATE-----", "key": "secret://k"}),
            json!({"certificate": "secret://c", "key": "-----BEGIN PRIVATE KEY-----"}),
            json!({"certificate": "secret://c", "key": {"-----BEGIN": 1}}),
            json!("-----BEGIN PRIVATE KEY-----"),
        ] {
            let error = serde_json::from_value::<ClientCertificate>(value).unwrap_err().to_string();
            assert!(!error.contains("BEGIN"), "{error}");
        }
        let value = json!({"certificate": "secret://tls#certificate", "key": "secret://tls#key"});
        let read: ClientCertificate = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), value);
    }

    #[test]
    fn keys_are_whole_or_absent_and_a_secret_one_is_a_reference() {
        let read = |value| serde_json::from_value::<Credential>(value).map_err(|error| error.to_string());
        let own = json!({"type": "aws_sigv4", "service": "lambda", "region": "eu-west-1"});
        assert_eq!(serde_json::to_value(read(own.clone()).unwrap()).unwrap(), own);
        read(json!({"type": "aws-sigv4", "access_key_id": "AKIA1", "secret_access_key": "secret://s"}))
            .unwrap();
        for (value, expected) in [
            (json!({"type": "aws_sigv4", "access_key_id": "AKIA1"}), "a part of a key"),
            (json!({"type": "aws_sigv4", "session_token": "secret://t"}), "a part of a key"),
            (
                json!({"type": "aws_sigv4", "access_key_id": "AKIA1", "secret_access_key": "wJalr"}),
                "`secret_access_key` is not a reference",
            ),
            (json!({"type": "aws_sigv4", "region": "US East"}), "`region` is no name"),
            (
                json!({"type": "aws_sigv4", "role_arn": "arn:aws:iam::1:user/u"}),
                "`role_arn` is no ARN of a role",
            ),
            (json!({"type": "aws_sigv4", "external_id": "fleet-7"}), "without the `role_arn`"),
            (
                json!({"type": "aws_sigv4", "role_arn": "arn:aws:iam::1:role/r", "access_key_id": "AKIA1",
                    "secret_access_key": "secret://s"}),
                "`role_arn` beside `access_key_id`",
            ),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(expected) && !error.contains("wJalr"), "{error}");
        }
    }

    #[test]
    fn a_host_of_aws_names_service_and_region() {
        for (host, expected) in [
            (
                "gw-1.gateway.bedrock-agentcore.us-west-2.amazonaws.com",
                Some(("bedrock-agentcore", "us-west-2")),
            ),
            ("bedrock-agentcore.eu-central-1.amazonaws.com", Some(("bedrock-agentcore", "eu-central-1"))),
            ("abc.lambda-url.eu-west-1.on.aws", Some(("lambda", "eu-west-1"))),
            ("abc.execute-api.us-east-1.amazonaws.com", Some(("execute-api", "us-east-1"))),
            ("mcp.example.com", None),
            ("bedrock-agentcore.us-west-2.amazonaws.com.evil.example", None),
        ] {
            let found = named_by_host(host);
            assert_eq!(
                found.as_ref().map(|(service, region)| (*service, region.as_str())),
                expected,
                "{host}"
            );
        }
    }
}
