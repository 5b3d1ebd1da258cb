//! Two callers with different messages, through two signer-apis, while as many lie as may; and
//! liars that are of two minds.

use tests::liar::{FalsePartial, FalseReply, Lie, On, Trouble};

use crate::{
    blame::{Counted, Counts, risen},
    trial::{Asking, Trial, asking},
};

/// Duties that two callers race for under each lie.
const RACES: u64 = 4;
/// How often a caller repeats what was answered with 500.
const TRIES: usize = 2;

/// What a caller gets for one duty in the end.
async fn insist(trial: &Trial, signer: usize, wanted: &Asking) -> u16 {
    let mut status = 0;
    for _ in 0..TRIES {
        let asked = trial.ask(signer, std::slice::from_ref(wanted)).await;
        trial.hold("a race", &asked);
        status = asked[0].answer.status;
        if status != 500 {
            break;
        }
    }
    status
}

/// Liars that promise to everybody cost duties, and never let both callers have theirs.
pub async fn never_both(trial: &mut Trial) {
    let spare = trial.spare();
    let mut lies = vec![
        Lie::Stream(Trouble::NoHeaders, On::Sign),
        Lie::Reply(FalseReply::PromisesThenRefuses(18)),
        Lie::TwoFaced(
            Box::new(Lie::Reply(FalseReply::PromisesThenRefuses(18))),
            Box::new(Lie::Reply(FalseReply::Signed(vec![9; 32]))),
        ),
    ];
    // As many may sign whatever they are asked for, and no two messages are signed.
    if trial.size.tolerated_faults() >= spare {
        lies.push(Lie::Partial(FalsePartial::Reckless));
    }
    for lie in lies {
        for liar in trial.liars.iter().rev().take(spare) {
            liar.switch(lie.clone());
        }
        let epochs: Vec<u64> = (0..RACES).map(|_| trial.next_epoch()).collect();
        let trial = &*trial;
        let validators = trial.cluster.validators();
        let duties = epochs.iter().flat_map(|epoch| {
            validators.iter().map(async |validator| {
                let [vote, block, _] = asking(*validator, *epoch, 1);
                let [other_vote, other_block, _] = asking(*validator, *epoch, 2);
                let votes = race(trial, &vote, &other_vote);
                let blocks = race(trial, &block, &other_block);
                let (votes, blocks) = tokio::join!(votes, blocks);
                votes + blocks
            })
        });
        let won: u64 = futures_util::future::join_all(duties).await.iter().sum();
        println!("{}: {lie:?}: {won} won", trial.size);
    }
}

/// How many of the two are signed: not both.
async fn race(trial: &Trial, one: &Asking, other: &Asking) -> u64 {
    let statuses = tokio::join!(insist(trial, 0, one), insist(trial, 1, other));
    let signed = [statuses.0, statuses.1]
        .iter()
        .filter(|status| **status == 200)
        .count();
    assert!(
        signed <= 1,
        "two signatures of one duty: {} {}",
        one.request,
        other.request
    );
    u64::try_from(signed).unwrap()
}

/// Liars that are honest to one signer-api and lie to the other: both sign all the same, and the one
/// that was lied to blames them. With one more, only the one that is not lied to signs.
pub async fn two_faces(trial: &mut Trial) {
    let lie = |lie| Lie::TwoFaced(Box::new(Lie::Honest), Box::new(lie));
    let lies = [
        (lie(Lie::Partial(FalsePartial::AnotherRoot)), "partial"),
        (lie(Lie::Reply(FalseReply::More)), "reply"),
    ];
    for (lie, reason) in lies {
        as_many_as_may(trial, &lie, reason).await;
        one_more(trial, &lie).await;
    }
}

/// The last so many.
fn last(trial: &Trial, count: usize) -> Vec<u64> {
    let liars = trial.liars.iter().rev().take(count);
    liars.map(|liar| liar.number()).collect()
}

async fn misdeeds(trial: &Trial) -> [Counts; 2] {
    let [one, other] = [0, 1].map(|signer| Counted::by(&trial.cluster, signer));
    [one.await.misdeeds, other.await.misdeeds]
}

async fn as_many_as_may(trial: &mut Trial, lie: &Lie, reason: &str) {
    let liars = last(trial, trial.spare());
    let before = misdeeds(trial).await;
    trial.lead(lie, liars.len());
    for round in 0.. {
        for signer in [0, 1] {
            let asking = trial.fresh();
            answers(trial, signer, &asking, 200).await;
        }
        let now = misdeeds(trial).await;
        let blamed_by = |number: u64| {
            let pairs = before.iter().zip(&now);
            let blaming = pairs.filter(|(before, now)| {
                let mut risen = risen(before, now);
                risen.any(|risen| risen == (number, reason))
            });
            blaming.count()
        };
        for number in trial.liars.iter().map(|liar| liar.number()) {
            assert!(
                liars.contains(&number) || blamed_by(number) == 0,
                "cosigner-{number}"
            );
        }
        let counts: Vec<usize> = liars.iter().map(|number| blamed_by(*number)).collect();
        assert!(
            counts.iter().all(|count| *count <= 1),
            "{lie:?}: {counts:?}"
        );
        if counts.iter().all(|count| *count == 1) {
            break;
        }
        assert!(
            round < 40,
            "{lie:?}: liars are blamed by {counts:?} signer-apis"
        );
    }
}

/// All of them choose the same signer-api: else each may be lied to by as many as may lie.
async fn one_more(trial: &mut Trial, lie: &Lie) {
    let liars = last(trial, trial.spare() + 1);
    let before = misdeeds(trial).await;
    trial.lead(lie, liars.len());
    let were_asked = |trial: &Trial| {
        let mut liars = trial.liars.iter().rev().take(liars.len());
        liars.all(|liar| liar.promises() + liar.signatures() > 0)
    };
    for round in 0.. {
        let asking = trial.fresh();
        answers(trial, 0, &asking, 200).await;
        if were_asked(trial) {
            break;
        }
        assert!(round < 40, "{lie:?}: not all were asked");
    }
    // The later duty is the one to be signed in the end.
    let (others, asking) = (trial.fresh(), trial.fresh());
    answers(trial, 0, &others, 200).await;
    answers(trial, 1, &asking, 500).await;
    for (before, now) in before.iter().zip(&misdeeds(trial).await) {
        for (number, reason) in risen(before, now) {
            let what = format!("cosigner-{number} is blamed for its {reason}");
            assert!(liars.contains(&number), "{lie:?}: {what}");
        }
    }
    trial.recovers("two faces", &asking).await;
}

async fn answers(trial: &Trial, signer: usize, asking: &[Asking], status: u16) {
    let asked = trial.ask(signer, asking).await;
    trial.hold("two faces", &asked);
    for asked in &asked {
        assert_eq!(asked.answer.status, status, "{:?}", asked.answer);
    }
}
