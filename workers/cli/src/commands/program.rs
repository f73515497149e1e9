//! Runs `aws` and `kubectl`, with which operators are signed in already. Decision 0029 says why no SDK does this.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::exit::CommandError;
use toolfleet_client::shell_command::quoted;

/// How long a program may take: it may have to sign in anew.
const TIME_OUT: Duration = Duration::from_secs(60);

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    program: &'static str,
    arguments: Vec<String>,
}

impl Call {
    pub(crate) fn new(program: &'static str, arguments: &[&str]) -> Self {
        Self { program, arguments: arguments.iter().map(|&argument| argument.to_owned()).collect() }
    }

    /// As a line of a shell.
    pub(crate) fn line(&self) -> String {
        let words = std::iter::once(self.program).chain(self.arguments.iter().map(String::as_str));
        words.map(|word| quoted(word).into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// What it prints.
    pub(crate) async fn output(&self) -> Result<String, CommandError> {
        let Self { program, arguments } = self;
        let mut command = Command::new(program);
        // The pager of the aws command would wait for a person.
        command.args(arguments).env("AWS_PAGER", "").stdin(Stdio::null()).kill_on_drop(true);
        let ended = match tokio::time::timeout(TIME_OUT, command.output()).await {
            Ok(ended) => ended.map_err(|error| self.not_started(&error))?,
            Err(_) => {
                return Err(self.failed(format!("did not end within {} s", TIME_OUT.as_secs())));
            }
        };
        if ended.status.success() {
            return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said = if lines.is_empty() { format!("{}", ended.status) } else { lines.join(" ") };
        Err(self.failed(format!("failed: {said}{}", remedy(self, &said))))
    }

    /// What it prints, which is JSON.
    pub(crate) async fn json(&self) -> Result<Value, CommandError> {
        let text = self.output().await?;
        serde_json::from_str(&text).map_err(|error| self.failed(format!("printed no JSON: {error}")))
    }

    fn not_started(&self, error: &std::io::Error) -> CommandError {
        if error.kind() != ErrorKind::NotFound {
            return self.failed(format!("cannot be started: {error}"));
        }
        let what = match self.program {
            "aws" => "install the AWS CLI, version 2",
            _ => "install kubectl, and set it to the fleet's cluster",
        };
        CommandError::usage(format!("`{}` is not in the PATH; {what}", self.program))
    }

    fn failed(&self, what: String) -> CommandError {
        CommandError::Unavailable(anyhow::anyhow!("`{}` {what}", self.line()))
    }
}

/// What to do about a failure that is known.
fn remedy(call: &Call, said: &str) -> &'static str {
    let Call { program, arguments } = call;
    let is_of_iam = arguments.first().is_some_and(|service| service == "iam");
    let is_of_lambda = arguments.first().is_some_and(|service| service == "lambda");
    let is_of_secrets = arguments.first().is_some_and(|service| service == "secretsmanager");
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    match *program {
        "aws" if is_of_iam && says(&["AccessDenied"]) => {
            "; the caller needs iam:SimulatePrincipalPolicy on that role"
        }
        "aws" if is_of_lambda && says(&["AccessDenied"]) => {
            "; the caller needs lambda:GetFunctionConfiguration on that function"
        }
        "aws" if is_of_secrets && says(&["AccessDenied"]) => {
            "; the caller needs secretsmanager:GetSecretValue on that secret"
        }
        "aws" if says(&["AccessDenied", "not authorized", "UnauthorizedOperation"]) => {
            "; the caller needs the policy of the output ScalePolicyArn of compute.yaml or ec2.yaml"
        }
        "aws" if says(&["Unable to locate credentials", "ExpiredToken", "expired", "sso login"]) => {
            "; sign in, or name a profile in AWS_PROFILE"
        }
        "aws" if says(&["You must specify a region"]) => "; set AWS_REGION",
        "kubectl" if says(&["Forbidden", "forbidden"]) => {
            "; the caller needs in that namespace: get of deployments, get and patch of deployments/scale, list and patch of scaledobjects.keda.sh"
        }
        "kubectl" if says(&["connection to the server", "current-context", "Unauthorized"]) => {
            "; set kubectl to the fleet's cluster (kubectl config use-context)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_shown_as_a_person_would_type_it() {
        let call = Call::new("kubectl", &["patch", "scaledobject", "w", "--patch", r#"{"spec":{}}"#]);
        assert_eq!(call.line(), r#"kubectl patch scaledobject w --patch '{"spec":{}}'"#);
    }
}
