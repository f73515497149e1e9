//! The distributions of slow tools, and the time series of a run.

use fastrand::Rng;
use toolfleet_core::time::Timestamp;
use toolfleet_loadtest::distribution::Distribution;
use toolfleet_loadtest::time_series;

fn sorted(text: &str) -> Vec<u64> {
    let distribution: Distribution = text.parse().unwrap();
    assert_eq!(distribution.to_string(), text);
    let mut rng = Rng::with_seed(7);
    let mut times: Vec<_> = (0..10_000).map(|_| distribution.sample(&mut rng)).collect();
    times.sort_unstable();
    times
}

#[test]
fn times_follow_the_given_percentiles() {
    let times = sorted("p0=5,p50=20,p90=60,p100=100");
    assert!(times[0] >= 5 && times[9_999] <= 100);
    assert!(
        (19..=21).contains(&times[5_000]) && (57..=63).contains(&times[9_000]),
        "{} {}",
        times[5_000],
        times[9_000]
    );
}

#[test]
fn a_lognormal_distribution_has_its_median_and_its_tail() {
    let times = sorted("lognormal:50:0.8");
    // One in six lies above the median times e^0.8.
    assert!((48..=52).contains(&times[5_000]), "{}", times[5_000]);
    assert!((104..=118).contains(&times[8_413]), "{}", times[8_413]);
}

#[test]
fn a_fixed_time_is_always_the_same() {
    assert!(sorted("20").iter().all(|ms| *ms == 20));
}

#[test]
fn a_wrong_distribution_says_what_is_accepted() {
    for text in
        ["fast", "-1", "lognormal:50", "lognormal:x:1", "p50=20,p40=30", "p50=20,p60=10", "p101=1", "q50=1"]
    {
        let error = text.parse::<Distribution>().unwrap_err();
        assert!(error.contains("lognormal:50:0.8") && error.contains("p50=20"), "{text}: {error}");
    }
}

#[test]
fn a_span_in_which_no_call_ended_has_zeros() {
    let at = Timestamp::from_ms;
    let spans = time_series::of(at(0), &[(at(10), 4), (at(20), 8), (at(250), 6)]);
    assert_eq!(spans.len(), 3);
    assert_eq!((spans[0].p50_ms, spans[0].p99_ms, spans[0].calls_per_s), (4, 8, 20.0));
    assert_eq!((spans[1].p50_ms, spans[1].calls_per_s), (0, 0.0));
    assert_eq!((spans[2].p50_ms, spans[2].until_s), (6, 0.3));
}
