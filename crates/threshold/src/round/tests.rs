//! The rules of agreement.md one by one. Times are in milliseconds.

mod bench;
mod faulty;
mod led;
mod mixes;
mod spares;

use super::*;
use bench::*;

#[test]
fn all_are_asked_to_promise_and_the_first_promisers_to_sign() {
    let mut bench = open(Mode::Promised, 3, 4);
    assert_eq!(bench.asked_to_promise(), [(0, 0), (0, 1), (0, 2), (0, 3)]);
    bench.promise(1, 3, 0, None);
    bench.promise(2, 1, 0, Some(MINE));
    assert!(bench.asked_to_sign().is_empty());
    bench.promise(3, 0, 0, None);
    bench.promise(4, 2, 0, None);
    let mut asked = bench.asked_to_sign();
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 3]);
    for peer in asked {
        bench.sign(5, peer);
    }
    assert_eq!(bench.combined(), [1, 2, 4]);
    bench.tell(6, Event::Combined);
    assert!(bench.round.is_done());
}

#[test]
fn a_slow_or_failing_signer_is_hedged_with_a_late_promiser() {
    for failing in [false, true] {
        let mut bench = open(Mode::Promised, 3, 4);
        for peer in 0..3 {
            bench.promise(1, peer, 0, None);
        }
        assert_eq!(bench.asked_to_sign().len(), 3);
        bench.promise(2, 3, 0, None);
        assert!(bench.asked_to_sign().is_empty());
        if failing {
            bench.fail(3, 0, 0, FailureReason::Unreachable);
        } else {
            bench.tell(1 + HEDGE, Event::Woken);
        }
        assert_eq!(bench.asked_to_sign(), [3], "failing: {failing}");
    }
}

#[test]
fn only_more_refusals_than_can_be_spared_make_a_refusal() {
    for (t, n, spare) in [(3, 4, 1), (5, 7, 2), (2, 3, 1), (4, 4, 0)] {
        let mut bench = open(Mode::Promised, t, n);
        for peer in 0..=spare {
            assert_eq!(bench.verdict(), None);
            if peer == 0 {
                bench.promise(1, peer, 0, Some(OTHER));
            } else {
                bench.refuse(1, peer, RefusalReason::Slashable);
            }
        }
        assert_eq!(
            bench.refused(),
            Some(RefusalReason::Slashable),
            "{t} of {n}"
        );
    }
}

#[test]
fn a_refusal_that_can_be_spared_does_not_matter() {
    let mut bench = open(Mode::Promised, 3, 4);
    bench.refuse(1, 0, RefusalReason::Slashable);
    for peer in 1..4 {
        bench.promise(2, peer, 0, None);
    }
    assert_eq!(bench.asked_to_sign(), [1, 2, 3]);
}

#[test]
fn who_is_outbid_waits_one_to_two_rounds_and_takes_the_next() {
    for (measured, bounds) in [(5, (15, 55)), (40, (80, 120)), (80, (160, 240))] {
        let mut bench = open(Mode::Promised, 3, 4);
        bench.asked_to_promise();
        bench.outbid(measured, 0, 0, 4);
        assert!(bench.retry().is_empty(), "three may still promise");
        bench.outbid(measured, 1, 0, 7);
        assert_eq!(
            bench.retry(),
            [(ms(bounds.0), ms(bounds.1))],
            "{measured} ms"
        );
        bench.tell(bounds.1, Event::Retry);
        assert_eq!(bench.asked_to_promise(), [(8, 0), (8, 1), (8, 2), (8, 3)]);
    }
}

#[test]
fn those_that_did_not_agree_to_what_others_signed_are_named() {
    let mut bench = open(Mode::Promised, 2, 5);
    bench.refuse(1, 0, RefusalReason::Stopped);
    bench.promise(1, 1, 0, Some(OTHER));
    bench.outbid(1, 2, 0, 4);
    for peer in [3, 4] {
        bench.promise(2, peer, 0, None);
        bench.sign(3, peer);
    }
    bench.tell(4, Event::Combined);
    let dissents = [
        (Peer(0), Dissent::Refused(RefusalReason::Stopped)),
        (Peer(1), Dissent::Refused(RefusalReason::Slashable)),
        (Peer(2), Dissent::Outbid),
    ];
    assert_eq!(bench.round.dissents(), dissents);
}

