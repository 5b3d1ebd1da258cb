//! Who leads asks for no promise; when that is not enough, it asks as everybody does.

use super::*;

/// All but those in `strangers` are led; all beyond the threshold are spares.
fn open_led(threshold: usize, size: usize, strangers: &[usize]) -> Bench {
    let members = (0..size).map(|peer| Invited {
        spare: peer >= threshold,
        led: !strangers.contains(&peer),
        ..invited(peer)
    });
    open_inviting(Mode::Led, threshold, size, members.collect())
}

/// Whom it asked to sign as who leads them, and the round.
fn asked_as_led(bench: &mut Bench) -> Vec<(u64, usize)> {
    bench.take(|effect| {
        let Effect::Sign { round, led, to, .. } = effect else {
            return None;
        };
        assert!(*led);
        Some(to.iter().map(|peer| (*round, peer.0)).collect())
    })
}

#[test]
fn while_all_is_well_a_threshold_signs_at_once() {
    let mut bench = open_led(3, 5, &[]);
    assert!(bench.asked_to_promise().is_empty());
    assert_eq!(asked_as_led(&mut bench), [(0, 0), (0, 1), (0, 2)]);
    for peer in 0..3 {
        bench.sign(1, peer);
    }
    assert_eq!(bench.combined(), [1, 2, 3]);
    assert!(bench.asked_to_promise().is_empty());
}

#[test]
fn a_spare_that_is_led_signs_at_once_too() {
    for what in ["late", "failed", "refused"] {
        let mut bench = open_led(3, 4, &[]);
        asked_as_led(&mut bench);
        bench.sign(1, 0);
        match what {
            "late" => bench.tell(HEDGE, Event::Woken),
            "failed" => bench.fail(1, 1, 0, FailureReason::Unreachable),
            _ => bench.refuse(1, 1, RefusalReason::Slashable),
        }
        assert_eq!(asked_as_led(&mut bench), [(0, 3)], "{what}");
        assert!(bench.asked_to_promise().is_empty(), "{what}");
        bench.sign(HEDGE + 1, 2);
        bench.sign(HEDGE + 1, 3);
        assert_eq!(bench.combined(), [1, 3, 4], "{what}");
    }
}

#[test]
fn where_those_who_are_led_are_too_few_all_promise_and_none_of_it_is_taken_for_a_promise() {
    for reason in [FailureReason::NotLed, FailureReason::Unreachable] {
        let mut bench = open_led(3, 4, &[3]);
        assert_eq!(asked_as_led(&mut bench), [(0, 0), (0, 1), (0, 2)]);
        bench.sign(1, 0);
        bench.fail(2, 1, 0, reason);
        // At once, and all but the one that has signed: its vote is known.
        assert_eq!(bench.asked_to_promise(), [(1, 1), (1, 2), (1, 3)]);
        bench.promise(3, 3, 1, None);
        assert!(bench.asked_to_sign().is_empty(), "two have not promised");
        // What it was asked before, it may still give, or not.
        bench.fail(4, 2, 0, FailureReason::NotLed);
        bench.promise(4, 1, 1, None);
        let signed = bench.take(|effect| {
            let Effect::Sign { led, to, .. } = effect else {
                return None;
            };
            Some(vec![(*led, to.len())])
        });
        assert_eq!(signed, [(false, 2)]);
        bench.sign(5, 1);
        bench.sign(5, 3);
        assert_eq!(bench.combined(), [1, 2, 4]);
    }
}

#[test]
fn who_is_outbid_leaves_the_other_time_before_it_asks_for_promises() {
    let mut bench = open_led(3, 4, &[3]);
    asked_as_led(&mut bench);
    bench.outbid(1, 1, 0, 4);
    assert!(bench.asked_to_promise().is_empty());
    let [(earliest, latest)] = bench.retry()[..] else {
        panic!("one retry");
    };
    assert!(earliest >= ms(11) && latest > earliest);
    bench.tell(60, Event::Retry);
    let everybody = [(5, 0), (5, 1), (5, 2), (5, 3)];
    assert_eq!(bench.asked_to_promise(), everybody);
}

#[test]
fn who_leads_too_few_asks_for_promises_from_the_first_ballot_on() {
    let mut bench = open_led(3, 4, &[0, 3]);
    assert!(bench.asked_to_sign().is_empty());
    assert_eq!(bench.asked_to_promise(), [(0, 0), (0, 1), (0, 2)]);
}

#[test]
fn so_many_refusals_that_it_can_never_be_signed_are_one_without_promises_too() {
    let mut bench = open_led(3, 4, &[]);
    for peer in [0, 1] {
        bench.refuse(1, peer, RefusalReason::Slashable);
    }
    assert!(matches!(bench.verdict(), Some(Verdict::Refused(_))));
}

#[test]
fn when_the_window_has_closed_all_are_asked_for_promises() {
    let mut bench = open_led(3, 4, &[3]);
    asked_as_led(&mut bench);
    bench.sign(1, 0);
    bench.sign(1, 1);
    // Late: the one that is not led is asked, and the late one as well, for a promise.
    bench.tell(HEDGE, Event::Woken);
    assert_eq!(bench.asked_to_promise(), [(1, 2), (1, 3)]);
    bench.promise(HEDGE + 1, 3, 1, None);
    assert_eq!(bench.asked_to_sign(), [3]);
}
