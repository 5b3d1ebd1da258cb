//! The numbers of a cosigner, for operators: `countersign_…` on a port of their own.

use std::time::Duration;

use daemon::metrics::Registry;
use duty::DutyKind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};
use threshold::CommitteeSize;
use wire::proto::LedgerState;

/// What a decision was about, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    kind: &'static str,
    outcome: &'static str,
}

/// What came of a request for a promise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PromiseAnswer {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

/// As in `3-of-4`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Size {
    committee: String,
}

type Histograms = Family<Stage, Histogram, fn() -> Histogram>;

/// What is counted. Cheap to clone; clones share their numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    answers: Family<Answer, Counter>,
    stages: Histograms,
    ledger_failures: Counter,
    peers_refused: Counter,
    promises: Family<PromiseAnswer, Counter>,
    promises_held: Gauge,
    validators: Gauge,
    tolerated_faults: Family<Size, Gauge>,
    tolerated_absences: Family<Size, Gauge>,
    clock_unchecked: Gauge,
    frozen_all: Gauge,
    frozen: Gauge,
    stop_epoch: Gauge,
    stop_slot: Gauge,
    quarantined_until: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            answers: Family::default(),
            stages: Histograms::new_with_constructor(latencies),
            ledger_failures: Counter::default(),
            peers_refused: Counter::default(),
            promises: Family::default(),
            promises_held: Gauge::default(),
            validators: Gauge::default(),
            tolerated_faults: Family::default(),
            tolerated_absences: Family::default(),
            clock_unchecked: Gauge::default(),
            frozen_all: Gauge::default(),
            frozen: Gauge::default(),
            stop_epoch: Gauge::default(),
            stop_slot: Gauge::default(),
            quarantined_until: Gauge::default(),
        }
    }
}

/// 0.1 ms to 6.6 s.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 3.0, 11))
}

impl Metrics {
    /// A registry with these numbers.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut to = Registry::with_prefix("countersign");
        let answers = self.answers.clone();
        to.register(
            "decisions",
            "Sign requests by kind of duty and outcome",
            answers,
        );
        let stages = self.stages.clone();
        to.register(
            "sign_stage_seconds",
            "Latency of sign requests by stage",
            stages,
        );
        let failures = self.ledger_failures.clone();
        to.register(
            "ledger_failures",
            "Claims the ledger could not decide",
            failures,
        );
        let refused = self.peers_refused.clone();
        to.register(
            "peers_refused",
            "Calls that a certificate does not allow",
            refused,
        );
        to.register(
            "promises",
            "Promise requests by outcome",
            self.promises.clone(),
        );
        let promises = self.promises_held.clone();
        to.register("promises_held", "Promises that are held", promises);
        to.register(
            "validators",
            "Shares that are loaded",
            self.validators.clone(),
        );
        to.register(
            "committee_tolerated_faults",
            "2t - n - 1: members that may be faulty without a slashing",
            self.tolerated_faults.clone(),
        );
        to.register(
            "committee_tolerated_absences",
            "n - t: members that may be absent while signatures are made",
            self.tolerated_absences.clone(),
        );
        let unchecked = self.clock_unchecked.clone();
        to.register(
            "clock_unchecked",
            "1 if claims are not held against the clock",
            unchecked,
        );
        self.register_ledger(&mut to);
        to
    }

    fn register_ledger(&self, to: &mut Registry) {
        for (name, help, gauge) in [
            (
                "ledger_all_frozen",
                "1 if an operator has frozen every validator",
                &self.frozen_all,
            ),
            (
                "ledger_validators_frozen",
                "Validators that an operator has frozen one by one",
                &self.frozen,
            ),
            (
                "ledger_stop_epoch",
                "No attestation with this target or above is signed; -1: no such order",
                &self.stop_epoch,
            ),
            (
                "ledger_stop_slot",
                "No block of this slot or above is signed; -1: no such order",
                &self.stop_slot,
            ),
            (
                "ledger_quarantined_until_epoch",
                "Attestations and blocks are refused until this epoch; -1: no quarantine",
                &self.quarantined_until,
            ),
        ] {
            to.register(name, help, gauge.clone());
        }
    }

    /// A sign request about a duty of that kind was answered; of none, if it was refused as it came.
    pub fn answered(&self, kind: Option<DutyKind>, outcome: &'static str) {
        let answer = Answer {
            kind: kind.map_or("unknown", label),
            outcome,
        };
        self.answers.get_or_create(&answer).inc();
        if outcome == "ledger" {
            self.ledger_failures.inc();
        }
    }

    /// A stage of a sign request took so long.
    pub fn stage(&self, stage: &'static str, took: Duration) {
        self.stages
            .get_or_create(&Stage { stage })
            .observe(took.as_secs_f64());
    }

    /// A peer called what its certificate does not allow.
    pub fn refused_peer(&self) {
        self.peers_refused.inc();
    }

    /// A request for a promise was answered.
    pub fn promise(&self, outcome: &'static str) {
        self.promises
            .get_or_create(&PromiseAnswer { outcome })
            .inc();
        if outcome == "ledger" {
            self.ledger_failures.inc();
        }
    }

    /// So many promises are held.
    pub fn promises_held(&self, held: usize) {
        self.promises_held
            .set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// This is true of the ledger as a whole.
    pub fn ledger(&self, state: &LedgerState) {
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        let height = |value: Option<u64>| value.map_or(-1, number);
        self.frozen_all.set(i64::from(state.all_frozen));
        self.frozen.set(number(state.frozen));
        self.stop_epoch.set(height(state.stop_epoch));
        self.stop_slot.set(height(state.stop_slot));
        self.quarantined_until
            .set(height(state.quarantined_until_epoch));
    }

    /// So many shares are loaded.
    pub fn validators(&self, loaded: u64) {
        self.validators
            .set(i64::try_from(loaded).unwrap_or(i64::MAX));
    }

    /// There are shares of committees of this size.
    pub fn committee(&self, size: CommitteeSize) {
        let label = Size {
            committee: size.to_string(),
        };
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.tolerated_faults
            .get_or_create(&label)
            .set(number(size.tolerated_faults()));
        self.tolerated_absences
            .get_or_create(&label)
            .set(number(size.tolerated_absences()));
    }

    /// Claims are not held against the clock.
    pub fn clock_unchecked(&self) {
        self.clock_unchecked.set(1);
    }
}

