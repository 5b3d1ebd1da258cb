//! The machine alone, by cases and by properties; then several of them together.

mod interleavings;
mod leading;
mod timed;

use duty::SigningRoot;
use proptest::prelude::*;

use super::*;

const VALIDATOR: PublicKey = PublicKey([1; 48]);
const OTHER: PublicKey = PublicKey([2; 48]);

fn attest(validator: PublicKey, target: u64) -> DutyId {
    DutyId::new(
        validator,
        &Claim::Attest {
            source: Epoch(0),
            target: Epoch(target),
        },
    )
}

fn propose(validator: PublicKey, slot: u64) -> DutyId {
    DutyId::new(validator, &Claim::Propose { slot: Slot(slot) })
}

fn ballot(round: u64, root: u8) -> Ballot {
    Ballot {
        round,
        root: SigningRoot([root; 32]),
    }
}

/// A machine whose start pause is over, and the time.
fn machine(promises_max: usize) -> (Promises, Instant) {
    let started = Instant::now();
    (Promises::new(started, promises_max), started + START_PAUSE)
}

#[test]
fn the_highest_ballot_is_held_and_lower_ones_are_told_which() {
    let (mut promises, now) = machine(10);
    let duty = attest(VALIDATOR, 1);
    for (asked, answer) in [
        (ballot(0, b'b'), PromiseAnswer::Held),
        (ballot(0, b'a'), PromiseAnswer::Outbid(ballot(0, b'b'))),
        (ballot(0, b'b'), PromiseAnswer::Held),
        (ballot(1, b'a'), PromiseAnswer::Held),
        (ballot(0, b'b'), PromiseAnswer::Outbid(ballot(1, b'a'))),
    ] {
        assert_eq!(promises.promise(duty, asked, now), answer, "{asked:?}");
    }
    assert_eq!(promises.len(), 1);
}

#[test]
fn only_exactly_the_held_ballot_signs() {
    let (mut promises, now) = machine(10);
    let duty = attest(VALIDATOR, 1);
    assert_eq!(
        promises.begin_sign(duty, ballot(0, b'a'), now),
        SignAnswer::NotPromised
    );
    promises.promise(duty, ballot(1, b'a'), now);
    for (asked, answer) in [
        (ballot(0, b'a'), SignAnswer::Outbid(ballot(1, b'a'))),
        (ballot(1, b'b'), SignAnswer::NotPromised),
        (ballot(2, b'a'), SignAnswer::NotPromised),
        (ballot(1, b'a'), SignAnswer::Begun),
        (ballot(1, b'a'), SignAnswer::Begun),
    ] {
        assert_eq!(promises.begin_sign(duty, asked, now), answer, "{asked:?}");
    }
}

#[test]
fn a_promise_is_good_for_one_second_and_can_be_renewed() {
    let (mut promises, now) = machine(10);
    let duty = propose(VALIDATOR, 1);
    let late = now + SIGN_WITHIN + Duration::from_millis(1);
    promises.promise(duty, ballot(0, b'a'), now);
    assert_eq!(
        promises.begin_sign(duty, ballot(0, b'a'), late),
        SignAnswer::TooLate
    );
    promises.promise(duty, ballot(0, b'a'), late);
    assert_eq!(
        promises.begin_sign(duty, ballot(0, b'a'), late + SIGN_WITHIN),
        SignAnswer::Begun
    );
}

#[test]
fn the_last_ballot_there_is_does_not_hold_a_duty_for_ever() {
    let (mut promises, now) = machine(10);
    let duty = attest(VALIDATOR, 1);
    let (last, honest) = (ballot(u64::MAX, 0xff), ballot(0, b'a'));
    assert_eq!(promises.promise(duty, last, now), PromiseAnswer::Held);
    let early = now + START_PAUSE - Duration::from_nanos(1);
    assert_eq!(
        promises.promise(duty, honest, early),
        PromiseAnswer::Outbid(last)
    );
    let void = now + START_PAUSE;
    assert_eq!(promises.promise(duty, honest, void), PromiseAnswer::Held);
    assert_eq!(
        promises.begin_sign(duty, last, void),
        SignAnswer::NotPromised
    );
    // Not while something that began under it is under way, and never below the far rounds.
    assert_eq!(promises.promise(duty, last, void), PromiseAnswer::Held);
    assert_eq!(promises.begin_sign(duty, last, void), SignAnswer::Begun);
    let later = void + START_PAUSE;
    assert_eq!(promises.promise(duty, honest, later), PromiseAnswer::Fenced);
    let other = attest(VALIDATOR, 2);
    let near = ballot(ROUND_FAR, b'b');
    assert_eq!(promises.promise(other, near, now), PromiseAnswer::Held);
    assert_eq!(
        promises.promise(other, honest, later),
        PromiseAnswer::Outbid(near)
    );
}

