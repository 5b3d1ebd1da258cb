use std::sync::atomic::{AtomicU32, Ordering};

use throwaway::Cluster;
use tokio::time::Instant;

use super::*;
use crate::{
    database::{Database, DatabaseConfig},
    testing::{CHAIN, Place, connect, open_error, wait_until},
};

/// A place whose commits are to wait for so many standbys.
fn place(url: &str, synchronous_standbys_min: u32) -> Place {
    let mut place = Place::postgres(url.to_owned());
    if let DatabaseConfig::Postgres(config) = &mut place.config {
        config.synchronous_standbys_min = synchronous_standbys_min;
    }
    place
}

async fn open(place: &Place) -> PostgresDatabase {
    match place.open().await {
        Database::Postgres(database) => database,
        Database::Sqlite(_) => panic!("a server was configured"),
    }
}

/// A URL of the same database on several servers.
fn hosts(clusters: &[&Cluster], url: &str) -> String {
    let (_, name) = url.rsplit_once('/').unwrap();
    let hosts: Vec<_> = clusters
        .iter()
        .map(|cluster| format!("127.0.0.1:{}", cluster.port()))
        .collect();
    format!("postgres://postgres@{}/{name}", hosts.join(","))
}

/// The settings, how many standbys are asked for, and what the refusal says; nothing if the
/// server is taken.
type Case = (
    &'static [(&'static str, &'static str)],
    u32,
    &'static [&'static str],
);

const CASES: &[Case] = &[
    (&[], 0, &[]),
    (&[("fsync", "off")], 0, &["set fsync = on"]),
    (
        &[("fsync", "on"), ("full_page_writes", "off")],
        0,
        &["set full_page_writes = on"],
    ),
    (
        &[("full_page_writes", "on"), ("synchronous_commit", "off")],
        0,
        &[],
    ),
    (&[("synchronous_commit", "local")], 0, &[]),
    (&[("synchronous_commit", "remote_write")], 0, &[]),
    (&[("synchronous_commit", "remote_apply")], 0, &[]),
    (
        &[("default_transaction_read_only", "on")],
        0,
        &["set default_transaction_read_only = off"],
    ),
    (
        &[("default_transaction_read_only", "off")],
        1,
        &["wait for 0 standbys", "synchronous_standbys_min = 1"],
    ),
    // Nobody bears the name: the commit that is tried waits.
    (
        &[("synchronous_standby_names", "\"ANY\"")],
        1,
        &["does not answer"],
    ),
    (
        &[("synchronous_standby_names", "ANY 1 (one, two)")],
        2,
        &["wait for 1 standbys"],
    ),
    (&[("synchronous_standby_names", "")], 0, &[]),
];

#[tokio::test]
async fn a_server_that_may_forget_is_refused_with_what_to_change() {
    let mut cluster = Cluster::start().await;
    let url = cluster.database().await;
    for (settings, standbys_min, says) in CASES {
        cluster.set(settings).await;
        let place = place(&url, *standbys_min);
        if says.is_empty() {
            let database = open(&place).await;
            check_waits(&database).await;
            continue;
        }
        let error = open_error(&place, CHAIN).await.to_string();
        for says in *says {
            assert!(error.contains(says), "{settings:?}: {error}");
        }
        assert!(error.contains("127.0.0.1:"), "{error}");
    }
    cluster.stop().await;
    cluster.set(&[("data_sync_retry", "on")]).await;
    cluster.restart().await;
    let error = open_error(&place(&url, 0), CHAIN).await.to_string();
    assert!(error.contains("set data_sync_retry = off"), "{error}");
}

/// Whatever the server's default, a session of ours waits for disk and standbys.
async fn check_waits(database: &PostgresDatabase) {
    let own = database.connect().await.unwrap();
    let pooled = database.client().await.unwrap();
    let shown =
        "SELECT current_setting('synchronous_commit'), current_setting('statement_timeout')";
    let clients: [&Client; 2] = [&own.client, &pooled];
    for client in clients {
        let row = client.query_one(shown, &[]).await.unwrap();
        let waits: &str = row.get(0);
        assert!(["on", "remote_apply"].contains(&waits), "{waits}");
        assert_eq!(row.get::<_, &str>(1), "0");
    }
}

#[tokio::test]
async fn a_setting_that_is_changed_under_a_connection_is_seen() {
    let mut cluster = Cluster::start().await;
    let url = cluster.database().await;
    let database = open(&place(&url, 0)).await;
    let connection = database.connect().await.unwrap();
    database.recheck(&connection).await.unwrap();
    cluster.set(&[("fsync", "off")]).await;
    wait_until("the change is seen", async || {
        let checked = database.recheck(&connection).await;
        checked.is_err_and(|error| error.to_string().contains("set fsync = on"))
    })
    .await;
}

/// Nothing passes.
struct No;

impl Check for No {
    type Passed = ();

    fn check<'a>(&'a self, _: &'a Connection) -> BoxFuture<'a, Result<(), DatabaseError>> {
        async { Err(DatabaseError::Unavailable("no".to_owned())) }.boxed()
    }
}

