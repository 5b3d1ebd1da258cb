use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    network: Option<String>,
    http: Http,
    #[serde(default)]
    cosigners: Vec<Cosigner>,
    // Behind the sections, where TOML cannot have it.
    #[serde(default)]
    paranoid: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    listen: std::net::SocketAddr,
    deadline_ms: u64,
    hosts: Option<Vec<String>>,
    password_file: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cosigner {
    san: String,
    mode: Option<Mode>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Slow,
}

const GOOD: &str = r#"
network = "hoodi"

[http]
listen = "127.0.0.1:9000"
deadline_ms = 1200

[[cosigners]]
san = "cosigner-1"
[[cosigners]]
san = "2"
"#;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Sample, ConfigError> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    parse("a.toml", text, ENVIRONMENT_PREFIX, variables)
}

#[test]
fn a_good_file_is_read_and_printed_again() {
    let sample = read(GOOD, &[]).unwrap();
    assert_eq!(sample.http.deadline_ms, 1200);
    assert_eq!(sample.cosigners.len(), 2);
    assert_eq!(read(&to_toml(&sample).unwrap(), &[]).unwrap(), sample);
}

#[test]
fn variables_override_the_file() {
    type Case = (&'static [(&'static str, &'static str)], fn(&mut Sample));
    let cases: &[Case] = &[
        (&[("COUNTERSIGN_HTTP__DEADLINE_MS", "900")], |c| {
            c.http.deadline_ms = 900
        }),
        (&[("COUNTERSIGN_HTTP__LISTEN", "[::1]:9")], |c| {
            c.http.listen = ([0, 0, 0, 0, 0, 0, 0, 1], 9).into()
        }),
        (&[("COUNTERSIGN_HTTP__LISTEN", "\"127.0.0.1:9\"")], |c| {
            c.http.listen.set_port(9)
        }),
        (&[("COUNTERSIGN_HTTP__HOSTS", r#"["a", "b"]"#)], |c| {
            c.http.hosts = Some(vec!["a".into(), "b".into()])
        }),
        (&[("COUNTERSIGN_HTTP__PASSWORD_FILE", "/run/p")], |c| {
            c.http.password_file = Some("/run/p".into())
        }),
        (&[("COUNTERSIGN__NETWORK", "gnosis")], |c| {
            c.network = Some("gnosis".into())
        }),
        // A string in the file stays one, whatever its override looks like.
        (&[("COUNTERSIGN__NETWORK", "7")], |c| {
            c.network = Some("7".into())
        }),
        (&[("COUNTERSIGN__NETWORK", "a\nparanoid = true")], |c| {
            c.network = Some("a\nparanoid = true".into())
        }),
        (&[("COUNTERSIGN__PARANOID", "true")], |c| c.paranoid = true),
        (&[("COUNTERSIGN_COSIGNERS__1__SAN", "x")], |c| {
            c.cosigners[1].san = "x".into()
        }),
        (&[("COUNTERSIGN_COSIGNERS__0__MODE", "slow")], |c| {
            c.cosigners[0].mode = Some(Mode::Slow)
        }),
        // Not ours.
        (
            &[
                ("COUNTERSIGN_LOG", "debug"),
                ("COUNTERSIGN_PORT", "tcp://10.0.0.1:9000"),
            ],
            |_| {},
        ),
        (
            &[("OTHER_HTTP__DEADLINE_MS", "1"), ("COUNTERSIGN_", "")],
            |_| {},
        ),
    ];
    for (variables, change) in cases {
        let mut expected = read(GOOD, &[]).unwrap();
        change(&mut expected);
        assert_eq!(read(GOOD, variables).unwrap(), expected, "{variables:?}");
    }

    let added = [
        ("COUNTERSIGN_HTTP__LISTEN", "127.0.0.1:9"),
        ("COUNTERSIGN_HTTP__DEADLINE_MS", "5"),
    ];
    assert_eq!(read("", &added).unwrap().http.deadline_ms, 5);
}

#[test]
fn what_is_wrong_is_said_in_one_sentence_with_file_key_and_line() {
    let with = |from: &str, to: &str| GOOD.replace(from, to);
    let cases = [
        (
            with("deadline_ms", "deadline"),
            "remove or rename `http.deadline` in a.toml, line 6: unknown field `deadline`, \
             expected one of `listen`, `deadline_ms`, `hosts`, `password_file`",
        ),
        (
            with("deadline_ms = 1200", ""),
            "add `deadline_ms` to `http` in a.toml, line 4: it has no default",
        ),
        (
            with("1200", "\"1200\""),
            "correct `http.deadline_ms` in a.toml, line 6: invalid type: string \"1200\", \
             expected u64",
        ),
        (
            with("1200", "-1"),
            "correct `http.deadline_ms` in a.toml, line 6: invalid value: integer `-1`, expected \
             u64",
        ),
        (
            with("127.0.0.1:9000", "localhost"),
            "correct `http.listen` in a.toml, line 5: invalid socket address syntax",
        ),
        (
            with("san = \"2\"", ""),
            "add `san` to `cosigners[1]` in a.toml, line 10: it has no default",
        ),
        (
            with("san = \"2\"", "san = \"2\"\nmode = \"odd\""),
            "correct `cosigners[1].mode` in a.toml, line 12: unknown variant `odd`, expected \
             `fast` or `slow`",
        ),
        (
            with("network", "netwrok"),
            "remove or rename `netwrok` in a.toml, line 2: unknown field `netwrok`, expected one \
             of `network`, `http`, `cosigners`, `paranoid`",
        ),
        (
            with("[http]", "[http"),
            "correct a.toml, line 4: unclosed table, expected `]`",
        ),
        (
            with("deadline_ms = 1200", "listen = 3"),
            "correct a.toml, line 6: duplicate key",
        ),
        (
            String::new(),
            "add `http` in a.toml, line 1: it has no default",
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(read(&text, &[]).unwrap_err().to_string(), sentence);
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let cases = [
        (
            "COUNTERSIGN_HTTP__DEADLINE_MS",
            "soon",
            "correct the environment variable COUNTERSIGN_HTTP__DEADLINE_MS: the file has an \
             integer there, and this is none",
        ),
        (
            "COUNTERSIGN_HTTP__DEADLINE_MS",
            "-5",
            "correct `http.deadline_ms` in the environment variable \
             COUNTERSIGN_HTTP__DEADLINE_MS: invalid value: integer `-5`, expected u64",
        ),
        (
            "COUNTERSIGN_HTTP__DEADLINE_MS",
            "5\nlisten = 7",
            "correct the environment variable COUNTERSIGN_HTTP__DEADLINE_MS: the file has an \
             integer there, and this is none",
        ),
        (
            "COUNTERSIGN_HTTP__DEADLIN",
            "5",
            "remove or rename `http.deadlin` in the environment variable \
             COUNTERSIGN_HTTP__DEADLIN: unknown field `deadlin`, expected one of `listen`, \
             `deadline_ms`, `hosts`, `password_file`",
        ),
        (
            "COUNTERSIGN_NETWORK__X",
            "5",
            "remove or rename the environment variable COUNTERSIGN_NETWORK__X: `network` is no \
             section",
        ),
        (
            "COUNTERSIGN_COSIGNERS__2__SAN",
            "x",
            "remove or rename the environment variable COUNTERSIGN_COSIGNERS__2__SAN: \
             `cosigners` is no list with that entry",
        ),
    ];
    for (name, value, sentence) in cases {
        // The other variable stands before it in the order of their places.
        let variables = [(name, value), ("COUNTERSIGN_COSIGNERS__0__SAN", "first")];
        assert_eq!(read(GOOD, &variables).unwrap_err().to_string(), sentence);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let latin = directory.path().join("latin.toml");
    std::fs::write(&latin, [0xe9]).unwrap();
    let cases = [
        (directory.path().join("none.toml"), "there is no file"),
        (directory.path().to_owned(), "is a directory"),
        (latin, "is not UTF-8 text"),
    ];
    for (path, problem) in cases {
        let error = load::<Sample>(&path, ENVIRONMENT_PREFIX)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(path.to_str().unwrap()) && error.contains(problem),
            "{error}"
        );
    }
    let good = directory.path().join("good.toml");
    std::fs::write(&good, GOOD).unwrap();
    load::<Sample>(&good, ENVIRONMENT_PREFIX).unwrap();
}

#[test]
fn a_value_out_of_range_is_told_its_range() {
    assert_eq!(in_range("http.keep_alive_ms", 5, 5, 10), Ok(5));
    assert_eq!(in_range("http.keep_alive_ms", 10, 5, 10), Ok(10));
    let sentence = "set `http.keep_alive_ms` to a value from 5 to 10: it is 11";
    assert_eq!(
        in_range("http.keep_alive_ms", 11, 5, 10),
        Err(ConfigError::new(sentence))
    );
    assert!(in_range("http.keep_alive_ms", 4, 5, 10).is_err());
}

#[test]
fn a_secret_is_taken_from_its_owners_file_only() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(64 * 1024);
    let cases: [(&[u8], u32, Result<&str, &str>); 12] = [
        (b"hunter2\n", 0o600, Ok("hunter2")),
        (b"hunter2", 0o400, Ok("hunter2")),
        (b"hunter2\r\n", 0o600, Ok("hunter2")),
        (b" two \n\n", 0o600, Ok(" two \n")),
        (long.as_bytes(), 0o600, Ok(&long)),
        (b"hunter2", 0o640, Err("(mode 640): run `chmod 600")),
        (b"hunter2", 0o604, Err("(mode 604): run `chmod 600")),
        (b"hunter2", 0o620, Err("(mode 620): run `chmod 600")),
        (b"", 0o600, Err("is empty: write the secret into it")),
        (b"\n", 0o600, Err("is empty: write the secret into it")),
        (b"hunter2\xff", 0o600, Err("is not UTF-8 text")),
        (&[b'x'; 64 * 1024 + 1], 0o600, Err("more than 65536 bytes")),
    ];
    for (number, (bytes, mode, expected)) in cases.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        match (
            secret_from_file(&path).map_err(|error| error.to_string()),
            expected,
        ) {
            (Ok(secret), Ok(expected)) => assert_eq!(*secret, expected),
            (Err(error), Err(part)) => {
                assert!(
                    error.contains(part) && !error.contains("hunter2"),
                    "{error}"
                );
                assert!(error.contains(path.to_str().unwrap()), "{error}");
            }
            (secret, expected) => panic!("case {number}: {} for {expected:?}", secret.is_ok()),
        }
    }
    let error = secret_from_file(&directory.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is no file"), "{error}");
}