#[test]
fn nobody_is_followed_to_where_the_rounds_end() {
    for held in [1_000_001, u64::MAX] {
        let mut bench = open(Mode::Promised, 3, 4);
        bench.asked_to_promise();
        bench.outbid(5, 0, 0, held);
        bench.outbid(5, 1, 0, 3);
        bench.tell(40, Event::Retry);
        assert_eq!(bench.asked_to_promise(), [(4, 0), (4, 1), (4, 2), (4, 3)]);
    }
}

#[test]
fn promises_that_come_while_waiting_are_used() {
    let mut bench = open(Mode::Promised, 2, 3);
    bench.outbid(1, 0, 0, 1);
    bench.fail(1, 1, 0, FailureReason::TimedOut);
    assert_eq!(bench.retry().len(), 1);
    bench.promise(5, 2, 0, None);
    bench.tell(30, Event::Retry);
    assert!(bench.asked_to_sign().is_empty());
    bench.promise(31, 2, 2, None);
    bench.promise(31, 1, 2, None);
    assert_eq!(bench.asked_to_sign(), [1, 2]);
}

#[test]
fn promises_for_earlier_ballots_do_not_count() {
    let mut bench = open(Mode::Promised, 2, 3);
    bench.outbid(1, 0, 0, 1);
    bench.outbid(1, 1, 0, 1);
    bench.tell(30, Event::Retry);
    bench.promise(31, 2, 0, None);
    bench.promise(31, 0, 2, None);
    assert!(bench.asked_to_sign().is_empty());
    bench.promise(32, 2, 2, None);
    assert_eq!(bench.asked_to_sign(), [0, 2]);
}

#[test]
fn a_hung_member_does_not_keep_an_outbid_one_from_retrying() {
    let mut bench = open(Mode::Promised, 3, 4);
    bench.promise(1, 0, 0, None);
    bench.promise(1, 1, 0, None);
    bench.outbid(2, 2, 0, 1);
    assert!(bench.retry().is_empty());
    bench.tell(HEDGE, Event::Woken);
    assert_eq!(bench.retry().len(), 1);
}

#[test]
fn partials_of_earlier_rounds_stay_valid() {
    let mut bench = open(Mode::Promised, 3, 4);
    for peer in 0..3 {
        bench.promise(1, peer, 0, None);
    }
    bench.sign(2, 0);
    bench.outbid(2, 1, 0, 5);
    bench.fail(2, 3, 0, FailureReason::TimedOut);
    assert_eq!(bench.retry().len(), 1);
    bench.asked_to_promise();
    bench.asked_to_sign();
    bench.tell(60, Event::Retry);
    assert_eq!(bench.asked_to_promise(), [(6, 1), (6, 2), (6, 3)]);
    bench.sign(61, 2);
    bench.promise(61, 1, 6, None);
    assert_eq!(bench.asked_to_sign(), [1]);
    bench.sign(62, 1);
    assert_eq!(bench.combined(), [1, 2, 3]);
}

#[test]
fn nobody_is_asked_to_sign_when_the_window_has_closed() {
    for (at, asked) in [(999, true), (1_000, false)] {
        let mut bench = open(Mode::Promised, 2, 3);
        bench.promise(1, 0, 0, None);
        bench.promise(at, 1, 0, None);
        assert_eq!(!bench.asked_to_sign().is_empty(), asked, "at {at} ms");
    }
}

