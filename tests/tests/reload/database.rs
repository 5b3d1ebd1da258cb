//! The password and the authority of cosigners' Postgres are replaced while they sign.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use countersign::certs::{Authority, CertifiedPem, Usage, Validity};
use daemon::tls::{Role, expiry};
use tests::{
    cluster::{Cluster, Options, Prepared, Storage},
    lone::connect,
    process::eventually,
};
use tokio_postgres::Client;

use crate::{
    load::{APPLIED, Load, REFUSED, SOON, UNCHANGED, metric, metrics_of, put, says},
    options,
};

const COSIGNERS: std::ops::RangeInclusive<u64> = 1..=3;
/// Cosigners come over TLS, with a password; the tests' own connections need neither.
const HBA: &str = "hostssl all countersign 127.0.0.1/32 scram-sha-256
hostnossl all postgres 127.0.0.1/32 trust
";
const FORMER: &str = "takes one that was in it before";
const UNUSABLE: &str = "new connections to the database fail with what the files say now";
const PASSWORDS: [&str; 3] = ["the first password", "the second password", "the third"];

/// A committee whose cosigners have their ledgers on one guarded server, and show it one password
/// and trust one file of authorities.
struct Guarded {
    server: Arc<throwaway::Cluster>,
    cluster: Cluster,
    superuser: Client,
    /// Of each cosigner, the database.
    databases: BTreeMap<u64, String>,
    password: PathBuf,
    ca: PathBuf,
}

/// A server that shows the first of these certificates, and has the others at hand.
async fn server(certificates: &[CertifiedPem]) -> throwaway::Cluster {
    let settings = [
        ("ssl", "on"),
        ("ssl_cert_file", "../0.crt"),
        ("ssl_key_file", "../0.key"),
        ("hba_file", "hba.conf"),
    ];
    let mut files = vec![("hba.conf".to_owned(), HBA)];
    for (at, pem) in certificates.iter().enumerate() {
        files.push((format!("{at}.crt"), &pem.certificate));
        files.push((format!("{at}.key"), &pem.key));
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, *text)).collect();
    throwaway::Cluster::start_with(&settings, &files).await
}

impl Guarded {
    async fn start(certificates: &[CertifiedPem], ca: &str) -> Self {
        let server = Arc::new(server(certificates).await);
        let superuser = connect(&server.url("postgres")).await;
        let role = "CREATE ROLE countersign SUPERUSER LOGIN";
        superuser.batch_execute(role).await.unwrap();
        let prepared = Prepared::new(Options {
            committee: "2-of-3",
            storage: Storage::Postgres,
            server: Some(Arc::clone(&server)),
            ..options()
        })
        .await;
        let password = prepared.dir().join("database.password");
        let authorities = prepared.dir().join("database-ca.crt");
        put(&authorities, ca);
        put(&password, format!("{}\n", PASSWORDS[0]));
        let mut databases = BTreeMap::new();
        for number in COSIGNERS {
            let file = prepared
                .dir()
                .join(format!("cosigner-{number}/cosigner.toml"));
            let text = fs::read_to_string(&file).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with("url = "))
                .unwrap();
            let guarded = format!(
                "{}\npassword_file = \"{}\"\nca = \"{}\"",
                line.replace("postgres@", "countersign@"),
                password.display(),
                authorities.display()
            );
            fs::write(&file, text.replace(line, &guarded)).unwrap();
            let (_, name) = line.trim_end_matches('"').rsplit_once('/').unwrap();
            databases.insert(number, name.to_owned());
        }
        set_password(&superuser, PASSWORDS[0]).await;
        Self {
            cluster: prepared.start().await,
            server,
            superuser,
            databases,
            password,
            ca: authorities,
        }
    }

    async fn role_has(&self, password: &str) {
        set_password(&self.superuser, password).await;
    }

    /// From when this returns, every new connection is shown that certificate.
    async fn shows(&self, certificate: usize) {
        for (setting, end) in [("ssl_cert_file", "crt"), ("ssl_key_file", "key")] {
            let sql = format!("ALTER SYSTEM SET {setting} = '../{certificate}.{end}'");
            self.superuser.batch_execute(&sql).await.unwrap();
        }
        let reload = "SELECT pg_reload_conf()";
        self.superuser.batch_execute(reload).await.unwrap();
        let wanted = format!("../{certificate}.key");
        eventually("the server has read its settings", SOON, || async {
            let client = connect(&self.server.url("postgres")).await;
            let row = client.query_one("SHOW ssl_key_file", &[]).await.unwrap();
            row.get::<_, &str>(0) == wanted
        })
        .await;
    }

    async fn all_say(&mut self, what: &str, times: usize) {
        for number in COSIGNERS {
            says(self.cluster.cosigner(number), what, times).await;
        }
    }

    /// Ends all connections of one cosigner after the other, and waits until it is served again.
    async fn reconnect(&self, load: &Load) {
        const END: &str = "SELECT count(pg_terminate_backend(pid, 10000))
            FROM pg_stat_activity WHERE usename = 'countersign' AND datname = $1";
        // The ledger's own has prepared what it decides with.
        const BACK: &str = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
            WHERE usename = 'countersign' AND datname = $1 AND ssl AND query <> ''";
        for (number, database) in &self.databases {
            let row = self.superuser.query_one(END, &[database]).await.unwrap();
            assert!(row.get::<_, i64>(0) >= 2, "the ledger's and the vault's");
            eventually(&format!("cosigner-{number} connects"), SOON, || async {
                let row = self.superuser.query_one(BACK, &[database]).await.unwrap();
                row.get::<_, i64>(0) >= 2
            })
            .await;
            self.cluster.health_says(*number, "UP").await;
            load.goes_on().await;
        }
    }

    /// Who holds each of the ledgers.
    async fn holders(&self) -> Vec<Vec<u8>> {
        let mut holders = Vec::new();
        for database in self.databases.values() {
            let client = connect(&self.server.url(database)).await;
            let row = client.query_one("SELECT holder FROM standing", &[]).await;
            holders.push(row.unwrap().get(0));
        }
        holders
    }

    /// When the authorities that are in use end, as each cosigner says.
    async fn told_ends(&mut self) -> Vec<Option<i64>> {
        let name = format!(
            "countersign_tls_certificate_not_after_timestamp_seconds\
             {{file=\"{}\",role=\"authority\"}}",
            self.ca.display()
        );
        let mut ends = Vec::new();
        for number in COSIGNERS {
            let address = metrics_of(self.cluster.cosigner(number));
            ends.push(metric(&address, &name).await);
        }
        ends
    }

    fn end(&self) -> Vec<Option<i64>> {
        let end = expiry(&self.ca, Role::Authority).unwrap().not_after;
        COSIGNERS.map(|_| Some(end)).collect()
    }
}

