//! Two signer-apis, two callers, different attestations for one duty: never both, never neither.

use futures_util::{StreamExt, stream};
use tests::{
    cluster::{Cluster, Options, Storage, test_keys},
    requests::attestation,
};

const VALIDATORS: u8 = 50;
const DUTIES: u64 = 20;

async fn check(storage: Storage) {
    let options = Options {
        storage,
        signers: 2,
        ..Options::new(test_keys(VALIDATORS))
    };
    let cluster = Cluster::start(options).await;
    let mut unsigned = Vec::new();
    for target in 1..=DUTIES {
        // One slot's burst: every validator is asked for two messages at once, through two signer-apis.
        let duties = cluster.validators().iter().map(|validator| {
            let cluster = &cluster;
            async move {
                let requests = [1, 2].map(|message| attestation(target - 1, target, message));
                let (a, b) = tokio::join!(
                    cluster.sign(0, validator, &requests[0]),
                    cluster.sign(1, validator, &requests[1]),
                );
                (*validator, target, requests, [a, b])
            }
        });
        let answers: Vec<_> = stream::iter(duties).buffer_unordered(64).collect().await;
        for (validator, target, requests, answers) in answers {
            let statuses = [answers[0].status, answers[1].status];
            let winner = match statuses {
                [200, 412] => 0,
                [412, 200] => 1,
                _ => {
                    unsigned.push(format!("{validator} {target}: {answers:?}"));
                    continue;
                }
            };
            // The winner's repeat gets equal bytes through the other signer-api, the loser's gets 412.
            let again = cluster
                .sign(1 - winner, &validator, &requests[winner])
                .await;
            assert_eq!(again.signature(), answers[winner].signature());
            let never = cluster
                .sign(winner, &validator, &requests[1 - winner])
                .await;
            assert_eq!(never.status, 412, "{never:?}");
        }
    }
    assert!(
        unsigned.is_empty(),
        "{} of 1000 duties: {unsigned:#?}",
        unsigned.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_racing_messages_is_signed_on_sqlite() {
    check(Storage::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_racing_messages_is_signed_on_postgres() {
    check(Storage::Postgres).await;
}
