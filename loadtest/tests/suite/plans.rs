//! The plan: decided by its seed alone, in the shares of its mix.

use std::collections::HashSet;

use toolfleet_loadtest::payload::Shape;
use toolfleet_loadtest::plan::{Mix, plan};
use toolfleet_loadtest::tool::Tool;

#[test]
fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
    let mix: Mix = "echo=50,slow=50".parse().unwrap();
    assert_eq!(plan(500, &mix, 7, &Shape::default()), plan(500, &mix, 7, &Shape::default()));
    assert_ne!(plan(500, &mix, 7, &Shape::default()), plan(500, &mix, 8, &Shape::default()));
}

#[test]
fn every_tool_of_the_mix_gets_about_its_share_and_no_id_comes_twice() {
    let mix: Mix = "echo=80,counter=20,large=0".parse().unwrap();
    let calls = plan(10_000, &mix, 1, &Shape::default());
    let counters = calls.iter().filter(|c| c.tool == Tool::Counter).count();
    assert!((1_700..2_300).contains(&counters), "{counters}");
    assert!(calls.iter().all(|c| c.tool != Tool::Large));
    assert_eq!(calls.iter().map(|c| &c.id).collect::<HashSet<_>>().len(), 10_000);
}

#[test]
fn a_mix_is_shown_as_it_is_written() {
    let text = "echo=80,slow=10,failing=5,large=5";
    assert_eq!(text.parse::<Mix>().unwrap().to_string(), text);
}

#[test]
fn a_wrong_mix_says_what_is_accepted() {
    let cases = [
        ("ecko=1", "echo, counter, slow, failing, large, huge, payment, flaky, busy"),
        ("echo", "echo=80,slow=20"),
        ("", "echo=80,slow=20"),
        ("echo=many", "a whole number from 0"),
        ("echo=-1", "a whole number from 0"),
        ("echo=1,echo=2", "one share for each tool"),
        ("echo=0,slow=0", "one share above 0"),
    ];
    for (mix, accepted) in cases {
        let error = mix.parse::<Mix>().unwrap_err();
        assert!(error.contains(accepted), "{mix}: {error}");
    }
}
