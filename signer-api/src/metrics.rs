//! What is counted. The first seven names are Web3Signer's, so that its dashboards work.

use std::{fmt, sync::Arc, time::Duration};

use daemon::metrics::Registry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType, counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge,
        histogram::Histogram,
    },
};

use crate::cosigners::Cosigners;

/// Seconds, from a stage that takes next to nothing to the deadline.
const LATENCY_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.35, 0.5, 1.0, 1.5,
];

type Latencies<L> = Family<L, Histogram, fn() -> Histogram>;

/// A request's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    r#type: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CosignerLabels {
    cosigner: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    cosigner: Arc<str>,
    lane: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    cosigner: Arc<str>,
    reason: &'static str,
}

impl ReasonLabels {
    fn of(cosigner: &Arc<str>, reason: &'static str) -> Self {
        Self {
            cosigner: Arc::clone(cosigner),
            reason,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(non_snake_case, reason = "Web3Signer's label")]
struct OperationLabels {
    signingOperation: &'static str,
}

/// A part of a request's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Body to order and root.
    Parse,
    /// Until a threshold has promised.
    Promise,
    /// Until a threshold of partials is there.
    Sign,
    /// Combining and verifying.
    Combine,
    /// All of it.
    Total,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Promise => "promise",
            Self::Sign => "sign",
            Self::Combine => "combine",
            Self::Total => "total",
        }
    }
}

/// All counters. One for the process; clones of what is inside share their numbers.
pub(crate) struct Metrics {
    malformed: Counter,
    signing_duration: Histogram,
    missing_identifier: Counter,
    signers_loaded: Gauge,
    permitted: Counter,
    prevented: Counter,
    database_duration: Latencies<OperationLabels>,
    requests: Family<RequestLabels, Counter>,
    stages: Latencies<StageLabels>,
    coalesced: Counter,
    overloaded: Counter,
    places: Gauge,
    call_latency: Latencies<LaneLabels>,
    batch_size: Family<LaneLabels, Histogram, fn() -> Histogram>,
    queue_depth: Family<LaneLabels, Gauge>,
    failures: Family<ReasonLabels, Counter>,
    blamed: Family<ReasonLabels, Counter>,
    dissents: Family<ReasonLabels, Counter>,
    up: Family<CosignerLabels, Gauge>,
    asked: Family<CosignerLabels, Gauge>,
    led: Gauge,
    tolerated_faults: Gauge,
    tolerated_absences: Gauge,
}

/// The ends of cosigners' certificates, as they are when they are asked for.
pub(crate) struct PeerCertificates(pub(crate) Arc<Cosigners>);

impl fmt::Debug for PeerCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerCertificates")
    }
}

impl Collector for PeerCertificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ends = self.0.certificates_not_after();
        if ends.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "countersign_cosigner_certificate_not_after_timestamp_seconds",
            "When the certificate ends that a cosigner showed last, in seconds since 1970",
            None,
            MetricType::Gauge,
        )?;
        for (cosigner, end) in ends {
            let labels = [("cosigner", cosigner.as_str())];
            ConstGauge::new(end).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

fn sizes() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
}

