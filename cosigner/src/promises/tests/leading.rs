//! Leading: what passes without a promise, and who leads.

use std::num::NonZeroU64;

use threshold::round::Lead;

use super::*;

fn number(number: u64) -> Lead {
    Lead(NonZeroU64::new(number).unwrap())
}

/// Nothing is signed yet.
const NOTHING: Horizon = Horizon {
    target: Epoch(0),
    slot: Slot(0),
};

/// A machine that is led by number 1, and the time.
fn led(promises_max: usize) -> (Promises, Instant) {
    let (mut promises, now) = machine(promises_max);
    assert_eq!(promises.lead(number(1), None, NOTHING, now), Some(NOTHING));
    (promises, now)
}

#[test]
fn who_leads_signs_what_nobody_else_was_promised() {
    let (mut promises, now) = led(10);
    let mine = ballot(0, b'b');
    let touched = |other| {
        let (mut promises, now) = led(10);
        let duty = attest(VALIDATOR, 1);
        promises.promise(duty, other, now);
        promises.begin_sign_led(duty, mine, number(1), now)
    };
    let duty = attest(VALIDATOR, 1);
    assert_eq!(
        promises.begin_sign_led(duty, mine, number(2), now),
        SignAnswer::NotLed,
        "another leads"
    );
    for _ in 0..2 {
        let answer = promises.begin_sign_led(duty, mine, number(1), now);
        assert_eq!(answer, SignAnswer::Begun);
    }
    // From then on others wait; and whatever they are promised then is higher.
    assert_eq!(
        promises.promise(duty, ballot(1, b'a'), now),
        PromiseAnswer::Fenced
    );
    promises.end_sign(duty);
    promises.end_sign(duty);
    assert_eq!(
        promises.begin_sign(duty, mine, now),
        SignAnswer::NotPromised,
        "it is no promise"
    );
    assert_eq!(
        promises.promise(duty, ballot(0, b'a'), now),
        PromiseAnswer::Held
    );
    assert_eq!(
        promises.begin_sign_led(duty, mine, number(1), now),
        SignAnswer::NotPromised
    );
    // Whatever anybody was promised before stands against it, lower or not, and the same as well: it
    // may have outbid what somebody else has counted.
    assert_eq!(
        touched(ballot(0, b'c')),
        SignAnswer::Outbid(ballot(0, b'c'))
    );
    assert_eq!(touched(ballot(0, b'a')), SignAnswer::NotPromised);
    assert_eq!(touched(mine), SignAnswer::NotPromised);
}

#[test]
fn the_horizon_is_where_anything_was_signed_or_held() {
    let (mut promises, now) = machine(10);
    promises.promise(attest(OTHER, 7), ballot(0, b'a'), now);
    promises.retire(attest(OTHER, 7));
    let signed = Horizon {
        target: Epoch(3),
        slot: Slot(5),
    };
    let horizon = Horizon {
        target: Epoch(7),
        slot: Slot(5),
    };
    assert_eq!(promises.lead(number(1), None, signed, now), Some(horizon));
    for (duty, answer) in [
        (attest(VALIDATOR, 7), SignAnswer::NotLed),
        (attest(VALIDATOR, 8), SignAnswer::Begun),
        (propose(VALIDATOR, 5), SignAnswer::NotLed),
        (propose(VALIDATOR, 6), SignAnswer::Begun),
    ] {
        let began = promises.begin_sign_led(duty, ballot(0, b'a'), number(1), now);
        assert_eq!(began, answer, "{duty:?}");
    }
}

#[test]
fn what_is_forgotten_with_time_is_below_the_horizon_and_what_the_ratchet_has_passed_is_not() {
    let (mut promises, now) = led(10);
    promises.promise(attest(VALIDATOR, 1), ballot(0, b'a'), now);
    promises.promise(propose(VALIDATOR, 2), ballot(0, b'a'), now);
    promises.promise(attest(OTHER, 3), ballot(0, b'a'), now);
    promises.retire(attest(OTHER, 3));
    assert_eq!(promises.go_on(number(1), now), Some(NOTHING));
    let later = now + START_PAUSE;
    promises.forget_past(later, START_PAUSE, |_| true);
    let horizon = Horizon {
        target: Epoch(1),
        slot: Slot(2),
    };
    assert_eq!(promises.go_on(number(1), later), Some(horizon));
    let began = promises.begin_sign_led(attest(VALIDATOR, 1), ballot(0, b'a'), number(1), later);
    assert_eq!(began, SignAnswer::NotLed);
}

#[test]
fn one_leads_until_it_is_silent_or_begins_anew() {
    let (mut promises, now) = led(10);
    let silent = now + SILENCE_MAX;
    let just_before = silent.checked_sub(Duration::from_millis(1)).unwrap();
    assert_eq!(promises.lead(number(2), None, NOTHING, just_before), None);
    let other = Some(number(3));
    assert_eq!(promises.lead(number(2), other, NOTHING, just_before), None);
    assert_eq!(promises.go_on(number(2), now), None);
    // Who is heard of goes on.
    assert!(promises.go_on(number(1), just_before).is_some());
    assert_eq!(promises.lead(number(2), None, NOTHING, silent), None);
    // The same caller under another number, and another when it was silent.
    let mine = Some(number(1));
    assert!(promises.lead(number(2), mine, NOTHING, silent).is_some());
    let later = silent + SILENCE_MAX;
    assert!(promises.lead(number(3), None, NOTHING, later).is_some());
    assert_eq!(promises.go_on(number(2), later), None);
    promises.end_lead(number(2));
    assert!(promises.go_on(number(3), later).is_some(), "another's");
    promises.end_lead(number(3));
    assert_eq!(promises.go_on(number(3), later), None);
    assert!(promises.lead(number(4), None, NOTHING, later).is_some());
}

#[test]
fn nobody_leads_in_the_start_pause_and_a_full_table_lets_nobody_sign_without_a_promise() {
    let started = Instant::now();
    let mut promises = Promises::new(started, 1);
    assert_eq!(promises.lead(number(1), None, NOTHING, started), None);
    let (mut promises, now) = led(1);
    let first = promises.begin_sign_led(attest(VALIDATOR, 1), ballot(0, b'a'), number(1), now);
    assert_eq!(first, SignAnswer::Begun);
    let second = promises.begin_sign_led(attest(VALIDATOR, 2), ballot(0, b'a'), number(1), now);
    assert_eq!(second, SignAnswer::NotPromised);
    assert_eq!(promises.len(), 1);
}
