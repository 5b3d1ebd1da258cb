//! Many times what the committee can do, and clients that only take places: what is too much is
//! answered at once, proposals and honest callers go on, memory stays, and it is over with its cause.
//!
//! The deadline is long, so that what is refused here is refused by count; how the count follows what
//! gets done is tested beside it, against a clock of its own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tests::{
    cluster::{Cluster, Options, test_keys},
    process::eventually,
    proxy::{Fault, Proxy},
    requests::{attestation, block, randao},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// Callers at once, each with one request after the other: ten times the places.
const CALLERS: usize = 300;
const SIGNER: &str = "requests_max = 32\ndeadline_ms = 20000\n";
/// What callers that only take places may add to thrice the median of the others.
const SLOWER_AT_MOST: Duration = Duration::from_millis(50);
/// What they may add to four times what 95 of 100 of the others take.
const SLOWEST_AT_MOST: Duration = Duration::from_millis(100);
/// What half of the refusals take at most beyond twice what an answer takes for which nothing is done:
/// callers and servers share a machine that has no rest.
const REFUSED_WITHIN: Duration = Duration::from_millis(25);
/// What 95 of 100 proposals take at most beside the flood.
const PROPOSED_WITHIN: Duration = Duration::from_secs(3);
/// Callers that vanish: all but a few of the places of one address.
const VANISHING: usize = 90;
/// What was begun may take 10 s, is looked at every 5 s, and may take 10 s to be answered; then an idle
/// connection has its 4 s. The rest is for a busy machine.
const VANISHED_WITHIN: Duration = Duration::from_secs(60);
/// A quiet peer is asked whether it is there after so long.
const PROBED_WITHIN: Duration = Duration::from_secs(60);
/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(6);

/// In KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// The tests here measure times, one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What each answer took, by what it was.
type Ends = BTreeMap<&'static str, Vec<Duration>>;

/// Posts attestations that nobody posted before until it is told to stop; notes what came of them.
async fn call(
    client: reqwest::Client,
    url: String,
    caller: u64,
    epochs: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Ends {
    let mut ends = Ends::new();
    while !stop.load(Ordering::Relaxed) {
        let target = epochs.fetch_add(1, Ordering::Relaxed);
        let body = attestation(1, target, caller).to_string();
        let began = Instant::now();
        let answer = client.post(&url).body(body).send().await.unwrap();
        let took = began.elapsed();
        let retry = answer.headers().contains_key("retry-after");
        let end = match answer.status().as_u16() {
            200 => "signed",
            // A later target overtook this one.
            412 => "overtaken",
            500 if retry => "turned away",
            500 => "unsigned",
            other => panic!("{other}: {:?}", answer.text().await),
        };
        ends.entry(end).or_default().push(took);
        if end == "turned away" {
            // A caller's pause, shorter than it was asked for.
            sleep(Duration::from_millis(30)).await;
        }
    }
    ends
}

/// What answers take for which nothing is done, until it is told to stop.
async fn call_in_vain(
    client: reqwest::Client,
    url: String,
    stop: Arc<AtomicBool>,
) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = client.get(&url).send().await.unwrap();
        took.push(began.elapsed());
        assert_eq!(answer.status(), 200);
        sleep(Duration::from_millis(30)).await;
    }
    took
}

/// Who is turned away learns it as soon as anything can be learnt, and sooner than others get their
/// signatures; proposals wait for neither.
fn check_flood(ends: &Ends, vain: Vec<Duration>, proposals: Vec<Duration>) {
    let [refused, signed] = ["turned away", "signed"].map(|end| of_100(50, ends[end].clone()));
    let vain = of_100(50, vain);
    let [half, proposed] = [50, 95].map(|at| of_100(at, proposals.clone()));
    println!(
        "half are refused within {refused:?}, answered in vain within {vain:?}, signed within \
         {signed:?}; half of the proposals take {half:?}, 95 of 100 {proposed:?}"
    );
    assert!(
        refused <= vain * 2 + REFUSED_WITHIN,
        "{refused:?}, {vain:?}"
    );
    assert!(refused <= signed, "{refused:?}, {signed:?}");
    assert!(
        half <= signed,
        "proposals wait behind: {half:?}, {signed:?}"
    );
    assert!(proposed <= PROPOSED_WITHIN, "{proposed:?}");
}

