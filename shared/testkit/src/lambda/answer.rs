//! Answers of the scripted Lambda endpoint, as Lambda and STS write them.

use serde_json::json;

use super::script::LambdaInvocation;
use super::state::State;

/// An HTTP answer.
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub(super) fn ok(body: &str) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status: 200, headers, body: body.to_owned() }
    }

    pub(super) fn function_error(kind: &str, body: &str) -> Self {
        let mut answer = Self::ok(body);
        answer.headers.push(("x-amz-function-error", kind.to_owned()));
        answer
    }

    pub(super) fn error(status: u16, code: &str, retry_after: Option<u64>) -> Self {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if !code.is_empty() {
            headers.push(("x-amzn-errortype", code.to_owned()));
        }
        if let Some(seconds) = retry_after {
            headers.push(("retry-after", seconds.to_string()));
        }
        Self { status, headers, body: json!({"Type": "User", "message": "as the test says"}).to_string() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut text =
            format!("HTTP/1.1 {} Scripted\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }
}

/// Runs the function. A second invocation of one durable execution gets the first one's answer.
pub(super) fn of_function(invocation: &LambdaInvocation, state: &State) -> Answer {
    let handler = state.lock().functions.get(&invocation.function).cloned();
    let Some(handler) = handler else {
        return Answer::error(404, "ResourceNotFoundException", None);
    };
    if invocation.dry_run {
        return Answer { status: 204, headers: Vec::new(), body: String::new() };
    }
    if let Some(name) = &invocation.durable_name
        && let Some((event, answer)) = state.lock().durable.get(name)
    {
        if *event != invocation.event {
            return Answer::error(409, "DurableExecutionAlreadyStartedException", None);
        }
        return Answer::ok(&answer.to_string());
    }
    *state.lock().executions.entry(invocation.function.clone()).or_default() += 1;
    let answer = handler(invocation);
    if let Some(name) = &invocation.durable_name {
        state.lock().durable.insert(name.clone(), (invocation.event.clone(), answer.clone()));
    }
    Answer::ok(&answer.to_string())
}

/// AssumeRole.
pub(super) fn of_sts(form: &str, state: &State) -> Answer {
    let field = |name: &str| {
        let value = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.replace("%3A", ":").replace("%2F", "/"))
    };
    let headers = vec![("content-type", "text/xml".to_owned())];
    let mut inner = state.lock();
    let (Some("AssumeRole"), Some(role), false) =
        (field("Action").as_deref(), field("RoleArn"), inner.refuses_roles)
    else {
        let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform \
                    sts:AssumeRole</Message></Error></ErrorResponse>";
        return Answer { status: 403, headers, body: body.to_owned() };
    };
    inner.assumed.push((role.clone(), field("ExternalId")));
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
         <AssumedRoleId>AROA:toolfleet</AssumedRoleId><Arn>{role}</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>ASIAASSUMED</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    );
    Answer { status: 200, headers, body }
}

/// The bytes of a text in base64.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0_u32);
    for c in text.bytes().filter(|c| *c != b'=') {
        held = held << 6 | u32::from(value(c)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for (text, expected) in [("eyJhIjoxfQ==", "{\"a\":1}"), ("YWJj", "abc"), ("YQ", "a")] {
            assert_eq!(from_base64(text).unwrap(), expected.as_bytes());
        }
        assert_eq!(from_base64("*"), None);
    }
}
