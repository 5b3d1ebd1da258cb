//! More requests than can be worked on at once.

use std::{pin::pin, sync::mpsc, time::Duration};

use daemon::bulk::{self, Bulk};
use tokio::time::timeout;

use super::setting::{Setting, attestation, randao};
use crate::testing::{Peers, shown};

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_500_with_retry_after_and_proposals_go_on() {
    let mut peers = Peers::start(2, 3, 1).await;
    peers.config.requests_max = 2;
    let setting = Setting::with(peers).discovered().await;
    let key = setting.key();
    let place = setting.app.admission.enter().unwrap();
    for bad in [false, true] {
        let body = attestation(1).replace("421875", if bad { "x" } else { "421875" });
        let answer = setting.sign(&key, &body, &[]).await;
        answer.check_error(500);
        assert_eq!(answer.json()["reason"], "overloaded");
        assert!(answer.retry_after);
    }
    assert_eq!(setting.sign(&key, &randao(1), &[]).await.status, 200);
    drop(place);
    assert_eq!(setting.sign(&key, &attestation(1), &[]).await.status, 200);
    let text = shown(&setting.registry);
    for line in [
        "countersign_requests_overloaded_total 2",
        "countersign_requests_total{type=\"ATTESTATION\",status=\"500\"} 2",
        "countersign_requests_places 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_burst_what_comes_late_is_worked_on_elsewhere_and_nothing_else() {
    let elsewhere = bulk::runtime().unwrap();
    let bulk = Bulk::on(&elsewhere);
    let setting = Setting::handing_over(Peers::start(2, 3, 1).await, bulk)
        .discovered()
        .await;
    let key = setting.key();
    // Until these are dropped nothing is done there.
    let gates = || -> Vec<_> {
        let workers = 0..elsewhere.metrics().num_workers();
        let gates = workers.map(|_| {
            let (gate, closed) = mpsc::channel::<()>();
            elsewhere.spawn(async move { closed.recv() });
            gate
        });
        gates.collect()
    };
    let closed = gates();
    assert_eq!(setting.sign(&key, &attestation(1), &[]).await.status, 200);
    let crowd: Vec<_> = (0..16)
        .map(|_| setting.app.admission.enter().unwrap())
        .collect();
    assert_eq!(setting.sign(&key, &randao(1), &[]).await.status, 200);
    let body = attestation(1);
    let mut late = pin!(setting.sign(&key, &body, &[]));
    let waited = timeout(Duration::from_millis(100), &mut late).await;
    assert!(waited.is_err(), "it was worked on where it came");
    drop(closed);
    assert_eq!(late.await.status, 200);
    let wrong = attestation(1).replace("421875", "x");
    setting.sign(&key, &wrong, &[]).await.check_error(400);
    // By its deadline it is answered, whatever happens there.
    let closed = gates();
    let never = setting.sign(&key, &body, &[]);
    let never = timeout(setting.app.deadline() * 4, never).await.unwrap();
    never.check_error(500);
    assert_eq!(never.json()["reason"], "deadline");
    drop(closed);
    drop(crowd);
    elsewhere.shutdown_background();
}
