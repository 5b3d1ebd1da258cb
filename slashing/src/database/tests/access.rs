//! What lets us in and whom we trust is replaced while a server is used.

use throwaway::Cluster;

use super::*;

/// The role that asks over TLS shows a password; the tests' own, without TLS, need none.
const HBA: &str = "hostssl all countersign 127.0.0.1/32 scram-sha-256
hostnossl all postgres 127.0.0.1/32 trust
";
const OLD: &str = "an old password";
const NEW: &str = "a new password";

/// A server that shows one of two certificates, each of an authority of its own.
struct Guarded {
    cluster: Cluster,
    url: String,
    directory: tempfile::TempDir,
    authorities: [String; 2],
}

impl Guarded {
    async fn start() -> Self {
        let (old_ca, old, old_key) = certificates("127.0.0.1");
        let (new_ca, new, new_key) = certificates("127.0.0.1");
        let settings = [
            ("ssl", "on"),
            ("ssl_cert_file", "../old.crt"),
            ("ssl_key_file", "../old.key"),
            ("hba_file", "hba.conf"),
        ];
        let files = [
            ("old.crt", old.as_str()),
            ("old.key", &old_key),
            ("new.crt", &new),
            ("new.key", &new_key),
            ("hba.conf", HBA),
        ];
        let cluster = Cluster::start_with(&settings, &files).await;
        let database = cluster.database().await;
        let (_, name) = database.rsplit_once('/').unwrap();
        let guarded = Self {
            url: database.replace("postgres@", "countersign@"),
            directory: tempfile::tempdir().unwrap(),
            authorities: [old_ca, new_ca],
            cluster,
        };
        guarded.run("CREATE ROLE countersign LOGIN").await;
        guarded.role_has(OLD).await;
        let owner = format!("ALTER DATABASE {name} OWNER TO countersign");
        guarded.run(&owner).await;
        guarded.write(&guarded.authorities[0], OLD);
        guarded
    }

    async fn run(&self, sql: &str) {
        let (client, connection) =
            tokio_postgres::connect(&self.cluster.url("postgres"), tokio_postgres::NoTls)
                .await
                .unwrap();
        let driver = tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
        driver.abort();
    }

    async fn role_has(&self, password: &str) {
        let sql = format!("ALTER ROLE countersign PASSWORD '{password}'");
        self.run(&sql).await;
    }

    async fn shows_the_new_certificate(&mut self) {
        let settings = [
            ("ssl_cert_file", "../new.crt"),
            ("ssl_key_file", "../new.key"),
        ];
        self.cluster.set(&settings).await;
    }

    fn write(&self, ca: &str, password: &str) {
        std::fs::write(self.directory.path().join("ca.pem"), ca).unwrap();
        let file = self.directory.path().join("password");
        std::fs::write(file, format!("{password}\n")).unwrap();
    }

    fn config(&self) -> DatabaseConfig {
        DatabaseConfig::Postgres(PostgresConfig {
            url: self.url.clone(),
            password_file: Some(self.directory.path().join("password")),
            ca: Some(self.directory.path().join("ca.pem")),
            synchronous_standbys_min: 0,
        })
    }

    fn read(&self) -> Result<Access, DatabaseError> {
        Access::read(&self.config(), &self.config())
    }

    async fn open(&self) -> (Database, PostgresDatabase) {
        let database = Database::open(&self.config(), CHAIN).await.unwrap();
        match database.clone() {
            Database::Postgres(postgres) => (database, postgres),
            Database::Sqlite(_) => panic!("a server was configured"),
        }
    }
}

/// What a new connection of the ledger's is refused for; empty if it is not.
async fn refusal(database: &PostgresDatabase) -> String {
    let refused = database.connect().await.err();
    refused.map_or_else(String::new, |error| error.to_string())
}

#[tokio::test]
async fn new_connections_take_the_replaced_password_and_open_ones_go_on() {
    let guarded = Guarded::start().await;
    let (database, postgres) = guarded.open().await;
    let own = postgres.connect().await.unwrap();
    let pooled = postgres.client().await.unwrap();

    // The role's first: nobody comes in before the file is read.
    guarded.role_has(NEW).await;
    let refused = refusal(&postgres).await;
    assert!(refused.contains("28P01"), "{refused}");
    assert!(!refused.contains(OLD), "{refused}");
    guarded.write(&guarded.authorities[0], NEW);
    database.replace_access(guarded.read().unwrap());
    assert_eq!(refusal(&postgres).await, "");

    // The file's first: until the new one has let us in, the one before does.
    guarded.write(&guarded.authorities[0], OLD);
    database.replace_access(guarded.read().unwrap());
    assert_eq!(refusal(&postgres).await, "");
    guarded.write(&guarded.authorities[0], "one that was never the role's");
    database.replace_access(guarded.read().unwrap());
    assert_eq!(refusal(&postgres).await, "");
    guarded.write(&guarded.authorities[0], OLD);
    database.replace_access(guarded.read().unwrap());
    guarded.role_has(OLD).await;
    assert_eq!(refusal(&postgres).await, "");
    // It has let us in, and what was before counts no more.
    guarded.role_has(NEW).await;
    let refused = refusal(&postgres).await;
    assert!(refused.contains("28P01"), "{refused}");

    // The file changes once more before anybody has connected with the role's.
    for password in [OLD, "another that was never the role's"] {
        guarded.write(&guarded.authorities[0], password);
        database.replace_access(guarded.read().unwrap());
    }
    guarded.role_has(OLD).await;
    assert_eq!(refusal(&postgres).await, "");
    database.try_access().await.unwrap();
    guarded.role_has("known to nobody here").await;
    let refused = database.try_access().await.unwrap_err().to_string();
    assert!(refused.contains("28P01"), "{refused}");

    let clients: [&tokio_postgres::Client; 2] = [&own.client, &pooled];
    for client in clients {
        client.query_one("SELECT 1", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn new_connections_trust_the_replaced_authority_only_and_open_ones_go_on() {
    let mut guarded = Guarded::start().await;
    let (database, postgres) = guarded.open().await;
    let own = postgres.connect().await.unwrap();
    let [old, new] = guarded.authorities.clone();

    guarded.write(&format!("{old}{new}"), OLD);
    database.replace_access(guarded.read().unwrap());
    assert_eq!(refusal(&postgres).await, "");
    guarded.shows_the_new_certificate().await;
    assert_eq!(refusal(&postgres).await, "");
    guarded.write(&new, OLD);
    database.replace_access(guarded.read().unwrap());
    assert_eq!(refusal(&postgres).await, "");
    guarded.write(&old, OLD);
    database.replace_access(guarded.read().unwrap());
    let refused = refusal(&postgres).await;
    assert!(refused.contains("TLS"), "{refused}");
    own.client.query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn files_that_are_wrong_are_refused_by_name_and_never_quoted() {
    let guarded = Guarded::start().await;
    let ca = &guarded.authorities[0];
    for (ca, password, says) in [
        ("", OLD, "ca.pem: no certificate in it"),
        (
            &ca[..ca.len() / 2],
            OLD,
            "ca.pem: it is not well-formed PEM",
        ),
        (
            "-----BEGIN SECRET",
            OLD,
            "ca.pem: it is not well-formed PEM",
        ),
        (ca, "\n", "password: there is no password in it"),
    ] {
        guarded.write(ca, password);
        let error = guarded.read().err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("SECRET"), "{error}");
    }
    std::fs::remove_file(guarded.directory.path().join("password")).unwrap();
    let error = guarded.read().err().unwrap().to_string();
    assert!(error.contains("password_file"), "{error}");
}