#[test]
fn nothing_is_promised_in_the_first_two_seconds() {
    let (mut promises, ready) = machine(10);
    let early = ready.checked_sub(Duration::from_nanos(1)).unwrap();
    let duty = attest(VALIDATOR, 1);
    assert_eq!(
        promises.promise(duty, ballot(0, b'a'), early),
        PromiseAnswer::Starting
    );
    assert!(promises.is_starting(early) && !promises.is_starting(ready));
    assert_eq!(
        promises.begin_sign(duty, ballot(0, b'a'), early),
        SignAnswer::NotPromised
    );
    assert_eq!(
        promises.promise(duty, ballot(0, b'a'), ready),
        PromiseAnswer::Held
    );
}

#[test]
fn a_full_table_refuses_new_duties_and_keeps_all_it_holds() {
    let (mut promises, now) = machine(2);
    for target in [1, 2] {
        promises.promise(attest(VALIDATOR, target), ballot(0, b'a'), now);
    }
    assert_eq!(
        promises.promise(propose(OTHER, 1), ballot(9, b'z'), now),
        PromiseAnswer::Full
    );
    for target in [1, 2] {
        let duty = attest(VALIDATOR, target);
        assert_eq!(
            promises.promise(duty, ballot(1, b'a'), now),
            PromiseAnswer::Held
        );
    }
    promises.retire(attest(VALIDATOR, 1));
    assert_eq!(
        promises.promise(propose(OTHER, 1), ballot(0, b'a'), now),
        PromiseAnswer::Held
    );
}

#[test]
fn promises_wait_from_the_check_until_every_outcome_is_known() {
    let (mut promises, now) = machine(10);
    let duty = propose(VALIDATOR, 1);
    promises.promise(duty, ballot(0, b'a'), now);
    promises.begin_sign(duty, ballot(0, b'a'), now);
    promises.begin_sign(duty, ballot(0, b'a'), now);
    for _ in 0..2 {
        for asked in [ballot(0, b'a'), ballot(1, b'b')] {
            assert_eq!(promises.promise(duty, asked, now), PromiseAnswer::Fenced);
        }
        assert_eq!(
            promises.promise(propose(VALIDATOR, 2), ballot(0, b'a'), now),
            PromiseAnswer::Held
        );
        promises.end_sign(duty);
    }
    assert_eq!(
        promises.promise(duty, ballot(1, b'b'), now),
        PromiseAnswer::Held
    );
}

#[test]
fn the_ratchet_retires_a_duty_and_all_before_it_of_that_kind_and_validator() {
    let (mut promises, now) = machine(100);
    let kept = [
        attest(VALIDATOR, 6),
        propose(VALIDATOR, 3),
        attest(OTHER, 3),
    ];
    let gone = [
        attest(VALIDATOR, 0),
        attest(VALIDATOR, 3),
        attest(VALIDATOR, 5),
    ];
    for duty in kept.into_iter().chain(gone) {
        promises.promise(duty, ballot(1, b'a'), now);
    }
    promises.begin_sign(gone[1], ballot(1, b'a'), now);
    promises.retire(attest(VALIDATOR, 5));
    assert_eq!(
        promises.promise(gone[1], ballot(2, b'a'), now),
        PromiseAnswer::Fenced
    );
    promises.end_sign(gone[1]);
    assert_eq!(promises.len(), kept.len());
    for duty in kept {
        let outbid = PromiseAnswer::Outbid(ballot(1, b'a'));
        assert_eq!(promises.promise(duty, ballot(0, b'a'), now), outbid);
    }
}

