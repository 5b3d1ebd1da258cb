//! A database that is away stops what can be slashed, at once and for no longer; nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tests::{
    cluster::{Cluster, Options, Storage, test_keys},
    process::eventually,
    requests::{attestation, block, randao},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_postgres_is_a_fast_refusal_and_other_duties_go_on() {
    let server = Arc::new(throwaway::Cluster::start().await);
    let options = Options {
        storage: Storage::Postgres,
        server: Some(Arc::clone(&server)),
        ..Options::new(test_keys(2))
    };
    let cluster = Cluster::start(options).await;
    let validators = cluster.validators();
    assert_eq!(
        cluster
            .sign(0, &validators[0], &attestation(1, 2, 1))
            .await
            .status,
        200
    );

    // Frozen, it keeps its connections and answers nothing.
    server.freeze();
    let requests = [attestation(2, 3, 1), block(100, 1)].map(|request| (validators[0], request));
    for (validator, request) in &requests {
        let started = Instant::now();
        let answer = cluster.sign(0, validator, request).await;
        assert_eq!(answer.status, 500, "{answer:?}");
        // The deadline is 1.2 s; the rest is for a busy machine.
        assert!(
            started.elapsed() < Duration::from_millis(2_600),
            "{:?}",
            started.elapsed()
        );
    }
    for epoch in 0..20 {
        for validator in validators {
            let answer = cluster.sign(0, validator, &randao(epoch)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }

    server.thaw();
    for (validator, request) in &requests {
        eventually(
            "the ledgers decide again",
            Duration::from_secs(30),
            || async { cluster.sign(0, validator, request).await.status == 200 },
        )
        .await;
    }
    let other = cluster.sign(0, &validators[0], &attestation(2, 3, 2)).await;
    assert_eq!(other.status, 412, "{other:?}");
}
