//! Which fleet a command uses: contexts, the environment, and a running `toolfleet dev`.

use crate::run::{Dev, directory, file, toolfleet, toolfleet_at_home};

#[test]
fn a_command_finds_a_running_dev_by_itself() {
    let home = directory("joins");
    let dev = Dev::start_at_home(&home, &[]);
    let call =
        ["call", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "hi"}"#, "--call-id", "c1"];
    let ran = toolfleet_at_home(&home, &[], &call).exits(0);
    assert_eq!(ran.stdout, "hi\n");
    ran.complains(&["using the fleet of `toolfleet dev` on this machine, process "]);
    toolfleet_at_home(&home, &[], &["tools", "list"]).exits(0).prints(&["echo", "flaky"]);
    let acme = [("TOOLFLEET_TENANT", "acme")];
    toolfleet_at_home(&home, &acme, &["result", "c1"]).exits(0);
    let own = file(&home, "own.json", r#"{"servers": [], "tools": [], "tenants": {"queue": ["*"]}}"#);
    let catalog = [("TOOLFLEET_CATALOG", own.as_str())];
    let listed = toolfleet_at_home(&home, &catalog, &["tools", "list", "--json"]).exits(0).json();
    assert_eq!(listed["tools"], serde_json::json!([]), "the catalog of the shell");
    let shown = toolfleet_at_home(&home, &[], &["context", "show", "--json"]).exits(0).json();
    assert_eq!(shown["variables"]["TOOLFLEET_QUEUE_URL"], dev.ready["queue_url"]);
    toolfleet_at_home(&home, &[], &[]).exits(0).prints(&["Commands use the fleet of `toolfleet dev`"]);
    assert_eq!(dev.terminate().0, 0);
    let ran = toolfleet_at_home(&home, &[], &["result", "acme", "c1"]).exits(2);
    ran.complains(&["no fleet is configured", "`toolfleet dev`"]);
}

#[test]
fn a_killed_dev_is_not_joined() {
    let home = directory("killed");
    let mut dev = Dev::start_at_home(&home, &["--no-worker"]);
    let port = dev.ready["sqs_url"].as_str().unwrap().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    dev.kill();
    // Another program may have taken its port.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port));
    toolfleet_at_home(&home, &[], &["queue", "status"]).exits(2).complains(&["no fleet is configured"]);
}

#[test]
fn of_two_devs_the_last_is_used_and_then_the_first() {
    let home = directory("two-devs");
    let first = Dev::start_at_home(&home, &["--no-worker"]);
    let second = Dev::start_at_home(&home, &["--no-worker"]);
    let used = || {
        let shown = toolfleet_at_home(&home, &[], &["context", "show", "--json"]).exits(0).json();
        shown["variables"]["TOOLFLEET_QUEUE_URL"].clone()
    };
    assert_eq!(used(), second.ready["queue_url"]);
    assert_eq!(second.terminate().0, 0);
    assert_eq!(used(), first.ready["queue_url"]);
}

#[test]
fn a_context_replaces_all_that_the_environment_says_of_a_fleet() {
    let home = directory("contexts");
    let dev = Dev::start(&[]);
    let url = dev.ready["queue_url"].as_str().unwrap();
    let endpoint = |name: &str| format!("{name}={}", dev.ready["env"][name].as_str().unwrap());
    let (sqs, dynamodb) = (endpoint("AWS_ENDPOINT_URL_SQS"), endpoint("AWS_ENDPOINT_URL_DYNAMODB"));
    let queue = format!("TOOLFLEET_QUEUE_URL={url}");
    let set =
        ["context", "set", "here", &queue, &sqs, &dynamodb, "AWS_REGION=us-east-1", "TOOLFLEET_TENANT=acme"];
    toolfleet_at_home(&home, &[], &set).exits(0).prints(&["context here has 5 variables"]);
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let elsewhere = [
        ("TOOLFLEET_QUEUE_URL", "http://127.0.0.1:1/q"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1"),
    ];

    let send = ["send", "--tool", "echo", "--arguments", "{}", "--call-id", "c1", "--context", "here"];
    let both: Vec<_> = keys.iter().chain(&elsewhere).copied().collect();
    toolfleet_at_home(&home, &both, &send).exits(0);
    dev.wait_until_empty();
    let shown =
        toolfleet_at_home(&home, &keys, &["result", "c1", "--json", "--context=here"]).exits(1).json();
    assert_eq!((&shown["tenant"], &shown["call_id"]), (&"acme".into(), &"c1".into()));

    let named: Vec<_> = both.iter().copied().chain([("TOOLFLEET_CONTEXT", "here")]).collect();
    let ran = toolfleet_at_home(&home, &named, &["queue", "status"]).exits(2);
    ran.complains(&["two fleets are named", "TOOLFLEET_CONTEXT is `here`"]);
    let mixed = ["queue", "status", "--context", "here", "--table-prefix", "other"];
    toolfleet_at_home(&home, &keys, &mixed)
        .exits(2)
        .complains(&["two fleets are named", "--context is `here`"]);
    // An option before the verb that looks like one.
    let args = ["--table-prefix", "dev", "--context", "here", "queue", "status"];
    toolfleet_at_home(&home, &both, &args).exits(2).complains(&["two fleets are named"]);
    let args = ["--log", "error", "--context", "here", "queue", "status"];
    toolfleet_at_home(&home, &both, &args).exits(0).prints(&["toolfleet-calls"]);
    // The parent of this command has applied a context of its own.
    let inherited: Vec<_> = both.iter().copied().chain([("TOOLFLEET_CONTEXT_APPLIED", "1")]).collect();
    toolfleet_at_home(&home, &inherited, &["queue", "status", "--context", "here"]).exits(0);
    let shown = toolfleet_at_home(&home, &both, &["context", "show", "here"]).exits(0);
    shown.prints(&["unset TOOLFLEET_QUEUE_URL_HIGH", "AWS_PROFILE", "export TOOLFLEET_QUEUE_URL="]);

    toolfleet_at_home(&home, &[], &["context", "use", "here"]).exits(0);
    toolfleet_at_home(&home, &keys, &["queue", "status"]).exits(0).prints(&["toolfleet-calls"]);
    toolfleet_at_home(&home, &keys, &["history"]).exits(0).prints(&["c1"]);
    let listed = toolfleet_at_home(&home, &[], &["context", "list", "--json"]).exits(0).json();
    assert_eq!(listed["current"], "here");
    toolfleet_at_home(&home, &[], &["context", "remove", "here"]).exits(0);
    toolfleet_at_home(&home, &keys, &["queue", "status"]).exits(2).complains(&["no fleet is configured"]);
}

#[test]
fn a_wrong_context_is_named_with_its_remedy() {
    let home = directory("wrong-contexts");
    let wrong = toolfleet_at_home(&home, &[], &["status", "--context", "prod"]).exits(2);
    wrong.complains(&["no context `prod`", "toolfleet context set prod"]);
    let secret = ["context", "set", "prod", "AWS_SECRET_ACCESS_KEY=hush"];
    let ran = toolfleet_at_home(&home, &[], &secret).exits(2);
    ran.complains(&["a context keeps no credentials", "AWS_PROFILE"]);
    toolfleet_at_home(&home, &[], &["context", "set", "prod", "QUEUE=x"])
        .exits(2)
        .complains(&["TOOLFLEET_QUEUE_URL"]);
    let file = home.join(".config/toolfleet");
    std::fs::create_dir_all(&file).unwrap();
    std::fs::write(
        file.join("contexts.json"),
        r#"{"contexts": {"prod": {"AWS_SECRET_ACCESS_KEY": "hush"}}}"#,
    )
    .unwrap();
    let ran = toolfleet_at_home(&home, &[], &["status"]).exits(2);
    ran.complains(&["contexts.json", "contexts.prod.AWS_SECRET_ACCESS_KEY", "remove the file"]);
    assert!(!ran.stderr.contains("hush"));
    toolfleet_at_home(&home, &[], &["context", "save", "x"])
        .exits(2)
        .complains(&["TOOLFLEET_QUEUE_URL is not set"]);
}

#[test]
fn toolfleet_alone_says_where_to_begin() {
    let ran = toolfleet(&[]).exits(0);
    ran.prints(&["toolfleet dev", "toolfleet result T CALL", "No fleet is configured", "toolfleet --help"]);
}

#[test]
fn wrong_arguments_are_a_json_document_where_json_is_asked_for() {
    for args in [
        &["why", "--json", "--nope"][..],
        &["--json", "frobnicate"],
        &["pause", "--json"],
        &["result", "--json"],
    ] {
        let ran = toolfleet(args).exits(2);
        let error = &ran.json()["error"];
        assert_eq!(error["kind"], "usage", "{args:?}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        ran.complains(&["error: "]);
    }
}

#[test]
fn the_tenant_of_the_environment_is_used_where_none_is_given() {
    let dev = Dev::start(&[]);
    let acme = [("TOOLFLEET_TENANT", "acme")];
    let call = ["call", "--tool", "echo", "--arguments", r#"{"text": "hi"}"#, "--call-id", "c1"];
    dev.toolfleet(&call).exits(2).complains(&["whose?", "--tenant", "TOOLFLEET_TENANT"]);
    dev.toolfleet_but(&acme, &call).exits(0);
    dev.wait_until_empty();
    for args in [&["result", "c1"][..], &["why", "c1"], &["history"]] {
        dev.toolfleet_but(&acme, args).exits(0);
    }
    dev.toolfleet(&["history", "acme", "c1"]).exits(0).prints(&["c1"]);
    dev.toolfleet_but(&acme, &["cancel", "c1"]).exits(1).complains(&["had ended before"]);
    let wrong = dev.toolfleet_but(&[("TOOLFLEET_TENANT", "a#b")], &["history"]).exits(2);
    wrong.complains(&["TOOLFLEET_TENANT: "]);
}

#[test]
fn contexts_that_are_set_at_the_same_time_are_all_kept() {
    let home = directory("parallel-contexts");
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (home, start) = (&home, &start);
            scope.spawn(move || {
                start.wait();
                let setting = format!("TOOLFLEET_TENANT=t{number}");
                toolfleet_at_home(home, &[], &["context", "set", &format!("c{number}"), &setting]).exits(0);
            });
        }
    });
    let listed = toolfleet_at_home(&home, &[], &["context", "list", "--json"]).exits(0).json();
    assert_eq!(listed["contexts"].as_object().unwrap().len(), 8, "{listed}");
}

#[test]
fn a_file_of_contexts_that_is_a_link_stays_one() {
    let home = directory("linked-contexts");
    let ours = home.join(".config/toolfleet");
    std::fs::create_dir_all(&ours).unwrap();
    std::fs::create_dir_all(home.join("dotfiles")).unwrap();
    // Relative, over another link, to a file that is not there yet.
    let (link, other) = (ours.join("contexts.json"), home.join("dotfiles/link.json"));
    std::os::unix::fs::symlink("../../dotfiles/link.json", &link).unwrap();
    std::os::unix::fs::symlink("contexts.json", &other).unwrap();
    for context in ["a", "b"] {
        toolfleet_at_home(&home, &[], &["context", "set", context, "TOOLFLEET_TENANT=acme"]).exits(0);
    }
    assert!(link.is_symlink() && other.is_symlink());
    let text = std::fs::read_to_string(home.join("dotfiles/contexts.json")).unwrap();
    assert!(text.contains("\"a\"") && text.contains("\"b\""), "{text}");
    std::fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink("link.json", &other).unwrap();
    let ran = toolfleet_at_home(&home, &[], &["context", "set", "c", "TOOLFLEET_TENANT=acme"]).exits(2);
    ran.complains(&["contexts.json: "]);
}
