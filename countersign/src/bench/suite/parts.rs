//! The suite's parts, in the order in which they run, and the rows that they make.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::Signal;
use tempfile::TempDir;
use threshold::CommitteeSize;

use super::{
    CONNECTIONS_FEW, LedgerKind, Part, Plan,
    cluster::{Cluster, Last},
    duties::Kind,
    figures::{Spread, float, quantile},
    history,
    measure::{self, Bursts, SINGLES, Singles},
    postgres::Installation,
    results::{Curve, Results, Row, Target},
    say, usage,
    yardstick::Yardstick,
};

/// The deadline of the signers that are measured: a slow machine is slow, and not wrong.
const DEADLINE_MS: u64 = 30_000;
/// Sizes of bursts; the plan's own is the last.
const SIZES: [usize; 6] = [1, 8, 32, 128, 512, 2_048];
/// Points of a latency curve.
const POINTS: usize = 100;

const OF_CORES: &str = "plain, all cores";
const OF_PLAIN: &str = "plain signatures";

/// A run of the suite.
pub(super) struct Suite {
    plan: Plan,
    place: PathBuf,
    results: Results,
}

impl Suite {
    pub(super) const fn new(plan: Plan, place: PathBuf, results: Results) -> Self {
        Self {
            plan,
            place,
            results,
        }
    }

    pub(super) fn into_results(self) -> Results {
        self.results
    }

    fn wants(&self, part: Part) -> bool {
        self.plan.parts.contains(&part)
    }

    /// Whether this is what the targets were set for.
    fn has_targets(&self, name: &str) -> bool {
        name.starts_with("3-of-4") && self.plan.validators == 1_000
    }

