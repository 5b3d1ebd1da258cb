//! Several workers on one ledger, each with connections of its own, as if the lease did not keep
//! them apart: locks and the rule must do alone.

use duty::Claim;
use futures_util::future::join_all;

use crate::{
    database::DatabaseConfig,
    testing::{Place, attest, decide, patient, propose},
};

const ROUNDS: u64 = 60;
const VALIDATORS: u8 = 4;

/// Has two holders decide a pair that must not both be signed, for several validators at once.
async fn check(pair: impl Fn(u64) -> [Claim; 2]) {
    for place in Place::each().await {
        let one = place.registered(patient()).await;
        let holders = [one.twin(place.open().await), one];
        // Without the schema's own guards: the locks and the rule must do alone.
        let unguard = match place.config {
            DatabaseConfig::Sqlite(_) => "DROP TRIGGER ratchets_only_rise",
            DatabaseConfig::Postgres(_) => {
                "DROP TRIGGER ratchets_only_rise ON ratchets;
                 ALTER TABLE attestations DROP CONSTRAINT attestations_pkey;
                 ALTER TABLE blocks DROP CONSTRAINT blocks_pkey"
            }
        };
        place.execute(unguard).await.unwrap();
        for round in 0..ROUNDS {
            let claims = pair(round * 10);
            let asks = (0..2 * VALIDATORS).map(|number| {
                let (number, side) = (1 + number / 2, usize::from(number % 2));
                let root = u8::try_from(side).unwrap();
                // Which holder has which half of the pair changes from round to round.
                let holder = (side + usize::try_from(round).unwrap()) % 2;
                decide(&holders[holder], number, claims[side], root)
            });
            let outcomes = join_all(asks).await;
            for outcome in outcomes.chunks(2) {
                let permits = outcome.iter().filter(|one| one.is_ok()).count();
                assert_eq!(permits, 1, "round {round}: {outcome:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn surrounding_pairs_are_never_both_permitted() {
    check(|base| [attest(base, base + 9), attest(base + 1, base + 8)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn double_votes_are_never_both_permitted() {
    check(|base| [attest(base, base + 9), attest(base, base + 9)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_blocks_of_one_slot_are_never_both_permitted() {
    check(|base| [propose(base), propose(base)]).await;
}