#[test]
fn blamed_members_are_replaced() {
    let mut bench = open(Mode::Promised, 3, 4);
    for peer in 0..4 {
        bench.promise(1, peer, 0, None);
    }
    bench.asked_to_sign();
    for peer in 0..3 {
        bench.sign(2, peer);
    }
    assert_eq!(bench.combined(), [1, 2, 3]);
    bench.tell(3, Event::Blamed(vec![index(2)]));
    assert!(bench.effects.contains(&Effect::Blame(vec![Peer(1)])));
    assert_eq!(bench.asked_to_sign(), [3]);
    bench.sign(4, 3);
    assert_eq!(bench.combined(), [1, 3, 4]);
    bench.tell(5, Event::Blamed(vec![index(4)]));
    assert_eq!(bench.unavailable(), Some(FailureReason::Faulty));
}

#[test]
fn a_disputed_index_is_asked_of_both_counts_once_and_the_liar_is_blamed() {
    // Peer 1 claims peer 0's index; its own is claimed by nobody.
    let mut bench = open_claims(Mode::Direct, 3, 4, &[1, 1, 3, 4]);
    assert_eq!(bench.asked_to_sign(), [0, 1, 2, 3]);
    bench.sign(1, 1);
    bench.sign(1, 2);
    bench.sign(1, 0);
    assert!(bench.combined().is_empty());
    bench.sign(1, 3);
    assert_eq!(bench.combined(), [1, 3, 4]);
    bench.tell(2, Event::Blamed(vec![index(1)]));
    assert!(bench.effects.contains(&Effect::Blame(vec![Peer(0)])));
    assert_eq!(
        bench.combined(),
        [1, 3, 4],
        "with the other claimant's partial"
    );
}

#[test]
fn another_partial_for_an_index_than_the_combined_one_is_suspect_and_not_yet_to_blame() {
    let mut bench = open_claims(Mode::Direct, 3, 4, &[1, 1, 3, 4]);
    for peer in 0..4 {
        bench.sign(1, peer);
    }
    bench.tell(2, Event::Combined);
    let suspects = bench.effects.iter().find_map(|effect| {
        let Effect::Suspect(partials) = effect else {
            return None;
        };
        Some(partials.clone())
    });
    let suspects = suspects.unwrap();
    assert_eq!(suspects.len(), 1);
    assert_eq!((suspects[0].0, suspects[0].1), (Peer(1), index(1)));
    let blames = |effect: &Effect| matches!(effect, Effect::Blame(_));
    assert!(!bench.effects.iter().any(blames));
    assert!(bench.round.is_done());
}

#[test]
fn a_liars_refusal_in_anothers_name_is_no_vote() {
    let mut bench = open_claims(Mode::Promised, 3, 4, &[1, 1, 3, 4]);
    bench.refuse(1, 1, RefusalReason::Slashable);
    assert_eq!(bench.verdict(), None);
    bench.refuse(1, 3, RefusalReason::Slashable);
    assert_eq!(bench.verdict(), None, "the others may still say why not");
    bench.tell(HEDGE, Event::Woken);
    assert_eq!(bench.unavailable(), Some(FailureReason::TooFewShares));
}

#[test]
fn direct_rounds_ask_the_fastest_and_hedge_on_delay_and_failure() {
    let mut bench = open(Mode::Direct, 3, 5);
    assert!(bench.asked_to_promise().is_empty());
    assert_eq!(bench.asked_to_sign(), [0, 1, 2]);
    bench.fail(1, 1, 0, FailureReason::Unreachable);
    assert_eq!(bench.asked_to_sign(), [3]);
    bench.sign(2, 0);
    bench.sign(2, 3);
    bench.tell(HEDGE, Event::Woken);
    assert_eq!(bench.asked_to_sign(), [4]);
    bench.sign(HEDGE + 1, 2);
    assert_eq!(bench.combined(), [1, 3, 4]);
}

/// Members that are late after so many milliseconds each.
fn paced(within: &[u64]) -> Vec<Invited> {
    let paces = within.iter().enumerate();
    let members = paces.map(|(peer, within)| Invited {
        promise_within: ms(*within),
        sign_within: ms(*within),
        ..invited(peer)
    });
    members.collect()
}

