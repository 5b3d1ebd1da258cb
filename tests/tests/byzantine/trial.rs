//! One committee that is tried: every member can be told to lie.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use duty::{
    AttestationData, BeaconBlockHeader, Checkpoint, Duty, Epoch, ForkVersion, PublicKey, Root,
    SigningOrder, Slot,
};
use futures_util::future::join_all;
use serde_json::Value;
use tests::{
    cluster::{Cluster, Options, Prepared, test_keys},
    http::Answer,
    liar::{Liar, Lie},
    process::{eventually, free_port},
    requests::{attestation, block, randao},
    vectors::NetworkLabel,
};
use threshold::{CommitteeSize, Signature};

use crate::table::{A_BIT_LATE, Beyond, Case, Proof, Scene};

/// Who is asked for what can be signed; its deadline leaves room for a busy machine.
const PATIENT: usize = 0;
pub const PATIENT_LINES: &str = "deadline_ms = 3000";
/// Who is asked for what cannot be signed: that takes as long as the deadline is.
const HASTY: usize = 1;
pub const HASTY_LINES: &str = "deadline_ms = 400";
/// When an answer must be there after the deadline: much too late, on an idle machine.
const LATE: Duration = Duration::from_secs(3);
/// When they are honest again, what they kept from being signed is signed within this time.
const RECOVERY: Duration = Duration::from_secs(20);
/// So many times is asked until liars were asked, and what they did was noticed; then so long.
const ROUNDS_MAX: usize = 40;
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// A duty to ask for.
pub struct Asking {
    pub validator: PublicKey,
    pub request: Value,
    order: SigningOrder,
}

/// What became of it.
pub struct Asked<'a> {
    pub asking: &'a Asking,
    pub answer: Answer,
    took: Duration,
}

pub struct Trial {
    pub cluster: Cluster,
    pub liars: Vec<Liar>,
    pub size: CommitteeSize,
    epoch: u64,
}

/// Misdeeds or failures, by cosigner and kind.
type Counts = BTreeMap<(u64, String), u64>;

impl Trial {
    pub async fn start(committee: &'static str, hasty_lines: &'static str) -> Self {
        let size: CommitteeSize = committee.parse().unwrap();
        let numbers = 1..=u64::try_from(size.members()).unwrap();
        let mut prepared = Prepared::new(Options {
            committee,
            signers: 2,
            spare: numbers.clone().collect(),
            ..Options::new(test_keys(2))
        })
        .await;
        let ports: Vec<u16> = numbers.clone().map(|_| free_port()).collect();
        let packages = Arc::new(prepared.take_packages());
        let certs = prepared.dir().join("certs");
        let mut liars = Vec::new();
        for (number, port) in numbers.zip(&ports) {
            let (at, behind) = (([127, 0, 0, 1], *port).into(), prepared.address(number));
            liars.push(Liar::start(number, at, behind, Arc::clone(&packages), &certs).await);
        }
        prepared.detour(0, ports.clone());
        prepared.detour(1, ports);
        prepared.configure_signer(PATIENT, PATIENT_LINES);
        prepared.configure_signer(HASTY, hasty_lines);
        let mut trial = Self {
            cluster: prepared.start().await,
            liars,
            size,
            epoch: 1,
        };
        // Cosigners promise nothing at first.
        let asking = trial.fresh();
        trial.recovers("a start", &asking).await;
        trial
    }

    /// So many may lie.
    pub fn spare(&self) -> usize {
        self.size.members() - self.size.threshold()
    }

    /// An epoch that nobody has asked for.
    pub fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// One request of each lane for each validator, for duties that nobody has asked for.
    pub fn fresh(&mut self) -> Vec<Asking> {
        let epoch = self.next_epoch();
        let validators = self.cluster.validators().iter();
        validators.flat_map(|key| asking(*key, epoch, 1)).collect()
    }

