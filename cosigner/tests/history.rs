//! Signing histories in and out: with keys when they are activated, and over the wire.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else has failed"
)]

mod support;

use std::time::{Duration, Instant};

use duty::{PublicKey, SigningOrder};
use futures_util::stream;
use support::{
    Home, OPERATOR, SIGNER, errors, new_key, package_of,
    running::{promise, sign},
    stage::{
        FREE, Stage, attestation, block, partial, promise_reason, randao, sign_reason, to_promise,
        to_sign,
    },
};
use tonic::{Code, Status, transport::Channel};
use wire::proto::{
    ExportHistoryRequest, HistoryChunk, ImportHistoryReply, LedgerRequest,
    administration_client::AdministrationClient, refusal::Reason, sign_outcome::Outcome as Sign,
};

type Operator = AdministrationClient<Channel>;

const MAINNET: &str = "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95";

/// A file in which each of the validators has a block and a vote.
fn file(chain: &str, validators: &[PublicKey], source: u64, target: u64, slot: u64) -> String {
    let section = |validator: &PublicKey| {
        format!(
            r#"{{"pubkey":"{validator}","signed_blocks":[{{"slot":"{slot}"}}],
            "signed_attestations":[{{"source_epoch":"{source}","target_epoch":"{target}"}}]}}"#
        )
    };
    let sections: Vec<String> = validators.iter().map(section).collect();
    format!(
        r#"{{"metadata":{{"interchange_format_version":"5","genesis_validators_root":"{chain}"}},
        "data":[{}]}}"#,
        sections.join(",")
    )
}

async fn postgres() -> Stage {
    let url = format!(
        "[database.postgres]\nurl = \"{}\"\n#",
        throwaway::database().await
    );
    Stage::new(&[("[database.sqlite]\n", url.as_str())])
}

