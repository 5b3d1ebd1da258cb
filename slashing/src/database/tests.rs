//! Opening, binding, migrating, and what the schema refuses by itself.

use futures_util::future::join_all;

use super::*;
use crate::testing::{CHAIN, Place, attest, decide, open_error, patient, propose};

mod access;

#[tokio::test]
async fn a_database_is_bound_to_the_first_chain_it_was_opened_for() {
    for place in Place::each().await {
        place.open().await;
        let other = Root([8; 32]);
        let error = open_error(&place, other).await;
        let DatabaseError::AnotherChain { bound, configured } = error else {
            panic!("{error}");
        };
        assert_eq!((bound, configured), (CHAIN, other));
        place.open().await;
    }
}

#[tokio::test]
async fn many_that_open_an_empty_database_at_once_all_succeed() {
    for place in Place::each().await {
        join_all((0..4).map(|_| place.open())).await;
    }
}

#[tokio::test]
async fn migrations_are_applied_once_and_a_newer_or_changed_one_is_refused() {
    for place in Place::each().await {
        Database::migrate(&place.config).await.unwrap();
        Database::migrate(&place.config).await.unwrap();
        place.open().await;
        let newer = "INSERT INTO schema_versions (version, name, checksum) \
                     SELECT 99, 'next', checksum FROM schema_versions WHERE version = 1";
        place.execute(newer).await.unwrap();
        let error = open_error(&place, CHAIN).await.to_string();
        assert!(error.contains("use a newer program"), "{error}");
        place
            .execute("DELETE FROM schema_versions WHERE version = 99")
            .await
            .unwrap();
        let change = "UPDATE schema_versions SET checksum = substr(checksum, 2) WHERE version = 1";
        place.execute(change).await.unwrap();
        let error = open_error(&place, CHAIN).await.to_string();
        assert!(error.contains("differs"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_file_and_no_server_is_an_error() {
    let sqlite = |path: &str| DatabaseConfig::Sqlite(SqliteConfig { path: path.into() });
    let postgres = |url: &str| {
        DatabaseConfig::Postgres(PostgresConfig {
            url: url.to_owned(),
            password_file: None,
            ca: None,
            synchronous_standbys_min: 0,
        })
    };
    for (config, says) in [
        (sqlite("/nowhere/ledger.sqlite"), "No such file"),
        (sqlite("/tmp"), "/tmp: unable to open"),
        (postgres("postgres://127.0.0.1:1/none"), "refused"),
        (
            postgres("postgres://me:secret@127.0.0.1/none"),
            "password_file",
        ),
        (
            postgres("host=127.0.0.1 user=me password=secret"),
            "password_file",
        ),
        (
            postgres("postgres://127.0.0.1/none?sslmode=require"),
            "`ca`",
        ),
        (
            postgres("postgres://127.0.0.1/none?sslmode=perhaps"),
            "sslmode",
        ),
    ] {
        let Err(error) = Database::open(&config, CHAIN).await else {
            panic!("{config:?} was opened");
        };
        assert!(error.to_string().contains(says), "{config:?}: {error}");
        let shown = format!("{config:?} {error}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_configuration_names_one_database_and_nothing_unknown() {
    let parse = toml::from_str::<DatabaseConfig>;
    let sqlite = parse("[sqlite]\npath = 'ledger.sqlite'").unwrap();
    assert!(matches!(sqlite, DatabaseConfig::Sqlite(_)));
    let postgres = parse("[postgres]\nurl = 'host=a'\npassword_file = 'p'\nca = 'ca.pem'").unwrap();
    let again = toml::to_string(&postgres).unwrap();
    assert_eq!(parse(&again).unwrap(), postgres);
    for text in [
        "",
        "[mysql]\nurl = ''",
        "[sqlite]\npath = 'a'\nsize = 1",
        "[postgres]\nurl = 'host=a'\npassword = 'b'",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

/// Writes directly to a database in which validator 1 has attested (5, 6) and proposed 10.
async fn check_refused(statements: &[(&str, bool)]) {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        decide(&ledger, 1, attest(5, 6), 1).await.unwrap();
        decide(&ledger, 1, propose(10), 1).await.unwrap();
        for (sql, taken) in statements {
            let (x, end) = match place.config {
                DatabaseConfig::Sqlite(_) => ("x'", "'"),
                DatabaseConfig::Postgres(_) => ("'\\x", "'"),
            };
            let sql = sql
                .replace("KEY", &format!("{x}{}{end}", "01".repeat(48)))
                .replace("ROOT1", &format!("{x}{}{end}", "01".repeat(32)))
                .replace("ROOT2", &format!("{x}{}{end}", "02".repeat(32)));
            let done = place.execute(&sql).await;
            assert_eq!(done.is_ok(), *taken, "{sql}: {done:?}");
        }
    }
}

#[tokio::test]
async fn the_schema_refuses_a_falling_ratchet() {
    check_refused(&[
        (
            "UPDATE ratchets SET source_epoch = 4 WHERE validator = KEY",
            false,
        ),
        (
            "UPDATE ratchets SET source_epoch = 4, target_epoch = 7 WHERE validator = KEY",
            false,
        ),
        (
            "UPDATE ratchets SET source_epoch = 5, target_epoch = 5 WHERE validator = KEY",
            false,
        ),
        ("UPDATE ratchets SET slot = 9 WHERE validator = KEY", false),
        (
            "UPDATE ratchets SET slot = NULL, block_root = NULL WHERE validator = KEY",
            false,
        ),
        (
            "UPDATE ratchets SET source_epoch = NULL, target_epoch = NULL, attestation_root = NULL \
             WHERE validator = KEY",
            false,
        ),
        (
            "UPDATE ratchets SET source_epoch = 8 WHERE validator = KEY",
            false,
        ),
        ("UPDATE ratchets SET slot = -1 WHERE slot IS NULL", false),
        (
            "UPDATE ratchets SET decisions = 0 WHERE validator = KEY",
            false,
        ),
        ("DELETE FROM ratchets WHERE validator = KEY", false),
        ("DELETE FROM ledger", false),
        ("UPDATE ledger SET genesis_validators_root = ROOT1", false),
        (
            "UPDATE ratchets SET target_epoch = 7, attestation_root = ROOT2, slot = 11, \
             block_root = ROOT2 WHERE validator = KEY",
            true,
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_schema_refuses_a_double_vote() {
    let vote = "INSERT INTO attestations (target_epoch, validator, source_epoch, signing_root) \
                VALUES (6, KEY, 4, ROOT2)";
    let block = "INSERT INTO blocks (slot, validator, signing_root) VALUES (10, KEY, ROOT2)";
    check_refused(&[
        (vote, false),
        (block, false),
        ("UPDATE attestations SET signing_root = ROOT2", false),
        ("UPDATE blocks SET signing_root = ROOT2", false),
        (
            "UPDATE ratchets SET attestation_root = ROOT2 WHERE validator = KEY",
            false,
        ),
        (
            "UPDATE ratchets SET block_root = ROOT2 WHERE validator = KEY",
            false,
        ),
        (
            "UPDATE ratchets SET source_epoch = 6, attestation_root = ROOT1 WHERE validator = KEY",
            false,
        ),
        (
            "UPDATE ratchets SET attestation_root = NULL WHERE validator = KEY",
            true,
        ),
        (
            "UPDATE ratchets SET attestation_root = ROOT1 WHERE validator = KEY",
            false,
        ),
    ])
    .await;
}

/// A CA, and a server certificate of it for a name.
fn certificates(name: &str) -> (String, String, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let certificate = server.signed_by(&key, &issuer).unwrap().pem();
    (ca_certificate, certificate, key.serialize_pem())
}

#[tokio::test]
async fn a_servers_certificate_must_chain_to_the_configured_ones() {
    let (ca, certificate, key) = certificates("localhost");
    let (other_ca, ..) = certificates("localhost");
    let settings = [
        ("ssl", "on"),
        ("ssl_cert_file", "../server.crt"),
        ("ssl_key_file", "../server.key"),
    ];
    let files = [
        ("server.crt", certificate.as_str()),
        ("server.key", key.as_str()),
    ];
    let cluster = throwaway::Cluster::start_with(&settings, &files).await;
    let url = cluster.database().await;
    let directory = tempfile::tempdir().unwrap();
    let password_file = directory.path().join("password");
    // The server trusts everybody: the password is read, and not asked for.
    std::fs::write(&password_file, "secret\n").unwrap();
    for (host, trusted, works) in [
        ("localhost", &ca, true),
        ("localhost", &other_ca, false),
        ("127.0.0.1", &ca, false),
    ] {
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, trusted).unwrap();
        let config = DatabaseConfig::Postgres(PostgresConfig {
            url: url.replace("127.0.0.1", host),
            password_file: Some(password_file.clone()),
            ca: Some(file),
            synchronous_standbys_min: 0,
        });
        let opened = Database::open(&config, CHAIN).await;
        match opened {
            Ok(Database::Postgres(database)) => {
                assert!(works, "{host}");
                let client = database.client().await.unwrap();
                let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                assert!(
                    client
                        .query_one(encrypted, &[])
                        .await
                        .unwrap()
                        .get::<_, bool>(0)
                );
            }
            Ok(Database::Sqlite(_)) => panic!("a server was configured"),
            Err(error) => assert!(
                !works && error.to_string().contains("TLS"),
                "{host}: {error}"
            ),
        }
    }
}