#[tokio::test]
async fn the_first_host_that_will_do_is_taken_and_the_others_cost_nothing() {
    let primary = Cluster::start().await;
    let standby = primary.standby("standby").await;
    let frozen = Cluster::start().await;
    let mut stopped = Cluster::start().await;
    let url = primary.database().await;
    stopped.stop().await;
    frozen.freeze();
    let all = hosts(&[&frozen, &stopped, &standby, &primary], &url);

    let started = Instant::now();
    let database = open(&place(&all, 0)).await;
    let own = database.connect().await.unwrap();
    let pooled = database.client().await.unwrap();
    let clients: [&Client; 2] = [&own.client, &pooled];
    for client in clients {
        let row = client.query_one("SELECT inet_server_port()", &[]).await;
        assert_eq!(row.unwrap().get::<_, i32>(0), i32::from(primary.port()));
    }
    // One frozen host that was waited for would take this long, three times.
    assert!(started.elapsed() < CONNECT_WAIT * 3, "{started:?}");

    let refused = database.connect_where(&No).await.err();
    let refused = refused.unwrap().to_string();
    for (cluster, reason) in [
        (&frozen, "the server does not answer"),
        (&stopped, "error connecting to server"),
        (&standby, "it is a standby"),
        (&primary, "no"),
    ] {
        let says = format!("127.0.0.1:{}: {reason}", cluster.port());
        assert!(refused.contains(&says), "{refused}");
    }
    drop(pooled);
}

/// Passes at the third look, as a standby that is being promoted.
struct Third(AtomicU32);

impl Check for Third {
    type Passed = ();

    fn check<'a>(&'a self, _: &'a Connection) -> BoxFuture<'a, Result<(), DatabaseError>> {
        let looks = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let passed = (looks >= 3).then_some(());
        async move { passed.ok_or(DatabaseError::Unavailable("not yet".to_owned())) }.boxed()
    }
}

#[tokio::test]
async fn a_host_that_becomes_fit_while_another_hangs_is_taken_at_once() {
    let [good, frozen] = [Cluster::start().await, Cluster::start().await];
    let url = good.database().await;
    frozen.freeze();
    let database = open(&place(&hosts(&[&frozen, &good], &url), 0)).await;
    let connected = database.connect_where(&Third(AtomicU32::new(0))).await;
    connected.map(|_| ()).unwrap();
}

#[tokio::test]
async fn a_warning_ends_a_connection_and_fails_what_it_was_doing() {
    const WARN: &str = "CREATE TABLE IF NOT EXISTS mine (number int);
        DO $$ BEGIN RAISE WARNING 'not so'; END $$";
    let url = throwaway::database().await;
    let database = open(&place(&url, 0)).await;

    let mut own = database.connect().await.unwrap();
    own.client.batch_execute(WARN).await.unwrap_err();
    assert_eq!(own.take_warning().as_deref(), Some("not so"));
    own.closed().await;
    assert!(own.client.is_closed());

    let pooled = database.client().await.unwrap();
    pooled.batch_execute(WARN).await.unwrap_err();
    drop(pooled);
    // The pool gives no such connection again.
    let pooled = database.client().await.unwrap();
    pooled.query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn what_a_pooled_connection_was_refused_for_is_told() {
    let mut cluster = Cluster::start().await;
    let database = open(&place(&cluster.database().await, 0)).await;
    cluster.set(&[("full_page_writes", "off")]).await;
    let error = database.client().await.err().unwrap().to_string();
    assert!(error.contains("set full_page_writes = on"), "{error}");
    cluster.stop().await;
    let error = database.client().await.err().unwrap().to_string();
    assert!(error.contains("error connecting to server"), "{error}");
}

/// Commits that wait for a standby are not piled up: a server on which one does is refused.
#[tokio::test]
async fn a_server_whose_commits_wait_is_refused_until_its_standby_is_back() {
    let mut primary = Cluster::start().await;
    let url = primary.database().await;
    let mut standby = primary.standby("standby").await;
    primary
        .set(&[("synchronous_standby_names", "standby")])
        .await;
    let database = open(&place(&url, 1)).await;
    standby.stop().await;
    for _ in 0..3 {
        database.connect().await.err().unwrap();
    }
    let error = database.connect().await.err().unwrap().to_string();
    assert!(error.contains("its synchronous standbys"), "{error}");
    let client = connect(&url).await;
    let waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert!(client.query(waiting, &[]).await.unwrap().len() <= 2);
    standby.restart().await;
    wait_until("the server commits again", async || {
        database.connect().await.is_ok()
    })
    .await;
}

#[test]
fn a_url_is_one_server_per_host_and_never_one_that_is_only_read() {
    let check = |url: &str, expected: Result<&[&str], &str>| {
        let server = Server::configured(&PostgresConfig {
            url: url.to_owned(),
            password_file: None,
            ca: None,
            synchronous_standbys_min: 0,
        });
        match (server, expected) {
            (Ok(server), Ok(names)) => {
                let hosts = server.hosts.iter().map(|host| host.name.as_str());
                assert_eq!(hosts.collect::<Vec<_>>(), names, "{url}");
            }
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{url}: {error}"),
            (server, _) => panic!("{url}: {:?}", server.err()),
        }
    };
    check("postgres://a/x", Ok(&["a:5432"]));
    check("postgres://a:1,b:2/x", Ok(&["a:1", "b:2"]));
    check("host=a,b port=7", Ok(&["a:7", "b:7"]));
    check("host=a,a,b", Ok(&["a:5432", "b:5432"]));
    check("host=a hostaddr=10.0.0.1", Ok(&["10.0.0.1:5432"]));
    check("host=/run/postgresql", Ok(&["/run/postgresql:5432"]));
    check("host=a target_session_attrs=read-write", Ok(&["a:5432"]));
    check("host=a target_session_attrs=read-only", Err("read-only"));
    check("dbname=x", Err("names no host"));
    check("host=a,b,c port=1,2", Err("one port"));
    check("host=a,b hostaddr=10.0.0.1", Err("hostaddr"));
}
