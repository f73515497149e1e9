//! Workers in a cluster of Kubernetes, by `kubectl`.

use serde_json::{Value, json};

use super::figures::{Bounds, Figures};
use crate::commands::program::Call;
use crate::exit::CommandError;

/// What KEDA takes where a ScaledObject names no most.
const KEDA_MOST: u64 = 100;

fn kubectl(namespace: &str, arguments: &[&str]) -> Call {
    Call::new("kubectl", &[&["--namespace", namespace], arguments].concat())
}

/// The deployment, and the ScaledObject that scales it.
pub(super) async fn read(namespace: &str, deployment: &str) -> Result<Figures, CommandError> {
    let found = kubectl(namespace, &["get", "deployment", deployment, "--output", "json"]).json().await?;
    let scaled = scaled_object(namespace, deployment).await?;
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

async fn scaled_object(namespace: &str, deployment: &str) -> Result<Option<Value>, CommandError> {
    let all = match kubectl(namespace, &["get", "scaledobjects.keda.sh", "--output", "json"]).json().await {
        Ok(all) => all,
        // KEDA is not installed.
        Err(error) if error.message().contains("doesn't have a resource type") => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_ours = |one: &&Value| {
        one.pointer("/spec/scaleTargetRef").is_some_and(|target| {
            let is_deployment = target.get("kind").is_none_or(|kind| kind == "Deployment");
            is_deployment && target.get("name").is_some_and(|name| name == deployment)
        })
    };
    Ok(all.get("items").and_then(Value::as_array).and_then(|items| items.iter().find(is_ours)).cloned())
}

/// Asks for so many pods.
///
/// # Errors
/// KEDA scales the deployment, and would set its own number within seconds.
pub(super) fn set(
    namespace: &str,
    deployment: &str,
    count: u64,
    now: &Figures,
) -> Result<Call, CommandError> {
    if let Some(scaler) = &now.scaler {
        return Err(CommandError::usage(format!(
            "KEDA (ScaledObject {scaler}) sets the number of workers and would change {count} within seconds; \
             set the least instead: toolfleet scale limits --min {count}"
        )));
    }
    let replicas = format!("--replicas={count}");
    Ok(kubectl(namespace, &["scale", &format!("deployment/{deployment}"), &replicas]))
}

/// Lets KEDA run so many pods.
///
/// # Errors
/// Nothing scales the deployment.
pub(super) fn limit(
    namespace: &str,
    deployment: &str,
    Bounds { min, max }: Bounds,
    now: &Figures,
) -> Result<Call, CommandError> {
    let Some(scaler) = &now.scaler else { return Err(unscaled(namespace, deployment)) };
    let patch = json!({"spec": {"minReplicaCount": min, "maxReplicaCount": max}}).to_string();
    Ok(kubectl(namespace, &["patch", "scaledobjects.keda.sh", scaler, "--type", "merge", "--patch", &patch]))
}

pub(super) fn unscaled(namespace: &str, deployment: &str) -> CommandError {
    CommandError::usage(format!(
        "no ScaledObject of KEDA scales {deployment} in {namespace}, so it has no limits; apply infra/kubernetes/keda, or set the number of \
         workers: toolfleet scale set COUNT"
    ))
}
