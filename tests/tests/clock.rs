//! A caller cannot poison a ratchet: claims beyond the cosigners' clock are abstained from, and leave
//! everything as it was.

use std::time::{SystemTime, UNIX_EPOCH};

use tests::{
    cluster::{Clock, Cluster, Options, test_keys},
    requests::{attestation, block},
};

/// Mainnet's genesis, in seconds since 1970.
const GENESIS: u64 = 1_606_824_023;

#[tokio::test(flavor = "multi_thread")]
async fn claims_beyond_the_clock_are_not_signed_and_change_nothing() {
    let options = Options {
        clock: Clock::Checked,
        ..Options::new(test_keys(1))
    };
    let cluster = Cluster::start(options).await;
    let validator = cluster.validators()[0];
    let slot = (SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        - GENESIS)
        / 12;
    let epoch = slot / 32;
    // Far enough that the test may run across the end of an epoch.
    for request in [
        attestation(epoch - 1, epoch + 4, 1),
        attestation(epoch + 2, epoch + 2, 1),
        attestation(1, u64::MAX / 64, 1),
        block(slot + 100, 1),
    ] {
        let answer = cluster.sign(0, &validator, &request).await;
        assert_eq!(answer.status, 500, "{answer:?}");
        assert_eq!(answer.json()["reason"], "beyond_clock", "{answer:?}");
    }
    for request in [attestation(epoch - 1, epoch, 1), block(slot, 1)] {
        let answer = cluster.sign(0, &validator, &request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(
        cluster
            .sign(0, &validator, &attestation(epoch - 1, epoch, 2))
            .await
            .status,
        412
    );
}
