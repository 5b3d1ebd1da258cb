//! What is believed of what real peers report.

use std::sync::{Arc, atomic::Ordering};

use duty::PublicKey;

use super::*;
use crate::testing::{Manner, Peers, eventually, metrics, shown};

struct Setting {
    peers: Peers,
    validators: Arc<Validators>,
    registry: daemon::metrics::Registry,
}

impl Setting {
    /// Peers that behave as told from the start.
    async fn new(manners: &[(usize, Manner)]) -> Self {
        Self::with(manners, 3, 5).await
    }

    async fn with(manners: &[(usize, Manner)], t: usize, keys: usize) -> Self {
        let peers = Peers::start(t, 4, keys).await;
        for (position, manner) in manners {
            peers.behave(*position, *manner);
        }
        let (metrics, registry) = metrics();
        let cosigners = Arc::new(Cosigners::open(&peers.config, &metrics).unwrap());
        let committee = peers.config.committee().unwrap();
        let validators = Validators::discover(cosigners, committee, metrics);
        Self {
            peers,
            validators,
            registry,
        }
    }

    fn served(&self) -> usize {
        self.validators.snapshot().len()
    }

    fn members(&self) -> Vec<usize> {
        match self.validators.snapshot().find(&self.peers.keys[0]) {
            Known::Served(validator) => validator.members.iter().map(|(peer, _)| peer.0).collect(),
            Known::Undecided | Known::Unknown => Vec::new(),
        }
    }

    fn blamed(&self, san: &str) -> bool {
        let line = format!("blamed_total{{cosigner=\"{san}\",reason=\"report\"}}");
        shown(&self.registry).contains(&line)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn validators_that_all_report_are_served_in_a_stable_order() {
    let mut setting = Setting::new(&[]).await;
    eventually("all are served", || setting.served() == 5).await;
    eventually("by all", || setting.members() == [0, 1, 2, 3]).await;
    setting.peers.keys.sort();
    let keys: Vec<String> = setting
        .peers
        .keys
        .iter()
        .map(|key| format!("\"{key}\""))
        .collect();
    let expected = format!("[{}]", keys.join(","));
    assert_eq!(setting.validators.snapshot().public_keys(), expected);
    for shows in [
        "signing_signers_loaded_count 5",
        "tolerated_faults 1",
        "tolerated_absences 1",
    ] {
        assert!(shown(&setting.registry).contains(shows), "{shows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_discovery_nothing_is_unknown() {
    let setting = Setting::new(&[(0, Manner::Hung), (1, Manner::Hung)]).await;
    let find = |key: &PublicKey| setting.validators.snapshot().find(key);
    assert!(matches!(find(&PublicKey([1; 48])), Known::Undecided));
    setting.peers.behave(0, Manner::Honest);
    eventually("three have reported", || setting.served() == 5).await;
    assert!(matches!(find(&PublicKey([1; 48])), Known::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_appears_without_a_restart() {
    let mut setting = Setting::new(&[]).await;
    eventually("the first are served", || setting.served() == 5).await;
    let key = setting.peers.deal_one_more(3);
    let find = || setting.validators.snapshot().find(&key);
    eventually("the new one is served", || {
        matches!(find(), Known::Served(_))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_report_is_blamed_and_costs_nothing_else() {
    let setting = Setting::new(&[(3, Manner::Misreporting)]).await;
    eventually("the others' word counts", || setting.members() == [0, 1, 2]).await;
    eventually("the liar is blamed", || setting.blamed("cosigner-4")).await;
    assert!(!setting.blamed("cosigner-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_without_an_end_is_ended_and_blamed() {
    let setting = Setting::new(&[(3, Manner::Endless)]).await;
    eventually("the others' word counts", || setting.members() == [0, 1, 2]).await;
    eventually("the liar is blamed", || setting.blamed("cosigner-4")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_contradicts_its_own_generation_is_not_asked_again_and_again() {
    let setting = Setting::new(&[(3, Manner::Contradicting)]).await;
    let calls = |position: usize| setting.peers.peers[position].calls.load(Ordering::Relaxed);
    eventually("all are heard", || setting.members() == [0, 1, 2, 3]).await;
    let (honest, liar) = (calls(0), calls(3));
    eventually("two seconds pass", || calls(0) >= honest + 2).await;
    let asked = calls(3) - liar;
    assert!(asked <= 6, "asked {asked} times in two seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_claim_one_index_both_are_asked() {
    let setting = Setting::new(&[(3, Manner::Impersonating)]).await;
    eventually("all four are members", || setting.members() == [0, 1, 2, 3]).await;
    let Known::Served(validator) = setting.validators.snapshot().find(&setting.peers.keys[0])
    else {
        panic!("not served")
    };
    assert_eq!(validator.members[0].1, validator.members[3].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_takes_no_validator_away() {
    let mut setting = Setting::new(&[]).await;
    eventually("all report", || setting.members() == [0, 1, 2, 3]).await;
    setting.peers.kill(0);
    setting.peers.kill(1);
    setting
        .validators
        .reload()
        .start(&setting.validators)
        .unwrap();
    assert!(
        setting
            .validators
            .reload()
            .start(&setting.validators)
            .is_err(),
        "one at a time"
    );
    let status = || setting.validators.reload().report().status;
    eventually("the reload ends", || status() == "completed_with_errors").await;
    assert_eq!(setting.members(), [0, 1, 2, 3]);
    let report = setting.validators.reload().report();
    assert_eq!(
        report.last_error.unwrap(),
        "Reload completed with 2 cosigner error(s) of 4"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_reports_than_the_threshold_serve_nothing_yet() {
    let setting = Setting::new(&[(0, Manner::Hung), (1, Manner::Misreporting)]).await;
    let calls = |position: usize| setting.peers.peers[position].calls.load(Ordering::Relaxed);
    eventually("three were asked to list", || {
        (1..4).all(|peer| calls(peer) >= 2)
    })
    .await;
    assert_eq!(setting.served(), 0);
    let find = || setting.validators.snapshot().find(&setting.peers.keys[0]);
    eventually("the fourth decides", || matches!(find(), Known::Undecided)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn committees_below_the_configured_threshold_are_not_believed() {
    let mut peers = Peers::start(3, 4, 1).await;
    peers.config.threshold_min = 4;
    let (metrics, _registry) = metrics();
    let cosigners = Arc::new(Cosigners::open(&peers.config, &metrics).unwrap());
    let committee = peers.config.committee().unwrap();
    let validators = Validators::discover(cosigners, committee, metrics);
    eventually("all were heard", || validators.snapshot().is_discovered()).await;
    assert_eq!(validators.snapshot().len(), 0);
}