#[test]
fn each_member_is_late_after_a_time_of_its_own_and_replaced_by_another_each_time() {
    for mode in [Mode::Direct, Mode::Promised] {
        let mut bench = open_inviting(mode, 3, 7, paced(&[30, 10, 10, 20, 90, 90, 90]));
        for peer in 0..7 {
            if mode == Mode::Promised {
                bench.promise(0, peer, 0, None);
            }
        }
        assert_eq!(bench.asked_to_sign(), [0, 1, 2]);
        let woken = |effect: &Effect| matches!(effect, Effect::WakeAt(at) if *at == ms(10));
        assert!(bench.effects.iter().any(woken));
        bench.tell(9, Event::Woken);
        assert!(bench.asked_to_sign().is_empty());
        bench.tell(10, Event::Woken);
        assert_eq!(bench.asked_to_sign(), [3, 4], "two are late: two are asked");
        bench.tell(29, Event::Woken);
        assert!(bench.asked_to_sign().is_empty());
        // At 30 ms both the first and the one that was asked in another's place are late.
        bench.tell(30, Event::Woken);
        assert_eq!(bench.asked_to_sign(), [5, 6]);
        bench.tell(1_000, Event::Woken);
        assert!(bench.asked_to_sign().is_empty(), "nobody twice");
        for peer in [1, 2, 0] {
            bench.sign(1_001, peer);
        }
        assert_eq!(bench.combined(), [1, 2, 3], "late is not too late");
    }
}

/// Two of three have signed, and the third may take so long from its turn on.
fn one_is_awaited(mode: Mode, sign_within: u64) -> Bench {
    let mut bench = open_inviting(mode, 3, 4, paced(&[sign_within; 4]));
    // Nobody waits for a turn that is not asked.
    bench.round.delayed(Peer(3), ms(DEADLINE));
    for peer in 0..4 {
        if mode == Mode::Promised {
            bench.promise(0, peer, 0, None);
        }
    }
    assert_eq!(bench.asked_to_sign(), [0, 1, 2]);
    bench.sign(1, 0);
    bench.sign(1, 1);
    bench
}

#[test]
fn who_waited_for_its_turn_is_late_from_then_on_for_a_third_of_the_time_at_most() {
    let third = DEADLINE / 3;
    for (until, late) in [
        (0, 20),
        (15, 35),
        (third, third + 20),
        (third + 9, third + 20),
    ] {
        for mode in [Mode::Direct, Mode::Promised] {
            let mut bench = one_is_awaited(mode, 20);
            bench.round.delayed(Peer(2), ms(until));
            bench.tell(late - 1, Event::Woken);
            assert!(bench.asked_to_sign().is_empty(), "{until}");
            bench.tell(late, Event::Woken);
            assert_eq!(bench.asked_to_sign(), [3], "{until}");
        }
    }
}

#[test]
fn no_turn_is_waited_for_where_who_takes_its_place_would_come_too_late() {
    // One may be late, and then its spare takes as long.
    let within = DEADLINE * 2 / 5;
    let mut bench = one_is_awaited(Mode::Direct, within);
    bench.round.delayed(Peer(2), ms(DEADLINE));
    bench.tell(DEADLINE - within - 1, Event::Woken);
    assert!(bench.asked_to_sign().is_empty());
    bench.tell(DEADLINE - within, Event::Woken);
    assert_eq!(bench.asked_to_sign(), [3]);
    // With promises before each, there is no time at all.
    let mut bench = one_is_awaited(Mode::Promised, within);
    bench.round.delayed(Peer(2), ms(DEADLINE));
    bench.tell(within, Event::Woken);
    assert_eq!(bench.asked_to_sign(), [3]);
}

#[test]
fn who_waited_for_its_turn_to_promise_is_replaced_later() {
    let members = (0..4).map(|peer| Invited {
        promise_within: ms(20),
        spare: peer == 3,
        ..invited(peer)
    });
    let mut bench = open_inviting(Mode::Promised, 3, 4, members.collect());
    bench.asked_to_promise();
    bench.promise(1, 0, 0, None);
    bench.promise(1, 1, 0, None);
    bench.round.delayed(Peer(2), ms(15));
    bench.tell(34, Event::Woken);
    assert!(bench.asked_to_promise().is_empty());
    bench.tell(35, Event::Woken);
    assert_eq!(bench.asked_to_promise(), [(0, 3)]);
}

