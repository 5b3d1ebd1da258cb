//! Who is asked, and who is not: counted, because times say little on a busy machine.

use std::collections::BTreeSet;

use threshold::round::Peer;

use super::*;
use crate::cosigners::Link;

/// A kind of duty, of which there is one for each number.
type Kind = fn(u64) -> Duty;

/// Signed at once.
const DIRECT: Kind = randao;
/// Promised, and then signed.
const PROMISED: Kind = |number| attestation(number, 1);
/// More than any hedge, less than the deadline.
const SLOW: Duration = Duration::from_millis(700);
const REQUESTS: u64 = 60;

impl Setting {
    fn link(&self, position: usize) -> &Arc<Link> {
        self.signing.shared.cosigners.link(Peer(position)).unwrap()
    }

    fn calls(&self, position: usize) -> usize {
        self.peers.peers[position]
            .signatures
            .load(Ordering::Relaxed)
    }

    async fn all_heard(&self) {
        for position in 0..self.peers.peers.len() {
            let link = self.link(position);
            eventually("it says that it is ready", || link.health().is_ready()).await;
        }
    }
}

/// Signs requests one after the other: how many waited for who is slow.
async fn slow_answers(setting: &Setting, duty: impl Fn(u64) -> Duty) -> usize {
    let mut slow = 0;
    for number in 1..=REQUESTS {
        let began = Instant::now();
        setting.signed(0, duty(number)).await;
        slow += usize::from(began.elapsed() >= SLOW);
    }
    slow
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_is_hedged_and_then_only_sounded() {
    for (duty, manner) in [
        (DIRECT, Manner::Slow(SLOW)),
        (DIRECT, Manner::SlowToSign(SLOW)),
        (PROMISED, Manner::Slow(SLOW)),
        (PROMISED, Manner::SlowToSign(SLOW)),
    ] {
        let setting = Setting::new(3, 4, 1).await;
        setting.all_heard().await;
        for number in 1_001..1_011 {
            setting.signed(0, duty(number)).await;
        }
        // Whoever is asked most becomes slow.
        let position = (0..4).max_by_key(|position| setting.calls(*position));
        let position = position.unwrap();
        let before = setting.calls(position);
        setting.peers.behave(position, manner);
        let began = Instant::now();
        let slow = slow_answers(&setting, |number| duty(2_000 + number)).await;
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
        assert!(slow <= 2, "{slow} requests waited, {manner:?}");
        // What it is asked before it is known, and once in a while to learn how it is.
        let asked = setting.calls(position) - before;
        assert!(
            asked <= 15 + 2 * seconds,
            "{asked} in {seconds} s, {manner:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_repeatedly_is_probed_and_comes_back_with_its_first_answer() {
    for (duty, position) in [(DIRECT, 0), (PROMISED, 1)] {
        let setting = Setting::new(3, 4, 1).await;
        setting.all_heard().await;
        setting.peers.behave(position, Manner::Failing);
        let link = setting.link(position);
        let mut number = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while link.is_asked() {
            assert!(Instant::now() < deadline, "it is asked for ever");
            number += 1;
            setting.signed(0, duty(number)).await;
        }
        assert!(link.failing().unwrap().contains("calls in a row failed"));
        assert!(link.health().is_ready(), "its status says nothing of it");
        let gauge = |asked| {
            let name = position + 1;
            setting.shows(&format!(
                "cosigner_asked{{cosigner=\"cosigner-{name}\"}} {asked}"
            ))
        };
        assert!(gauge(0));

        let calls = || setting.peers.peers[position].calls.load(Ordering::Relaxed);
        let (before, began) = (calls(), Instant::now());
        for _ in 0..REQUESTS {
            number += 1;
            setting.signed(0, duty(number)).await;
        }
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
        // Two polls and at most two probes a second.
        let probes = calls() - before;
        assert!(probes <= 4 * (seconds + 2), "{probes} in {seconds} s");
        assert!(!link.is_asked());

        setting.peers.behave(position, Manner::Honest);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !link.is_asked() {
            assert!(Instant::now() < deadline, "it is not asked again");
            number += 1;
            setting.signed(0, duty(number)).await;
        }
        assert_eq!(link.failing(), None);
        assert!(gauge(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_others_are_too_few_who_fails_is_asked_all_the_same() {
    for duty in [DIRECT, PROMISED] {
        let setting = Setting::new(3, 4, 1).await;
        setting.all_heard().await;
        let failing: BTreeSet<usize> = [0, 2].into();
        for position in &failing {
            setting.peers.behave(*position, Manner::Failing);
        }
        let is_out = |position: &usize| !setting.link(*position).is_asked();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut number = 0;
        while !failing.iter().all(is_out) {
            assert!(Instant::now() < deadline, "they are asked for ever");
            number += 1;
            unavailable(setting.sign(0, duty(number)).await);
        }
        // At once: no probe has to bring them back first.
        for position in &failing {
            setting.peers.behave(*position, Manner::Honest);
        }
        assert!(failing.iter().all(is_out));
        setting.signed(0, duty(number + 1)).await;
        assert!(!failing.iter().all(is_out));
    }
}
