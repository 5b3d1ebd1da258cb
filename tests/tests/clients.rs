//! The traps that real validator clients set, one test each, over HTTP through real processes.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Options, test_keys},
    requests::{attestation, attestation_on, block, randao, root},
};

async fn cluster() -> Cluster {
    Cluster::start(Options::new(test_keys(2))).await
}

/// A request with a member replaced, or removed if there is no value.
fn with(mut request: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = request
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap();
    match value {
        Some(value) => parent.insert(member.to_owned(), value),
        None => parent.remove(member),
    };
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_1_content_is_negotiated_as_every_client_expects() {
    let cluster = cluster().await;
    let path = format!("/api/v1/eth2/sign/{}", cluster.validators()[0]);
    for (accept, json) in [
        (Some("application/json"), true),
        (Some("*/*"), true),
        (Some("text/html, application/json;q=0.1"), true),
        (Some("APPLICATION/JSON"), true),
        (Some("text/plain"), false),
        (Some("application/*"), false),
        (None, false),
    ] {
        let answer = cluster.post(0, &path, accept, randao(5).to_string()).await;
        assert_eq!(answer.status, 200, "{accept:?} {answer:?}");
        let expected = if json {
            "application/json; charset=utf-8"
        } else {
            "text/plain; charset=utf-8"
        };
        assert_eq!(answer.content_type, expected, "{accept:?}");
        if json {
            assert_eq!(answer.json().as_object().unwrap().len(), 1);
        }
        let signature = answer.signature();
        assert!(
            signature.len() == 194 && signature.starts_with("0x"),
            "{signature:?}"
        );
    }
    for path in ["/api/v1/eth2/publicKeys", "/healthcheck"] {
        let request = reqwest::Client::new().get(format!("{}{path}", cluster.url(0)));
        let answer = request.header("accept", "text/plain").send().await.unwrap();
        let answer = tests::http::Answer::of(answer).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.content_type.starts_with("application/json"),
            "{answer:?}"
        );
    }
    let health = cluster.get(0, "/healthcheck").await.json();
    assert_eq!(
        (&health["status"], &health["outcome"]),
        (&json!("UP"), &json!("UP"))
    );
    let up = |accept: Option<&'static str>| {
        let mut request = reqwest::Client::new().get(format!("{}/upcheck", cluster.url(0)));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        async move { tests::http::Answer::of(request.send().await.unwrap()).await }
    };
    assert_eq!(up(None).await.body, "OK");
    assert_eq!(up(Some("text/plain")).await.body, "OK");
    assert_eq!(
        up(Some("application/json")).await.json(),
        json!({"status": "OK"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_2_the_root_may_be_missing_and_a_wrong_one_is_refused() {
    let cluster = cluster().await;
    let validator = cluster.validators()[0];
    let without = cluster.sign(0, &validator, &attestation(0, 1, 1)).await;
    for name in ["signingRoot", "signing_root"] {
        let request = with(
            attestation(0, 1, 1),
            &format!("/{name}"),
            Some(json!(root(9))),
        );
        let wrong = cluster.sign(0, &validator, &request).await;
        assert_eq!(wrong.status, 400, "{wrong:?}");
        assert!(wrong.body.contains("signing root") || wrong.body.contains("signingRoot"));
    }
    assert_eq!(without.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_3_the_signer_alone_protects_a_client_that_has_no_protection() {
    let cluster = cluster().await;
    let validator = cluster.validators()[0];
    assert_eq!(
        cluster
            .sign(0, &validator, &attestation(1, 2, 1))
            .await
            .status,
        200
    );
    assert_eq!(
        cluster
            .sign(0, &validator, &attestation(1, 2, 2))
            .await
            .status,
        412
    );
    assert_eq!(cluster.sign(0, &validator, &block(70, 1)).await.status, 200);
    assert_eq!(cluster.sign(0, &validator, &block(70, 2)).await.status, 412);
    // Another validator's history is its own.
    let other = cluster.validators()[1];
    assert_eq!(
        cluster.sign(0, &other, &attestation(1, 2, 2)).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_7_and_8_fork_info_is_taken_as_it_comes_and_missed_where_needed() {
    let cluster = cluster().await;
    let validator = cluster.validators()[0];
    // The fork's epoch may be the signing slot's, and any other that leaves the version as it is.
    let signature = cluster
        .sign(0, &validator, &randao(500_000))
        .await
        .signature();
    for epoch in ["0", "500000"] {
        let request = with(randao(500_000), "/fork_info/fork/epoch", Some(json!(epoch)));
        assert_eq!(
            cluster.sign(0, &validator, &request).await.signature(),
            signature
        );
    }
    let later = with(
        randao(500_000),
        "/fork_info/fork/epoch",
        Some(json!("500001")),
    );
    assert_ne!(
        cluster.sign(0, &validator, &later).await.signature(),
        signature
    );
    // A registration needs no fork_info, and one that comes is ignored.
    let registration = json!({
        "type": "VALIDATOR_REGISTRATION",
        "validator_registration": {
            "fee_recipient": "0x5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
            "gas_limit": "60000000",
            "timestamp": "1767225600",
            "pubkey": validator,
        },
    });
    let plain = cluster.sign(0, &validator, &registration).await.signature();
    let info = randao(1)["fork_info"].clone();
    let request = with(registration, "/fork_info", Some(info));
    assert_eq!(
        cluster.sign(0, &validator, &request).await.signature(),
        plain
    );
    for request in [attestation(3, 4, 1), block(1000, 1), randao(1)] {
        let answer = cluster
            .sign(0, &validator, &with(request, "/fork_info", None))
            .await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.contains("fork_info"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_9_an_error_never_looks_like_a_signature() {
    let cluster = cluster().await;
    let validator = cluster.validators()[0];
    let path = format!("/api/v1/eth2/sign/{validator}");
    let unknown = format!("/api/v1/eth2/sign/0x{}", "ab".repeat(48));
    assert_eq!(
        cluster
            .sign(0, &validator, &attestation(5, 6, 1))
            .await
            .status,
        200
    );
    for (path, body, status) in [
        (&path, String::new(), 400),
        (&path, "{".to_owned(), 400),
        (&path, "[]".to_owned(), 400),
        (&path, json!({"type": "NONSENSE"}).to_string(), 400),
        (
            &path,
            json!({"type": "BLS_TO_EXECUTION_CHANGE"}).to_string(),
            400,
        ),
        (&path, attestation(5, 6, 2).to_string(), 412),
        (&path, attestation_on(&root(3), 6, 7, 2).to_string(), 412),
        (&unknown, randao(1).to_string(), 404),
        (&unknown, "{".to_owned(), 400),
        (&path, " ".repeat(10 * 1024 * 1024 + 1), 413),
    ] {
        for accept in [None, Some("*/*"), Some("text/plain")] {
            let answer = cluster.post(0, path, accept, body.clone()).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(
                answer.content_type, "application/json; charset=utf-8",
                "{answer:?}"
            );
            let error = answer.json();
            assert_eq!(error["code"], status, "{error}");
            assert_eq!(error["error"], error["message"], "{error}");
            assert!(!error["message"].as_str().unwrap().is_empty());
            assert!(error.get("signature").is_none() && !answer.body.starts_with("0x"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_10_a_hung_quorum_is_told_in_time_for_a_second_try_which_then_succeeds() {
    let mut cluster = cluster().await;
    let validator = cluster.validators()[0];
    for number in [3, 4] {
        cluster.cosigner(number).freeze();
    }
    let started = Instant::now();
    let answer = cluster.sign(0, &validator, &attestation(1, 2, 1)).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    // The bound itself: 1.3 s leave Nimbus' 3 s room for a second try. The rest is for a busy machine.
    assert!(
        started.elapsed() < Duration::from_millis(2_600),
        "{:?}",
        started.elapsed()
    );
    for number in [3, 4] {
        cluster.cosigner(number).thaw();
    }
    tests::process::eventually(
        "the second try is signed",
        Duration::from_secs(20),
        || async {
            cluster
                .sign(0, &validator, &attestation(1, 2, 1))
                .await
                .status
                == 200
        },
    )
    .await;
    assert_eq!(
        cluster
            .sign(0, &validator, &attestation(1, 2, 2))
            .await
            .status,
        412
    );
    assert_eq!(
        cluster
            .sign(0, &validator, &attestation(1, 2, 1))
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_12_paths_and_keys_are_taken_in_every_form() {
    let cluster = cluster().await;
    let validator = cluster.validators()[0].to_string();
    let bare = validator.strip_prefix("0x").unwrap();
    for path in [
        format!("/api/v1/eth2/sign/{validator}"),
        format!("//api/v1/eth2/sign/{validator}"),
        format!("/api/v1/eth2/sign/{bare}"),
        format!("/api/v1/eth2/sign/{}", bare.to_uppercase()),
        format!("/api/v1/eth2/sign/0x{}", bare.to_uppercase()),
    ] {
        let answer = cluster.post(0, &path, None, randao(1).to_string()).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
    }
    assert_eq!(cluster.get(0, "//api/v1/eth2/publicKeys").await.status, 200);
    for path in [
        "/api/v1/eth2/sign/12345",
        "/api/v1/eth2/sign/0x",
        "/api/v1/eth2/sign/%ff",
    ] {
        assert_eq!(
            cluster
                .post(0, path, None, randao(1).to_string())
                .await
                .status,
            404,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_13_a_burst_of_a_whole_sync_committee_is_answered() {
    // 200 at once are no overload, also for a busy machine and a build without optimisation.
    let cluster = Cluster::start(Options {
        signer_lines: "deadline_ms = 6000\n",
        ..Options::new(test_keys(32))
    })
    .await;
    let chain = randao(1)["fork_info"].clone();
    let requests = (0..1_200_u64).map(|number| {
        let (cluster, chain) = (&cluster, chain.clone());
        async move {
            let validator = cluster.validators()[usize::try_from(number % 32).unwrap()];
            let request = json!({
                "type": "SYNC_COMMITTEE_SELECTION_PROOF",
                "fork_info": chain,
                "sync_aggregator_selection_data": {
                    "slot": (number / 32).to_string(),
                    "subcommittee_index": "1",
                },
            });
            cluster.sign(0, &validator, &request).await
        }
    });
    let answers: Vec<_> = stream::iter(requests).buffer_unordered(200).collect().await;
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status != 200)
        .collect();
    assert!(
        refused.is_empty(),
        "{} refused, such as {:?}",
        refused.len(),
        refused[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_14_and_15_foreign_routes_are_unknown_and_nothing_is_compressed() {
    let cluster = cluster().await;
    let http = reqwest::Client::new();
    let url = format!("{}/eth/v1/keystores", cluster.url(0));
    let answer = http
        .delete(&url)
        .body(r#"{"pubkeys":[]}"#)
        .send()
        .await
        .unwrap();
    let answer = tests::http::Answer::of(answer).await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!(404)));
    let keys = http
        .get(format!("{}/api/v1/eth2/publicKeys", cluster.url(0)))
        .header("accept-encoding", "gzip, deflate")
        .send()
        .await
        .unwrap();
    assert!(keys.headers().get("content-encoding").is_none());
    let wrong_method = http
        .get(format!("{}/api/v1/eth2/sign/0x00", cluster.url(0)))
        .send()
        .await
        .unwrap();
    let wrong_method = tests::http::Answer::of(wrong_method).await;
    assert_eq!((wrong_method.status, wrong_method.body.as_str()), (405, ""));
    assert_eq!(wrong_method.headers["allow"], "POST");
}