#[test]
fn the_clock_retires_only_past_duties_on_which_nobody_can_act() {
    let (mut promises, now) = machine(100);
    let past = |duty: &DutyId| *duty != attest(VALIDATOR, 9);
    for target in [1, 9] {
        promises.promise(attest(VALIDATOR, target), ballot(0, b'a'), now);
    }
    promises.promise(
        attest(VALIDATOR, 2),
        ballot(0, b'a'),
        now + Duration::from_millis(1),
    );
    promises.promise(attest(VALIDATOR, 3), ballot(0, b'a'), now);
    promises.begin_sign(attest(VALIDATOR, 3), ballot(0, b'a'), now);
    promises.forget_past(now + START_PAUSE, Duration::ZERO, past);
    assert_eq!(
        promises.begin_sign(attest(VALIDATOR, 1), ballot(0, b'a'), now),
        SignAnswer::NotPromised
    );
    for target in [2, 3, 9] {
        let answer = promises.begin_sign(attest(VALIDATOR, target), ballot(0, b'a'), now);
        assert_eq!(answer, SignAnswer::Begun, "{target}");
    }
}

#[derive(Debug, Clone)]
enum Event {
    Promise(u8, u8),
    Begin(u8, u8),
    End(u8),
    Retire(u8),
    Wait(u16),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..4_u8, 0..6_u8).prop_map(|(duty, round)| Event::Promise(duty, round)),
        4 => (0..4_u8, 0..6_u8).prop_map(|(duty, round)| Event::Begin(duty, round)),
        2 => (0..4_u8).prop_map(Event::End),
        1 => (0..4_u8).prop_map(Event::Retire),
        1 => (0..1500_u16).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    #[test]
    fn floors_only_rise_until_the_ratchet_retires_them(events in events()) {
        let (mut promises, mut now) = machine(3);
        let mut held: BTreeMap<u8, (u8, Instant)> = BTreeMap::new();
        let mut open = [0_usize; 4];
        let mut retired = [false; 4];
        for event in events {
            match event {
                Event::Promise(duty, round) => {
                    let answer = promises.promise(attest(VALIDATOR, duty.into()), ballot(round.into(), 1), now);
                    let at = usize::from(duty);
                    let expected = match held.get(&duty) {
                        _ if open[at] > 0 => PromiseAnswer::Fenced,
                        Some(&(floor, _)) if floor > round => PromiseAnswer::Outbid(ballot(floor.into(), 1)),
                        None if held.len() == 3 => PromiseAnswer::Full,
                        _ => { held.insert(duty, (round, now)); PromiseAnswer::Held }
                    };
                    prop_assert_eq!(answer, expected);
                }
                Event::Begin(duty, round) => {
                    let answer = promises.begin_sign(attest(VALIDATOR, duty.into()), ballot(round.into(), 1), now);
                    let expected = match held.get(&duty) {
                        Some(&(floor, _)) if floor > round => SignAnswer::Outbid(ballot(floor.into(), 1)),
                        Some(&(floor, at)) if floor == round && now - at <= SIGN_WITHIN => SignAnswer::Begun,
                        Some(&(floor, _)) if floor == round => SignAnswer::TooLate,
                        _ => SignAnswer::NotPromised,
                    };
                    prop_assert_eq!(answer, expected);
                    open[usize::from(duty)] += usize::from(answer == SignAnswer::Begun);
                }
                Event::End(duty) => {
                    let at = usize::from(duty);
                    if open[at] > 0 {
                        open[at] -= 1;
                        promises.end_sign(attest(VALIDATOR, duty.into()));
                        if open[at] == 0 && retired[at] {
                            held.remove(&duty);
                            retired[at] = false;
                        }
                    }
                }
                Event::Retire(duty) => {
                    promises.retire(attest(VALIDATOR, duty.into()));
                    for passed in 0..=duty {
                        let at = usize::from(passed);
                        if open[at] > 0 { retired[at] = true; } else { held.remove(&passed); }
                    }
                }
                Event::Wait(ms) => now += Duration::from_millis(ms.into()),
            }
            prop_assert!(promises.len() <= 3);
            prop_assert_eq!(promises.len(), held.len());
        }
    }
}