    /// Runs all parts on all committees.
    ///
    /// # Errors
    /// If a committee does not start, or any signature is missing or wrong.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        for ledger in self.plan.ledgers.clone() {
            let postgres = match ledger {
                LedgerKind::Sqlite => None,
                LedgerKind::Postgres => match Installation::find() {
                    Ok(installation) => Some(installation),
                    Err(why) => {
                        let why = format!("everything on Postgres: {why} on this machine");
                        say(&why);
                        self.results.not_measured.push(why);
                        continue;
                    }
                },
            };
            for size in self.plan.committees.clone() {
                self.committee(size, postgres.as_ref()).await?;
            }
        }
        Ok(())
    }

    async fn committee(
        &mut self,
        size: CommitteeSize,
        postgres: Option<&Installation>,
    ) -> anyhow::Result<()> {
        let kind = postgres.map_or("SQLite", |_| "Postgres");
        let name = format!("{size} {kind}");
        let validators = self.plan.validators.saturating_add(SINGLES);
        let (_dir, mut cluster) = self.make(&name, size, validators, postgres).await?;
        cluster.start(Last::Honest).await?;
        if self.wants(Part::Bursts) {
            self.bursts(&name, &mut cluster).await?;
        }
        if self.wants(Part::Single) {
            self.single(&name, &mut cluster).await?;
        }
        if self.wants(Part::Beside) {
            self.beside(&name, &mut cluster).await?;
        }
        if self.wants(Part::Sizes) {
            self.sizes(&name, &mut cluster).await?;
        }
        let is_reference = size == CommitteeSize::new(3, 4)?;
        if self.wants(Part::History) && is_reference {
            self.history(&name, &mut cluster).await?;
        }
        if self.wants(Part::Held) && is_reference && postgres.is_none() {
            self.held(&name, &mut cluster).await?;
            cluster.start(Last::Honest).await?;
        }
        if self.wants(Part::Faults) {
            self.faults(&name, &mut cluster).await?;
        }
        cluster.stop().await;
        Ok(())
    }

    async fn make(
        &self,
        name: &str,
        size: CommitteeSize,
        validators: usize,
        postgres: Option<&Installation>,
    ) -> anyhow::Result<(TempDir, Cluster)> {
        say(&format!("{name}: making {validators} validators"));
        let dir = tempfile::Builder::new()
            .prefix("countersign-bench-")
            .tempdir_in(&self.place)?;
        let server = match postgres {
            Some(installation) => Some(installation.start(&self.place).await?),
            None => None,
        };
        let at = dir.path().join("cluster");
        let cluster = Cluster::make(&at, size, validators, server, DEADLINE_MS).await?;
        Ok((dir, cluster))
    }

    /// Bursts of one root that are compared with nothing of the machine's.
    async fn measured(&self, cluster: &mut Cluster, validators: usize) -> anyhow::Result<Bursts> {
        let (connections, repetitions) = (self.plan.connections, self.plan.repetitions);
        let (kind, between) = (Kind::SameRoot, &mut || Ok(()));
        measure::bursts(cluster, kind, validators, connections, repetitions, between).await
    }

    /// Bursts, and between them what they are compared with.
    async fn compared(
        &self,
        cluster: &mut Cluster,
        kind: Kind,
        connections: usize,
    ) -> anyhow::Result<(Bursts, Yardstick)> {
        let plan = &self.plan;
        let (validators, repetitions) = (plan.validators, plan.repetitions);
        let mut plain = Yardstick::new(plan.plain_time);
        let between = &mut || plain.measure();
        let bursts =
            measure::bursts(cluster, kind, validators, connections, repetitions, between).await?;
        Ok((bursts, plain))
    }

    async fn bursts(&mut self, name: &str, cluster: &mut Cluster) -> anyhow::Result<()> {
        let reference = self.has_targets(name);
        let on_disk = if name.ends_with("SQLite") { 0.7 } else { 0.6 };
        for (kind, what, target) in [
            (Kind::SameRoot, "same root", on_disk),
            (Kind::DistinctVotes, "distinct votes", 0.2),
            (Kind::Randao, "RANDAO reveals", 0.2),
        ] {
            let connections = self.plan.connections;
            let (bursts, plain) = self.compared(cluster, kind, connections).await?;
            let what = format!("burst of {}, {what}", self.plan.validators);
            let target = Target::AtLeast(target);
            let target = reference.then_some(target);
            self.rate(name, &what, &bursts, &plain, target);
            if kind == Kind::SameRoot {
                self.answers(name, &bursts);
                self.usage(name, &bursts, &plain);
            }
        }
        if self.plan.connections > CONNECTIONS_FEW {
            let (kind, connections) = (Kind::SameRoot, CONNECTIONS_FEW);
            let (bursts, plain) = self.compared(cluster, kind, connections).await?;
            let what = format!("  same root, over {connections} connections");
            self.rate(name, &what, &bursts, &plain, None);
        }
        Ok(())
    }

    fn rate(
        &mut self,
        name: &str,
        what: &str,
        bursts: &Bursts,
        plain: &Yardstick,
        target: Option<Target>,
    ) {
        let cores = float(self.results.machine.cores);
        let ratio = plain.compared(&bursts.rates, |rate, plain| rate / (cores * plain));
        let row = Row::new(name, what, bursts.rate, "signatures/s")
            .with_ratio(ratio, OF_CORES)
            .against(target);
        self.push(row, plain);
    }

    /// When a burst of one root was answered.
    fn answers(&mut self, name: &str, bursts: &Bursts) {
        let reference = self.has_targets(name);
        let target = reference.then_some(Target::AtMost(500.0));
        let row = Row::new(name, "  last answer", bursts.last, "ms").against(target);
        self.show(row);
        for (what, per_mille) in [("  p50 of all answers", 500), ("  p99 of all answers", 990)] {
            let value = quantile(&bursts.answered, per_mille);
            self.show(Row::new(name, what, Spread::of(vec![value]), "ms"));
        }
        let points = (0..=POINTS).map(|percent| {
            let at = percent.saturating_mul(1000) / POINTS;
            let ms = quantile(&bursts.answered, at);
            (ms, float(percent))
        });
        self.results.latencies.push(Curve {
            name: name.to_owned(),
            points: points.collect(),
        });
    }

    /// What one signature of a burst of one root cost each process.
    fn usage(&mut self, name: &str, bursts: &Bursts, plain: &Yardstick) {
        let Some((signer, cosigners)) = bursts.cpu.split_last() else {
            return;
        };
        let reference = self.has_targets(name);
        let target = reference.then_some(Target::AtMost(0.3));
        for (what, cpu, target) in [
            (
                "  CPU per signature: a cosigner",
                cosigners.to_vec(),
                target,
            ),
            ("  CPU per signature: signer-api", vec![*signer], None),
            ("  CPU per signature: this load", vec![bursts.own_cpu], None),
        ] {
            let cpu = Spread::of(cpu);
            // It was counted over all repetitions.
            let each = vec![cpu.median; bursts.rates.len()];
            let row = Row::new(name, what, cpu, "ms")
                .with_ratio(plain.times(&each), OF_PLAIN)
                .against(target);
            self.push(row, plain);
        }
    }

    async fn single(&mut self, name: &str, cluster: &mut Cluster) -> anyhow::Result<()> {
        for (kind, what) in [
            (Kind::SameRoot, "one attestation at a time"),
            (Kind::Blocks, "one block at a time"),
        ] {
            let mut plain = Yardstick::new(self.plan.plain_time);
            let (each, times) = (self.plan.singles, self.plan.repetitions);
            let between = &mut || plain.measure();
            let singles = measure::singles(cluster, kind, each, times, between).await?;
            self.singles(name, what, &singles, &plain);
        }
        Ok(())
    }

    async fn beside(&mut self, name: &str, cluster: &mut Cluster) -> anyhow::Result<()> {
        let plan = &self.plan;
        let (validators, connections) = (plan.validators, plan.connections);
        let times = plan.repetitions.saturating_mul(2);
        let mut plain = Yardstick::new(plan.plain_time);
        plain.measure()?;
        let beside = measure::singles_beside_bursts;
        let singles = beside(cluster, Kind::Blocks, validators, connections, times).await?;
        plain.measure()?;
        self.singles(name, "one block at a time, beside bursts", &singles, &plain);
        Ok(())
    }

    fn singles(&mut self, name: &str, what: &str, singles: &Singles, plain: &Yardstick) {
        let reference = self.has_targets(name);
        let (p50, p99) = (singles.p50(), singles.p99());
        let row = Row::new(name, &format!("{what}: p50"), Spread::of(vec![p50]), "ms")
            .with_ratio(plain.times(&singles.medians), OF_PLAIN)
            .against(reference.then_some(Target::AtMost(6.5)));
        self.push(row, plain);
        let row = Row::new(name, &format!("{what}: p99"), Spread::of(vec![p99]), "ms")
            .with_ratio(p99 / p50, "p50")
            .against(reference.then_some(Target::AtMost(3.0)));
        self.push(row, plain);
    }

    async fn sizes(&mut self, name: &str, cluster: &mut Cluster) -> anyhow::Result<()> {
        let plan = &self.plan;
        let smaller = SIZES.into_iter().filter(|size| *size < plan.validators);
        let sizes: Vec<usize> = smaller.chain([plan.validators]).collect();
        let mut points = Vec::new();
        for size in sizes {
            let bursts = self.measured(cluster, size).await?;
            let what = format!("all at once: {size}");
            self.show(Row::new(name, &what, bursts.rate, "signatures/s"));
            points.push((float(size), bursts.rate.median));
        }
        self.results.rates.push(Curve {
            name: name.to_owned(),
            points,
        });
        Ok(())
    }

    async fn history(&mut self, name: &str, cluster: &mut Cluster) -> anyhow::Result<()> {
        let before = self.measured(cluster, self.plan.validators).await?;
        cluster.stop().await;
        let validators = u64::try_from(cluster.keys.len())?;
        let epochs = self.plan.history.div_ceil(validators.max(1));
        let rows = epochs.saturating_mul(validators);
        say(&format!("{name}: every ledger decides {rows} attestations"));
        let all = rows.saturating_mul(u64::try_from(cluster.size.members())?);
        let style = ProgressStyle::with_template("  {bar:40} {pos}/{len} decisions {eta}")?;
        let bar = ProgressBar::new(all).with_style(style);
        let configurations = cluster.configurations();
        let first = cluster.duties.leave_out(epochs);
        let (epochs, chain) = (first..first.saturating_add(epochs), cluster.duties.chain());
        history::fill(&configurations, &cluster.keys, chain, epochs, &bar).await?;
        bar.finish_and_clear();
        cluster.settle().await?;
        cluster.start(Last::Honest).await?;
        let after = self.measured(cluster, self.plan.validators).await?;
        let what = format!("same root, {rows} rows in each ledger");
        let row = Row::new(name, &what, after.rate, "signatures/s")
            .with_ratio(after.rate.median / before.rate.median, "without history")
            .against(self.has_targets(name).then_some(Target::AtLeast(0.9)));
        self.show(row);
        Ok(())
    }

    /// Leaves `cluster` stopped.
    async fn held(&mut self, name: &str, cluster: &mut Cluster) -> anyhow::Result<()> {
        let few = self.measured(cluster, self.plan.validators).await?;
        let few_held = cluster.keys.len();
        let resident_few = resident(cluster)?;
        cluster.stop().await;
        let validators = self.plan.held;
        let (_dir, mut many) = self.make(name, cluster.size, validators, None).await?;
        many.start(Last::Honest).await?;
        let target = |bound| (validators == 100_000).then_some(bound);
        let ready = Spread::of(vec![many.ready.as_secs_f64()]);
        let what = format!("{validators} held: up after a start");
        self.show(Row::new(name, &what, ready, "s").against(target(Target::AtMost(10.0))));
        let rate = self.measured(&mut many, self.plan.validators).await?.rate;
        let row = Row::new(
            name,
            &format!("{validators} held: same root"),
            rate,
            "signatures/s",
        )
        .with_ratio(rate.median / few.rate.median, "with few held")
        .against(target(Target::AtLeast(0.9)));
        self.show(row);
        let more = float(validators.saturating_sub(few_held).max(1));
        let grown = resident(&many)?.into_iter().zip(resident_few);
        let grown: Vec<f64> = grown.map(|(many, few)| (many - few) / more).collect();
        let most = grown.iter().copied().fold(f64::MIN, f64::max);
        let what = format!("{validators} held: memory each, largest process");
        let row = Row::new(name, &what, Spread::of(vec![most]), "KiB");
        self.show(row.against(target(Target::AtMost(5.0))));
        many.stop().await;
        Ok(())
    }

    /// Leaves `cluster` running with a cosigner that lies.
    async fn faults(&mut self, name: &str, cluster: &mut Cluster) -> anyhow::Result<()> {
        cluster.signal_last(Signal::STOP)?;
        self.with_fault(name, "one stands still", cluster).await?;
        cluster.signal_last(Signal::CONT)?;
        cluster.kill_last().await?;
        self.with_fault(name, "one is killed", cluster).await?;
        cluster.stop().await;
        cluster.start(Last::Lies).await?;
        self.with_fault(name, "one answers wrongly", cluster)
            .await?;
        if cluster.lies() == 0 {
            let why = format!("{name}: the cosigner that answers wrongly was never asked");
            self.results.not_measured.push(why);
        }
        Ok(())
    }

    async fn with_fault(
        &mut self,
        name: &str,
        fault: &str,
        cluster: &mut Cluster,
    ) -> anyhow::Result<()> {
        let (kind, connections) = (Kind::SameRoot, self.plan.connections);
        let (bursts, plain) = self.compared(cluster, kind, connections).await?;
        self.rate(name, &format!("same root, {fault}"), &bursts, &plain, None);
        self.show(Row::new(name, "  last answer", bursts.last, "ms"));
        Ok(())
    }

    fn push(&mut self, mut row: Row, plain: &Yardstick) {
        row.plain = plain.range();
        self.show(row);
    }

    fn show(&mut self, row: Row) {
        say(&row.line());
        self.results.rows.push(row);
    }
}

/// The resident memory of each process, in KiB.
fn resident(cluster: &Cluster) -> anyhow::Result<Vec<f64>> {
    let pids = cluster.pids();
    let kib = pids.iter().map(|pid| {
        let kib = usage::resident_kib(*pid)?;
        Ok(float(usize::try_from(kib)?))
    });
    kib.collect()
}
