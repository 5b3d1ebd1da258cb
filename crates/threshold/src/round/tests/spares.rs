//! Who is asked for a promise only when it is needed.

use super::*;

/// 3-of-4, and so on; all beyond the threshold are spares.
fn open_sparing(threshold: usize, size: usize) -> Bench {
    let members = (0..size).map(|peer| Invited {
        spare: peer >= threshold,
        ..invited(peer)
    });
    open_inviting(Mode::Promised, threshold, size, members.collect())
}

#[test]
fn while_all_is_well_a_threshold_is_asked() {
    let mut bench = open_sparing(3, 5);
    assert_eq!(bench.asked_to_promise(), [(0, 0), (0, 1), (0, 2)]);
    for peer in 0..3 {
        bench.promise(1, peer, 0, None);
    }
    assert_eq!(bench.asked_to_sign(), [0, 1, 2]);
    for peer in 0..3 {
        bench.sign(2, peer);
    }
    assert_eq!(bench.combined(), [1, 2, 3]);
    assert!(bench.asked_to_promise().is_empty());
}

/// What may become of one of those that were asked, so that a spare takes its place.
fn spoiled(bench: &mut Bench, what: usize) {
    match what {
        0 => bench.fail(2, 1, 0, FailureReason::Unreachable),
        1 => bench.refuse(2, 1, RefusalReason::Slashable),
        2 => bench.outbid(2, 1, 0, 4),
        _ => bench.tell(1 + HEDGE, Event::Woken),
    }
}

#[test]
fn a_spare_promises_before_it_signs_whatever_it_is_needed_for() {
    for what in 0..4 {
        // Before the promise of the one that it replaces.
        let mut bench = open_sparing(3, 4);
        bench.asked_to_promise();
        bench.promise(1, 0, 0, None);
        bench.promise(1, 2, 0, None);
        spoiled(&mut bench, what);
        assert_eq!(bench.asked_to_promise(), [(0, 3)], "{what}");
        assert!(bench.asked_to_sign().is_empty(), "{what}");
        bench.promise(2 + HEDGE, 3, 0, None);
        assert_eq!(bench.asked_to_sign(), [0, 2, 3], "{what}");

        // And behind it.
        let mut bench = open_sparing(3, 4);
        for peer in 0..3 {
            bench.promise(1, peer, 0, None);
        }
        bench.asked_to_promise();
        assert_eq!(bench.asked_to_sign(), [0, 1, 2]);
        bench.sign(2, 0);
        bench.sign(2, 2);
        spoiled(&mut bench, what);
        assert_eq!(bench.asked_to_promise(), [(0, 3)], "{what}");
        assert!(bench.asked_to_sign().is_empty(), "{what}");
        bench.promise(2 + HEDGE, 3, 0, None);
        assert_eq!(bench.asked_to_sign(), [3], "{what}");
        bench.sign(3 + HEDGE, 3);
        assert_eq!(bench.combined(), [1, 3, 4], "{what}");
    }
}

#[test]
fn a_bad_partial_is_replaced_by_a_spares() {
    let mut bench = open_sparing(3, 4);
    for peer in 0..3 {
        bench.promise(1, peer, 0, None);
    }
    for peer in 0..3 {
        bench.sign(2, peer);
    }
    bench.asked_to_promise();
    bench.asked_to_sign();
    bench.combined();
    bench.tell(3, Event::Blamed(vec![index(2)]));
    assert_eq!(bench.asked_to_promise(), [(0, 3)]);
    bench.promise(4, 3, 0, None);
    assert_eq!(bench.asked_to_sign(), [3]);
}

#[test]
fn refusals_that_decide_ask_no_more_than_the_first_of_them_did() {
    let mut bench = open_sparing(3, 5);
    bench.asked_to_promise();
    bench.refuse(1, 0, RefusalReason::Slashable);
    assert_eq!(bench.asked_to_promise(), [(0, 3), (0, 4)]);
    bench.refuse(1, 1, RefusalReason::Slashable);
    assert_eq!(bench.refused(), None);
    bench.refuse(1, 2, RefusalReason::Slashable);
    assert_eq!(bench.refused(), Some(RefusalReason::Slashable));
    assert!(bench.asked_to_promise().is_empty());
}

