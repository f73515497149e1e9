//! `toolfleet scale`: what it asks of `aws` and `kubectl`, and the processes of a `toolfleet dev`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::run::{Dev, Ran, directory, toolfleet, toolfleet_within};

/// Programs in place of `aws` and `kubectl`, which note what they are asked.
struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// A program for each name: `answers` are pieces of its arguments and what it prints then.
    fn new(test: &str, program: &str, answers: &[(&str, Value)]) -> Self {
        let folder = directory(test);
        let mut script =
            "#!/bin/sh\nfor a in \"$@\"; do printf '%s ' \"$a\"; done >> \"$0.log\"; echo >> \"$0.log\"\n"
                .to_owned();
        script.push_str("case \"$*\" in\n");
        for (number, (arguments, answer)) in answers.iter().enumerate() {
            let file = folder.join(format!("answer-{number}.json"));
            std::fs::write(&file, answer.to_string()).unwrap();
            script.push_str(&format!("*\"{arguments}\"*) cat {} ;;\n", file.display()));
        }
        script.push_str(
            "*) echo 'An error occurred (AccessDeniedException): not authorized' >&2; exit 254 ;;\nesac\n",
        );
        let path = folder.join(program);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn run(&self, args: &[&str]) -> Ran {
        let path = format!("{}:/usr/bin:/bin", self.folder.display());
        toolfleet_within(&[("PATH", &path)], args)
    }

    /// What the program was asked that changes something.
    fn changes(&self, program: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.join(format!("{program}.log"))).unwrap_or_default();
        let reads = [" describe-", " get ", " current-context"];
        let lines = log.lines().map(str::trim).filter(|line| !reads.iter().any(|read| line.contains(read)));
        lines.map(str::to_owned).collect()
    }
}

const ECS: &str = "ecs:prod/worker";
const PODS: &str = "kubernetes:tools/worker";

fn ecs(test: &str) -> Programs {
    let service = json!({"services": [{"status": "ACTIVE", "desiredCount": 3, "runningCount": 2, "pendingCount": 1}], "failures": []});
    let target = json!({"ScalableTargets": [{"MinCapacity": 2, "MaxCapacity": 20}]});
    Programs::new(
        test,
        "aws",
        &[
            ("ecs describe-services --cluster prod --services worker", service),
            ("describe-scalable-targets --resource-ids service/prod/worker", target),
            ("ecs update-service", json!(8)),
            ("register-scalable-target", json!({})),
        ],
    )
}

fn pods(test: &str, scaled: &Value) -> Programs {
    let deployment = json!({"spec": {"replicas": 3}, "status": {"readyReplicas": 3}});
    Programs::new(
        test,
        "kubectl",
        &[
            ("--namespace tools get deployment worker", deployment),
            ("--namespace tools get scaledobjects.keda.sh", json!({"items": scaled})),
            ("scale deployment/worker", json!({})),
            ("patch scaledobjects.keda.sh", json!({})),
        ],
    )
}

fn keda() -> Value {
    json!([{"metadata": {"name": "of-others"}, "spec": {"scaleTargetRef": {"name": "other"}}},
        {"metadata": {"name": "ours"}, "spec": {"scaleTargetRef": {"name": "worker"}, "minReplicaCount": 2}}])
}

#[test]
fn an_ecs_service_is_shown_with_its_limits() {
    let aws = ecs("scale-ecs-show");
    let ran = aws.run(&["scale", "show", "--at", ECS]).exits(0);
    ran.prints(&["ecs:prod/worker", "3 wanted, 2 running; Application Auto Scaling scales from 2 to 20"]);
    // No fleet is configured: the workers are shown all the same.
    ran.complains(&["what work there is cannot be read", "TOOLFLEET_QUEUE_URL"]);
    let shown = aws.run(&["scale", "show", "--at", ECS, "--json"]).exits(0).json();
    assert_eq!(shown["workers"]["limits"], json!({"min": 2, "max": 20}));
    assert!(aws.changes("aws").is_empty());
}

#[test]
fn a_count_on_ecs_is_the_desired_count_within_the_limits() {
    let aws = ecs("scale-ecs-set");
    let would = aws.run(&["scale", "set", "8", "--at", ECS, "--dry-run"]).exits(0);
    would.prints(&["would run: aws ecs update-service --cluster prod --service worker --desired-count 8"]);
    assert!(aws.changes("aws").is_empty(), "a dry run changes nothing");
    let did = aws.run(&["scale", "set", "8", "--at", ECS, "--json"]).exits(0).json();
    assert_eq!((&did["before"]["desired"], &did["after"]["desired"]), (&json!(3), &json!(8)));
    let [change] = &aws.changes("aws")[..] else { panic!("{:?}", aws.changes("aws")) };
    assert!(
        change.starts_with("ecs update-service --cluster prod --service worker --desired-count 8 "),
        "{change}"
    );
    let above = aws.run(&["scale", "set", "21", "--at", ECS]).exits(2);
    above.complains(&["the most is 20", "toolfleet scale limits --max 21"]);
    assert_eq!(aws.changes("aws").len(), 1);
}

