use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::*;

/// Runs SQL, and returns how many rows its last statement returned.
async fn rows(url: &str, sql: &str) -> Result<usize, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let messages = client.simple_query(sql).await;
    driver.abort();
    let is_row = |message: &&_| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_));
    messages.map(|messages| messages.iter().filter(is_row).count())
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + SERVER_WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(POLL_PAUSE).await;
    }
}

const MAKE: &str = "CREATE TABLE mine (number int); INSERT INTO mine VALUES (1)";
const READ: &str = "SELECT number FROM mine";

#[tokio::test]
async fn every_database_is_fresh() {
    let (one, other) = (database().await, database().await);
    rows(&one, MAKE).await.unwrap();
    assert_eq!(rows(&one, READ).await.unwrap(), 1);
    rows(&other, READ).await.unwrap_err();
}

#[tokio::test]
async fn a_cluster_keeps_its_data_over_a_stop_a_crash_and_a_freeze() {
    let mut cluster = Cluster::start().await;
    let url = cluster.database().await;
    rows(&url, MAKE).await.unwrap();

    cluster.stop().await;
    rows(&url, READ).await.unwrap_err();
    cluster.restart().await;
    assert_eq!(rows(&url, READ).await.unwrap(), 1);

    cluster.crash().await;
    rows(&url, READ).await.unwrap_err();
    cluster.restart().await;
    assert_eq!(rows(&url, READ).await.unwrap(), 1);

    cluster.freeze();
    let unanswered = timeout(Duration::from_millis(200), rows(&url, READ)).await;
    assert!(unanswered.is_err());
    cluster.thaw();
    assert_eq!(rows(&url, READ).await.unwrap(), 1);

    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert!(!directory.exists());
}

const CHILD: &str = "THROWAWAY_TEST_CHILD";

/// Not a test of its own: what the next test runs in a process that it kills.
#[tokio::test]
async fn a_process_with_a_cluster() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let cluster = Cluster::start().await;
    // A line of its own, on a stream that the test harness does not capture.
    let line = format!(
        "\n{} {}\n",
        cluster.server_id().unwrap(),
        cluster.directory().display()
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    sleep(SERVER_WAIT).await;
}

#[tokio::test]
async fn a_server_dies_with_a_killed_process_and_leaves_nothing_for_long() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::a_process_with_a_cluster", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (server, directory) = lines
        .map_while(Result::ok)
        .find_map(|line| {
            let (server, directory) = line.split_once(" /")?;
            Some((
                server.parse::<u32>().ok()?,
                PathBuf::from(format!("/{directory}")),
            ))
        })
        .unwrap();
    assert!(directory.join("data/postmaster.pid").exists());

    child.kill().unwrap();
    child.wait().unwrap();
    let process = PathBuf::from(format!("/proc/{server}"));
    wait_until("the server outlives its process", || !process.exists()).await;

    assert!(directory.exists());
    let aged = std::time::SystemTime::now() - 2 * Duration::from_secs(60);
    std::fs::File::open(&directory)
        .unwrap()
        .set_modified(aged)
        .unwrap();
    let next = Cluster::start().await;
    assert!(!directory.exists());
    assert!(next.directory().exists());
}

async fn count(url: &str, at_least: usize) {
    let deadline = Instant::now() + SERVER_WAIT;
    while rows(url, READ).await.unwrap_or_default() < at_least {
        assert!(Instant::now() < deadline, "not replicated");
        sleep(POLL_PAUSE).await;
    }
}

const ADD: &str = "INSERT INTO mine VALUES (2)";

#[tokio::test]
async fn a_standby_follows_is_promoted_and_is_followed_in_turn() {
    let mut one = Cluster::start().await;
    let url = one.database().await;
    rows(&url, MAKE).await.unwrap();
    let mut other = one.standby("other").await;
    let there = url.replace(&one.port().to_string(), &other.port().to_string());
    one.set(&[("synchronous_standby_names", "other")]).await;
    rows(&url, ADD).await.unwrap();
    count(&there, 2).await;
    rows(&there, ADD).await.unwrap_err();

    // Nobody is there to wait for.
    other.stop().await;
    let waits = timeout(Duration::from_millis(300), rows(&url, ADD)).await;
    assert!(waits.is_err());
    other.restart().await;
    count(&there, 3).await;

    other.promote().await;
    one.crash().await;
    one.restart().await;
    other.set(&[("synchronous_standby_names", "")]).await;
    rows(&there, ADD).await.unwrap();
    // Both take writes now: nothing tells the old one.
    one.set(&[("synchronous_standby_names", "")]).await;
    rows(&url, ADD).await.unwrap();

    one.follow(&other, "one").await;
    count(&url, 4).await;
    rows(&url, ADD).await.unwrap_err();

    // In order, nothing is to be copied.
    other.stop().await;
    one.promote().await;
    other.stream_from(&one, "other").await;
    rows(&url, ADD).await.unwrap();
    count(&there, 5).await;
}

#[tokio::test]
async fn a_cluster_goes_back_to_a_snapshot() {
    let mut cluster = Cluster::start().await;
    let url = cluster.database().await;
    rows(&url, MAKE).await.unwrap();
    cluster.stop().await;
    let snapshot = cluster.snapshot().await;
    for _ in 0..2 {
        cluster.restart().await;
        rows(&url, ADD).await.unwrap();
        assert_eq!(rows(&url, READ).await.unwrap(), 2);
        cluster.crash().await;
        cluster.restore(&snapshot).await;
        cluster.restart().await;
        assert_eq!(rows(&url, READ).await.unwrap(), 1);
        cluster.stop().await;
    }
}
