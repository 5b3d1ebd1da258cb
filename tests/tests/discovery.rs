//! Validators are discovered from the cosigners: new ones appear, none is forgotten.

use std::time::Duration;

use serde_json::json;
use tests::{
    cluster::{Cluster, Options, test_keys},
    process::eventually,
    requests::{attestation, randao},
};

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_appear_without_a_restart_and_none_is_forgotten() {
    let mut keys = test_keys(2);
    let late = keys.pop().unwrap();
    let mut cluster = Cluster::start(Options::new(keys)).await;
    let first = cluster.validators()[0];
    assert_eq!(
        cluster.get(0, "/api/v1/eth2/publicKeys").await.json(),
        json!([first])
    );

    let second = cluster.import_while_running(late).await;
    let mut both = [first.to_string(), second.to_string()];
    both.sort();
    eventually("the new key is served", Duration::from_secs(30), || async {
        cluster.get(0, "/api/v1/eth2/publicKeys").await.json() == json!(both)
    })
    .await;
    assert_eq!(
        cluster.sign(0, &second, &attestation(1, 2, 1)).await.status,
        200
    );
    assert_eq!(
        cluster.sign(0, &second, &attestation(1, 2, 2)).await.status,
        412
    );

    // Too few cosigners to discover anything: what is known stays, a reload included.
    for number in [1, 2] {
        cluster.cosigner(number).kill();
        cluster.health_says(number, "DOWN").await;
    }
    assert_eq!(cluster.post(0, "/reload", None, "").await.status, 202);
    eventually("the reload has ended", Duration::from_secs(30), || async {
        cluster.get(0, "/reload").await.json()["status"] != "running"
    })
    .await;
    let reload = cluster.get(0, "/reload").await.json();
    assert_eq!(reload["status"], "completed_with_errors", "{reload}");
    assert_eq!(
        cluster.get(0, "/api/v1/eth2/publicKeys").await.json(),
        json!(both)
    );
    assert_eq!(
        cluster.sign(0, &first, &randao(1)).await.status,
        500,
        "not 404"
    );
    for number in [1, 2] {
        cluster.cosigner(number).restart();
        cluster.health_says(number, "UP").await;
    }
    assert_eq!(cluster.sign(0, &first, &randao(1)).await.status, 200);
}
