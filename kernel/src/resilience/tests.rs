//! Breaker, retry budget and back-off under a clock moved by hand.

use super::*;

fn breaker() -> (Breaker, Clock) {
    let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    (Breaker::new("payments", BreakerSettings::default(), clock.clone()), clock)
}

fn run(breaker: &Breaker, outcomes: &str) {
    for outcome in outcomes.chars() {
        let permit = breaker.permit().unwrap();
        if outcome == 'x' { permit.failure() } else { permit.success() }
    }
}

#[test]
fn it_opens_at_half_of_ten_and_not_before_ten_are_known() {
    let (breaker, _) = breaker();
    run(&breaker, "xxxx.....");
    assert_eq!(breaker.state(), BreakerState::Closed);
    run(&breaker, "x");
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.permit().unwrap_err().retry_after, Duration::from_secs(30));
}

#[test]
fn old_failures_leave_the_window() {
    let (breaker, _) = breaker();
    run(&breaker, "xxxx..........xxxx.");
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn after_thirty_seconds_three_probes_decide() {
    let (breaker, clock) = breaker();
    run(&breaker, "xxxxxxxxxx");
    clock.advance(Duration::from_secs(29));
    assert!(breaker.permit().is_err());
    clock.advance(Duration::from_secs(1));
    let probes: Vec<Permit> = (0..3).map(|_| breaker.permit().unwrap()).collect();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.permit().is_err(), "three are on their way");
    probes.into_iter().for_each(Permit::success);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn failing_probes_open_it_again_and_abandoned_ones_are_given_back() {
    let (breaker, clock) = breaker();
    run(&breaker, "xxxxxxxxxx");
    clock.advance(Duration::from_secs(30));
    for _ in 0..5 {
        drop(breaker.permit().unwrap());
    }
    run(&breaker, "x.x");
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn slow_calls_open_it_at_eight_of_ten() {
    let (breaker, clock) = breaker();
    run(&breaker, "..");
    for _ in 0..8 {
        let permit = breaker.permit().unwrap();
        clock.advance(Duration::from_millis(2001));
        permit.success();
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn an_outcome_from_before_the_change_counts_for_nothing() {
    let (breaker, clock) = breaker();
    let late = breaker.permit().unwrap();
    run(&breaker, "xxxxxxxxxx");
    clock.advance(Duration::from_secs(30));
    run(&breaker, "..");
    late.failure();
    run(&breaker, ".");
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test]
async fn a_call_reports_for_itself() {
    let (breaker, _) = breaker();
    for _ in 0..10 {
        assert_eq!(breaker.call(async { 500 }, |status| *status >= 500).await, Ok(500));
    }
    assert!(breaker.call(async { 200 }, |_| false).await.is_err());
}

#[test]
fn second_tries_are_a_tenth_of_the_first_once_the_reserve_is_gone() {
    let budget = RetryBudget::new(10, 2);
    assert_eq!([budget.spend(), budget.spend(), budget.spend()], [true, true, false]);
    let granted = (0..100)
        .filter(|_| {
            budget.earn();
            budget.spend()
        })
        .count();
    assert_eq!(granted, 10);
}

#[test]
fn pauses_stay_under_their_limit() {
    for attempt in 1..40 {
        assert!(backoff(attempt, Duration::from_millis(25), Duration::from_millis(250)) <= Duration::from_millis(250));
    }
}