const fn label(kind: DutyKind) -> &'static str {
    match kind {
        DutyKind::Attestation => "attestation",
        DutyKind::Block => "block",
        DutyKind::RandaoReveal => "randao_reveal",
        DutyKind::AggregationSlot => "aggregation_slot",
        DutyKind::AggregateAndProof => "aggregate_and_proof",
        DutyKind::SyncCommitteeMessage => "sync_committee_message",
        DutyKind::SyncCommitteeSelectionProof => "sync_committee_selection_proof",
        DutyKind::SyncCommitteeContributionAndProof => "sync_committee_contribution_and_proof",
        DutyKind::ExecutionPayload => "execution_payload",
        DutyKind::PayloadAttestation => "payload_attestation",
        DutyKind::ProposerPreferences => "proposer_preferences",
        DutyKind::BuilderRequestAuth => "builder_request_auth",
        DutyKind::ValidatorRegistration => "validator_registration",
        DutyKind::VoluntaryExit => "voluntary_exit",
        DutyKind::Deposit => "deposit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_carries_the_prefix_and_its_labels() {
        let metrics = Metrics::default();
        metrics.answered(Some(DutyKind::Attestation), "signed");
        metrics.answered(Some(DutyKind::Block), "ledger");
        metrics.answered(None, "beyond_clock");
        metrics.stage("ledger", Duration::from_millis(3));
        metrics.committee(CommitteeSize::new(3, 4).unwrap());
        metrics.validators(7);
        metrics.promise("outbid");
        metrics.promises_held(9);
        metrics.refused_peer();
        metrics.clock_unchecked();
        metrics.ledger(&LedgerState {
            quarantined_until_epoch: Some(u64::MAX),
            stop_epoch: Some(12),
            stop_slot: None,
            all_frozen: true,
            frozen: 3,
        });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        for line in [
            "countersign_decisions_total{kind=\"attestation\",outcome=\"signed\"} 1",
            "countersign_decisions_total{kind=\"block\",outcome=\"ledger\"} 1",
            "countersign_decisions_total{kind=\"unknown\",outcome=\"beyond_clock\"} 1",
            "countersign_ledger_failures_total 1",
            "countersign_sign_stage_seconds_count{stage=\"ledger\"} 1",
            "countersign_committee_tolerated_faults{committee=\"3-of-4\"} 1",
            "countersign_committee_tolerated_absences{committee=\"3-of-4\"} 1",
            "countersign_validators 7",
            "countersign_promises_total{outcome=\"outbid\"} 1",
            "countersign_promises_held 9",
            "countersign_peers_refused_total 1",
            "countersign_clock_unchecked 1",
            "countersign_ledger_all_frozen 1",
            "countersign_ledger_validators_frozen 3",
            "countersign_ledger_stop_epoch 12",
            "countersign_ledger_stop_slot -1",
            "countersign_ledger_quarantined_until_epoch 9223372036854775807",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
    }
}
