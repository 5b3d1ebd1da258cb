//! Cosigners that are silent, and connections that are none.

use std::sync::atomic::AtomicBool;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use tonic::Request;
use wire::batches::Batch;

use super::{
    super::transport::{SendBy, is_late_call},
    *,
};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_is_found_absent_and_who_speaks_again_is_found_at_once() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    eventually("the cosigner answers", || link.health().is_ready()).await;
    peers.behave(0, Manner::Hung);
    eventually("the cosigner is absent", || !link.is_asked()).await;
    assert!(!link.health().is_ready());
    assert!(cosigners.links()[1].health().is_ready());
    peers.behave(0, Manner::Honest);
    // The peer never answers what it was asked before: the next poll does.
    eventually("the cosigner answers again", || link.health().is_ready()).await;
    assert!(link.is_asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_late_is_not_absent() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    eventually("the cosigner answers", || link.health().is_ready()).await;
    peers.behave(0, Manner::Slow(Duration::from_millis(400)));
    let calls = || peers.peers[0].calls.load(Ordering::Relaxed);
    let polled = calls() + 5;
    eventually("it was polled", || {
        assert!(link.health().is_ready(), "absent for being late");
        calls() >= polled
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_heard_of_something_else_is_not_absent() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    eventually("the cosigner answers", || link.health().is_ready()).await;
    // Its status hangs from now on; partials come.
    peers.behave(0, Manner::HungStatus);
    let until = Instant::now() + Duration::from_secs(3);
    for epoch in 0.. {
        let (ask, mut answer) = ask(&randao(&peers, epoch), LONG);
        link.sign(Arc::new(ask));
        assert!(matches!(answer.next().await, Event::Signed { .. }));
        assert!(link.health().is_ready(), "absent, though it signs");
        if Instant::now() >= until {
            break;
        }
    }
}

/// Takes connections for a cosigner at once, and connects them when it is told to.
async fn half_open(address: String, open: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (address, open) = (address.clone(), Arc::clone(&open));
            tokio::spawn(async move {
                while !open.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let mut far = TcpStream::connect(address).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    near
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_late_on_a_connection_that_comes_late() {
    let mut peers = Peers::start(2, 2, 1).await;
    let open = Arc::new(AtomicBool::new(false));
    let address = peers.config.cosigners[0].address.clone();
    peers.config.cosigners[0].address = half_open(address, Arc::clone(&open)).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    let (mut soon, mut answer) = ask(&randao(&peers, 1), LONG);
    soon.send_by = Instant::now() + Duration::from_millis(200);
    let began = Instant::now();
    link.sign(Arc::new(soon));
    assert_eq!(reason(answer.next().await), FailureReason::TimedOut);
    // Not when the connection fails, after a second.
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    open.store(true, Ordering::Relaxed);
    eventually("the cosigner answers", || link.health().is_ready()).await;
    // One that may be sent later is, and nothing else was.
    let (later, mut answer) = ask(&randao(&peers, 2), LONG);
    link.sign(Arc::new(later));
    assert!(matches!(answer.next().await, Event::Signed { .. }));
    assert_eq!(peers.peers[0].signatures.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_late_on_a_connection_that_stands() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    eventually("the cosigner answers", || link.health().is_ready()).await;
    let (ask, _) = ask(&randao(&peers, 1), LONG);
    let ask_by = |by: Instant| {
        let mut request = Request::new(Batch::signatures(vec![ask.item.clone()]));
        request.extensions_mut().insert(SendBy(by));
        link.transport().sign(request)
    };
    let now = Instant::now();
    assert!(is_late_call(&ask_by(now).await.unwrap_err()));
    let calls = || peers.peers[0].signatures.load(Ordering::Relaxed);
    assert_eq!(calls(), 0);
    ask_by(now + LONG).await.unwrap();
    assert_eq!(calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_for_a_standing_leave_places_to_duties() {
    let peers = Peers::start(2, 2, 1).await;
    let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
    let link = &cosigners.links()[0];
    eventually("the cosigner answers", || link.health().is_ready()).await;
    let calls = || peers.peers[0].calls.load(Ordering::Relaxed);
    peers.behave(0, Manner::Hung);
    let before = calls();
    let until = Instant::now() + Duration::from_millis(700);
    let asked = futures_util::future::join_all((0..200).map(|_| link.standing(until))).await;
    assert!(asked.iter().all(Option::is_none));
    let asked = calls() - before;
    // How it is was asked meanwhile, too.
    assert!((32..40).contains(&asked), "{asked}");
    peers.behave(0, Manner::Honest);
    let until = Instant::now() + LONG;
    let asked = futures_util::future::join_all((0..200).map(|_| link.standing(until))).await;
    assert_eq!(asked.len(), 200);
    eventually("the cosigner answers again", || link.health().is_ready()).await;
    let calls_of_all = calls() - before;
    assert!(calls_of_all >= 232, "{calls_of_all}");
}