#[test]
fn who_is_sounded_is_asked_as_well_and_not_counted_on() {
    for mode in [Mode::Direct, Mode::Promised] {
        let mut members = paced(&[50; 5]);
        members[3].sounded = true;
        members[3].reserve = true;
        let mut bench = open_inviting(mode, 3, 5, members);
        for peer in 0..5 {
            if mode == Mode::Promised {
                bench.promise(0, peer, 0, None);
            }
        }
        assert_eq!(bench.asked_to_sign(), [0, 1, 2, 3]);
        bench.fail(1, 0, 0, FailureReason::Unreachable);
        assert_eq!(bench.asked_to_sign(), [4]);
        bench.sign(2, 1);
        bench.sign(2, 3);
        bench.sign(2, 2);
        assert_eq!(bench.combined(), [2, 3, 4], "its answer counts");
    }
}

#[test]
fn a_member_that_answers_in_one_form_and_after_an_upgrade_in_another_is_neither_blamed_nor_suspect()
{
    let mut bench = open(Mode::Direct, 3, 4);
    for peer in [0, 1, 2] {
        bench.sign(1, peer);
    }
    assert_eq!(bench.combined(), [1, 2, 3]);
    let partial = PartialSignature::Scaled {
        point: [0; 192],
        scale: std::num::NonZeroU64::new(3).unwrap(),
    };
    let peer = Peer(0);
    bench.tell(2, Event::Signed { peer, partial });
    bench.tell(3, Event::Combined);
    let accuses = |effect: &Effect| matches!(effect, Effect::Blame(_) | Effect::Suspect(_));
    assert!(!bench.effects.iter().any(accuses));
    assert!(bench.round.is_done());
}

#[test]
fn what_comes_while_it_is_combined_neither_shields_a_liar_nor_accuses_another() {
    let mut bench = open(Mode::Direct, 3, 5);
    bench.fail(1, 0, 0, FailureReason::TimedOut);
    for peer in [1, 2, 3] {
        bench.sign(2, peer);
    }
    assert_eq!(bench.combined(), [2, 3, 4]);
    // A late partial of a member that stands before them, and a second one of the liar.
    bench.sign(3, 0);
    let partial = partial(9);
    let peer = Peer(3);
    bench.tell(3, Event::Signed { peer, partial });
    bench.tell(4, Event::Blamed(vec![index(4)]));
    assert!(bench.effects.contains(&Effect::Blame(vec![Peer(3)])));
    assert_eq!(bench.combined(), [1, 2, 3]);
    bench.sign(5, 4);
    bench.tell(6, Event::Combined);
    assert!(bench.round.is_done());
    let suspects = |effect: &Effect| matches!(effect, Effect::Suspect(_));
    assert!(!bench.effects.iter().any(suspects));
}

#[test]
fn with_fewer_than_a_threshold_left_after_blame_the_rest_is_heard_and_no_more() {
    let mut bench = open(Mode::Direct, 3, 4);
    bench.asked_to_sign();
    for peer in 0..3 {
        bench.sign(1, peer);
    }
    bench.tell(2, Event::Blamed(vec![index(1), index(2)]));
    assert_eq!(bench.verdict(), None, "the fourth may tell why");
    bench.tell(2 + HEDGE, Event::Woken);
    assert_eq!(bench.unavailable(), Some(FailureReason::Faulty));
}

#[test]
fn failed_members_are_asked_again_after_a_pause() {
    let mut bench = open(Mode::Direct, 2, 2);
    bench.asked_to_sign();
    bench.fail(1, 0, 0, FailureReason::Busy);
    assert_eq!(bench.retry(), [(ms(51), ms(101))]);
    bench.sign(2, 1);
    bench.tell(60, Event::Retry);
    assert_eq!(bench.asked_to_sign(), [0]);
    bench.sign(61, 0);
    assert_eq!(bench.combined(), [1, 2]);
}