#[test]
fn limits_on_ecs_are_those_of_application_auto_scaling() {
    let aws = ecs("scale-ecs-limits");
    aws.run(&["scale", "limits", "--max", "40", "--at", ECS]).exits(0).prints(&["from 2 to 40"]);
    let [change] = &aws.changes("aws")[..] else { panic!("{:?}", aws.changes("aws")) };
    let wanted = "register-scalable-target --resource-id service/prod/worker --service-namespace ecs --scalable-dimension \
                  ecs:service:DesiredCount --min-capacity 2 --max-capacity 40";
    assert!(change.contains(wanted), "{change}");
    aws.run(&["scale", "limits", "--min", "21", "--at", ECS])
        .exits(2)
        .complains(&["--min: the least would be 21 and the most 20"]);
}

#[test]
fn an_auto_scaling_group_is_set_by_its_own_api() {
    let group = json!({"AutoScalingGroups": [{"DesiredCapacity": 3, "MinSize": 2, "MaxSize": 10, "Instances": [
        {"LifecycleState": "InService"}, {"LifecycleState": "InService"}, {"LifecycleState": "Terminating:Wait"}]}]});
    let answers = [
        ("describe-auto-scaling-groups --auto-scaling-group-names workers", group),
        ("set-desired-capacity", json!({})),
        ("update-auto-scaling-group", json!({})),
    ];
    let aws = Programs::new("scale-ec2", "aws", &answers);
    let at = ["--at", "ec2:workers"];
    aws.run(&[&["scale", "show"][..], &at].concat()).exits(0).prints(&["3 wanted, 2 running, 1 draining"]);
    aws.run(&[&["scale", "set", "5"][..], &at].concat()).exits(0);
    aws.run(&[&["scale", "limits", "--min", "4"][..], &at].concat()).exits(0);
    let changes = aws.changes("aws");
    assert!(
        changes[0].contains("set-desired-capacity --auto-scaling-group-name workers --desired-capacity 5"),
        "{changes:?}"
    );
    assert!(
        changes[1].contains(
            "update-auto-scaling-group --auto-scaling-group-name workers --min-size 4 --max-size 10"
        ),
        "{changes:?}"
    );
}

#[test]
fn a_deployment_without_keda_is_scaled_and_has_no_limits() {
    let kubectl = pods("scale-pods", &json!([]));
    kubectl
        .run(&["scale", "set", "5", "--at", PODS])
        .exits(0)
        .prints(&["5 wanted, 3 running; nothing scales them"]);
    assert_eq!(kubectl.changes("kubectl"), ["--namespace tools scale deployment/worker --replicas=5"]);
    kubectl
        .run(&["scale", "limits", "--min", "2", "--at", PODS])
        .exits(2)
        .complains(&["no ScaledObject of KEDA scales worker"]);
}

#[test]
fn pods_are_those_of_the_named_cluster_and_else_of_the_current_one() {
    let kubectl = pods("scale-cluster", &json!([]));
    let named = "kubernetes:tools/worker@arn:aws:eks:us-east-1:123456789012:cluster/prod";
    kubectl.run(&["scale", "set", "5", "--at", named]).exits(0);
    let change = "--context arn:aws:eks:us-east-1:123456789012:cluster/prod --namespace tools scale deployment/worker --replicas=5";
    assert_eq!(kubectl.changes("kubectl"), [change]);

    let current = "#!/bin/sh\ncase \"$*\" in\n*current-context*) echo staging ;;\n*'--context staging --namespace tools'*) echo '{\"spec\": {\"replicas\": 3}}' ;;\n*) exit 1 ;;\nesac\n";
    std::fs::write(kubectl.folder.join("kubectl"), current).unwrap();
    let shown = kubectl.run(&["scale", "show", "--at", PODS]).exits(0);
    shown.prints(&["kubernetes:tools/worker@staging", "3 wanted"]);
    kubectl
        .run(&["scale", "set", "5", "--at", PODS, "--dry-run"])
        .exits(0)
        .prints(&["kubectl --context staging --namespace tools scale"]);
}

#[test]
fn keda_keeps_its_own_count_and_takes_limits() {
    let kubectl = pods("scale-keda", &keda());
    let refused = kubectl.run(&["scale", "set", "5", "--at", PODS, "--json"]).exits(2);
    let said = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("ScaledObject ours") && said.contains("toolfleet scale limits --min 5"), "{said}");
    assert!(kubectl.changes("kubectl").is_empty());
    kubectl
        .run(&["scale", "limits", "--min", "5", "--at", PODS])
        .exits(0)
        .prints(&["KEDA scales from 5 to 100"]);
    let patch = r#"patch scaledobjects.keda.sh ours --type merge --patch {"spec":{"maxReplicaCount":100,"minReplicaCount":5}}"#;
    assert_eq!(kubectl.changes("kubectl"), [format!("--namespace tools {patch}")]);
}

