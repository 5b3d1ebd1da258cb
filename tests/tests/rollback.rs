//! A cosigner whose ledger was put back notices, abstains, says so, and comes back by itself.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tests::{
    cluster::{Clock, Cluster, Options, Storage, test_keys},
    prepared::Prepared,
    process::eventually,
    requests::attestation_on,
    vectors::NetworkLabel,
};

const SLOT_SECONDS: u64 = 1;
const SLOTS_PER_EPOCH: u64 = 8;
const EPOCHS_BEFORE: u64 = 1000;

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A 3-of-4 committee on a chain whose epochs take eight seconds, and when it began.
async fn committee() -> (Cluster, u64) {
    let genesis = now_s() - EPOCHS_BEFORE * SLOTS_PER_EPOCH * SLOT_SECONDS;
    let prepared = Prepared::new(Options {
        network: NetworkLabel::Minimal,
        storage: Storage::Sqlite,
        clock: Clock::Checked,
        cosigner_lines: format!("genesis_time = {genesis}").leak(),
        ..Options::new(test_keys(1))
    })
    .await;
    let file = prepared.dir().join("config.yaml");
    let config = fs::read_to_string(&file).unwrap();
    let faster = config.replace("SECONDS_PER_SLOT: 6", "SECONDS_PER_SLOT: 1");
    assert_ne!(faster, config);
    fs::write(&file, faster).unwrap();
    (prepared.start().await, genesis)
}

fn epoch(genesis: u64) -> u64 {
    (now_s() - genesis) / SLOT_SECONDS / SLOTS_PER_EPOCH
}

async fn status(cluster: &Cluster, from: u64, to: u64, message: u64) -> u16 {
    let chain = NetworkLabel::Minimal.genesis_validators_root();
    let request = attestation_on(chain, from, to, message);
    let validator = cluster.validators()[0];
    cluster.sign(0, &validator, &request).await.status
}

/// What signer-api says of cosigner 1.
async fn health(cluster: &Cluster) -> serde_json::Value {
    let health = cluster.get(0, "/healthcheck").await.json();
    let checks = health["checks"].as_array().unwrap();
    let is_first = |check: &&serde_json::Value| check["id"] == "cosigner-check:cosigner-1";
    checks.iter().find(is_first).unwrap().clone()
}

fn copy_ledger(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("ledger.sqlite{suffix}");
        let _none_to_remove = fs::remove_file(to.join(&name));
        if from.join(&name).exists() {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_whose_ledger_is_put_back_abstains_and_comes_back_by_itself() {
    let (mut cluster, genesis) = committee().await;
    let home = cluster.dir().join("cosigner-1");
    let kept = cluster.dir().join("kept");
    let first = epoch(genesis) - 1;
    assert_eq!(status(&cluster, first - 1, first, 1).await, 200);
    cluster.cosigner(1).kill();
    cluster.health_says(1, "DOWN").await;
    copy_ledger(&home, &kept);
    cluster.cosigner(1).restart();
    cluster.health_says(1, "UP").await;
    // Whether it takes part or not: its ledger was held by another run since.
    for target in [first + 1, first + 2] {
        let signed = status(&cluster, first, target, 1).await;
        assert_eq!(signed, 200, "target {target}");
    }

    cluster.cosigner(1).kill();
    cluster.health_says(1, "DOWN").await;
    copy_ledger(&kept, &home);
    let before = epoch(genesis);
    cluster.cosigner(1).restart();
    eventually("it says why", Duration::from_secs(20), || async {
        let check = health(&cluster).await;
        let until = check["data"]["quarantined-until-epoch"].as_str();
        let until = until.map(|text| text.parse::<u64>().unwrap());
        check["status"] == "DOWN" && until.is_some_and(|until| until >= before + 2)
    })
    .await;
    let log = cluster.cosigner(1).log();
    assert!(log.contains("THE LEDGER IS QUARANTINED"), "{log}");
    assert!(log.contains("it is an older state"), "{log}");
    // The others go on; what was voted is not voted again.
    assert_eq!(status(&cluster, first, first + 2, 2).await, 412);
    let target = epoch(genesis) + 1;
    assert_eq!(status(&cluster, target - 2, target, 1).await, 200);

    cluster.health_says(1, "UP").await;
    assert!(epoch(genesis) >= before + 2);
    let log = cluster.cosigner(1).log();
    assert!(log.contains("the quarantine is over"), "{log}");
    // With another one away it is needed, and signs again.
    cluster.cosigner(2).kill();
    eventually("it signs", Duration::from_secs(30), || async {
        let now = epoch(genesis);
        status(&cluster, now - 1, now + 1, 1).await == 200
    })
    .await;
}