/// The tables of shares and ratchets, counted.
fn counts(home: &Home) -> (i64, i64) {
    let database = rusqlite::Connection::open(home.path("cosigner.sqlite")).unwrap();
    let both = "SELECT (SELECT count(*) FROM shares), (SELECT count(*) FROM ratchets)";
    database
        .query_row(both, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

#[tokio::test]
async fn a_key_is_activated_together_with_what_it_has_signed() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let split = new_key();
    let (newcomer, committee) = (split.committee.group_key(), split.committee.clone());
    let package = stage.home.package("newcomer", &package_of(vec![split]).0);
    let stranger = PublicKey([9; 48]);
    let history = file(MAINNET, &[stranger, newcomer], 4, 6, 200);
    let history = stage.home.write("history.json", &history);
    let said = ["--history", history.to_str().unwrap()];
    let output = stage.home.import(&stage.config, &package, &said);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(
        counts(&stage.home),
        (2, 2),
        "of the stranger nothing is taken"
    );

    support::running::status_when(&mut client, |status| status.validators == 2).await;
    for (order, free) in [
        (attestation(newcomer, 3, 7, 1), false),
        (attestation(newcomer, 4, 6, 1), false),
        (block(newcomer, 200), false),
        (attestation(newcomer, 4, 8, 1), true),
        (block(newcomer, 201), true),
    ] {
        let promised = promise(&mut client, vec![to_promise(0, &order)]).await;
        if free {
            assert_eq!(promised, [FREE], "{order:?}");
            let outcomes = sign(&mut client, vec![to_sign(0, &order)]).await;
            partial(&committee, &order, &outcomes[0]);
        } else {
            assert_eq!(promise_reason(&promised[0]), Some(Reason::Slashable));
        }
    }
    drop(running);
}

#[test]
fn a_file_that_lacks_a_key_or_is_another_chains_activates_nothing() {
    let home = Home::new();
    let config = home.config(&[]);
    let (package, validators) = package_of(vec![new_key(), new_key(), new_key()]);
    let package = home.package("package", &package);
    let missing = validators[1].to_string();
    let cut = file(MAINNET, &validators, 1, 2, 3);
    for (name, text, says) in [
        (
            "lacking.json",
            file(MAINNET, &[validators[0], validators[2]], 1, 2, 3),
            vec![missing.as_str(), "1 key of the package", "--never-signed"],
        ),
        (
            "without-entries.json",
            file(MAINNET, &[validators[0], validators[2]], 1, 2, 3).replace(
                "\"data\":[",
                &format!(
                    "\"data\":[{{\"pubkey\":\"{missing}\",\"signed_blocks\":[],\"signed_attestations\":[]}},"
                ),
            ),
            vec![missing.as_str(), "without a single entry", "--never-signed"],
        ),
        (
            "other-chain.json",
            file(&MAINNET.replace('4', "5"), &validators, 1, 2, 3),
            vec!["genesis validators root"],
        ),
        (
            "cut.json",
            cut[..cut.len() - 2].to_owned(),
            vec!["nothing was imported"],
        ),
        (
            "too-high.json",
            file(MAINNET, &validators, 1, u64::MAX, 3),
            vec!["nothing was imported", "signed_attestations[0]"],
        ),
    ] {
        let history = home.write(name, &text);
        let output = home.import(&config, &package, &["--history", history.to_str().unwrap()]);
        let error = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {error}");
        for part in says.into_iter().chain([name]) {
            assert!(error.contains(part), "{name}: {part} is not in {error}");
        }
        if home.path("cosigner.sqlite").exists() {
            assert_eq!(counts(&home), (0, 0), "{name}");
        }
        assert!(!home.path("cosigner.anchor").exists(), "{name}");
    }
    let output = home.import(&config, &package, &["--history", "/nowhere/history.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("/nowhere/history.json"));
}

#[tokio::test]
async fn a_key_and_its_history_become_active_together_on_postgres() {
    let stage = postgres().await;
    let (package, validators) = package_of(vec![new_key(), new_key()]);
    let package = stage.home.package("newcomers", &package);
    let lacking = file(MAINNET, &validators[..1], 1, 2, 3);
    let lacking = stage.home.write("lacking.json", &lacking);
    let whole = stage
        .home
        .write("whole.json", &file(MAINNET, &validators, 4, 6, 200));
    let import = |file: &std::path::Path| {
        let said = ["--history", file.to_str().unwrap()];
        stage.home.import(&stage.config, &package, &said)
    };
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let output = import(&lacking);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains(&validators[1].to_string()));
    let ledger = operator.ledger(LedgerRequest {}).await.unwrap();
    assert_eq!(ledger.into_inner().validators, 1);

    let output = import(&whole);
    assert!(output.status.success(), "{}", errors(&output));
    support::running::status_when(&mut client, |status| status.validators == 3).await;
    let ledger = operator.ledger(LedgerRequest {}).await.unwrap();
    assert_eq!(ledger.into_inner().validators, 3);
    let voted = attestation(validators[0], 4, 6, 1);
    let promised = promise(&mut client, vec![to_promise(0, &voted)]).await;
    assert_eq!(promise_reason(&promised[0]), Some(Reason::Slashable));
}

async fn export(operator: &mut Operator, validators: &[PublicKey]) -> Result<String, Status> {
    let validators = validators.iter().map(|key| key.0.to_vec()).collect();
    let request = ExportHistoryRequest { validators };
    let mut chunks = operator.export_history(request).await?.into_inner();
    let (mut json, mut last) = (Vec::new(), HistoryChunk::default());
    while let Some(chunk) = chunks.message().await? {
        assert!(chunk.json.len() <= 256 * 1024);
        json.extend_from_slice(&chunk.json);
        last = chunk;
    }
    assert_eq!(last.validators_done, last.validators_total);
    Ok(String::from_utf8(json).unwrap())
}

async fn send(operator: &mut Operator, json: &str) -> Result<ImportHistoryReply, Status> {
    let chunks: Vec<HistoryChunk> = json.as_bytes().chunks(1000).map(chunk).collect();
    let reply = operator.import_history(stream::iter(chunks)).await?;
    Ok(reply.into_inner())
}

fn chunk(bytes: &[u8]) -> HistoryChunk {
    HistoryChunk {
        json: bytes.to_vec(),
        ..HistoryChunk::default()
    }
}

async fn vote(stage: &Stage, running: &support::running::Running, order: &SigningOrder) {
    let mut client = running.client(&stage.home, SIGNER);
    promise(&mut client, vec![to_promise(0, order)]).await;
    let outcomes = sign(&mut client, vec![to_sign(0, order)]).await;
    assert!(matches!(outcomes[0], Sign::Scaled(_)), "{outcomes:?}");
}

async fn check_there_and_back(stage: Stage) {
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    vote(&stage, &running, &attestation(stage.validator, 1, 2, 1)).await;
    vote(&stage, &running, &block(stage.validator, 70)).await;
    let exported = export(&mut operator, &[]).await.unwrap();
    let (key, root) = (
        stage.validator.to_string(),
        block(stage.validator, 70).signing_root().to_string(),
    );
    for part in [
        MAINNET,
        key.as_str(),
        root.as_str(),
        r#""target_epoch":"2""#,
    ] {
        assert!(exported.contains(part), "{part} is not in\n{exported}");
    }
    assert_eq!(
        export(&mut operator, &[stage.validator]).await.unwrap(),
        exported
    );
    let stranger = PublicKey([9; 48]);
    let refused = export(&mut operator, &[stranger]).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");

    // Newer votes and an older block: the votes rise, the block stays.
    let newer = file(MAINNET, &[stage.validator, stranger], 4, 6, 60);
    let reply = send(&mut operator, &newer).await.unwrap();
    assert_eq!((reply.validators, reply.entries, reply.raised), (2, 4, 2));
    assert_eq!(reply.minified, Vec::<Vec<u8>>::new());
    for (order, free) in [
        (attestation(stage.validator, 3, 7, 1), false),
        (attestation(stage.validator, 4, 8, 1), true),
        (block(stage.validator, 69), false),
        (block(stage.validator, 71), true),
    ] {
        let promised = promise(&mut client, vec![to_promise(0, &order)]).await;
        match free {
            true => assert_eq!(promised, [FREE], "{order:?}"),
            false => assert_eq!(promise_reason(&promised[0]), Some(Reason::Slashable)),
        }
    }
    // What it decided itself may be repeated.
    let repeat = block(stage.validator, 70);
    let outcomes = sign(&mut client, vec![to_sign(5, &repeat)]).await;
    partial(&stage.committee, &repeat, &outcomes[0]);
    drop(running);
}

#[tokio::test]
async fn a_history_goes_out_and_comes_in_while_it_runs_on_sqlite() {
    check_there_and_back(Stage::new(&[])).await;
}

#[tokio::test]
async fn a_history_goes_out_and_comes_in_while_it_runs_on_postgres() {
    check_there_and_back(postgres().await).await;
}

#[tokio::test]
async fn a_file_that_is_not_taken_changes_nothing_and_says_why() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let before = export(&mut operator, &[]).await.unwrap();
    let good = file(MAINNET, &[stage.validator], 4, 6, 60);
    for (json, says) in [
        (String::new(), "nothing was imported"),
        (good[..good.len() - 3].to_owned(), "nothing was imported"),
        (good.replace("\"5\"", "\"4\""), "version"),
        (good.replace(MAINNET, &MAINNET.replace('4', "5")), "root"),
        (good.replace("\"60\"", "\"-60\""), "signed_blocks[0]"),
    ] {
        let refused = send(&mut operator, &json).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(says), "{says}: {refused}");
    }
    let too_much = vec![chunk(&vec![b' '; 256 * 1024 + 1])];
    let refused = operator.import_history(stream::iter(too_much)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(export(&mut operator, &[]).await.unwrap(), before);
    let order = attestation(stage.validator, 1, 2, 1);
    assert_eq!(
        promise(&mut client, vec![to_promise(0, &order)]).await,
        [FREE]
    );
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_nothing_and_makes_room_for_the_next() {
    let stage = Stage::new(&[]);
    let (running, _client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    let json = file(MAINNET, &[stage.validator], 4, 6, 60);
    // All but the last byte, and never an end.
    let begun = chunk(&json.as_bytes()[..json.len() - 1]);
    let mut leaving = running.administration(&stage.home, OPERATOR);
    let call = tokio::spawn(async move {
        loop {
            let half = stream::unfold(Some(begun.clone()), async |next| match next {
                Some(chunk) => Some((chunk, None)),
                None => std::future::pending().await,
            });
            // An export may have had the place.
            let status = leaving.import_history(half).await.unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    // Until the half one has the only place.
    while export(&mut operator, &[]).await.is_ok() {
        assert!(Instant::now() < deadline && !call.is_finished());
    }
    let busy = send(&mut operator, &json).await.unwrap_err();
    assert_eq!(busy.code(), Code::ResourceExhausted, "{busy}");
    call.abort();
    let exported = loop {
        match export(&mut operator, &[]).await {
            Ok(exported) => break exported,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
        assert!(Instant::now() < deadline, "the place is never free again");
    };
    assert!(!exported.contains("target_epoch"), "{exported}");
    assert_eq!(send(&mut operator, &json).await.unwrap().raised, 1);
}

#[tokio::test]
async fn a_taker_that_goes_away_makes_room_and_one_that_is_slow_holds_up_no_signature() {
    let stage = Stage::new(&[]);
    let (running, mut client) = stage.start().await;
    let mut operator = running.administration(&stage.home, OPERATOR);
    // More than the wire holds: 3,000 validators of 200 bytes each, several times over.
    let many: Vec<PublicKey> = (0..20_000_u32)
        .map(|number| {
            let mut key = [1; 48];
            key[..4].copy_from_slice(&number.to_be_bytes());
            PublicKey(key)
        })
        .collect();
    let reply = send(&mut operator, &file(MAINNET, &many, 1, 2, 3))
        .await
        .unwrap();
    assert_eq!(reply.raised, 20_000);
    let request = ExportHistoryRequest::default();
    let mut chunks = operator.export_history(request).await.unwrap().into_inner();
    let first = chunks.message().await.unwrap().unwrap();
    assert_eq!(first.json.len(), 256 * 1024);
    assert_eq!(first.validators_total, 20_001);
    // Nobody takes the rest.
    let order = attestation(stage.validator, 1, 2, 1);
    promise(&mut client, vec![to_promise(0, &order)]).await;
    let outcomes = sign(&mut client, vec![to_sign(0, &order)]).await;
    partial(&stage.committee, &order, &outcomes[0]);
    let mut second = running.administration(&stage.home, OPERATOR);
    let busy = export(&mut second, &[]).await.unwrap_err();
    assert_eq!(busy.code(), Code::ResourceExhausted, "{busy}");
    drop(chunks);
    let deadline = Instant::now() + Duration::from_secs(20);
    let whole = loop {
        match export(&mut second, &[]).await {
            Ok(whole) => break whole,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
        assert!(Instant::now() < deadline, "the place is never free again");
    };
    assert_eq!(whole.matches("pubkey").count(), 20_001);
    let randao = support::stage::at_once(&randao(stage.validator));
    let outcomes = sign(&mut client, vec![randao]).await;
    assert_eq!(sign_reason(&outcomes[0]), None);
}
