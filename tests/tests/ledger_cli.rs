//! `countersign ledger …` on real committees: who confirmed, what that means, what is in force.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use duty::PublicKey;
use rustix::process::Signal;
use serde_json::Value;
use tests::{
    cluster::{Cluster, Options, Storage, test_keys},
    process::{Process, eventually, program},
    requests::{attestation, block, randao},
};

/// What one run of the tool said and returned.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    errors: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Lines that begin with `cosigner-` and say `what`.
    fn cosigners(&self, what: &str) -> usize {
        let lines = self.out.lines().chain(self.errors.lines());
        lines
            .filter(|line| line.starts_with("cosigner-") && line.contains(what))
            .count()
    }
}

async fn ledger(arguments: Vec<String>) -> Said {
    let run = move || {
        let output = Command::new(program("countersign"))
            .arg("ledger")
            .args(&arguments)
            .output();
        Said::of(output.unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A command to every cosigner of the committee.
async fn online(cluster: &Cluster, command: &str) -> Said {
    let dir = cluster.dir().display();
    let whose = format!("--committee {dir}/signer-api-1.toml --certs {dir}/certs");
    ledger(words(&format!("{command} {whose}"))).await
}

/// A command on the database of cosigner `number`.
async fn offline(cluster: &Cluster, number: u64, command: &str) -> Said {
    let dir = cluster.dir().display();
    let whose = format!("--config {dir}/cosigner-{number}/cosigner.toml");
    ledger(words(&format!("{command} {whose}"))).await
}

/// Runs a command that every cosigner must confirm, with a line that says `what`.
async fn confirmed(cluster: &Cluster, command: &str, what: &str) {
    let said = online(cluster, command).await;
    assert_eq!(said.code, Some(0), "{command}: {said:?}");
    assert_eq!(said.cosigners(what), 4, "{command}: {said:?}");
    assert!(said.out.contains("4 of 4"), "{command}: {said:?}");
}

/// Runs a command that not all confirm: so many do, and that is what it means.
async fn unconfirmed(cluster: &Cluster, command: &str, confirmed: usize, meaning: &str) {
    let said = online(cluster, command).await;
    assert_eq!(said.code, Some(1), "{command}: {said:?}");
    assert_eq!(
        said.cosigners("confirmed"),
        confirmed,
        "{command}: {said:?}"
    );
    assert!(said.errors.contains(meaning), "{command}: {said:?}");
}

/// Signs, in this order, with these statuses.
async fn check(cluster: &Cluster, validator: &PublicKey, steps: &[(Value, u16)]) {
    for (number, (request, status)) in steps.iter().enumerate() {
        let answer = cluster.sign(0, validator, request).await;
        assert_eq!(
            answer.status, *status,
            "step {number}, {request}: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_for_every_duty_from_the_next_request_on_and_over_restarts() {
    let mut cluster = Cluster::start(Options::new(test_keys(2))).await;
    let (one, other) = (cluster.validators()[0], cluster.validators()[1]);
    let ours = [attestation(1, 2, 1), block(70, 1), randao(2)];
    let every = |status| ours.clone().map(|request| (request, status));
    check(&cluster, &one, &every(200)).await;
    confirmed(&cluster, "status", "nothing is frozen or stopped").await;

    // The same requests again: what was answered before is not answered from memory.
    confirmed(
        &cluster,
        &format!("freeze {one}"),
        "1 validator is frozen now",
    )
    .await;
    check(&cluster, &one, &every(412)).await;
    check(&cluster, &other, &every(200)).await;
    cluster.crash_cosigners().await;
    check(&cluster, &one, &every(412)).await;
    confirmed(&cluster, "status", "1 validator is FROZEN").await;
    confirmed(&cluster, &format!("unfreeze {one}"), "none is frozen now").await;
    check(&cluster, &one, &every(200)).await;

    confirmed(&cluster, "freeze --all", "every validator is frozen now").await;
    check(&cluster, &one, &every(412)).await;
    check(&cluster, &other, &every(412)).await;
    confirmed(&cluster, "unfreeze --all", "confirmed").await;
    check(&cluster, &other, &every(200)).await;

    // A key that nobody has, beside one that everybody has: nothing changes.
    let stranger = PublicKey([0xab; 48]);
    let command = format!("freeze {one} {stranger}");
    let said = online(&cluster, &command).await;
    assert_eq!(said.cosigners("refused: "), 4, "{said:?}");
    assert_eq!(said.cosigners(&stranger.to_string()), 4, "{said:?}");
    unconfirmed(&cluster, &command, 0, "NOT EFFECTIVE").await;
    check(&cluster, &one, &every(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heights_stop_and_are_lifted_and_ratchets_rise() {
    let cluster = Cluster::start(Options::new(test_keys(2))).await;
    let (one, other) = (cluster.validators()[0], cluster.validators()[1]);

    let command = "stop-at --epoch 10 --slot 320";
    confirmed(
        &cluster,
        command,
        "target epoch 10 or above and no block of slot 320",
    )
    .await;
    let stopped = [
        (attestation(8, 9, 1), 200),
        (attestation(9, 10, 1), 412),
        (block(319, 1), 200),
        (block(320, 1), 412),
        // It cannot be slashed.
        (randao(10), 200),
    ];
    check(&cluster, &one, &stopped).await;
    let command = "stop-at --epoch 10 --slot 321";
    confirmed(&cluster, command, "no block of slot 321").await;
    check(
        &cluster,
        &one,
        &[(attestation(9, 10, 1), 412), (block(320, 1), 200)],
    )
    .await;
    confirmed(&cluster, "stop-at --lift", "no height is stopped").await;
    check(&cluster, &one, &[(attestation(9, 10, 1), 200)]).await;

    let command = format!("raise --source 20 --target 21 --slot 700 {other}");
    confirmed(&cluster, &command, "1 of 1 validator raised").await;
    let raised = [
        (attestation(20, 21, 1), 412),
        (attestation(19, 22, 1), 412),
        (attestation(20, 22, 1), 200),
        (block(700, 1), 412),
        (block(701, 1), 200),
    ];
    check(&cluster, &other, &raised).await;
    check(&cluster, &one, &[(attestation(10, 11, 1), 200)]).await;
    let command = "raise --source 20 --target 21 --slot 700";
    confirmed(&cluster, command, "1 of 2 validators raised, 1 stood").await;
    check(&cluster, &one, &[(attestation(20, 21, 1), 412)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_so_many_confirmations_mean_is_said_and_none_waits_for_another() {
    let mut cluster = Cluster::start(Options::new(test_keys(1))).await;
    let validator = cluster.validators()[0];
    cluster.cosigner(4).kill();
    unconfirmed(
        &cluster,
        "freeze --all",
        3,
        "3 of 4 confirmed; it is effective",
    )
    .await;
    check(&cluster, &validator, &[(randao(1), 412)]).await;
    unconfirmed(
        &cluster,
        "unfreeze --all",
        3,
        "3 of 4 confirmed; that is enough",
    )
    .await;
    check(&cluster, &validator, &[(randao(1), 200)]).await;

    // One that hangs costs its own time only.
    cluster.cosigner(3).freeze();
    let began = std::time::Instant::now();
    let said = online(&cluster, "freeze --all --timeout-s 2").await;
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    assert_eq!(said.cosigners("no answer: "), 2, "{said:?}");
    assert!(
        said.errors.contains("2 of 4 confirmed; it is effective"),
        "{said:?}"
    );
    unconfirmed(
        &cluster,
        "unfreeze --all --timeout-s 2",
        2,
        "not enough to sign: 3 must",
    )
    .await;
    interrupted(&cluster).await;
    cluster.cosigner(3).thaw();
    cluster.cosigner(3).kill();
    cluster.cosigner(2).kill();
    let meaning = "1 of 4 confirmed; THIS IS NOT EFFECTIVE";
    unconfirmed(&cluster, "stop-at --epoch 5 --slot 5", 1, meaning).await;

    // Another than the named one listens there; and whoever may not administer is refused.
    let (dir, address) = (cluster.dir().display(), cluster.address(1));
    for (arguments, told) in [
        (
            format!("--cosigner {address}=cosigner-2 --certs {dir}/certs"),
            "no answer: ",
        ),
        (
            format!(
                "--cosigner {address}=cosigner-1 --ca {dir}/certs/ca.crt --certificate \
                 {dir}/certs/signer-api-1.crt --key {dir}/certs/signer-api-1.key"
            ),
            "refused: ",
        ),
    ] {
        let said = ledger(words(&format!("freeze --all {arguments}"))).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(said.cosigners(told), 1, "{said:?}");
    }
}

/// An export that waits for a cosigner that hangs, and is told to end.
async fn interrupted(cluster: &Cluster) {
    let (dir, histories) = (cluster.dir().display(), cluster.dir().join("interrupted"));
    let command = format!(
        "ledger export --out {} --committee {dir}/signer-api-1.toml --certs {dir}/certs",
        histories.display()
    );
    let arguments = words(&command);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let log = cluster.dir().join("interrupted.log");
    let mut tool = Process::start("countersign", &arguments, &log);
    let names = || {
        let entries = fs::read_dir(&histories).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let two = ["cosigner-1.json", "cosigner-2.json"];
    let patience = Duration::from_secs(30);
    eventually("two are there", patience, || async { names() == two }).await;
    tool.signal(Signal::TERM);
    let code = tokio::task::spawn_blocking(move || (tool.wait(patience), tool.log()));
    let (code, log) = code.await.unwrap();
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("interrupted; what was confirmed stays"),
        "{log}"
    );
    assert_eq!(names(), two, "what was complete stays, and nothing else");
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Whether a file has an attestation of the validator with this target.
fn has_target(history: &Value, validator: &PublicKey, target: u64) -> bool {
    let all = history["data"].as_array().unwrap();
    all.iter()
        .filter(|data| data["pubkey"] == validator.to_string())
        .flat_map(|data| data["signed_attestations"].as_array().unwrap())
        .any(|entry| entry["target_epoch"].as_str() == Some(target.to_string().as_str()))
}

async fn histories(storage: Storage) {
    let options = Options {
        storage,
        ..Options::new(test_keys(2))
    };
    let cluster = Cluster::start(options.clone()).await;
    let (one, other) = (cluster.validators()[0], cluster.validators()[1]);
    let signed = [(attestation(5, 6, 1), 200), (block(200, 1), 200)];
    check(&cluster, &one, &signed).await;
    check(&cluster, &other, &[(attestation(7, 8, 1), 200)]).await;

    // From every cosigner, each into its file; t of them know of each signature.
    let dir = cluster.dir().join("histories");
    let command = format!("export --out {}", dir.display());
    confirmed(&cluster, &command, "2 validators").await;
    let files: Vec<_> = (1..=4)
        .map(|n| dir.join(format!("cosigner-{n}.json")))
        .collect();
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let know = files.iter().filter(|file| has_target(&json(file), &one, 6));
    assert!(know.count() >= 3);
    let said = online(&cluster, &command).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.errors.contains("is there already"), "{said:?}");
    confirmed(&cluster, &format!("{command} --force"), "2 validators").await;
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        4,
        "nothing else is left"
    );

    // One of them, of one validator, to standard output.
    let (home, address) = (cluster.dir().display(), cluster.address(2));
    let whose = format!("--cosigner {address}=cosigner-2 --certs {home}/certs");
    let said = ledger(words(&format!("export --out - {other} {whose}"))).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let history: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(history["data"].as_array().unwrap().len(), 1, "{history}");

    let merged = dir.join("merged.json");
    let inputs: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let merge = format!("merge {} --out {}", inputs.join(" "), merged.display());
    let said = ledger(words(&merge)).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(has_target(&json(&merged), &one, 6) && has_target(&json(&merged), &other, 8));

    // Into a committee of the same keys that knows nothing.
    let mut successor = Cluster::start(options).await;
    let import = format!("import {}", merged.display());
    confirmed(&successor, &import, "of 2 validators").await;
    let taken_over = [
        (attestation(5, 6, 2), 412),
        // Not even the same: others' votes license no repeat.
        (attestation(5, 6, 1), 412),
        (block(200, 2), 412),
        (attestation(6, 7, 1), 200),
        (block(201, 1), 200),
    ];
    check(&successor, &one, &taken_over).await;
    confirmed(&successor, &import, "0 ratchets raised").await;
    check(&successor, &one, &[(attestation(6, 7, 1), 200)]).await;

    // What cannot be taken is refused by everyone, whole.
    let broken = dir.join("broken.json");
    let text = fs::read_to_string(&merged)
        .unwrap()
        .replace("\"8\"", "\"eight\"");
    fs::write(&broken, text).unwrap();
    let said = online(&successor, &format!("import {}", broken.display())).await;
    assert_eq!(
        (said.code, said.cosigners("refused: ")),
        (Some(1), 4),
        "{said:?}"
    );

    databases(&mut successor, &dir, &merged).await;
}

/// The same without the cosigner, on its database.
async fn databases(cluster: &mut Cluster, dir: &Path, merged: &Path) {
    let one = cluster.validators()[0];
    cluster.cosigner(1).kill();
    let file = dir.join("offline.json");
    for (command, said_of_it) in [
        (format!("export --out {}", file.display()), "2 validators"),
        (format!("import {}", merged.display()), "0 ratchets raised"),
        (
            "raise --source 30 --target 31 --slot 999".to_owned(),
            "2 of 2 validators raised",
        ),
        (format!("freeze {one}"), "1 validator is frozen now"),
        ("stop-at --epoch 40 --slot 1280".to_owned(), "slot 1280"),
        ("status".to_owned(), "1 validator is FROZEN; no attestation"),
    ] {
        let said = offline(cluster, 1, &command).await;
        assert_eq!(said.code, Some(0), "{command}: {said:?}");
        assert!(said.out.contains(said_of_it), "{command}: {said:?}");
    }
    // It was imported everywhere; who signed 7 is the committee's choice.
    assert!(has_target(&json(&file), &one, 6));
    // What is said of it now is of the killed one; it must be known that it is gone.
    cluster.health_says(1, "DOWN").await;
    cluster.cosigner(1).restart();
    cluster.health_says(1, "UP").await;
    let (home, address) = (cluster.dir().display(), cluster.address(1));
    let whose = format!("--cosigner {address}=cosigner-1 --certs {home}/certs");
    let said = ledger(words(&format!("status {whose}"))).await;
    assert_eq!(
        said.cosigners("1 validator is FROZEN; no attestation"),
        1,
        "{said:?}"
    );
    let file = dir.join("online.json");
    let said = ledger(words(&format!("export --out {} {whose}", file.display()))).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        has_target(&json(&file), &one, 31),
        "what was raised is in the file"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_go_from_one_committee_to_another_and_through_files_on_sqlite() {
    histories(Storage::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_go_from_one_committee_to_another_and_through_files_on_postgres() {
    histories(Storage::Postgres).await;
}