async fn set_password(superuser: &Client, password: &str) {
    let sql = format!("ALTER ROLE countersign PASSWORD '{password}'");
    superuser.batch_execute(&sql).await.unwrap();
}

fn certificates(authorities: &[Authority]) -> Vec<CertifiedPem> {
    let valid = || Validity::days(35).unwrap();
    let issued = authorities
        .iter()
        .map(|authority| authority.issue("127.0.0.1", Usage::Server, valid()));
    issued.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_databases_password_and_authority_are_replaced_and_no_request_fails() {
    let authorities = [Authority::new(50).unwrap(), Authority::new(60).unwrap()];
    let [old, new] = authorities.each_ref().map(Authority::certificate);
    let mut guarded = Guarded::start(&certificates(&authorities), &old).await;
    assert_eq!(guarded.told_ends().await, guarded.end());
    let holders = guarded.holders().await;
    let load = Load::start(&guarded.cluster);
    load.goes_on().await;

    // The file's first: until the role has it, who connects comes in with the one before.
    put(&guarded.password, PASSWORDS[1]);
    guarded.all_say(APPLIED, 1).await;
    guarded.reconnect(&load).await;
    guarded.all_say(FORMER, 1).await;
    guarded.role_has(PASSWORDS[1]).await;
    guarded.reconnect(&load).await;
    // The role's first: who is connected stays, and who connects after the file is read comes in.
    guarded.role_has(PASSWORDS[2]).await;
    put(&guarded.password, PASSWORDS[2]);
    guarded.all_say(APPLIED, 2).await;
    guarded.reconnect(&load).await;

    // Both authorities, the server's certificate, the new authority only.
    put(&guarded.ca, format!("{old}{new}"));
    guarded.all_say(APPLIED, 3).await;
    guarded.shows(1).await;
    guarded.reconnect(&load).await;
    put(&guarded.ca, &new);
    guarded.all_say(APPLIED, 4).await;
    guarded.reconnect(&load).await;
    assert_eq!(guarded.told_ends().await, guarded.end());

    // What is wrong is named, and what was read before goes on to count.
    let end = guarded.end();
    for (at, (file, text)) in [
        (guarded.ca.clone(), &new[..new.len() / 2]),
        (guarded.password.clone(), "\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let good = fs::read_to_string(&file).unwrap();
        put(&file, text);
        guarded.all_say(REFUSED, at + 1).await;
        for number in COSIGNERS {
            let log = guarded.cluster.cosigner(number).log();
            let line = log.lines().rfind(|line| line.contains(REFUSED)).unwrap();
            assert!(line.contains(file.to_str().unwrap()), "{line}");
        }
        guarded.reconnect(&load).await;
        assert_eq!(guarded.told_ends().await, end);
        put(&file, good);
        guarded.all_say(UNCHANGED, at + 1).await;
    }

    // What only the server can tell to be wrong is told at once, while what is open goes on.
    put(&guarded.ca, &old);
    guarded.all_say(UNUSABLE, 1).await;
    load.goes_on().await;
    put(&guarded.ca, &new);
    guarded.all_say(APPLIED, 6).await;
    guarded.reconnect(&load).await;

    let signed = load.end().await;
    assert!(signed > 100, "{signed} requests");
    assert_eq!(guarded.holders().await, holders, "a ledger was taken anew");
    for number in COSIGNERS {
        let log = guarded.cluster.cosigner(number).log();
        for password in PASSWORDS {
            assert!(!log.contains(password), "a password is in a log");
        }
    }
}