impl Metrics {
    /// Counters at zero, registered.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            malformed: Counter::default(),
            signing_duration: latency(),
            missing_identifier: Counter::default(),
            signers_loaded: Gauge::default(),
            permitted: Counter::default(),
            prevented: Counter::default(),
            database_duration: Family::new_with_constructor(latency),
            requests: Family::default(),
            stages: Family::new_with_constructor(latency),
            coalesced: Counter::default(),
            overloaded: Counter::default(),
            places: Gauge::default(),
            call_latency: Family::new_with_constructor(latency),
            batch_size: Family::new_with_constructor(sizes),
            queue_depth: Family::default(),
            failures: Family::default(),
            blamed: Family::default(),
            dissents: Family::default(),
            up: Family::default(),
            asked: Family::default(),
            led: Gauge::default(),
            tolerated_faults: Gauge::default(),
            tolerated_absences: Gauge::default(),
        };
        metrics.register_web3signers(registry);
        metrics.register_ours(registry.sub_registry_with_prefix("countersign"));
        metrics
    }

    fn register_web3signers(&self, registry: &mut Registry) {
        registry.register(
            "http_bls_malformed_request_count",
            "Signing requests answered with 400",
            self.malformed.clone(),
        );
        registry.register(
            "signing_bls_signing_duration",
            "Seconds from a parsed request to its signature",
            self.signing_duration.clone(),
        );
        registry.register(
            "signing_bls_missing_identifier_count",
            "Signing requests for unknown validators",
            self.missing_identifier.clone(),
        );
        registry.register(
            "signing_signers_loaded_count",
            "Validators that are served",
            self.signers_loaded.clone(),
        );
        registry.register(
            "eth2_slashingprotection_permitted_signings",
            "Slashable duties that were signed",
            self.permitted.clone(),
        );
        registry.register(
            "eth2_slashingprotection_prevented_signings",
            "Slashable duties that were refused",
            self.prevented.clone(),
        );
        registry.register(
            "eth2_slashingprotection_database_duration",
            "Seconds until the cosigners' ledgers had decided and their shares had signed",
            self.database_duration.clone(),
        );
    }

    fn register_ours(&self, registry: &mut Registry) {
        registry.register("requests", "Signing requests", self.requests.clone());
        registry.register(
            "stage_seconds",
            "Seconds by stage of a request",
            self.stages.clone(),
        );
        registry.register(
            "requests_coalesced",
            "Requests that joined an equal one under way",
            self.coalesced.clone(),
        );
        registry.register(
            "requests_overloaded",
            "Requests answered with Retry-After",
            self.overloaded.clone(),
        );
        registry.register(
            "requests_places",
            "Requests that may be under way at this moment, but for proposals",
            self.places.clone(),
        );
        registry.register(
            "cosigner_call_seconds",
            "Seconds of one batch at a cosigner",
            self.call_latency.clone(),
        );
        registry.register(
            "cosigner_batch_items",
            "Items of a batch",
            self.batch_size.clone(),
        );
        registry.register(
            "cosigner_queue_depth",
            "Items that wait for a cosigner",
            self.queue_depth.clone(),
        );
        registry.register(
            "cosigner_failures",
            "Items that a cosigner could not answer",
            self.failures.clone(),
        );
        registry.register(
            "cosigner_blamed",
            "Partials, replies and reports of a cosigner that were not valid",
            self.blamed.clone(),
        );
        registry.register(
            "cosigner_dissents",
            "Items that a cosigner did not agree to and others signed",
            self.dissents.clone(),
        );
        registry.register(
            "cosigner_up",
            "Whether a cosigner can promise and sign slashable duties",
            self.up.clone(),
        );
        registry.register(
            "cosigner_asked",
            "Whether a cosigner is asked; 0 while it fails repeatedly and is only probed",
            self.asked.clone(),
        );
        registry.register(
            "cosigners_led",
            "Cosigners that sign slashable duties for this signer-api in one round trip",
            self.led.clone(),
        );
        registry.register(
            "tolerated_faults",
            "Cosigners that may be faulty while nothing slashable can be signed (2t-n-1)",
            self.tolerated_faults.clone(),
        );
        registry.register(
            "tolerated_absences",
            "Cosigners that may be absent while signatures are made (n-t)",
            self.tolerated_absences.clone(),
        );
    }

    pub(crate) fn answered(&self, r#type: &'static str, status: u16) {
        self.requests
            .get_or_create(&RequestLabels { r#type, status })
            .inc();
    }

    pub(crate) fn malformed(&self) {
        self.malformed.inc();
    }

    pub(crate) fn missing_identifier(&self) {
        self.missing_identifier.inc();
    }

    pub(crate) fn coalesced(&self) {
        self.coalesced.inc();
    }

    pub(crate) fn overloaded(&self) {
        self.overloaded.inc();
    }

    /// How many requests may be under way at this moment.
    pub(crate) fn places(&self, places: u64) {
        self.places.set(i64::try_from(places).unwrap_or(i64::MAX));
    }

    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        self.stages
            .get_or_create(&StageLabels {
                stage: stage.name(),
            })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn signed(&self, took: Duration) {
        self.signing_duration.observe(took.as_secs_f64());
    }

    /// What the ledgers made of a slashable duty.
    pub(crate) fn permitted(&self, operation: &'static str, took: Duration) {
        self.permitted.inc();
        let labels = OperationLabels {
            signingOperation: operation,
        };
        self.database_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn prevented(&self) {
        self.prevented.inc();
    }

    pub(crate) fn called(
        &self,
        cosigner: &Arc<str>,
        lane: &'static str,
        items: usize,
        took: Duration,
    ) {
        let labels = LaneLabels {
            cosigner: Arc::clone(cosigner),
            lane,
        };
        self.call_latency
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        self.batch_size
            .get_or_create(&labels)
            .observe(f64::from(items));
    }

    /// The gauge of a lane's queue.
    pub(crate) fn queue_depth(&self, cosigner: &Arc<str>, lane: &'static str) -> Gauge {
        let labels = LaneLabels {
            cosigner: Arc::clone(cosigner),
            lane,
        };
        self.queue_depth.get_or_create_owned(&labels)
    }

    pub(crate) fn failed(&self, cosigner: &Arc<str>, reason: &'static str) {
        let labels = ReasonLabels::of(cosigner, reason);
        self.failures.get_or_create(&labels).inc();
    }

    pub(crate) fn blamed(&self, cosigner: &Arc<str>, reason: &'static str) {
        let labels = ReasonLabels::of(cosigner, reason);
        self.blamed.get_or_create(&labels).inc();
    }

    pub(crate) fn dissented(&self, cosigner: &Arc<str>, reason: &'static str) {
        let labels = ReasonLabels::of(cosigner, reason);
        self.dissents.get_or_create(&labels).inc();
    }

    pub(crate) fn up(&self, cosigner: &Arc<str>, up: bool) {
        let labels = CosignerLabels {
            cosigner: Arc::clone(cosigner),
        };
        self.up.get_or_create(&labels).set(i64::from(up));
    }

    pub(crate) fn asked(&self, cosigner: &Arc<str>, asked: bool) {
        let labels = CosignerLabels {
            cosigner: Arc::clone(cosigner),
        };
        self.asked.get_or_create(&labels).set(i64::from(asked));
    }

    /// How many cosigners are led.
    pub(crate) fn led(&self, cosigners: usize) {
        self.led.set(i64::try_from(cosigners).unwrap_or(i64::MAX));
    }

    /// What is served: how many validators, and what the weakest of their committees tolerates.
    pub(crate) fn served(&self, validators: usize, faults: usize, absences: usize) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.signers_loaded.set(gauge(validators));
        self.tolerated_faults.set(gauge(faults));
        self.tolerated_absences.set(gauge(absences));
    }
}
