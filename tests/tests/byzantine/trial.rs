//! One committee that is tried: every member can be told to lie.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
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
    liar::{Breach, Liar, Lie},
    process::{eventually, free_port},
    requests::{attestation, block, randao},
    vectors::NetworkLabel,
};
use threshold::{CommitteeSize, Signature};

use crate::{
    blame::{Counted, Line, Log, Seen, Word, risen},
    justice::Watch,
    table::{A_BIT_LATE, Beyond, Case, Scene},
};

/// Who is asked for what can be signed; its deadline leaves room for a busy machine.
const PATIENT: usize = 0;
pub const PATIENCE: Pace = Pace {
    deadline: Duration::from_secs(3),
    line: "deadline_ms = 3000\nlead = false",
};
/// Who is asked for what cannot be signed: that takes as long as the deadline is.
const HASTY: usize = 1;
pub const HASTE: Pace = Pace {
    deadline: Duration::from_millis(400),
    line: "deadline_ms = 400\nlead = false",
};
/// When an answer must be there after its signer-api's deadline: what a busy machine takes, and
/// less than would hide that one who is in haste waited as the other does.
const LATE: Duration = Duration::from_secs(1);
/// When they are honest again, what they kept from being signed is signed within this time.
const RECOVERY: Duration = Duration::from_secs(20);
/// So many times is asked until liars were asked, and what they did was noticed; then so long.
const ROUNDS_MAX: usize = 40;
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// How long a signer-api has, and the line of its configuration that says so.
#[derive(Clone, Copy)]
pub struct Pace {
    deadline: Duration,
    line: &'static str,
}

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
    deadline: Duration,
}

pub struct Trial {
    pub cluster: Cluster,
    pub liars: Vec<Liar>,
    pub size: CommitteeSize,
    epoch: u64,
    deadlines: [Duration; 2],
    /// The longest that an answer came after its deadline.
    latest: Mutex<Duration>,
    logs: [Log; 2],
}

impl Trial {
    pub async fn start(committee: &'static str, haste: Pace) -> Self {
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
        for (signer, pace) in [(PATIENT, PATIENCE), (HASTY, haste)] {
            prepared.configure_signer(signer, pace.line);
        }
        let mut trial = Self {
            cluster: prepared.start().await,
            liars,
            size,
            epoch: 1,
            deadlines: [PATIENCE, haste].map(|pace| pace.deadline),
            latest: Mutex::default(),
            logs: Default::default(),
        };
        // Cosigners promise nothing at first.
        let asking = trial.fresh();
        trial.recovers("a start", &asking).await;
        trial.are_well().await;
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
                deadline: self.deadlines[signer],
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
            deadline,
        } in asked
        {
            let late = took.saturating_sub(*deadline);
            assert!(late <= LATE, "{what}: {took:?} for {answer:?}");
            let mut latest = self.latest.lock().unwrap();
            *latest = late.max(*latest);
            drop(latest);
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
        self.read_logs();
        let began = Instant::now();
        self.within(case).await;
        let within = began.elapsed();
        // What as many report as are needed is believed: it could not be told from the truth.
        let is_believed = case.is_report && self.spare() + 1 >= self.size.threshold();
        let asking = if is_believed {
            self.believed(case).await
        } else {
            self.beyond(case).await
        };
        let beyond = began.elapsed() - within;
        self.recovers(case.name, &asking).await;
        if case.is_report {
            self.is_listed_again(&asking).await;
        }
        if case.puts_out() {
            self.are_asked_again(case).await;
        }
        self.are_well().await;
        let recovered = began.elapsed() - within - beyond;
        let honest = self.size.members() - self.spare() - 1;
        let honest: Vec<u64> = self.liars.iter().take(honest).map(Liar::number).collect();
        for (signer, line) in self.read_logs().into_iter().flatten() {
            let is_just = match line.word {
                // What failed before may leave an honest one with a higher ballot than it is asked for.
                Word::Dissent => true,
                Word::Blame => !honest.contains(&line.number),
                // Who is in haste may find it on a busy machine.
                Word::Fails | Word::Silent => signer == HASTY || !honest.contains(&line.number),
            };
            assert!(is_believed || is_just, "{}: {line:?}", case.name);
        }
        let size = self.size;
        println!(
            "{size}: {}: {within:.1?}, {beyond:.1?}, {recovered:.1?}",
            case.name
        );
    }

    /// What the two signer-apis have logged of cosigners since this was called last.
    fn read_logs(&mut self) -> [Vec<(usize, Line)>; 2] {
        [PATIENT, HASTY].map(|signer| {
            let lines = self.logs[signer].read(&mut self.cluster, signer);
            lines.into_iter().map(|line| (signer, line)).collect()
        })
    }