#[test]
fn a_validator_is_not_found_only_if_nobody_knows_it() {
    use RefusalReason::{NotAllowed, NotFound};
    let mut nobody = open(Mode::Promised, 2, 3);
    for peer in 0..3 {
        assert_eq!(nobody.verdict(), None);
        nobody.refuse(1, peer, NotFound);
    }
    assert_eq!(nobody.refused(), Some(NotFound));

    let mut one_knows = open(Mode::Promised, 2, 3);
    one_knows.promise(1, 0, 0, None);
    one_knows.refuse(1, 1, NotFound);
    one_knows.refuse(1, 2, NotFound);
    assert_eq!(one_knows.unavailable(), Some(FailureReason::TooFewShares));

    let mut others_refuse = open(Mode::Direct, 2, 3);
    others_refuse.refuse(1, 0, NotFound);
    others_refuse.refuse(1, 1, NotAllowed);
    others_refuse.tell(1 + HEDGE, Event::Woken);
    assert_eq!(
        others_refuse.unavailable(),
        Some(FailureReason::TooFewShares)
    );
}

#[test]
fn with_too_few_members_or_none_the_answer_comes_by_the_deadline() {
    for claims in [&[][..], &[1], &[1, 2, 3]] {
        for mode in [Mode::Promised, Mode::Direct] {
            let mut bench = open_claims(mode, 3, 4, claims);
            bench.tell(DEADLINE, Event::Woken);
            assert!(bench.unavailable().is_some(), "{claims:?} {mode:?}");
        }
    }
}

#[test]
fn those_that_are_doubted_are_asked_last_but_not_waited_for() {
    let mut direct = open_doubting(Mode::Direct, 3, 4, &[1, 2, 3, 4], &[0]);
    assert_eq!(direct.asked_to_sign(), [1, 2, 3]);

    let promised = || {
        let mut bench = open_doubting(Mode::Promised, 3, 4, &[1, 2, 3, 4], &[0]);
        for peer in 0..3 {
            bench.promise(1, peer, 0, None);
        }
        assert!(
            bench.asked_to_sign().is_empty(),
            "the fourth may still promise"
        );
        bench
    };
    let mut prompt = promised();
    prompt.promise(2, 3, 0, None);
    assert_eq!(prompt.asked_to_sign(), [1, 2, 3]);
    let mut slow = promised();
    slow.tell(HEDGE, Event::Woken);
    assert_eq!(slow.asked_to_sign(), [0, 1, 2]);
    let mut failing = promised();
    failing.fail(2, 3, 0, FailureReason::Unreachable);
    assert_eq!(failing.asked_to_sign(), [0, 1, 2]);
}

#[test]
fn a_retry_that_comes_with_the_deadline_changes_no_reason() {
    let mut bench = open(Mode::Direct, 2, 2);
    bench.fail(1_100, 0, 0, FailureReason::Unreachable);
    assert_eq!(bench.retry(), [(ms(1_150), ms(1_200))]);
    bench.tell(DEADLINE, Event::Retry);
    assert_eq!(bench.unavailable(), Some(FailureReason::Unreachable));
}

#[test]
fn who_is_asked_again_too_late_is_kept_by_what_kept_it_before() {
    let mut bench = open(Mode::Direct, 2, 2);
    bench.fail(1_100, 0, 0, FailureReason::Unreachable);
    assert_eq!(bench.retry().len(), 1);
    bench.tell(1_195, Event::Retry);
    bench.fail(1_195, 0, 1, FailureReason::TimedOut);
    bench.tell(DEADLINE, Event::Woken);
    assert_eq!(bench.unavailable(), Some(FailureReason::Unreachable));
}

#[test]
fn of_a_committee_half_known_the_known_half_is_heard() {
    // Two of three are known, and both signed another message.
    let mut bench = open_claims(Mode::Promised, 2, 3, &[1, 2]);
    bench.promise(1, 0, 0, Some(OTHER));
    assert_eq!(bench.verdict(), None);
    bench.promise(1, 1, 0, Some(OTHER));
    assert_eq!(bench.refused(), Some(RefusalReason::Slashable));
}
