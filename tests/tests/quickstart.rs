//! README's first command: one terminal, nothing installed, a signature at the end.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    cluster::secret_file,
    http::Answer,
    process::{eventually, free_port, program},
};

/// A quickstart that is up: what it said, and its processes' ids.
struct Quickstart {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
    port: u16,
    children: Vec<Pid>,
}

impl Quickstart {
    /// Runs quickstart until it has said everything it says.
    fn start(dir: &Path, more: &[&str]) -> Self {
        let port = free_port();
        let mut child = Command::new(program("countersign"))
            .args([
                "quickstart",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--dir",
            ])
            .arg(dir)
            .args(more)
            .env("HOME", dir.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("Ctrl-C") {
            if output.read_line(&mut said).unwrap() == 0 {
                let mut error = String::new();
                use std::io::Read;
                child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut error)
                    .unwrap();
                panic!("quickstart ended: {said}\n{error}");
            }
        }
        let ids = said
            .lines()
            .find_map(|line| line.split_once("process ids "))
            .unwrap()
            .1;
        let children = ids
            .split(' ')
            .map(|id| Pid::from_raw(id.parse().unwrap()).unwrap())
            .collect();
        Self {
            child,
            output,
            said,
            port,
            children,
        }
    }

    fn line(&self, label: &str) -> &str {
        let line = self
            .said
            .lines()
            .find(|line| line.trim_start().starts_with(label))
            .unwrap();
        line.trim_start().strip_prefix(label).unwrap().trim()
    }

    async fn keys(&self) -> Value {
        let url = format!("http://127.0.0.1:{}/api/v1/eth2/publicKeys", self.port);
        Answer::of(reqwest::get(url).await.unwrap()).await.json()
    }

    async fn children_end(&self) {
        eventually(
            "all processes have ended",
            Duration::from_secs(20),
            || async {
                self.children
                    .iter()
                    .all(|pid| test_kill_process(*pid).is_err())
            },
        )
        .await;
    }

    async fn interrupt(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        self.children_end().await;
        let mut rest = String::new();
        while self.output.read_line(&mut rest).unwrap() > 0 {}
        assert!(rest.contains("Stopping"), "{rest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_signs_stops_and_continues_with_the_same_keys() {
    daemon::install_crypto_provider();
    let home = TempDir::new().unwrap();
    let dir = home.path().join("try");
    let first = Quickstart::start(&dir, &["--committee", "2-of-3", "--validators", "3"]);
    let validator = first.line("validator ").to_owned();
    let signature = first.line("signature ").to_owned();
    let keys = first.keys().await;
    assert_eq!(keys.as_array().unwrap().len(), 3);
    assert!(
        keys.as_array()
            .unwrap()
            .contains(&Value::from(validator.as_str()))
    );
    // The printed curl, run by a shell.
    let curl: String = first
        .said
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("curl"))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    let answer = Command::new("sh").arg("-c").arg(&curl).output().unwrap();
    let answer: Value = serde_json::from_slice(&answer.stdout).expect(&curl);
    assert!(
        answer["signature"]
            .as_str()
            .unwrap()
            .starts_with(&signature[..18]),
        "{answer}"
    );
    first.interrupt().await;

    let second = Quickstart::start(&dir, &["--committee", "2-of-3", "--validators", "3"]);
    let error = refused(&dir, &[], 1);
    assert!(error.contains("another quickstart runs in"), "{error}");
    assert_eq!(second.keys().await, keys);
    assert_eq!(second.line("validator "), validator);
    assert_eq!(
        second.line("signature "),
        signature,
        "the same vote again, from the same ledgers"
    );
    // Killed, it takes its processes with it.
    let mut second = second;
    second.child.kill().unwrap();
    second.child.wait().unwrap();
    second.children_end().await;

    for (arguments, sentence) in [
        (
            ["--committee", "3-of-4"],
            "was made with --committee 2-of-3",
        ),
        (["--validators", "1"], "was made with --validators 3"),
        (["--network", "mainnet"], "was made with --network hoodi"),
    ] {
        let error = refused(&dir, &arguments, 1);
        assert!(error.contains(sentence), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_takes_a_keystore_and_keeps_ledgers_on_postgres() {
    daemon::install_crypto_provider();
    let home = TempDir::new().unwrap();
    let (keystore, password) = (
        home.path().join("keystore.json"),
        home.path().join("password"),
    );
    let secret = tests::cluster::test_keys(1)[0];
    let public = keyshare::SecretKey::from_be_bytes(&secret)
        .unwrap()
        .public_key()
        .to_string();
    fs::write(&keystore, tests::cluster::keystore(&secret, "testpassword")).unwrap();
    secret_file(&password, "testpassword\n");
    let cluster = throwaway::database().await;
    let arguments = [
        "--keystore",
        keystore.to_str().unwrap(),
        "--password-file",
        password.to_str().unwrap(),
        "--postgres",
        &cluster,
    ];
    let running = Quickstart::start(&home.path().join("try"), &arguments);
    assert_eq!(running.keys().await, serde_json::json!([public]));
    assert!(
        running.said.contains("must not sign anywhere else"),
        "{}",
        running.said
    );
    running.interrupt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_goes_on_while_enough_cosigners_are_left() {
    daemon::install_crypto_provider();
    let home = TempDir::new().unwrap();
    let mut running = Quickstart::start(&home.path().join("try"), &["--committee", "2-of-3"]);
    kill_process(running.children[0], Signal::KILL).unwrap();
    let mut line = String::new();
    while !line.contains("it goes on") {
        assert!(running.output.read_line(&mut line).unwrap() > 0, "{line}");
    }
    assert_eq!(running.keys().await.as_array().unwrap().len(), 1);
    kill_process(running.children[1], Signal::KILL).unwrap();
    assert_eq!(running.child.wait().unwrap().code(), Some(1));
    running.children_end().await;
}

#[tokio::test]
async fn quickstart_says_what_to_change() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("try");
    for (arguments, code, sentence) in [
        (["--committee", "2-of-4"], 2, "must be more than half"),
        (["--committee", "many"], 2, "3-of-4"),
        (["--network", "nowhere"], 1, "nowhere"),
        (["--password-file", "x"], 2, "--keystore"),
        (["--validators", "0"], 2, "--validators"),
        (
            ["--postgres", "postgres://nobody@127.0.0.1:1/none"],
            1,
            "cannot be reached",
        ),
    ] {
        let error = refused(&dir, &arguments, code);
        assert!(error.contains(sentence), "{arguments:?}: {error}");
        assert!(!dir.exists(), "{arguments:?} left something behind");
    }
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = busy.local_addr().unwrap().to_string();
    let output = Command::new(program("countersign"))
        .args(["quickstart", "--listen", &listen, "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("is not free") && !dir.exists(), "{error}");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("something"), "else").unwrap();
    let error = refused(&dir, &[], 1);
    assert!(error.contains("give another --dir"), "{error}");
}

/// Runs a quickstart that must end by itself with `code`, and returns its complaint.
fn refused(dir: &Path, arguments: &[&str], code: i32) -> String {
    let output = Command::new(program("countersign"))
        .args([
            "quickstart",
            "--listen",
            &format!("127.0.0.1:{}", free_port()),
            "--dir",
        ])
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}
