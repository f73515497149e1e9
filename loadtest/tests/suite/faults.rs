//! The fault plan: parsed, shown as it is written, and spread over the load.

use toolfleet_loadtest::faults::{FaultKind, FaultPlan};

#[test]
fn faults_without_a_number_are_spread_over_the_load() {
    let faults: FaultPlan = "kill,term,stop".parse().unwrap();
    assert_eq!(
        faults.schedule(400),
        [(FaultKind::Kill, 100), (FaultKind::Term, 200), (FaultKind::Stop, 300)]
    );
    let faults: FaultPlan = "endpoints@300,kill@20".parse().unwrap();
    assert_eq!(faults.schedule(400), [(FaultKind::Kill, 20), (FaultKind::Endpoints, 300)]);
    assert_eq!(faults.to_string(), "endpoints@300,kill@20");
    assert!("".parse::<FaultPlan>().unwrap().schedule(400).is_empty());
}

#[test]
fn a_wrong_fault_says_what_is_accepted() {
    for (text, accepted) in
        [("sleep", "kill, term, stop, endpoints"), ("kill@0", "kill@50"), ("kill@x", "kill@50")]
    {
        let error = text.parse::<FaultPlan>().unwrap_err();
        assert!(error.contains(accepted), "{text}: {error}");
    }
}
