//! What members say that cannot sign, mixed, in every order of arrival: the outcome is the same.

use super::{super::*, bench::*};
use Answer::{Abstains, Promises, Refuses, Silent};
use FailureReason::{
    BeyondClock, Deadline, Ledger, Quarantined, Starting, TimedOut, TooFewShares, Unreachable,
};
use RefusalReason::{Disabled, NotFound, Slashable, Stopped};

#[derive(Debug, Clone, Copy)]
enum Answer {
    Promises,
    Refuses(RefusalReason),
    Abstains(FailureReason),
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A threshold is asked to sign.
    Signs,
    /// 412.
    Refused(RefusalReason),
    /// 500, when everybody has answered.
    AtOnce(FailureReason),
    /// 500, when there is no time for another ballot.
    AtDeadline(FailureReason),
}

/// Every order of 0..n.
fn orders(n: usize) -> Vec<Vec<usize>> {
    let Some(last) = n.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = orders(last);
    let longer = shorter.iter().flat_map(|order| {
        (0..n).map(move |position| {
            let mut order = order.clone();
            order.insert(position, last);
            order
        })
    });
    longer.collect()
}

fn answer(bench: &mut Bench, at: u64, peer: usize, round: u64, answer: Answer) {
    match answer {
        Promises => bench.promise(at, peer, round, None),
        Refuses(reason) => bench.refuse(at, peer, reason),
        Abstains(reason) => bench.fail(at, peer, round, reason),
        Silent => {}
    }
}

/// Members answer in this order, `apart` milliseconds from each other, and at once whenever they are
/// asked again.
fn end(threshold: usize, answers: &[Answer], order: &[usize], apart: u64) -> End {
    let mut bench = open(Mode::Promised, threshold, answers.len());
    bench.asked_to_promise();
    let (mut at, mut next) = (0, order.iter());
    let mut now = 0;
    loop {
        if bench.round.is_done() {
            let early = now < DEADLINE - 200;
            return match bench.verdict().unwrap() {
                Verdict::Refused(refusal) => End::Refused(refusal.reason),
                Verdict::Unavailable(failure) if early => End::AtOnce(failure.reason),
                Verdict::Unavailable(failure) => End::AtDeadline(failure.reason),
            };
        }
        if bench.asked_to_sign().len() == threshold {
            return End::Signs;
        }
        for (round, peer) in bench.asked_to_promise() {
            if order.iter().position(|other| *other == peer) < Some(order.len() - next.len()) {
                answer(&mut bench, now, peer, round, answers[peer]);
            }
        }
        if bench.round.is_done() {
            continue;
        }
        if let Some((earliest, _)) = bench.retry().first() {
            at = at.max(now);
            now = now.max(u64::try_from(earliest.as_millis()).unwrap());
            // Those who are slower than the pause answer the ballot that they were asked for first.
            for peer in next.by_ref() {
                at += apart;
                answer(&mut bench, at, *peer, 0, answers[*peer]);
            }
            now = now.max(at);
            bench.tell(now, Event::Retry);
        } else if let Some(peer) = next.next() {
            at += apart;
            now = at;
            answer(&mut bench, now, *peer, 0, answers[*peer]);
        } else {
            now += 10;
            bench.tell(now.min(DEADLINE), Event::Woken);
        }
    }
}

fn in_all_orders(threshold: usize, answers: &[Answer], expected: End) {
    for order in orders(answers.len()) {
        for apart in [0, 1, HEDGE + 20] {
            let ended = end(threshold, answers, &order, apart);
            assert_eq!(
                ended, expected,
                "{threshold} of {answers:?} in the order {order:?}, {apart} ms apart"
            );
        }
    }
}

