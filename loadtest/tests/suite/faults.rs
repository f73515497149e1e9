//! The deaths: named as they are written, spread over the load unless told when.

use toolfleet_loadtest::faults::{FaultKind, FaultPlan};

#[test]
fn deaths_without_a_time_are_spread_over_the_load() {
    let deaths: FaultPlan = "kill,term,stop".parse().unwrap();
    assert_eq!(
        deaths.schedule(400),
        [(FaultKind::Kill, 100), (FaultKind::Term, 200), (FaultKind::Stop, 300)]
    );
    let deaths: FaultPlan = "endpoints@300,kill@20".parse().unwrap();
    assert_eq!(deaths.schedule(400), [(FaultKind::Kill, 20), (FaultKind::Endpoints, 300)]);
    assert_eq!(deaths.to_string(), "endpoints@300,kill@20");
    assert!("".parse::<FaultPlan>().unwrap().schedule(400).is_empty());
}

#[test]
fn a_wrong_death_says_what_is_accepted() {
    for (text, accepted) in
        [("sleep", "kill, term, stop, endpoints"), ("kill@0", "kill@50"), ("kill@x", "kill@50")]
    {
        let error = text.parse::<FaultPlan>().unwrap_err();
        assert!(error.contains(accepted), "{text}: {error}");
    }
}
