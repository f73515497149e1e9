//! The deaths: named as they are written, spread over the load unless told when.

use toolfleet_loadtest::deaths::{Deaths, Way};

#[test]
fn deaths_without_a_time_are_spread_over_the_load() {
    let deaths: Deaths = "kill,term,stop".parse().unwrap();
    assert_eq!(deaths.schedule(400), [(Way::Kill, 100), (Way::Term, 200), (Way::Stop, 300)]);
    let deaths: Deaths = "endpoints@300,kill@20".parse().unwrap();
    assert_eq!(deaths.schedule(400), [(Way::Kill, 20), (Way::Endpoints, 300)]);
    assert_eq!(deaths.to_string(), "endpoints@300,kill@20");
    assert!("".parse::<Deaths>().unwrap().schedule(400).is_empty());
}

#[test]
fn a_wrong_death_says_what_is_accepted() {
    for (text, accepted) in
        [("sleep", "kill, term, stop, endpoints"), ("kill@0", "kill@50"), ("kill@x", "kill@50")]
    {
        let error = text.parse::<Deaths>().unwrap_err();
        assert!(error.contains(accepted), "{text}: {error}");
    }
}
