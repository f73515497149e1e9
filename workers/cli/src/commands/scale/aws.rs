//! Workers on ECS and EC2, by the `aws` command.

use serde_json::Value;

use super::figures::{Bounds, Figures};
use crate::commands::program::Call;
use crate::exit::CommandError;

const SCALABLE: [&str; 4] =
    ["--service-namespace", "ecs", "--scalable-dimension", "ecs:service:DesiredCount"];

fn aws(arguments: &[&str]) -> Call {
    Call::new("aws", &[arguments, &["--output", "json"]].concat())
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn not_there(what: &str, remedy: &str) -> CommandError {
    CommandError::usage(format!("there is no {what} in this account and region; {remedy}"))
}

/// The service, and what Application Auto Scaling knows of it.
pub(super) async fn ecs(cluster: &str, service: &str) -> Result<Figures, CommandError> {
    let services = aws(&["ecs", "describe-services", "--cluster", cluster, "--services", service]);
    let found = services.json().await?;
    let found = found.pointer("/services/0").filter(|found| text(found, "status") == "ACTIVE").cloned();
    let found = found.ok_or_else(|| {
        not_there(
            &format!("service {service} in the cluster {cluster}"),
            "give the outputs ClusterName and ServiceName of compute.yaml, and check AWS_REGION",
        )
    })?;
    let resource = format!("service/{cluster}/{service}");
    let describe = ["application-autoscaling", "describe-scalable-targets", "--resource-ids", &resource];
    let targets = aws(&[&describe[..], &SCALABLE[..]].concat()).json().await?;
    let target = targets.pointer("/ScalableTargets/0");
    Ok(Figures {
        desired: number(&found, "desiredCount"),
        running: number(&found, "runningCount"),
        limits: target
            .map(|target| Bounds { min: number(target, "MinCapacity"), max: number(target, "MaxCapacity") }),
        scaled_by: target.map(|_| "Application Auto Scaling"),
        ..Figures::default()
    })
}

/// Asks for so many tasks.
pub(super) fn set_ecs(cluster: &str, service: &str, count: u64) -> Call {
    let count = count.to_string();
    let update = ["ecs", "update-service", "--cluster", cluster, "--service", service];
    aws(&[&update[..], &["--desired-count", &count, "--query", "service.desiredCount"]].concat())
}

/// Lets the service have so many tasks.
pub(super) fn limit_ecs(cluster: &str, service: &str, Bounds { min, max }: Bounds) -> Call {
    let (resource, min, max) = (format!("service/{cluster}/{service}"), min.to_string(), max.to_string());
    let register = ["application-autoscaling", "register-scalable-target", "--resource-id", &resource];
    aws(&[&register[..], &SCALABLE[..], &["--min-capacity", &min, "--max-capacity", &max]].concat())
}

/// The Auto Scaling group.
pub(super) async fn ec2(group: &str) -> Result<Figures, CommandError> {
    let groups = aws(&["autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", group]);
    let groups = groups.json().await?;
    let found = groups.pointer("/AutoScalingGroups/0").ok_or_else(|| {
        not_there(
            &format!("Auto Scaling group {group}"),
            "give the output GroupName of ec2.yaml, and check AWS_REGION",
        )
    })?;
    let instances = found.get("Instances").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let in_state = |state: &str| {
        let count = instances.iter().filter(|one| text(one, "LifecycleState").starts_with(state));
        u64::try_from(count.count()).unwrap_or(u64::MAX)
    };
    Ok(Figures {
        desired: number(found, "DesiredCapacity"),
        running: in_state("InService"),
        draining: Some(in_state("Terminating")),
        limits: Some(Bounds { min: number(found, "MinSize"), max: number(found, "MaxSize") }),
        scaled_by: Some("EC2 Auto Scaling"),
        scaler: None,
    })
}

/// Asks for so many instances.
pub(super) fn set_ec2(group: &str, count: u64) -> Call {
    let count = count.to_string();
    aws(&[
        "autoscaling",
        "set-desired-capacity",
        "--auto-scaling-group-name",
        group,
        "--desired-capacity",
        &count,
    ])
}

/// Lets the group have so many instances.
pub(super) fn limit_ec2(group: &str, Bounds { min, max }: Bounds) -> Call {
    let (min, max) = (min.to_string(), max.to_string());
    let update = ["autoscaling", "update-auto-scaling-group", "--auto-scaling-group-name", group];
    aws(&[&update[..], &["--min-size", &min, "--max-size", &max]].concat())
}
