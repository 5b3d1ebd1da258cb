//! One signer-api leads: its attestations take one round trip to the cosigners, and when it is gone the
//! next one's do.

use std::time::Duration;

use tests::{
    cluster::{Cluster, Options, test_keys},
    process::eventually,
    requests::attestation,
};

/// How long it takes at most until another leads, or all are led again, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a counter's or a gauge's lines that contain `label` amount to.
async fn counted(cluster: &Cluster, signer: usize, name: &str, label: &str) -> u64 {
    let metrics = cluster.metrics(signer).await;
    let lines = metrics.lines().filter(|line| {
        let is_it = line.strip_prefix(name);
        is_it.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    let numbers = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    numbers.sum()
}

async fn led(cluster: &Cluster, signer: usize) -> u64 {
    counted(cluster, signer, "countersign_cosigners_led", "").await
}

/// Calls that asked for promises.
async fn promises(cluster: &Cluster, signer: usize) -> u64 {
    let name = "countersign_cosigner_call_seconds_count";
    counted(cluster, signer, name, "promise_attestation").await
}

/// One attestation of every validator for the next epoch; how many promises that took.
async fn attest(cluster: &Cluster, signer: usize, epoch: &mut u64) -> u64 {
    let before = promises(cluster, signer).await;
    *epoch += 1;
    for validator in cluster.validators() {
        let request = attestation(*epoch - 1, *epoch, 1);
        let answer = cluster.sign(signer, validator, &request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    promises(cluster, signer).await - before
}

/// Asks until a signer-api leads so many.
async fn leads(cluster: &Cluster, signer: usize, count: u64, epoch: &mut u64) {
    // It leads when it has something to lead for.
    attest(cluster, signer, epoch).await;
    eventually("it leads", PATIENCE, || async {
        led(cluster, signer).await == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_another_when_it_is_gone_and_both_sign() {
    let options = Options {
        signers: 2,
        ..Options::new(test_keys(4))
    };
    let mut cluster = Cluster::start(options).await;
    let epoch = &mut 0;
    leads(&cluster, 0, 4, epoch).await;
    assert_eq!(attest(&cluster, 0, epoch).await, 0, "none is needed");
    // The other signs as well, and its duties need promises.
    assert!(attest(&cluster, 1, epoch).await > 0);
    assert_eq!(led(&cluster, 1).await, 0);
    assert_eq!(attest(&cluster, 0, epoch).await, 0, "it leads as before");

    // Who has restarted has forgotten, and is led again after a while.
    cluster.cosigner(4).kill();
    assert_eq!(attest(&cluster, 0, epoch).await, 0, "three are enough");
    cluster.health_says(4, "DOWN").await;
    cluster.cosigner(4).restart();
    eventually("it is not led", PATIENCE, || async {
        led(&cluster, 0).await == 3
    })
    .await;
    leads(&cluster, 0, 4, epoch).await;

    cluster.signer(0).kill();
    leads(&cluster, 1, 4, epoch).await;
    assert_eq!(attest(&cluster, 1, epoch).await, 0, "now it leads");
}
