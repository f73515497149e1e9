//! Where the workers of a fleet run, as TOOLFLEET_SCALE or `--at` names it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the workers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A service of ECS.
    Ecs {
        /// Its cluster.
        cluster: String,
        /// Its name.
        service: String,
    },
    /// An Auto Scaling group of EC2 instances.
    Ec2 {
        /// Its name.
        group: String,
    },
    /// A deployment in a cluster of Kubernetes.
    Kubernetes {
        /// The context of kubectl that names the cluster; none, and it is the current one.
        context: Option<String>,
        /// Its namespace.
        namespace: String,
        /// Its name.
        deployment: String,
    },
    /// Processes of a `toolfleet dev`.
    Dev {
        /// The socket on which it listens.
        socket: PathBuf,
    },
}

const ACCEPTED: &str = "accepted are ecs:CLUSTER/SERVICE (outputs ClusterName and ServiceName of compute.yaml), ec2:GROUP (output GroupName of \
                        ec2.yaml) and kubernetes:NAMESPACE/DEPLOYMENT, with @CONTEXT of kubectl for a cluster that is not the current one; a running `toolfleet dev` is found by itself";

impl Place {
    /// What is missing where no place is named.
    pub(crate) fn missing() -> String {
        format!(
            "TOOLFLEET_SCALE: is not set, and no --at says where the workers run; {ACCEPTED}. Keep it with `toolfleet context set NAME TOOLFLEET_SCALE=..`"
        )
    }
}

/// A name that goes to another program: no option, and nothing that a path or an ARN is made of.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 255 && text.chars().all(fits)
}

/// The name of a context of kubectl, which may be an ARN or `user@cluster`.
fn is_context(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 255 && text.chars().all(fits)
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("is `{text}`; {ACCEPTED}");
        let pair = |rest: &str| {
            let (first, second) = rest.split_once('/')?;
            (is_name(first) && is_name(second)).then(|| (first.to_owned(), second.to_owned()))
        };
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "ecs" => {
                let (cluster, service) = pair(rest).ok_or_else(wrong)?;
                Ok(Self::Ecs { cluster, service })
            }
            "kubernetes" => {
                let (rest, context) = match rest.split_once('@') {
                    Some((rest, context)) if is_context(context) => (rest, Some(context.to_owned())),
                    Some(_) => return Err(wrong()),
                    None => (rest, None),
                };
                let (namespace, deployment) = pair(rest).ok_or_else(wrong)?;
                Ok(Self::Kubernetes { context, namespace, deployment })
            }
            "ec2" if is_name(rest) => Ok(Self::Ec2 { group: rest.to_owned() }),
            "dev" if rest.starts_with('/') => Ok(Self::Dev { socket: rest.into() }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecs { cluster, service } => write!(f, "ecs:{cluster}/{service}"),
            Self::Ec2 { group } => write!(f, "ec2:{group}"),
            Self::Kubernetes { context, namespace, deployment } => {
                write!(f, "kubernetes:{namespace}/{deployment}")?;
                context.as_ref().map_or(Ok(()), |context| write!(f, "@{context}"))
            }
            Self::Dev { socket } => write!(f, "dev:{}", socket.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for text in [
            "ecs:prod/worker",
            "ec2:toolfleet-worker",
            "kubernetes:toolfleet/toolfleet-worker",
            "kubernetes:tools/worker@arn:aws:eks:us-east-1:123456789012:cluster/prod",
            "kubernetes:tools/worker@admin@prod",
            "dev:/tmp/x.sock",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_name_is_never_an_option_of_another_program() {
        for text in [
            "ecs:prod",
            "ecs:--profile/x",
            "ec2:-g",
            "kubernetes:a/b c",
            "kubernetes:a/b@",
            "kubernetes:a/b@--kubeconfig",
            "k8s:a/b",
            "dev:x",
            "ecs:a/b/c",
            "",
            "ec2:",
        ] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(error.contains("ecs:CLUSTER/SERVICE"), "{text}: {error}");
        }
    }
}
