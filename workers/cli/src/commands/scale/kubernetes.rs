//! Workers in a cluster of Kubernetes, by `kubectl`.

use serde_json::{Value, json};

use super::figures::{Bounds, Figures};
use crate::commands::program::Call;
use crate::exit::CommandError;

/// What KEDA takes where a ScaledObject names no most.
const KEDA_MOST: u64 = 100;

/// A deployment, and the cluster that it is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deployment<'a> {
    /// The context of kubectl; none where kubectl has none, as in a pod.
    pub(super) context: Option<&'a str>,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl Deployment<'_> {
    fn kubectl(self, arguments: &[&str]) -> Call {
        let context: Vec<_> = self.context.into_iter().flat_map(|context| ["--context", context]).collect();
        Call::new("kubectl", &[context.as_slice(), &["--namespace", self.namespace], arguments].concat())
    }
}

/// The context that kubectl is set to, if it has one.
pub(super) async fn current_context() -> Option<String> {
    let context = Call::new("kubectl", &["config", "current-context"]).output().await.ok()?;
    Some(context.trim().to_owned()).filter(|context| !context.is_empty())
}

/// The deployment, and the ScaledObject that scales it.
pub(super) async fn read(deployment: Deployment<'_>) -> Result<Figures, CommandError> {
    let found =
        deployment.kubectl(&["get", "deployment", deployment.name, "--output", "json"]).json().await?;
    let scaled = scaled_object(deployment).await?;
    let number = |pointer: &str| found.pointer(pointer).and_then(Value::as_u64);
    Ok(Figures {
        desired: number("/spec/replicas").unwrap_or(0),
        running: number("/status/readyReplicas").unwrap_or(0),
        draining: None,
        limits: scaled.as_ref().map(|scaled| Bounds {
            min: scaled.pointer("/spec/minReplicaCount").and_then(Value::as_u64).unwrap_or(0),
            max: scaled.pointer("/spec/maxReplicaCount").and_then(Value::as_u64).unwrap_or(KEDA_MOST),
        }),
        scaled_by: scaled.as_ref().map(|_| "KEDA"),
        scaler: scaled.and_then(|scaled| Some(scaled.pointer("/metadata/name")?.as_str()?.to_owned())),
    })
}

async fn scaled_object(deployment: Deployment<'_>) -> Result<Option<Value>, CommandError> {
    let all = match deployment.kubectl(&["get", "scaledobjects.keda.sh", "--output", "json"]).json().await {
        Ok(all) => all,
        // KEDA is not installed.
        Err(error) if error.message().contains("doesn't have a resource type") => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_ours = |one: &&Value| {
        one.pointer("/spec/scaleTargetRef").is_some_and(|target| {
            let is_deployment = target.get("kind").is_none_or(|kind| kind == "Deployment");
            is_deployment && target.get("name").is_some_and(|name| name == deployment.name)
        })
    };
    Ok(all.get("items").and_then(Value::as_array).and_then(|items| items.iter().find(is_ours)).cloned())
}

/// Asks for so many pods.
///
/// # Errors
/// KEDA scales the deployment, and would set its own number within seconds.
pub(super) fn set(deployment: Deployment<'_>, count: u64, now: &Figures) -> Result<Call, CommandError> {
    if let Some(scaler) = &now.scaler {
        return Err(CommandError::usage(format!(
            "KEDA (ScaledObject {scaler}) sets the number of workers and would change {count} within seconds; \
             set the least instead: toolfleet scale limits --min {count}"
        )));
    }
    let replicas = format!("--replicas={count}");
    Ok(deployment.kubectl(&["scale", &format!("deployment/{}", deployment.name), &replicas]))
}

/// Lets KEDA run so many pods.
///
/// # Errors
/// Nothing scales the deployment.
pub(super) fn limit(
    deployment: Deployment<'_>,
    Bounds { min, max }: Bounds,
    now: &Figures,
) -> Result<Call, CommandError> {
    let Some(scaler) = &now.scaler else { return Err(unscaled(deployment)) };
    let patch = json!({"spec": {"minReplicaCount": min, "maxReplicaCount": max}}).to_string();
    Ok(deployment.kubectl(&["patch", "scaledobjects.keda.sh", scaler, "--type", "merge", "--patch", &patch]))
}

pub(super) fn unscaled(Deployment { namespace, name, .. }: Deployment<'_>) -> CommandError {
    CommandError::usage(format!(
        "no ScaledObject of KEDA scales {name} in {namespace}, so it has no limits; apply infra/kubernetes/keda, or set the number of \
         workers: toolfleet scale set COUNT"
    ))
}
