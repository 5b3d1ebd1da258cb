//! One cosigner of 3-of-4 killed or hung: requests succeed all the same.

use tests::{
    cluster::{Cluster, Options, Storage, test_keys},
    requests::{attestation, block, randao},
};

/// Signs one request of each lane for every validator, epoch by epoch.
async fn all_are_signed(cluster: &Cluster, epochs: std::ops::Range<u64>) {
    for epoch in epochs {
        for validator in cluster.validators() {
            for request in [
                attestation(epoch, epoch + 1, 1),
                block(epoch * 32, 1),
                randao(epoch),
            ] {
                let answer = cluster.sign(0, validator, &request).await;
                assert_eq!(answer.status, 200, "epoch {epoch}: {answer:?} {request}");
            }
        }
    }
}

async fn check_killed_and_hung(storage: Storage) {
    let mut cluster = Cluster::start(Options {
        storage,
        ..Options::new(test_keys(3))
    })
    .await;
    for number in 1..=4 {
        // Before and after it is known that the cosigner is gone, killed and hung.
        let epoch = number * 10;
        cluster.cosigner(number).kill();
        all_are_signed(&cluster, epoch..epoch + 2).await;
        cluster.health_says(number, "DOWN").await;
        all_are_signed(&cluster, epoch + 2..epoch + 4).await;
        cluster.cosigner(number).restart();
        cluster.health_says(number, "UP").await;
        cluster.cosigner(number).freeze();
        all_are_signed(&cluster, epoch + 4..epoch + 6).await;
        cluster.health_says(number, "DOWN").await;
        all_are_signed(&cluster, epoch + 6..epoch + 8).await;
        cluster.cosigner(number).thaw();
        cluster.health_says(number, "UP").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_killed_or_hung_cosigner_costs_no_duty_on_sqlite() {
    check_killed_and_hung(Storage::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_killed_or_hung_cosigner_costs_no_duty_on_postgres() {
    check_killed_and_hung(Storage::Postgres).await;
}
