//! Signing with real peers: what a request gets when some of them misbehave.

mod routing;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use daemon::bulk::Bulk;
use duty::{AttestationData, Checkpoint, Duty, Epoch, ForkVersion, Root, SigningOrder, Slot};
use futures_util::future::join_all;
use threshold::round::{FailureReason, Peer, RefusalReason};
use tokio::time::Instant;
use wire::proto::refusal::Reason;

use super::*;
use crate::{
    admission::Admission,
    cpu::Urgency,
    testing::{Manner, Peers, eventually, metrics, shown},
    validators::{Known, Validators},
};

/// Requests that may be under way at once.
const PLACES: usize = 10_000;

struct Setting {
    peers: Peers,
    validators: Arc<Validators>,
    signing: Arc<Signing>,
    registry: daemon::metrics::Registry,
    admission: Admission,
}

impl Setting {
    async fn new(t: usize, n: usize, keys: usize) -> Self {
        let peers = Peers::start(t, n, keys).await;
        let (validators, signing, registry) = signer(&peers);
        let setting = Self {
            peers,
            validators,
            signing,
            registry,
            admission: Admission::new(PLACES, 1),
        };
        setting.ready().await;
        setting
    }

    /// Waits until all report every validator.
    async fn ready(&self) {
        let all = self.peers.peers.len();
        let members = |key| match self.validators.snapshot().find(key) {
            Known::Served(validator) => validator.members.len(),
            Known::Undecided | Known::Unknown => 0,
        };
        eventually("all report", || {
            self.peers.keys.iter().all(|key| members(key) == all)
        })
        .await;
    }

    fn task(&self, key: usize, duty: Duty) -> Task {
        let order = SigningOrder {
            validator: self.peers.keys[key],
            fork_version: ForkVersion([6, 0, 0, 0]),
            genesis_validators_root: Root([7; 32]),
            duty,
        };
        let Known::Served(validator) = self.validators.snapshot().find(&order.validator) else {
            panic!("not served")
        };
        Task {
            root: order.signing_root(),
            order,
            validator,
            deadline: Instant::now() + Duration::from_millis(1_200),
            place: self.admission.enter_as(Urgency::Usual, PLACES).unwrap(),
            among: Bulk::inline(),
        }
    }

    /// With time for a burst.
    fn unhurried(&self, key: usize, duty: Duty) -> Task {
        Task {
            deadline: Instant::now() + Duration::from_secs(30),
            ..self.task(key, duty)
        }
    }

    async fn sign(&self, key: usize, duty: Duty) -> Outcome {
        self.signing.sign(self.task(key, duty)).await
    }

    /// Signs and verifies.
    async fn signed(&self, key: usize, duty: Duty) {
        let root = self.task(key, duty.clone()).root;
        let signature = self.sign(key, duty).await.unwrap();
        threshold::verify(&self.peers.keys[key], root, &signature).unwrap();
    }

    fn shows(&self, text: &str) -> bool {
        shown(&self.registry).contains(text)
    }
}

fn signer(peers: &Peers) -> (Arc<Validators>, Arc<Signing>, daemon::metrics::Registry) {
    let (metrics, registry) = metrics();
    let cosigners = Arc::new(Cosigners::open(&peers.config, &metrics).unwrap());
    let committee = peers.config.committee().unwrap();
    let validators = Validators::discover(Arc::clone(&cosigners), committee, Arc::clone(&metrics));
    let cpu = Cpu::start().unwrap();
    let signing = Signing::new(cosigners, cpu, metrics, Some(committee.threshold()));
    (validators, Arc::new(signing), registry)
}

fn attestation(target: u64, block: u8) -> Duty {
    let checkpoint = |epoch| Checkpoint {
        epoch: Epoch(epoch),
        root: Root([3; 32]),
    };
    Duty::Attestation(AttestationData {
        slot: Slot(target * 32),
        index: 0,
        beacon_block_root: Root([block; 32]),
        source: checkpoint(target - 1),
        target: checkpoint(target),
    })
}

fn randao(epoch: u64) -> Duty {
    Duty::RandaoReveal(Epoch(epoch))
}

fn unavailable(outcome: Outcome) -> FailureReason {
    match outcome {
        Err(Verdict::Unavailable(failure)) => failure.reason,
        other => panic!("{other:?}"),
    }
}

