//! One cosigner of 3-of-4 killed, hung or lying: requests succeed all the same, and a liar is named.

use std::time::Duration;

use tests::{
    cluster::{Cluster, Options, Prepared, Storage, test_keys},
    liar::{self, Lie},
    process::eventually,
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

/// A 3-of-4 committee whose cosigner 4 lies, with cosigner 3's shares at hand.
async fn check_liar(lie: Lie, reason: &str) {
    let mut options = Options::new(test_keys(3));
    options.absent = vec![4];
    options.spare = vec![3];
    let mut prepared = Prepared::new(options).await;
    let address = prepared.address(4);
    let [other, package] = prepared.take_packages().try_into().ok().unwrap();
    let certs = prepared.dir().join("certs");
    let task = liar::start(lie, package, other, address, &certs).await;
    let cluster = prepared.start().await;
    cluster.health_says(4, "UP").await;
    all_are_signed(&cluster, 1..8).await;
    let blamed = |text: &str| {
        text.lines().any(|line| {
            line.starts_with("countersign_cosigner_blamed_total")
                && line.contains("cosigner-4")
                && line.contains(reason)
                && !line.ends_with(" 0")
        })
    };
    eventually(
        "the liar is named in a metric",
        Duration::from_secs(10),
        || async { blamed(&cluster.metrics(0).await) },
    )
    .await;
    let honest = cluster.metrics(0).await;
    for number in 1..=3 {
        let name = format!("cosigner-{number}\"");
        assert!(
            !honest
                .lines()
                .any(|line| line.starts_with("countersign_cosigner_blamed_total")
                    && line.contains(&name)
                    && !line.ends_with(" 0")),
            "an honest cosigner is blamed: {honest}"
        );
    }
    let mut cluster = cluster;
    let log = cluster.signer(0).log();
    assert!(
        log.lines()
            .any(|line| line.contains("blame") && line.contains("cosigner-4")),
        "the liar is not named in the log:\n{log}"
    );
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_over_another_root_is_blamed_and_replaced() {
    check_liar(Lie::AnotherRoot, "partial").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_of_another_share_is_blamed_and_replaced() {
    check_liar(Lie::AnotherIndex, "partial").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_blamed_and_replaced() {
    check_liar(Lie::Garbage, "partial").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_outside_the_subgroup_is_blamed_and_replaced() {
    check_liar(Lie::OutsideSubgroup, "partial").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_partial_is_blamed_and_replaced() {
    check_liar(Lie::Short, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reported_commitments_that_nobody_shares_are_blamed() {
    check_liar(Lie::Commitments, "report").await;
}