#[test]
fn what_goes_wrong_names_the_remedy() {
    toolfleet(&["scale", "show"]).exits(2).complains(&["TOOLFLEET_SCALE: is not set", "ecs:CLUSTER/SERVICE"]);
    toolfleet(&["scale", "show", "--at", "ecs:prod"])
        .exits(2)
        .complains(&["is `ecs:prod`", "ecs:CLUSTER/SERVICE"]);
    toolfleet_within(&[("PATH", "/nowhere")], &["scale", "show", "--at", ECS])
        .exits(2)
        .complains(&["`aws` is not in the PATH", "install the AWS CLI"]);
    let denied = Programs::new("scale-denied", "aws", &[]);
    denied
        .run(&["scale", "show", "--at", ECS])
        .exits(4)
        .complains(&["AccessDeniedException", "ScalePolicyArn"]);
    let gone = Programs::new(
        "scale-gone",
        "aws",
        &[("describe-services", json!({"services": [], "failures": [{"reason": "MISSING"}]}))],
    );
    gone.run(&["scale", "show", "--at", ECS])
        .exits(2)
        .complains(&["there is no service worker in the cluster prod"]);
    toolfleet(&["scale", "show", "--at", "dev:/nowhere/x.sock"]).exits(4).complains(&["does not answer"]);
}

/// The workers of a `dev` that take calls.
fn running(dev: &Dev) -> u64 {
    let shown = dev.toolfleet(&["scale", "show", "--json"]).exits(0).json();
    assert_eq!(shown["workers"]["limits"], Value::Null);
    shown["workers"]["running"].as_u64().unwrap()
}

fn workers(dev: &Dev) -> Vec<String> {
    // Without any worker the exit code says so.
    let rows = dev.toolfleet(&["workers", "--json"]).json();
    let running = rows.as_array().unwrap().iter().filter(|row| row["state"] == "running");
    running.map(|row| row["worker"]["id"].as_str().unwrap().to_owned()).collect()
}

fn wait_until(holds: impl Fn() -> bool) {
    assert!(
        (0..600).any(|_| holds() || {
            wait_a_moment();
            false
        }),
        "it never comes to that"
    );
}

/// The state of other processes has no signal.
fn wait_a_moment() {
    let _woken = std::process::Command::new("sleep").arg("0.1").status();
}

#[test]
fn dev_runs_more_workers_and_cuts_no_call_when_they_go() {
    let dev = Dev::start(&["--slots", "4"]);
    assert_eq!(running(&dev), 1);
    dev.toolfleet(&["scale", "set", "4", "--dry-run"]).exits(0).prints(&["would run"]);
    assert_eq!(running(&dev), 1);
    dev.toolfleet(&["scale", "set", "4"]).exits(0);
    wait_until(|| workers(&dev).len() == 4);
    // Every worker has calls when three of them have to go.
    let ids: Vec<_> = (0..16).map(|n| format!("s{n}")).collect();
    for id in &ids {
        let arguments = r#"{"ms": 4000}"#;
        dev.toolfleet(&[
            "send",
            "--tenant",
            "acme",
            "--tool",
            "slow",
            "--arguments",
            arguments,
            "--call-id",
            id,
        ])
        .exits(0);
    }
    let busy = |dev: &Dev| {
        dev.toolfleet(&["status", "--json"]).exits(0).json()["fleet"]["workers"]["busy"].as_u64().unwrap_or(0)
    };
    wait_until(|| busy(&dev) >= 5);
    dev.toolfleet(&["scale", "set", "1"]).exits(0);
    for id in &ids {
        wait_until(|| dev.toolfleet(&["result", "acme", id, "--json"]).code != 3);
        let row = dev.toolfleet(&["result", "acme", id, "--json"]).exits(0).json();
        assert_eq!((&row["outcome"], &row["attempts"]), (&json!("succeeded"), &json!(1)), "{row}");
    }
    wait_until(|| running(&dev) == 1 && workers(&dev).len() == 1);
    let (code, said) = dev.terminate();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_worker_of_dev_that_is_killed_is_replaced() {
    let dev = Dev::start(&["--no-worker"]);
    assert_eq!(running(&dev), 0);
    dev.toolfleet(&["scale", "set", "1"]).exits(0);
    wait_until(|| workers(&dev).len() == 1);
    let first = workers(&dev);
    let pid = pid_of(&first[0]);
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    wait_until(|| workers(&dev).iter().any(|id| *id != first[0]));
    dev.toolfleet(&["call", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "hi"}"#])
        .exits(0)
        .prints(&["hi"]);
    dev.toolfleet(&["scale", "set", "33"]).exits(2).complains(&["runs 32 workers at most"]);
    dev.toolfleet(&["scale", "limits", "--min", "2"]).exits(2).complains(&["scales nothing by itself"]);
    assert_eq!(dev.terminate().0, 0);
}

/// The process that serves as that worker.
fn pid_of(worker: &str) -> String {
    let is_it = |path: &Path| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == worker.as_bytes())
    };
    let found =
        std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|path| is_it(path));
    found.unwrap().file_name().unwrap().to_string_lossy().into_owned()
}
