//! Two callers with different messages, through two signer-apis, while as many lie as may; and
//! liars that are of two minds.

use tests::liar::{FalsePartial, FalseReply, Lie, On, Trouble};

use crate::trial::{Asking, Trial, asking};

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
/// that was lied to blames them.
pub async fn two_faces(trial: &mut Trial) {
    let spare = trial.spare();
    let lie = |lie| Lie::TwoFaced(Box::new(Lie::Honest), Box::new(lie));
    let lies = [
        (lie(Lie::Partial(FalsePartial::AnotherRoot)), "partial"),
        (lie(Lie::Reply(FalseReply::More)), "reply"),
    ];
    for (lie, reason) in lies {
        let liars: Vec<u64> = trial
            .liars
            .iter()
            .rev()
            .take(spare)
            .map(|liar| liar.number())
            .collect();
        let before = [trial.counts(0).await.0, trial.counts(1).await.0];
        trial.lead(&lie);
        for round in 0.. {
            for signer in [0, 1] {
                let asking = trial.fresh();
                let asked = trial.ask(signer, &asking).await;
                trial.hold("two faces", &asked);
                for asked in &asked {
                    assert_eq!(asked.answer.status, 200, "{:?}", asked.answer);
                }
            }
            let now = [trial.counts(0).await.0, trial.counts(1).await.0];
            let blamed_by = |number: u64| {
                let key = (number, reason.to_owned());
                let pairs = now.iter().zip(&before);
                pairs
                    .filter(|(now, before)| now.get(&key) > before.get(&key))
                    .count()
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
}