#[test]
fn of_four_whatever_the_order() {
    let (no, quarantined) = (Refuses(Stopped), Abstains(Quarantined));
    let (clock, ledger) = (Abstains(BeyondClock), Abstains(Ledger));
    let (starting, gone) = (Abstains(Starting), Abstains(Unreachable));
    let missing = Refuses(NotFound);
    let rows = [
        // More than one refuses: whatever the rest says.
        ([no, no, no, quarantined], End::Refused(Stopped)),
        ([no, no, quarantined, quarantined], End::Refused(Stopped)),
        ([no, no, quarantined, clock], End::Refused(Stopped)),
        ([no, no, ledger, gone], End::Refused(Stopped)),
        ([no, no, quarantined, Silent], End::Refused(Stopped)),
        ([no, no, Silent, Silent], End::Refused(Stopped)),
        ([no, no, quarantined, Promises], End::Refused(Stopped)),
        (
            [no, Refuses(Slashable), clock, quarantined],
            End::Refused(Slashable),
        ),
        (
            [
                Refuses(Disabled),
                Refuses(Disabled),
                quarantined,
                quarantined,
            ],
            End::Refused(Disabled),
        ),
        // One can be spared.
        ([quarantined, Promises, Promises, Promises], End::Signs),
        ([clock, Promises, Promises, Promises], End::Signs),
        ([no, Promises, Promises, Promises], End::Signs),
        // More than one abstains for what lasts.
        (
            [quarantined, quarantined, Promises, Promises],
            End::AtOnce(Quarantined),
        ),
        (
            [quarantined, quarantined, no, Promises],
            End::AtOnce(Quarantined),
        ),
        (
            [quarantined, quarantined, quarantined, no],
            End::AtOnce(Quarantined),
        ),
        (
            [quarantined, clock, Promises, Promises],
            End::AtOnce(BeyondClock),
        ),
        ([clock, clock, ledger, Promises], End::AtOnce(BeyondClock)),
        (
            [quarantined, quarantined, Silent, Promises],
            End::AtOnce(Quarantined),
        ),
        (
            [quarantined, quarantined, Silent, Silent],
            End::AtDeadline(Quarantined),
        ),
        // One that abstains for what lasts neither ends it nor names it.
        (
            [quarantined, no, Promises, Promises],
            End::AtDeadline(Deadline),
        ),
        (
            [quarantined, ledger, ledger, ledger],
            End::AtDeadline(Ledger),
        ),
        (
            [quarantined, gone, gone, gone],
            End::AtDeadline(Unreachable),
        ),
        (
            [quarantined, Silent, Silent, Silent],
            End::AtDeadline(TimedOut),
        ),
        (
            [quarantined, starting, starting, no],
            End::AtDeadline(Starting),
        ),
        // As many of each: the more specific.
        (
            [quarantined, ledger, Promises, Promises],
            End::AtDeadline(Quarantined),
        ),
        ([ledger, ledger, gone, gone], End::AtDeadline(Ledger)),
        (
            [gone, Silent, Promises, Promises],
            End::AtDeadline(Unreachable),
        ),
        // Certain, when all are heard.
        (
            [missing, missing, quarantined, Promises],
            End::AtOnce(TooFewShares),
        ),
    ];
    for (answers, expected) in rows {
        in_all_orders(3, &answers, expected);
    }
}

#[test]
fn the_prompt_are_heard_before_it_is_said_what_lasts() {
    let answers = [Quarantined, Quarantined, BeyondClock].map(Abstains);
    let answers: Vec<Answer> = answers.into_iter().chain([Promises]).collect();
    for order in orders(4) {
        let ended = end(3, &answers, &order, 1);
        assert_eq!(ended, End::AtOnce(Quarantined), "{order:?}");
    }
}

#[test]
fn of_three_whatever_the_order() {
    let (no, quarantined) = (Refuses(Stopped), Abstains(Quarantined));
    let (clock, ledger) = (Abstains(BeyondClock), Abstains(Ledger));
    let rows = [
        ([no, no, quarantined], End::Refused(Stopped)),
        ([no, no, ledger], End::Refused(Stopped)),
        ([no, no, Silent], End::Refused(Stopped)),
        ([quarantined, Promises, Promises], End::Signs),
        ([quarantined, quarantined, no], End::AtOnce(Quarantined)),
        ([quarantined, quarantined, Silent], End::AtOnce(Quarantined)),
        (
            [quarantined, quarantined, Promises],
            End::AtOnce(Quarantined),
        ),
        ([quarantined, clock, no], End::AtOnce(BeyondClock)),
        ([quarantined, no, Promises], End::AtDeadline(Deadline)),
        ([quarantined, ledger, ledger], End::AtDeadline(Ledger)),
        ([quarantined, ledger, no], End::AtDeadline(Quarantined)),
        ([quarantined, Silent, Silent], End::AtDeadline(TimedOut)),
    ];
    for (answers, expected) in rows {
        in_all_orders(2, &answers, expected);
    }
}

#[test]
fn who_is_slow_is_not_given_up_because_another_is_quarantined() {
    let mut bench = open(Mode::Promised, 3, 4);
    bench.fail(1, 0, 0, Quarantined);
    bench.tell(HEDGE, Event::Woken);
    assert!(bench.retry().is_empty());
    for peer in 1..4 {
        bench.promise(5 * HEDGE, peer, 0, None);
    }
    assert_eq!(bench.asked_to_sign(), [1, 2, 3]);
}

#[test]
fn what_a_ledger_said_of_an_earlier_ballot_is_not_forgotten() {
    let mut bench = open(Mode::Promised, 3, 4);
    bench.fail(1, 0, 0, Quarantined);
    bench.fail(1, 1, 0, Unreachable);
    bench.tell(110, Event::Retry);
    assert_eq!(bench.retry().len(), 1);
    bench.fail(111, 0, 1, Quarantined);
    for peer in 2..4 {
        bench.fail(300, peer, 0, Ledger);
    }
    bench.tell(DEADLINE, Event::Woken);
    assert_eq!(bench.unavailable(), Some(Ledger));
}

#[test]
fn with_no_time_for_another_ballot_those_that_were_asked_are_heard() {
    let late = DEADLINE - 20;
    let mut bench = open(Mode::Promised, 3, 4);
    bench.fail(late, 0, 0, Ledger);
    bench.refuse(late, 1, Stopped);
    assert_eq!(bench.verdict(), None);
    bench.refuse(late + 10, 2, Stopped);
    assert_eq!(bench.refused(), Some(Stopped));

    let mut nothing_to_hear = open(Mode::Promised, 3, 4);
    for (peer, reason) in [(0, Unreachable), (1, Ledger), (2, Ledger)] {
        assert_eq!(nothing_to_hear.verdict(), None);
        nothing_to_hear.fail(late, peer, 0, reason);
    }
    assert_eq!(nothing_to_hear.unavailable(), Some(Ledger));
}