    /// Asks for all at once.
    pub async fn ask<'a>(&self, signer: usize, asking: &'a [Asking]) -> Vec<Asked<'a>> {
        let ask = |asking: &'a Asking| async move {
            let began = Instant::now();
            let answer = self
                .cluster
                .sign(signer, &asking.validator, &asking.request);
            Asked {
                asking,
                answer: answer.await,
                took: began.elapsed(),
            }
        };
        join_all(asking.iter().map(ask)).await
    }

    /// What holds of every answer: it came in time, and a signature is one.
    pub fn hold(&self, what: &str, asked: &[Asked<'_>]) {
        for Asked {
            asking,
            answer,
            took,
        } in asked
        {
            assert!(
                *took <= Duration::from_secs(3) + LATE,
                "{what}: {took:?} for {answer:?}"
            );
            if answer.status != 200 {
                continue;
            }
            let signature: Vec<u8> = const_hex::decode(answer.signature()).unwrap();
            let signature = Signature(signature.try_into().unwrap());
            let root = asking.order.signing_root();
            threshold::verify(&asking.validator, root, &signature)
                .unwrap_or_else(|error| panic!("{what}: {error}: {answer:?}"));
        }
    }

    pub async fn check(&mut self, case: &Case) {
        let began = Instant::now();
        self.within(case).await;
        let within = began.elapsed();
        // What as many report as are needed is believed: it could not be told from the truth.
        let is_believed = case.is_report() && self.spare() + 1 >= self.size.threshold();
        let asking = if is_believed {
            self.fresh()
        } else {
            self.beyond(case).await
        };
        let beyond = began.elapsed() - within;
        self.recovers(case.name, &asking).await;
        if case.is_report() {
            self.is_listed_again(&asking).await;
        }
        let recovered = began.elapsed() - within - beyond;
        let size = self.size;
        println!(
            "{size}: {}: {within:.1?}, {beyond:.1?}, {recovered:.1?}",
            case.name
        );
    }

    /// Both signer-apis have heard what is true from whoever may have lied.
    async fn is_listed_again(&self, asking: &[Asking]) {
        let signers = 2;
        let lied = self.spare();
        eventually("what is true is listed", RECOVERY, || async {
            let mut liars = self.liars.iter().rev().take(lied);
            liars.all(|liar| liar.listings() >= signers)
        })
        .await;
        // It is agreed on a little later.
        for _ in 0..3 {
            let asked = self.ask(PATIENT, asking).await;
            self.hold("listed again", &asked);
        }
    }

    /// As many lie as may: all is signed in time, and they are blamed, and nobody else is.
    async fn within(&mut self, case: &Case) {
        let late = if case.late.is_zero() { 0 } else { self.spare() };
        let liars = self.switch(case, self.spare(), late);
        let (misdeeds, failures) = self.counts(PATIENT).await;
        let began = Instant::now();
        for round in 1.. {
            let asking = self.fresh();
            let asked = self.ask(PATIENT, &asking).await;
            self.hold(case.name, &asked);
            for asked in &asked {
                let answer = &asked.answer;
                let what = format!("{} of {}, {}", liars.len(), self.size, case.name);
                assert_eq!(
                    answer.status, 200,
                    "{what}: {answer:?}, {}",
                    asked.asking.request
                );
            }
            let missing = self.missing(case, &liars, &misdeeds, &failures).await;
            let Some(missing) = missing else { break };
            let in_time = round < ROUNDS_MAX || began.elapsed() < NOTICED_WITHIN;
            assert!(in_time, "{}: {missing}", case.name);
        }
    }

    /// What still lacks until it is clear that those liars lied, and that it was noticed; whoever
    /// else is blamed is so unjustly.
    async fn missing(
        &self,
        case: &Case,
        liars: &BTreeSet<u64>,
        misdeeds: &Counts,
        failures: &Counts,
    ) -> Option<String> {
        let (now, failed) = self.counts(PATIENT).await;
        for ((number, reason), count) in &now {
            let before = misdeeds.get(&(*number, reason.clone())).copied();
            let is_due = liars.contains(number) && case.blamed == Some(reason.as_str());
            let what = format!("cosigner-{number} is blamed for its {reason}");
            let is_new = *count > before.unwrap_or_default();
            assert!(is_due || !is_new, "{} of {}: {what}", case.name, self.size);
        }
        let rose = |number: u64, now: &Counts, before: &Counts, reason: Option<&str>| {
            let of = |counts: &Counts| -> u64 {
                let of_it = counts.iter().filter(|((of, kind), _)| {
                    *of == number && reason.is_none_or(|reason| kind == reason)
                });
                of_it.map(|(_, count)| count).sum()
            };
            of(now) > of(before)
        };
        let health = self.cluster.get(PATIENT, "/healthcheck").await.json();
        for liar in self
            .liars
            .iter()
            .filter(|liar| liars.contains(&liar.number()))
        {
            let number = liar.number();
            let was_asked = match case.proof {
                Proof::Promises(least) => liar.promises() + liar.signatures() >= least,
                Proof::Signatures => liar.signatures() > 0,
                Proof::Listings => liar.listings() > 0,
                Proof::Connections => liar.connections() > 0,
                Proof::Health => true,
            };
            if !was_asked {
                return Some(format!("cosigner-{number} was not asked"));
            }
            if case.is_failure && !rose(number, &failed, failures, None) {
                return Some(format!("no failure of cosigner-{number} was counted"));
            }
            let Some(reason) = case.blamed else { continue };
            if !rose(number, &now, misdeeds, Some(reason)) {
                return Some(format!("cosigner-{number} is not blamed for its {reason}"));
            }
            if check_of(&health, number)["data"]["last-misdeed"] != reason {
                return Some(format!(
                    "the health of cosigner-{number} does not tell of it"
                ));
            }
        }
        None
    }

    /// One more lies: nothing false is signed, and every request is answered in time.
    async fn beyond(&mut self, case: &Case) -> Vec<Asking> {
        let liars = self.switch(case, self.spare() + 1, 0);
        let signer = match case.beyond {
            Beyond::Fails | Beyond::FailsSoon | Beyond::Unknown | Beyond::Either => HASTY,
            Beyond::Refused | Beyond::Invalid | Beyond::Signs => PATIENT,
        };
        let (misdeeds, _) = self.counts(signer).await;
        for round in 1.. {
            let asking = self.fresh();
            let asked = self.ask(signer, &asking).await;
            self.hold(case.name, &asked);
            let what = format!("{} of {}, {}", liars.len(), self.size, case.name);
            let allowed: &[u16] = match case.beyond {
                Beyond::Fails | Beyond::FailsSoon => &[500],
                Beyond::Refused => &[412],
                Beyond::Invalid => &[400],
                Beyond::Unknown => &[404, 500],
                Beyond::Signs => &[200],
                Beyond::Either => &[200, 412, 500],
            };
            let wrong = asked
                .iter()
                .find(|asked| !allowed.contains(&asked.answer.status));
            if let Some(Asked { answer, asking, .. }) = wrong {
                let takes_time = matches!(case.beyond, Beyond::FailsSoon | Beyond::Unknown);
                assert!(
                    takes_time && round < ROUNDS_MAX,
                    "{what}: {answer:?}, {}",
                    asking.request
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            let (now, _) = self.counts(signer).await;
            for ((number, reason), count) in now {
                let before = misdeeds.get(&(number, reason.clone()));
                let is_just = liars.contains(&number) || Some(&count) == before;
                assert!(
                    is_just,
                    "{what}: cosigner-{number} is blamed for its {reason}"
                );
            }
            return asking;
        }
        unreachable!("rounds are counted");
    }

    /// All are honest again, and what was not signed is.
    pub async fn recovers(&self, what: &str, asking: &[Asking]) {
        self.be_honest();
        let what = format!("{}: {what} is over", self.size);
        eventually(&what, RECOVERY, || async {
            let asked = self.ask(PATIENT, asking).await;
            self.hold(&what, &asked);
            asked.iter().all(|asked| asked.answer.status == 200)
        })
        .await;
    }

    /// Nobody lies any more.
    pub fn be_honest(&self) {
        for liar in &self.liars {
            liar.switch(Lie::Honest);
        }
    }

    /// The last `count` lie so, `late` of the last others are a bit late, the first are honest.
    fn switch(&self, case: &Case, count: usize, late: usize) -> BTreeSet<u64> {
        let numbers: Vec<u64> = self.liars.iter().map(Liar::number).collect();
        let (honest, liars) = numbers.split_at(numbers.len() - count);
        let (quick, late) = honest.split_at(honest.len().saturating_sub(late));
        let missing = self.size.threshold().saturating_sub(quick.len());
        let scene = Scene {
            members: u64::try_from(numbers.len()).unwrap(),
            liars: liars.to_vec(),
            first: quick
                .iter()
                .chain(liars.iter().rev().take(missing))
                .copied()
                .collect(),
        };
        for liar in &self.liars {
            let number = liar.number();
            liar.switch(if liars.contains(&number) {
                (case.lie)(&scene, number)
            } else if late.contains(&number) {
                Lie::Slow(case.late)
            } else {
                Lie::Honest
            });
        }
        liars.iter().copied().collect()
    }

    /// As many as may lie so, and as many of the others are a bit late.
    pub fn lead(&self, lie: &Lie) {
        let late = self.size.members() - 2 * self.spare();
        for (position, liar) in self.liars.iter().enumerate() {
            liar.switch(if position >= self.size.threshold() {
                lie.clone()
            } else if position >= late {
                Lie::Slow(A_BIT_LATE)
            } else {
                Lie::Honest
            });
        }
    }

    /// Misdeeds and failures that a signer-api has counted.
    pub async fn counts(&self, signer: usize) -> (Counts, Counts) {
        let metrics = self.cluster.metrics(signer).await;
        let of = |name| {
            metrics
                .lines()
                .filter_map(|line| count(line, name))
                .collect()
        };
        (
            of("countersign_cosigner_blamed_total"),
            of("countersign_cosigner_failures_total"),
        )
    }

    /// Who was blamed in the end, in the logs: each that lied, and nobody else. One of them lied only
    /// when too many did, to who has little time.
    pub fn conclude(mut self) {
        let log = [PATIENT, HASTY].map(|signer| self.cluster.signer(signer).log());
        let log = log.concat();
        let blames = |number: u64| {
            let name = format!("cosigner-{number}");
            let is_blame = |line: &str| line.contains("is to blame") && line.contains(&name);
            log.lines().find(|line| is_blame(line)).map(str::to_owned)
        };
        let liars = self.spare() + 1;
        let honest = self.size.members() - liars;
        for (position, liar) in self.liars.iter().enumerate() {
            let number = liar.number();
            let line = blames(number);
            assert_eq!(
                line.is_some(),
                position >= honest,
                "cosigner-{number}: {line:?}"
            );
        }
    }
}

fn check_of(health: &Value, number: u64) -> &Value {
    let id = format!("cosigner-check:cosigner-{number}");
    let mut checks = health["checks"].as_array().unwrap().iter();
    checks.find(|check| check["id"] == *id).unwrap()
}

/// `name{cosigner="cosigner-4",reason="partial"} 3`
fn count(line: &str, name: &str) -> Option<((u64, String), u64)> {
    let (labels, count) = line.strip_prefix(name)?.split_once("} ")?;
    let label = |name: &str| {
        Some(
            labels
                .split_once(&format!("{name}=\""))?
                .1
                .split_once('"')?
                .0,
        )
    };
    let number = label("cosigner")?.strip_prefix("cosigner-")?.parse().ok()?;
    Some(((number, label("reason")?.to_owned()), count.parse().ok()?))
}

/// The requests of one epoch, each as JSON and as what it means.
pub fn asking(validator: PublicKey, epoch: u64, message: u8) -> [Asking; 3] {
    let root = |number: u8| {
        let mut root = [0; 32];
        root[31] = number;
        Root(root)
    };
    let checkpoint = |epoch, number| Checkpoint {
        epoch: Epoch(epoch),
        root: root(number),
    };
    let vote = AttestationData {
        slot: Slot((epoch + 1) * 32),
        index: 0,
        beacon_block_root: root(message),
        source: checkpoint(epoch, 1),
        target: checkpoint(epoch + 1, 2),
    };
    let header = BeaconBlockHeader {
        slot: Slot(epoch * 32),
        proposer_index: 7,
        parent_root: root(1),
        state_root: root(2),
        body_root: root(message),
    };
    let number = u64::from(message);
    [
        (
            Duty::Attestation(vote),
            attestation(epoch, epoch + 1, number),
        ),
        (Duty::Block(header), block(epoch * 32, number)),
        (Duty::RandaoReveal(Epoch(epoch)), randao(epoch)),
    ]
    .map(|(duty, request)| Asking {
        validator,
        request,
        order: SigningOrder {
            validator,
            fork_version: ForkVersion([5, 0, 0, 0]),
            genesis_validators_root: NetworkLabel::Mainnet
                .genesis_validators_root()
                .parse()
                .unwrap(),
            duty,
        },
    })
}