#[test]
fn in_the_next_ballot_everybody_is_asked() {
    let mut bench = open_sparing(3, 4);
    bench.outbid(5, 0, 0, 4);
    bench.outbid(5, 1, 0, 7);
    bench.asked_to_promise();
    bench.tell(60, Event::Retry);
    assert_eq!(bench.asked_to_promise(), [(8, 0), (8, 1), (8, 2), (8, 3)]);
}

#[test]
fn a_spare_is_not_asked_when_the_window_has_closed() {
    let mut members: Vec<Invited> = (0..4).map(invited).collect();
    members[3].spare = true;
    for member in &mut members {
        member.sign_within = ms(1_100);
    }
    let mut bench = open_inviting(Mode::Promised, 3, 4, members);
    for peer in 0..3 {
        bench.promise(1, peer, 0, None);
    }
    bench.asked_to_promise();
    assert_eq!(bench.asked_to_sign(), [0, 1, 2]);
    bench.fail(1_000, 1, 0, FailureReason::Unreachable);
    assert!(bench.asked_to_promise().is_empty());
    assert!(bench.asked_to_sign().is_empty());
    assert_eq!(bench.retry().len(), 1);
    bench.tell(1_100, Event::Retry);
    assert_eq!(bench.asked_to_promise(), [(1, 0), (1, 1), (1, 2), (1, 3)]);
}

#[test]
fn too_few_that_are_no_spares_ask_all_at_once() {
    let members = (0..4).map(|peer| Invited {
        spare: peer > 0,
        ..invited(peer)
    });
    let mut bench = open_inviting(Mode::Promised, 3, 4, members.collect());
    let mut asked = bench.asked_to_promise();
    asked.sort_unstable();
    assert_eq!(asked, [(0, 0), (0, 1), (0, 2), (0, 3)]);
}

#[test]
fn where_there_is_no_time_to_be_late_all_are_asked_at_once() {
    for (within, spared) in [(DEADLINE / 4 - 1, true), (DEADLINE / 4, false)] {
        let members = (0..4).map(|peer| Invited {
            spare: peer == 3,
            promise_within: ms(within),
            sign_within: ms(within),
            ..invited(peer)
        });
        let mut bench = open_inviting(Mode::Promised, 3, 4, members.collect());
        let asked = bench.asked_to_promise().len();
        assert_eq!(asked, if spared { 3 } else { 4 }, "late after {within} ms");
    }
}

#[test]
fn how_long_a_spare_was_not_asked_makes_no_wait_longer() {
    let mut bench = open_sparing(3, 4);
    for peer in 0..2 {
        bench.promise(1, peer, 0, None);
    }
    bench.tell(HEDGE, Event::Woken);
    bench.promise(HEDGE + 2, 3, 0, None);
    bench.outbid(HEDGE + 3, 3, 0, 4);
    bench.outbid(HEDGE + 3, 0, 0, 4);
    assert_eq!(bench.retry(), [(ms(HEDGE + 13), ms(HEDGE + 53))]);
}

#[test]
fn who_can_not_be_asked_any_more_is_not_waited_for() {
    let mut members: Vec<Invited> = (0..4).map(invited).collect();
    members[3].spare = true;
    let mut bench = open_inviting(Mode::Promised, 3, 4, members);
    for peer in 0..3 {
        bench.promise(1, peer, 0, None);
    }
    for peer in 0..3 {
        bench.sign(2, peer);
    }
    assert_eq!(bench.combined(), [1, 2, 3]);
    bench.tell(1_001, Event::Blamed(vec![index(1), index(2)]));
    assert_eq!(bench.unavailable(), Some(FailureReason::Faulty));
}