/// Refusals are counted, and not all of them logged.
async fn check_told(cluster: &Cluster, turned_away: usize) {
    let metrics = cluster.metrics(0).await;
    let counted = format!("countersign_requests_overloaded_total {turned_away}");
    assert!(metrics.contains(&counted), "{counted} is not in\n{metrics}");
    assert!(
        metrics.contains(r#"type="ATTESTATION",status="500""#),
        "{metrics}"
    );
    let log = cluster.signer_log(0);
    let lines = log
        .lines()
        .filter(|line| line.contains("could not be answered"));
    assert!(
        lines.count() < 1_000,
        "a flood of refusals is a flood of lines"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_turned_away_at_once_and_proposals_go_on() {
    let _alone = ALONE.lock().await;
    let mut cluster = Cluster::start(Options {
        signer_lines: SIGNER,
        ..Options::new(test_keys(4))
    })
    .await;
    let pid = cluster.signer(0).id();
    let stop = Arc::new(AtomicBool::new(false));
    let epochs = Arc::new(AtomicU64::new(10));
    // Making one takes long.
    let client = reqwest::Client::new();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let keys = cluster.validators();
            let key = keys[caller % keys.len()];
            let url = format!("{}/api/v1/eth2/sign/{key}", cluster.url(0));
            let caller = u64::try_from(caller).unwrap();
            let (epochs, stop) = (Arc::clone(&epochs), Arc::clone(&stop));
            tokio::spawn(call(client.clone(), url, caller, epochs, stop))
        })
        .collect();
    let vain = format!("{}/upcheck", cluster.url(0));
    let vain = tokio::spawn(call_in_vain(client, vain, Arc::clone(&stop)));
    let began = Instant::now();
    let (mut memory, mut proposals) = (Vec::new(), Vec::new());
    let mut slot = 1_u64;
    while began.elapsed() < FLOOD {
        for key in cluster.validators() {
            for proposal in [block(slot, 1), randao(slot)] {
                let began = Instant::now();
                let answer = cluster.sign(0, key, &proposal).await;
                proposals.push(began.elapsed());
                assert_eq!(answer.status, 200, "{proposal}: {answer:?}");
            }
        }
        slot += 1;
        assert_eq!(cluster.get(0, "/healthcheck").await.status, 200);
        assert_eq!(cluster.get(0, "/upcheck").await.status, 200);
        memory.push(resident(pid));
    }
    stop.store(true, Ordering::Relaxed);
    let mut ends = Ends::new();
    for caller in callers {
        for (end, took) in caller.await.unwrap() {
            ends.entry(end).or_default().extend(took);
        }
    }
    let counts: BTreeMap<_, _> = ends.iter().map(|(end, took)| (*end, took.len())).collect();
    let turned_away = counts["turned away"];
    assert!(turned_away > CALLERS, "{counts:?}");
    assert!(counts["signed"] > 0, "{counts:?}");
    assert_eq!(counts.get("unsigned"), None, "{counts:?}");
    check_flood(&ends, vain.await.unwrap(), proposals);
    let (first, last) = (memory[memory.len() / 3], memory[memory.len() - 1]);
    println!("memory {first} KiB, then {last} KiB");
    assert!(last < first * 5 / 4 + 8 * 1024, "{memory:?} KiB");
    // It is over with its cause.
    let target = epochs.fetch_add(1, Ordering::Relaxed);
    for key in cluster.validators() {
        let answer = cluster.sign(0, key, &attestation(1, target, 1)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    check_told(&cluster, turned_away).await;
}

/// Connects from an address of its own.
async fn connect_from(host: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{host}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Where the signer-api listens, and how a signing request to it begins.
fn target(cluster: &Cluster) -> (SocketAddr, String) {
    let address = cluster.url(0).replace("http://", "").parse().unwrap();
    let key = cluster.validators()[0];
    let head = format!("POST /api/v1/eth2/sign/{key} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    (address, head)
}

/// Asks for everything once in an epoch, one after the other, and returns what each took.
async fn honest(cluster: &Cluster, epoch: u64) -> Vec<Duration> {
    let mut took = Vec::new();
    for key in cluster.validators() {
        for request in [
            attestation(epoch, epoch + 1, 1),
            block(epoch, 1),
            randao(epoch),
        ] {
            let began = Instant::now();
            let answer = cluster.sign(0, key, &request).await;
            took.push(began.elapsed());
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    took
}

fn of_100(at: usize, mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() * at / 100]
}

/// What honest callers wait while nobody else is there: in the epochs below 10.
async fn usual(cluster: &Cluster) -> Vec<Duration> {
    let mut took = Vec::new();
    for epoch in 1..10 {
        took.extend(honest(cluster, epoch).await);
    }
    took
}

/// Generous, for the machine may have become busy meanwhile.
fn check_as_fast(usual: Vec<Duration>, beside: Vec<Duration>) {
    let [usual, beside] = [usual, beside].map(|took| [50, 95].map(|at| of_100(at, took.clone())));
    println!("honest callers: median and p95 {usual:?} alone, {beside:?} beside the others");
    assert!(
        beside[0] <= usual[0] * 3 + SLOWER_AT_MOST && beside[1] <= usual[1] * 4 + SLOWEST_AT_MOST,
        "{usual:?}, {beside:?}"
    );
}

/// Whether the other side has hung up.
async fn is_closed(connection: &mut TcpStream) -> bool {
    matches!(
        timeout(Duration::from_millis(1), connection.read(&mut [0; 64])).await,
        Ok(Ok(0) | Err(_))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_only_take_places_leave_the_others_theirs() {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(Options {
        signer_lines: "connections_max = 128\nconnections_per_address_max = 96\n\
                       body_memory_mib = 16\n",
        ..Options::new(test_keys(2))
    })
    .await;
    let (address, head) = target(&cluster);
    // Nothing, a byte, a head without its end, a body that was announced, one that has no end.
    let begun = [
        String::new(),
        "P".to_owned(),
        head.clone(),
        format!("{head}content-length: 10000000\r\n\r\n{{"),
        format!("{head}transfer-encoding: chunked\r\n\r\n100000\r\n{{"),
    ];
    let usual = usual(&cluster).await;
    let mut idlers = Vec::new();
    for number in 0..200 {
        let mut connection = connect_from("127.0.0.2", address).await;
        // Whoever is one too many finds it closed.
        let _ = connection
            .write_all(begun[number % begun.len()].as_bytes())
            .await;
        idlers.push(connection);
    }
    let turned_away = "countersign_http_connections_turned_away_total 104";
    eventually(
        "all but as many as may are closed",
        Duration::from_secs(20),
        || async { cluster.metrics(0).await.contains(turned_away) },
    )
    .await;
    let mut beside = Vec::new();
    for epoch in 10..20 {
        beside.extend(honest(&cluster, epoch).await);
        assert_eq!(cluster.get(0, "/healthcheck").await.status, 200);
        for connection in &mut idlers {
            let _ = connection.try_write(b"x");
        }
    }
    check_as_fast(usual, beside);
    // They go, and others from there are let in.
    let mut open = 0;
    for connection in &mut idlers {
        open += usize::from(!is_closed(connection).await);
    }
    assert!(open <= 96, "{open}");
    drop(idlers);
    eventually("there is room again", Duration::from_secs(20), || async {
        let mut connection = connect_from("127.0.0.2", address).await;
        let asked = b"GET /upcheck HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
        let mut answer = [0; 12];
        connection.write_all(asked).await.is_ok()
            && connection.read_exact(&mut answer).await.is_ok()
            && answer.ends_with(b"200")
    })
    .await;
}

/// The connections that a server has open at this moment, as it counts them.
async fn open(cluster: &Cluster) -> usize {
    let metrics = cluster.metrics(0).await;
    let mut lines = metrics.lines();
    let open = lines.find_map(|line| line.strip_prefix("countersign_http_connections_open "));
    open.unwrap().parse().unwrap()
}

/// When the system asks next whether the other end is there, for each connection that was accepted on
/// a port: nothing if it never does. From `/proc/net/tcp`, in whose timers 2 is that of keepalive.
fn probed(port: u16) -> Vec<Option<Duration>> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let accepted = fields[1].ends_with(&format!(":{port:04X}"));
        (accepted && fields[3] == ESTABLISHED).then(|| fields[5].to_owned())
    });
    let probed = rows.map(|timer| {
        let (kind, hundredths) = timer.split_once(':').unwrap();
        let hundredths = u64::from_str_radix(hundredths, 16).unwrap();
        (kind == "02").then_some(Duration::from_millis(hundredths * 10))
    });
    probed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_vanish_without_a_word_lose_their_places_and_nobody_waits_for_them() {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::start(Options {
        signer_lines: "connections_max = 128\nconnections_per_address_max = 96\n\
                       keep_alive_ms = 4000\n",
        ..Options::new(test_keys(2))
    })
    .await;
    let (address, head) = target(&cluster);
    let answered = "GET /upcheck HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".to_owned();
    let begun = [
        String::new(),
        "P".to_owned(),
        head.clone(),
        format!("{head}content-length: 100000\r\n\r\n{{"),
        format!("{answered}{answered}"),
        answered,
    ];
    let usual = usual(&cluster).await;
    let proxy = Proxy::start(address).await;
    let through = SocketAddr::from(([127, 0, 0, 1], proxy.port()));
    let mut vanishing = Vec::new();
    for number in 0..VANISHING {
        let mut connection = TcpStream::connect(through).await.unwrap();
        let bytes = begun[number % begun.len()].as_bytes();
        connection.write_all(bytes).await.unwrap();
        if bytes.starts_with(b"GET") {
            connection.read_exact(&mut [0; 12]).await.unwrap();
        }
        vanishing.push(connection);
    }
    eventually("they are connected", Duration::from_secs(20), || async {
        open(&cluster).await >= VANISHING
    })
    .await;
    // What they say from now on, and that they end, never arrives.
    proxy.set(Fault::Stall);
    drop(vanishing);
    // What is on its way has another timer.
    eventually(
        "everybody will be probed",
        Duration::from_secs(5),
        || async {
            let probed = probed(address.port());
            let soon =
                |probed: &Option<Duration>| probed.is_some_and(|after| after <= PROBED_WITHIN);
            probed.len() >= VANISHING && probed.iter().all(soon)
        },
    )
    .await;

    let (began, mut beside, mut epoch) = (Instant::now(), Vec::new(), 10);
    while open(&cluster).await > 96 - VANISHING {
        assert!(began.elapsed() < VANISHED_WITHIN, "they keep their places");
        beside.extend(honest(&cluster, epoch).await);
        epoch += 1;
    }
    println!("who vanished was found out within {:?}", began.elapsed());
    check_as_fast(usual, beside);
    let mut others = Vec::new();
    for _ in 0..VANISHING {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(begun[5].as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"200"), "{answer:?}");
        others.push(connection);
    }
}
