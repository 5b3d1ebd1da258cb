//! Two signer-apis, two callers, different attestations for one duty: never both, never neither.

use duty::PublicKey;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tests::{
    cluster::{Cluster, Options, Storage, test_keys},
    http::Answer,
    requests::attestation,
};

const VALIDATORS: u8 = 50;
const DUTIES: u64 = 20;
/// How often a caller repeats a request that was answered with 500, as clients do.
const TRIES: usize = 20;

/// Asks until the answer is final: signed, or refused.
async fn ask(cluster: &Cluster, signer: usize, validator: &PublicKey, request: &Value) -> Answer {
    let mut answer = cluster.sign(signer, validator, request).await;
    for _ in 1..TRIES {
        if answer.status != 500 {
            break;
        }
        answer = cluster.sign(signer, validator, request).await;
    }
    answer
}

async fn check(storage: Storage) {
    let options = Options {
        storage,
        signers: 2,
        ..Options::new(test_keys(VALIDATORS))
    };
    let cluster = Cluster::start(options).await;
    let mut wrong = Vec::new();
    for target in 1..=DUTIES {
        // One slot's burst: every validator is asked for two messages at once, through two signer-apis.
        let duties = cluster.validators().iter().map(|validator| {
            let cluster = &cluster;
            async move {
                let requests = [1, 2].map(|message| attestation(target - 1, target, message));
                let (a, b) = tokio::join!(
                    ask(cluster, 0, validator, &requests[0]),
                    ask(cluster, 1, validator, &requests[1]),
                );
                (*validator, requests, [a, b])
            }
        });
        let answers: Vec<_> = stream::iter(duties).buffer_unordered(64).collect().await;
        for (validator, requests, answers) in answers {
            let winner = match [answers[0].status, answers[1].status] {
                [200, 412] => 0,
                [412, 200] => 1,
                _ => {
                    wrong.push(format!("{validator} {target}: {answers:?}"));
                    continue;
                }
            };
            // The winner's repeat gets equal bytes through the other signer-api, the loser's gets 412.
            let again = ask(&cluster, 1 - winner, &validator, &requests[winner]).await;
            assert_eq!(again.signature(), answers[winner].signature());
            let never = ask(&cluster, winner, &validator, &requests[1 - winner]).await;
            assert_eq!(never.status, 412, "{never:?}");
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of 1000 duties: {wrong:#?}",
        wrong.len()
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