    /// All have said that they can sign, and are asked: who is out comes back with what it is asked.
    pub async fn are_well(&mut self) {
        let began = Instant::now();
        loop {
            let seen = Seen::by(&self.cluster, PATIENT).await;
            let (down, unasked) = (seen.down(), seen.unasked());
            if down.is_empty() && unasked.is_empty() {
                return;
            }
            let what = format!("down: {down:?}, not asked: {unasked:?}");
            assert!(began.elapsed() < RECOVERY, "all are honest: {what}");
            if !unasked.is_empty() {
                let asking = self.fresh();
                let asked = self.ask(PATIENT, &asking).await;
                self.hold("all are honest", &asked);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Who was out is heard again by both signer-apis, and asked, and nothing fails any more: what
    /// comes next is not what was.
    async fn are_asked_again(&mut self, case: &Case) {
        // Calls under way end with their connections, and who is absent is asked once it is back:
        // else what failed is remembered for seconds.
        let liars = self.liars.iter().rev().take(self.spare() + 1);
        liars.for_each(|liar| liar.switch(Lie::Connection(Breach::Closes)));
        eventually("whoever lied is absent", RECOVERY, || async {
            let seen = Seen::by(&self.cluster, PATIENT).await;
            let mut liars = self.liars.iter().rev().take(self.spare() + 1);
            liars.all(|liar| seen.is_absent(liar.number()))
        })
        .await;
        self.be_honest();
        let began = Instant::now();
        let mut before = Seen::by(&self.cluster, PATIENT).await;
        loop {
            let asking = self.fresh();
            let asked = self.ask(PATIENT, &asking).await;
            self.hold(case.name, &asked);
            let now = Seen::by(&self.cluster, PATIENT).await;
            let fail: Vec<_> = risen(&before.counted.failures, &now.counted.failures).collect();
            let are_heard = self.liars.iter().all(|liar| liar.listeners() >= 2);
            let are_asked = now.down().is_empty() && now.unasked().is_empty();
            if are_heard && are_asked && fail.is_empty() {
                break;
            }
            let what = format!(
                "{fail:?}, down: {:?}, not asked: {:?}",
                now.down(),
                now.unasked()
            );
            assert!(began.elapsed() < RECOVERY, "{} is over: {what}", case.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
            before = now;
        }
    }

    /// Both signer-apis have asked whoever lies, or has, for its validators.
    async fn are_listed(&self, what: &str) {
        let signers = 2;
        let liars = self.spare() + 1;
        eventually(what, RECOVERY, || async {
            let mut liars = self.liars.iter().rev().take(liars);
            liars.all(|liar| liar.listings() >= signers)
        })
        .await;
    }

    /// Both signer-apis have heard what is true.
    async fn is_listed_again(&self, asking: &[Asking]) {
        self.are_listed("what is true is listed").await;
        // It is agreed on a little later.
        for _ in 0..3 {
            let asked = self.ask(PATIENT, asking).await;
            self.hold("listed again", &asked);
        }
    }

    /// As many lie as may: all is signed in time, and they are blamed, and nobody else is.
    async fn within(&mut self, case: &Case) {
        let late = if case.late.is_zero() { 0 } else { self.spare() };
        let before = Seen::by(&self.cluster, PATIENT).await;
        let liars = self.switch(case, self.spare(), late);
        let began = Instant::now();
        let mut watch = Watch::begin(case, liars, before);
        for round in 1.. {
            let asking = self.fresh();
            let asked = self.ask(PATIENT, &asking).await;
            self.hold(case.name, &asked);
            for asked in &asked {
                let answer = &asked.answer;
                let what = format!("{} of {}, {}", self.spare(), self.size, case.name);
                assert_eq!(
                    answer.status, 200,
                    "{what}: {answer:?}, {}",
                    asked.asking.request
                );
            }
            let now = Seen::by(&self.cluster, PATIENT).await;
            let lines = self.logs[PATIENT].read(&mut self.cluster, PATIENT);
            watch.look(now, &lines);
            let complete = watch.is_complete(&self.liars, &self.logs[PATIENT]);
            let Err(missing) = complete else { break };
            let in_time = round < ROUNDS_MAX || began.elapsed() < NOTICED_WITHIN;
            assert!(in_time, "{}: {missing}", case.name);
        }
    }

    /// So many report it that it is believed, by both: even then nothing false is signed, and every
    /// request is answered in time.
    async fn believed(&mut self, case: &Case) -> Vec<Asking> {
        self.switch(case, self.spare() + 1, 0);
        self.are_listed("what is false is listed").await;
        let mut latest = Vec::new();
        for _ in 0..3 {
            for signer in [PATIENT, HASTY] {
                latest = self.fresh();
                let asked = self.ask(signer, &latest).await;
                self.hold(case.name, &asked);
                for Asked { answer, .. } in &asked {
                    let may_be = [200, 404, 500].contains(&answer.status);
                    assert!(may_be, "{}: {answer:?}", case.name);
                }
            }
        }
        latest
    }

    /// One more lies: nothing false is signed, and every request is answered in time.
    async fn beyond(&mut self, case: &Case) -> Vec<Asking> {
        let liars = self.switch(case, self.spare() + 1, 0);
        let signer = match case.beyond {
            Beyond::Fails | Beyond::FailsSoon | Beyond::Unknown | Beyond::Either => HASTY,
            Beyond::Refused | Beyond::Invalid | Beyond::Signs => PATIENT,
        };
        let before = Counted::by(&self.cluster, signer).await;
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
            let now = Counted::by(&self.cluster, signer).await;
            for (number, reason) in risen(&before.misdeeds, &now.misdeeds) {
                assert!(
                    liars.contains(&number),
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

    /// The last `count` lie so, and as many of the others are a bit late.
    pub fn lead(&self, lie: &Lie, count: usize) {
        let honest = self.size.members() - count;
        let late = honest.saturating_sub(count);
        for (position, liar) in self.liars.iter().enumerate() {
            liar.switch(if position >= honest {
                lie.clone()
            } else if position >= late {
                Lie::Slow(A_BIT_LATE)
            } else {
                Lie::Honest
            });
        }
    }

    /// In the end each that lied was blamed in a log, also the one that lied only when too many did.
    pub fn conclude(mut self) {
        self.read_logs();
        for liar in self.liars.iter().rev().take(self.spare() + 1) {
            let number = liar.number();
            let is_blamed = self.logs.iter().any(|log| log.blames(number));
            assert!(is_blamed, "cosigner-{number}");
        }
    }

    /// Says how late the latest answer was.
    pub fn tell(&self) {
        let latest = self.latest.lock().unwrap();
        println!("{}: {latest:.1?} after the deadline at most", self.size);
    }
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
