//! The HTTP contract, in process: status, headers and body of every route.

mod crowds;
mod setting;

use http::{Method, header};
use wire::proto;

use self::setting::{Setting, attestation, randao, request};
use crate::{
    cosigners::Misdeed,
    testing::{Manner, Peers, eventually, shown},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_text_or_json_as_accept_says() {
    let setting = Setting::new().await.discovered().await;
    for (accept, json) in [
        (&[][..], false),
        (&["application/json"], true),
        (&["Application/JSON; q=0.1"], true),
        (&["*/*"], true),
        (&["text/plain"], false),
        (&["application/*"], false),
        (&["text/html", "text/plain, */*"], true),
        (&["image/png"], false),
    ] {
        let answer = setting.sign(&setting.key(), &randao(1), accept).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let signature = if json {
            assert_eq!(
                answer.content_type, "application/json; charset=utf-8",
                "{accept:?}"
            );
            answer.json()["signature"].as_str().unwrap().to_owned()
        } else {
            assert_eq!(
                answer.content_type, "text/plain; charset=utf-8",
                "{accept:?}"
            );
            answer.body
        };
        assert!(
            signature.starts_with("0x") && signature.len() == 194,
            "{signature}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_may_have_any_case_and_no_prefix() {
    let setting = Setting::new().await.discovered().await;
    let key = setting.key();
    let digits = key.trim_start_matches("0x");
    for identifier in [&key, digits, &digits.to_uppercase(), &format!("0X{digits}")] {
        assert_eq!(
            setting.sign(identifier, &randao(1), &[]).await.status,
            200,
            "{identifier}"
        );
    }
    let doubled = format!("//api/v1//eth2/sign/{key}");
    let answer = setting
        .send(request(Method::POST, &doubled, &[], &randao(1)))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_is_judged_before_the_key() {
    let setting = Setting::new().await.discovered().await;
    for unknown in ["12345", &"ab".repeat(48)] {
        let message = setting.sign(unknown, "{}", &[]).await.check_error(400);
        assert!(message.contains("type"), "{message}");
        setting
            .sign(unknown, &randao(1), &[])
            .await
            .check_error(404);
    }
    for bad in [
        "",
        "nonsense",
        r#"{"type":"RANDAO_REVEAL"}"#,
        r#"{"type":"X"}"#,
    ] {
        setting
            .sign(&setting.key(), bad, &[])
            .await
            .check_error(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_message_for_a_duty_is_refused_with_412() {
    let setting = Setting::new().await.discovered().await;
    assert_eq!(
        setting
            .sign(&setting.key(), &attestation(1), &[])
            .await
            .status,
        200
    );
    let message = setting
        .sign(&setting.key(), &attestation(2), &[])
        .await
        .check_error(412);
    assert!(message.contains("signed"), "{message}");
    assert_eq!(
        setting
            .sign(&setting.key(), &attestation(1), &[])
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_enough_cosigners_the_answer_is_500_with_a_reason() {
    let peers = Peers::start(2, 3, 1).await;
    for position in 0..2 {
        peers.behave(position, Manner::Hung);
    }
    let mut setting = Setting::with(peers);
    let answer = setting.sign(&setting.key(), &randao(1), &[]).await;
    answer.check_error(500);
    assert_eq!(answer.json()["reason"], "undiscovered");
    for position in 0..2 {
        setting.peers.behave(position, Manner::Honest);
    }
    setting = setting.discovered().await;
    for position in 0..2 {
        setting.peers.kill(position);
    }
    // Their connections break a moment later; what they were asked until then they never answer.
    while setting.get("/healthcheck", &[]).await.status == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let answer = setting.sign(&setting.key(), &randao(1), &[]).await;
    answer.check_error(500);
    assert_eq!(answer.json()["reason"], "unreachable");
    assert!(!answer.retry_after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_wrong_root_is_counted_under_its_type() {
    let setting = Setting::new().await;
    let wrong = format!(r#","signingRoot":"0x{}"}}"#, "ab".repeat(32));
    let short = randao(1).replacen(
        r#","type""#,
        &format!("{},\"type\"", &wrong[..wrong.len() - 1]),
        1,
    );
    let long = short.replacen('{', &format!("{{{}", " ".repeat(9_000)), 1);
    for body in [short, long] {
        let message = setting
            .sign(&setting.key(), &body, &[])
            .await
            .check_error(400);
        assert!(message.contains("signingRoot"), "{message}");
    }
    let line = "countersign_requests_total{type=\"RANDAO_REVEAL\",status=\"400\"} 2";
    let text = shown(&setting.registry);
    assert!(text.contains(line), "{line} is not in\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_ten_mebibytes_are_413() {
    let setting = Setting::new().await;
    for bytes in [10 * 1024 * 1024, 10 * 1024 * 1024 + 1] {
        let expected = if bytes > 10 * 1024 * 1024 { 413 } else { 400 };
        let body = " ".repeat(bytes);
        setting
            .sign(&setting.key(), &body, &[])
            .await
            .check_error(expected);
        let path = format!("/api/v1/eth2/sign/{}", setting.key());
        let mut announced = request(Method::POST, &path, &[], "");
        announced
            .headers_mut()
            .insert(header::CONTENT_LENGTH, bytes.into());
        setting.send(announced).await.check_error(expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_are_404_and_other_methods_405() {
    let setting = Setting::new().await;
    for path in [
        "/",
        "/api/v1/eth2/sign",
        "/api/v1/eth2/ext/sign/0x12",
        "/eth/v1/keystores",
    ] {
        let message = setting.get(path, &[]).await.check_error(404);
        assert_eq!(message, "Resource not found");
    }
    for (method, path, allow) in [
        (Method::GET, "/api/v1/eth2/sign/0x12", "POST"),
        (Method::POST, "/api/v1/eth2/publicKeys", "GET"),
        (Method::POST, "/api/v1/eth2/highWatermark", "GET"),
        (Method::POST, "/upcheck", "GET"),
        (Method::DELETE, "/healthcheck", "GET"),
        (Method::PUT, "/reload", "POST"),
    ] {
        let answer = setting.send(request(method, path, &[], "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (405, ""), "{path}");
        assert!(answer.allow.contains(allow), "{path}: {}", answer.allow);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_origins_are_checked_first() {
    let mut setting = Setting::new().await;
    let with_host = |host: Option<&str>| {
        let mut request = request(Method::GET, "/nowhere", &[], "");
        request.headers_mut().remove(header::HOST);
        if let Some(host) = host {
            request
                .headers_mut()
                .insert(header::HOST, host.parse().unwrap());
        }
        request
    };
    for (host, status) in [
        (None, 400),
        (Some(""), 403),
        (Some("evil.example"), 403),
        (Some("LOCALHOST"), 404),
        (Some("127.0.0.1:9000"), 404),
    ] {
        setting.send(with_host(host)).await.check_error(status);
    }
    let mut from_page = request(Method::GET, "/upcheck", &[], "");
    from_page
        .headers_mut()
        .insert(header::ORIGIN, "http://localhost".parse().unwrap());
    setting.send(from_page).await.check_error(403);

    setting.peers.config.allowed_hosts = vec!["*".to_owned()];
    let open = Setting::with(setting.peers);
    open.send(with_host(Some("evil.example")))
        .await
        .check_error(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_keys_are_json_for_whoever_takes_json() {
    let setting = Setting::new().await;
    let answer = setting.get("/api/v1/eth2/publicKeys", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    let setting = setting.discovered().await;
    for accept in [
        &[][..],
        &["application/json"],
        &["*/*"],
        &["text/plain, application/*"],
        &["text/plain"],
    ] {
        let answer = setting.get("/api/v1/eth2/publicKeys", accept).await;
        assert_eq!(answer.content_type, "application/json; charset=utf-8");
        assert_eq!(
            answer.json(),
            serde_json::json!([setting.key()]),
            "{accept:?}"
        );
    }
}

/// An order to stop, as a cosigner tells it.
fn stopped(epoch: Option<u64>, slot: Option<u64>) -> proto::LedgerState {
    proto::LedgerState {
        stop_epoch: epoch,
        stop_slot: slot,
        ..proto::LedgerState::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_high_watermark_is_where_too_few_are_left_to_sign() {
    let mut setting = Setting::with(Peers::start(3, 4, 1).await)
        .discovered()
        .await;
    let path = "/api/v1/eth2/highWatermark";
    let answer = setting.get(path, &["text/plain"]).await;
    assert_eq!(answer.content_type, "application/json; charset=utf-8");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    // Each answer is asked for anew: an order counts at once.
    for (position, state, body) in [
        (0, stopped(Some(400_000), Some(12_800_000)), "{}"),
        (1, stopped(Some(400_001), None), r#"{"epoch":"400001"}"#),
        (
            2,
            stopped(Some(u64::MAX), Some(1)),
            r#"{"epoch":"400001","slot":"12800000"}"#,
        ),
        (
            3,
            stopped(Some(0), Some(0)),
            r#"{"epoch":"400000","slot":"1"}"#,
        ),
    ] {
        *setting.peers.peers[position].ledger.lock() = Some(state);
        let answer = setting.get(path, &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
    }
    // Who does not say may go on signing; with two of them the two others are still too few.
    *setting.peers.peers[1].ledger.lock() = None;
    setting.peers.kill(2);
    let third = &setting.app.cosigners.links()[2];
    eventually("one is gone", || !third.health().is_ready()).await;
    let answer = setting.get(path, &[]).await;
    let body = r#"{"epoch":"400000","slot":"12800000"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, body));
    setting.peers.behave(3, Manner::Hung);
    let began = std::time::Instant::now();
    let answer = setting.get(path, &[]).await;
    answer.check_error(500);
    assert_eq!(answer.json()["reason"], "unreachable");
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    let text = shown(&setting.registry);
    for line in [
        "cosigner_call_seconds_count{cosigner=\"cosigner-1\",lane=\"status\"} 7",
        "cosigner_failures_total{cosigner=\"cosigner-2\",reason=\"ledger\"} 2",
        "cosigner_failures_total{cosigner=\"cosigner-3\",reason=\"unreachable\"} 2",
        "cosigner_failures_total{cosigner=\"cosigner-4\",reason=\"timed_out\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_for_the_high_watermark_are_bounded_as_requests_are() {
    let mut peers = Peers::start(2, 3, 1).await;
    peers.config.requests_max = 1;
    let setting = Setting::with(peers);
    let place = setting.app.admission.enter().unwrap();
    let answer = setting.get("/api/v1/eth2/highWatermark", &[]).await;
    answer.check_error(500);
    assert!(answer.retry_after);
    drop(place);
    let answer = setting.get("/api/v1/eth2/highWatermark", &[]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn upcheck_is_text_or_what_two_clients_ask_for() {
    let setting = Setting::new().await;
    for (accept, content_type, body) in [
        (&[][..], "text/plain; charset=utf-8", "OK"),
        (&["text/plain"], "text/plain; charset=utf-8", "OK"),
        (&["*/*"], "text/plain; charset=utf-8", "OK"),
        (
            &["application/json"],
            "application/json; charset=utf-8",
            r#"{"status":"OK"}"#,
        ),
    ] {
        let answer = setting.get("/upcheck", accept).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, body),
            "{accept:?}"
        );
        assert_eq!(answer.content_type, content_type);
    }
    setting
        .get("/upcheck", &["image/png"])
        .await
        .check_error(406);
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_is_up_while_a_threshold_answers() {
    let peers = Peers::start(2, 3, 1).await;
    peers.behave(0, Manner::Hung);
    peers.behave(1, Manner::Hung);
    let mut setting = Setting::with(peers);
    let answer = setting.get("/healthcheck", &[]).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["status"], "DOWN");
    setting.peers.behave(0, Manner::Honest);
    setting.peers.behave(1, Manner::Honest);
    setting = setting.discovered().await;
    let answer = setting.get("/healthcheck", &["text/plain"]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.content_type, "application/json;charset=UTF-8");
    assert_eq!(
        (&answer.json()["status"], &answer.json()["outcome"]),
        (&"UP".into(), &"UP".into())
    );
    assert!(!answer.body.contains("DOWN"));

    let absent = |position: usize| {
        let link = &setting.app.cosigners.links()[position];
        !link.health().is_ready()
    };
    *setting.peers.peers[0].ready.lock() = false;
    eventually("one is not ready", || absent(0)).await;
    let answer = setting.get("/healthcheck", &[]).await;
    assert_eq!(answer.status, 200);
    let checks = answer.json()["checks"].to_string();
    assert!(
        checks.contains(r#""id":"cosigner-check:cosigner-1","status":"DOWN""#),
        "{checks}"
    );
    *setting.peers.peers[1].ready.lock() = false;
    eventually("two are not ready", || absent(1)).await;
    let answer = setting.get("/healthcheck", &[]).await;
    assert_eq!(
        (answer.status, &answer.json()["outcome"]),
        (503, &"DOWN".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_says_what_keeps_each_cosigner_from_signing() {
    let setting = Setting::new().await.discovered().await;
    let heard = |position: usize| setting.app.cosigners.links()[position].health();
    let usual = proto::LedgerState::default();
    let quarantined = proto::LedgerState {
        quarantined_until_epoch: Some(400_002),
        ..usual
    };
    let frozen = proto::LedgerState {
        all_frozen: true,
        ..usual
    };
    let states = [quarantined, stopped(Some(7), None), usual];
    for (position, state) in states.into_iter().enumerate() {
        *setting.peers.peers[position].ledger.lock() = Some(state);
    }
    eventually("one is in quarantine", || !heard(0).is_ready()).await;
    let is_stopped = || heard(1).standing().is_some_and(|s| s.stop_epoch.is_some());
    eventually("one is stopped", is_stopped).await;
    let answer = setting.get("/healthcheck", &[]).await;
    assert_eq!(answer.status, 200, "two of three can sign");
    let checks = answer.json()["checks"].to_string();
    for check in [
        concat!(
            r#"{"data":{"quarantined-until-epoch":"400002","reason":"its ledger is in quarantine "#,
            r#"until epoch 400002"},"id":"cosigner-check:cosigner-1","status":"DOWN"}"#
        ),
        r#"{"data":{"stop-epoch":"7"},"id":"cosigner-check:cosigner-2","status":"UP"}"#,
        r#"{"id":"cosigner-check:cosigner-3","status":"UP"}"#,
    ] {
        assert!(checks.contains(check), "{check} is not in {checks}");
    }
    *setting.peers.peers[1].ledger.lock() = Some(frozen);
    eventually("one is frozen", || !heard(1).is_ready()).await;
    let answer = setting.get("/healthcheck", &[]).await;
    assert_eq!(answer.status, 503, "one of three can sign");
    let checks = answer.json()["checks"].to_string();
    let check = r#"{"all-frozen":true,"reason":"every validator is frozen"}"#;
    assert!(checks.contains(check), "{checks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_names_misdeeds_and_stays_up() {
    let setting = Setting::new().await.discovered().await;
    let links = setting.app.cosigners.links();
    links[0].blame(Misdeed::Reply, "the test says so");
    links[0].blame(Misdeed::Partial, "the test says so");
    let answer = setting.get("/healthcheck", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let checks = answer.json()["checks"].to_string();
    let check = concat!(
        r#"{"data":{"last-misdeed":"partial","last-misdeed-seconds-ago":0,"misdeeds":2},"#,
        r#""id":"cosigner-check:cosigner-1","status":"UP"}"#
    );
    let check = [0, 1, 2].map(|ago| check.replace(":0,", &format!(":{ago},")));
    assert!(check.iter().any(|check| checks.contains(check)), "{checks}");
    assert_eq!(checks.matches("misdeeds").count(), 1, "{checks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_runs_in_the_background_one_at_a_time() {
    let setting = Setting::new().await.discovered().await;
    let report = setting.get("/reload", &[]).await;
    assert_eq!(
        (report.status, report.body.as_str()),
        (200, r#"{"status":"idle"}"#)
    );
    setting
        .peers
        .behave(0, Manner::Slow(std::time::Duration::from_millis(300)));
    let post = || request(Method::POST, "/reload", &[], "");
    let answer = setting.send(post()).await;
    assert_eq!((answer.status, &answer.json()["code"]), (202, &202.into()));
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .starts_with("Reload operation accepted")
    );
    let message = setting.send(post()).await.check_error(409);
    assert_eq!(
        message,
        "A reload operation is already in progress. Please try again later."
    );
    assert_eq!(
        setting.get("/reload", &[]).await.json()["status"],
        "running"
    );
    let ended = || setting.app.validators.reload().report().status != "running";
    eventually("the reload ends", ended).await;
    let report = setting.get("/reload", &[]).await.json();
    assert_eq!(report["status"], "completed");
    assert!(report["lastOperationTime"].as_str().unwrap().ends_with('Z'));
    setting
        .get("/reload", &["text/plain"])
        .await
        .check_error(406);
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_find_web3signers_names_and_ours() {
    let setting = Setting::new().await.discovered().await;
    let key = setting.key();
    for (identifier, body, status) in [
        (key.as_str(), attestation(1), 200),
        (&key, attestation(2), 412),
        (&key, randao(1), 200),
        (&key, "{}".to_owned(), 400),
        ("0x12", randao(1), 404),
    ] {
        assert_eq!(setting.sign(identifier, &body, &[]).await.status, status);
    }
    let text = shown(&setting.registry);
    for line in [
        "http_bls_malformed_request_count_total 1",
        "signing_bls_signing_duration_count 2",
        "signing_bls_missing_identifier_count_total 1",
        "signing_signers_loaded_count 1",
        "eth2_slashingprotection_permitted_signings_total 1",
        "eth2_slashingprotection_prevented_signings_total 1",
        "eth2_slashingprotection_database_duration_count{signingOperation=\"attestation\"} 1",
        "countersign_requests_total{type=\"ATTESTATION\",status=\"200\"} 1",
        "countersign_requests_total{type=\"ATTESTATION\",status=\"412\"} 1",
        "countersign_requests_total{type=\"unknown\",status=\"400\"} 1",
        "countersign_requests_total{type=\"RANDAO_REVEAL\",status=\"404\"} 1",
        "countersign_stage_seconds_count{stage=\"total\"} 3",
        "countersign_stage_seconds_count{stage=\"promise\"} 1",
        "cosigner_call_seconds_count{cosigner=\"cosigner-1\",lane=\"promise_attestation\"}",
        "countersign_cosigner_queue_depth{cosigner=\"cosigner-1\",lane=\"sign_bulk\"} 0",
        "countersign_cosigner_up{cosigner=\"cosigner-1\"} 1",
        "countersign_tolerated_faults 0",
        "countersign_tolerated_absences 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_for_a_threshold_of_every_committee() {
    // 3-of-3 where only 2-of-3 was configured as the least.
    let mut peers = Peers::start(3, 3, 1).await;
    peers.config.threshold_min = 2;
    let setting = Setting::with(peers).discovered().await;
    let all = || {
        setting
            .app
            .validators
            .snapshot()
            .shapes()
            .iter()
            .all(|s| s.members.len() == 3)
    };
    eventually("all three report", all).await;
    assert_eq!(setting.get("/healthcheck", &[]).await.status, 200);
    *setting.peers.peers[0].ready.lock() = false;
    let link = &setting.app.cosigners.links()[0];
    eventually("one is not ready", || !link.health().is_ready()).await;
    assert_eq!(setting.get("/healthcheck", &[]).await.status, 503);
}