fn refused(outcome: Outcome) -> RefusalReason {
    match outcome {
        Err(Verdict::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_duty_are_signed_and_the_signature_verifies() {
    for (t, n) in [(2, 3), (3, 4)] {
        let setting = Setting::new(t, n, 1).await;
        setting.signed(0, attestation(10, 1)).await;
        setting.signed(0, randao(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_hung_dead_or_lying_changes_nothing() {
    for manner in [
        Manner::Hung,
        Manner::Slow(Duration::from_secs(2)),
        Manner::Lying,
        Manner::Short,
        Manner::Miscounting,
        Manner::Overbidding,
        Manner::Refusing(Reason::Slashable),
        Manner::Refusing(Reason::Stopped),
        Manner::Refusing(Reason::Ledger),
        Manner::Refusing(Reason::Quarantined),
        Manner::Refusing(Reason::Unspecified),
    ] {
        let setting = Setting::new(3, 4, 1).await;
        setting.peers.behave(0, manner);
        for target in 10..14 {
            let began = Instant::now();
            setting.signed(0, attestation(target, 1)).await;
            setting.signed(0, randao(target)).await;
            assert!(began.elapsed() < Duration::from_secs(2), "{manner:?}");
        }
    }
    let mut setting = Setting::new(3, 4, 1).await;
    setting.peers.kill(2);
    setting.signed(0, attestation(10, 1)).await;
    setting.signed(0, randao(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_partial_is_blamed_on_its_sender_alone() {
    let setting = Setting::new(3, 4, 1).await;
    setting.peers.behave(1, Manner::Lying);
    let blamed = |san: &str| {
        setting.shows(&format!(
            "blamed_total{{cosigner=\"{san}\",reason=\"partial\"}}"
        ))
    };
    // Which of the four are asked is decided by their speed.
    for target in 10..200 {
        setting.signed(0, attestation(target, 1)).await;
        if blamed("cosigner-2") {
            break;
        }
    }
    assert!(blamed("cosigner-2"));
    for honest in ["cosigner-1", "cosigner-3", "cosigner-4"] {
        assert!(!blamed(honest), "{honest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_agree_to_what_others_signed_is_named_and_not_blamed() {
    for (manner, reason) in [
        (Manner::Refusing(Reason::Slashable), "slashable"),
        (Manner::Refusing(Reason::NotFound), "not_found"),
        (Manner::Overbidding, "outbid"),
    ] {
        let setting = Setting::new(3, 4, 1).await;
        setting.peers.behave(1, manner);
        let disagreed = || {
            let link = setting.signing.shared.cosigners.link(Peer(1)).unwrap();
            link.dissent().get("last-dissent").cloned()
        };
        for target in 10..200 {
            setting.signed(0, attestation(target, 1)).await;
            if disagreed().is_some() {
                break;
            }
        }
        assert_eq!(disagreed().unwrap(), reason);
        let dissents = |san: &str| format!("cosigner_dissents_total{{cosigner=\"{san}\",reason=");
        assert!(setting.shows(&format!("{}\"{reason}\"}}", dissents("cosigner-2"))));
        for honest in ["cosigner-1", "cosigner-3", "cosigner-4"] {
            assert!(!setting.shows(&dissents(honest)), "{reason}: {honest}");
        }
        assert!(!setting.shows("cosigner_blamed_total{"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_spoils_nothing() {
    let peers = Peers::start(3, 4, 1).await;
    peers.behave(3, Manner::Impersonating);
    let (validators, signing, registry) = signer(&peers);
    let admission = Admission::new(10, 1);
    let setting = Setting {
        peers,
        validators,
        signing,
        registry,
        admission,
    };
    setting.ready().await;
    let blamed = || setting.shows("blamed_total{cosigner=\"cosigner-4\",reason=\"partial\"}");
    // Both claimants are asked; the impostor's partial may come after the signature is made.
    for target in 10..200 {
        setting.signed(0, attestation(target, 1)).await;
        setting.signed(0, randao(target)).await;
        if blamed() {
            break;
        }
    }
    assert!(blamed());
    assert!(!setting.shows("blamed_total{cosigner=\"cosigner-1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_than_the_threshold_is_an_answer_within_the_deadline() {
    let mut setting = Setting::new(3, 4, 1).await;
    setting.peers.behave(0, Manner::Hung);
    setting.peers.kill(1);
    for duty in [attestation(10, 1), randao(10)] {
        let began = Instant::now();
        unavailable(setting.sign(0, duty).await);
        assert!(
            began.elapsed() < Duration::from_millis(1_300),
            "{:?}",
            began.elapsed()
        );
    }
    // Nothing was lost: the same request may be sent again.
    setting.peers.behave(0, Manner::Honest);
    setting.signed(0, attestation(10, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_more_refusals_than_can_be_spared_refuse() {
    for (reason, expected) in [
        (Reason::Slashable, RefusalReason::Slashable),
        (Reason::WrongChain, RefusalReason::WrongChain),
        (Reason::Stopped, RefusalReason::Stopped),
        (Reason::Disabled, RefusalReason::Disabled),
        (Reason::NotAllowed, RefusalReason::NotAllowed),
        (Reason::Invalid, RefusalReason::Invalid),
    ] {
        let setting = Setting::new(3, 4, 1).await;
        for position in 0..2 {
            setting.peers.behave(position, Manner::Refusing(reason));
        }
        assert_eq!(refused(setting.sign(0, attestation(10, 1)).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_is_signed_its_repeat_gets_its_bytes_another_is_refused() {
    let setting = Setting::new(3, 4, 1).await;
    let first = setting.sign(0, attestation(10, 1)).await.unwrap();
    assert_eq!(setting.sign(0, attestation(10, 1)).await.unwrap(), first);
    assert_eq!(
        refused(setting.sign(0, attestation(10, 2)).await),
        RefusalReason::Slashable
    );
    // Another signer-api: the cosigners that signed give their partials again.
    let (validators, signing, _registry) = signer(&setting.peers);
    eventually("it is discovered", || validators.snapshot().len() == 1).await;
    let again = signing.sign(setting.task(0, attestation(10, 1))).await;
    assert_eq!(again.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_its_bytes_from_the_cosigners_until_they_freeze_it() {
    let setting = Setting::new(3, 4, 1).await;
    let signatures = || -> usize {
        let peers = setting.peers.peers.iter();
        peers
            .map(|peer| peer.signatures.load(Ordering::Relaxed))
            .sum()
    };
    for duty in [attestation(10, 1), randao(10)] {
        for position in 0..4 {
            setting.peers.behave(position, Manner::Honest);
        }
        let first = setting.sign(0, duty.clone()).await.unwrap();
        let before = signatures();
        assert_eq!(setting.sign(0, duty.clone()).await.unwrap(), first);
        assert!(signatures() >= before + 3, "remembered: {duty:?}");
        for position in 0..2 {
            let frozen = Manner::Refusing(Reason::Disabled);
            setting.peers.behave(position, frozen);
        }
        let again = setting.sign(0, duty).await;
        assert_eq!(refused(again), RefusalReason::Disabled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_quarantines_than_can_be_spared_are_answered_at_once_and_are_no_refusals() {
    let quarantined = Manner::Refusing(Reason::Quarantined);
    for third in [Manner::Honest, Manner::Refusing(Reason::Stopped)] {
        let setting = Setting::new(3, 4, 1).await;
        setting.peers.behave(0, quarantined);
        setting.peers.behave(1, quarantined);
        setting.peers.behave(2, third);
        let began = Instant::now();
        let outcome = setting.sign(0, attestation(10, 1)).await;
        assert_eq!(unavailable(outcome), FailureReason::Quarantined);
        assert!(began.elapsed() < Duration::from_secs(1), "{third:?}");
        // It is over: nothing was lost.
        setting.peers.behave(0, Manner::Honest);
        setting.peers.behave(1, Manner::Honest);
        setting.signed(0, attestation(10, 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_quarantine_neither_hides_a_stop_nor_names_an_outage() {
    let setting = Setting::new(3, 4, 1).await;
    let behave = |others| {
        setting
            .peers
            .behave(0, Manner::Refusing(Reason::Quarantined));
        for position in 1..4 {
            setting.peers.behave(position, Manner::Refusing(others));
        }
    };
    behave(Reason::Stopped);
    for target in 10..40 {
        let outcome = setting.sign(0, attestation(target, 1)).await;
        assert_eq!(refused(outcome), RefusalReason::Stopped);
    }
    behave(Reason::Ledger);
    let outcome = setting.sign(0, attestation(50, 1)).await;
    assert_eq!(unavailable(outcome), FailureReason::Ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_at_once_are_one() {
    let setting = Setting::new(3, 4, 1).await;
    for position in 0..4 {
        setting
            .peers
            .behave(position, Manner::Slow(Duration::from_millis(50)));
    }
    let outcomes = join_all((0..50).map(|_| setting.sign(0, attestation(10, 1)))).await;
    let first = outcomes[0].clone().unwrap();
    assert!(
        outcomes
            .into_iter()
            .all(|outcome| outcome.unwrap() == first)
    );
    for peer in &setting.peers.peers {
        assert!(peer.signatures.load(Ordering::Relaxed) <= 1);
    }
    assert!(setting.shows("countersign_requests_coalesced_total 49"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_client_went_away_is_finished() {
    let setting = Setting::new(3, 4, 1).await;
    for position in 0..4 {
        setting
            .peers
            .behave(position, Manner::Slow(Duration::from_millis(100)));
    }
    let gone = setting.sign(0, attestation(10, 1));
    assert!(
        tokio::time::timeout(Duration::from_millis(20), gone)
            .await
            .is_err()
    );
    let permitted = "eth2_slashingprotection_permitted_signings_total 1";
    eventually("it is finished", || setting.shows(permitted)).await;
    eventually("nothing is under way", || {
        setting.signing.shared.under_way.lock().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_signers_leave_no_duty_unsigned() {
    let setting = Setting::new(3, 4, 8).await;
    let (validators, other, _registry) = signer(&setting.peers);
    eventually("it is discovered", || validators.snapshot().len() == 8).await;
    for target in 10..15 {
        let races = (0..8).flat_map(|key| {
            [(&setting.signing, 1), (&other, 2)].map(|(signing, block)| {
                let task = setting.task(key, attestation(target, block));
                async move { (key, signing.sign(task).await) }
            })
        });
        let mut signed = [0; 8];
        for (key, outcome) in join_all(races).await {
            match outcome {
                Ok(_) => signed[key] += 1,
                Err(Verdict::Refused(refusal)) => {
                    assert_eq!(refusal.reason, RefusalReason::Slashable);
                }
                Err(Verdict::Unavailable(failure)) => panic!("{failure:?}"),
            }
        }
        assert_eq!(signed, [1; 8], "target {target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_waits_for_its_turn_is_signed_by_a_threshold_only() {
    const BURST: u64 = 450;
    let setting = Setting::new(2, 3, 4).await;
    for position in 0..3 {
        let manner = Manner::SlowToSign(Duration::from_millis(100));
        setting.peers.behave(position, manner);
    }
    let signatures = || {
        let peers = setting.peers.peers.iter();
        let each = peers.map(|peer| peer.signatures.load(Ordering::Relaxed));
        u64::try_from(each.sum::<usize>()).unwrap()
    };
    // What is usual is known after the first two. A machine that is busy elsewhere makes cosigners
    // late, but not in every burst.
    let mut beyond = Vec::new();
    for burst in 0..6 {
        let before = signatures();
        let first = burst * BURST;
        let tasks = (first..first + BURST)
            .map(|epoch| setting.signing.sign(setting.unhurried(0, randao(epoch))));
        assert!(join_all(tasks).await.iter().all(Result::is_ok));
        beyond.push(signatures() - before - 2 * BURST);
    }
    // The last batches are sent after longer than what was sent may take: half of each burst.
    let least = beyond.iter().skip(2).min();
    assert!(least < Some(&(BURST / 4)), "{beyond:?} too many");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_batched() {
    let setting = Setting::new(2, 3, 4).await;
    let calls = |position: usize| setting.peers.peers[position].calls.load(Ordering::Relaxed);
    let before: usize = (0..3).map(calls).sum();
    let burst = (0..400_u64).map(|number| {
        let key = usize::try_from(number % 4).unwrap();
        let task = setting.unhurried(key, attestation(number + 10, 1));
        setting.signing.sign(task)
    });
    assert!(join_all(burst).await.iter().all(Result::is_ok));
    let after: usize = (0..3).map(calls).sum();
    assert!(after - before < 400, "{} calls", after - before);
}
