//! `countersign bench --suite`: committees that it starts itself, measured against what they must
//! reach. Every signature is verified, after the measured time; one that is missing or wrong makes the
//! command fail. A target that is not met does not: machines differ.

mod parts;

mod cluster;
mod history;
mod liar;
mod postgres;

mod measure;

mod duties;
mod generator;

mod chart;
mod results;
mod yardstick;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use threshold::CommitteeSize;

use chart::{Scale, Words};
use parts::Suite;
use results::{Machine, Results};

use super::{figures, usage};

/// Arguments of `countersign bench --suite`.
#[derive(Debug, Args)]
pub(super) struct SuiteArgs {
    /// Instead: start committees on this machine, measure them, and show what must be reached
    #[arg(
        long,
        conflicts_with_all = [
            "url", "slots", "pattern", "network", "genesis_validators_root", "first_epoch",
            "overload", "times", "deadline_ms", "pid",
        ]
    )]
    pub(super) suite: bool,
    /// With --suite: a form of a few seconds, whose figures say little: 3-of-4, SQLite, 64 validators
    #[arg(long, requires = "suite", conflicts_with = "url")]
    short: bool,
    /// With --suite: these parts [default: all; history only with --history]
    #[arg(
        long,
        value_enum,
        value_name = "PART,…",
        value_delimiter = ',',
        requires = "suite",
        conflicts_with = "url"
    )]
    only: Vec<Part>,
    /// With --suite: these committees [default: 2-of-3,3-of-4,5-of-7]
    #[arg(
        long,
        value_name = "T-of-N,…",
        value_delimiter = ',',
        requires = "suite",
        conflicts_with = "url"
    )]
    committees: Vec<CommitteeSize>,
    /// With --suite: ledgers of these kinds [default: both]
    #[arg(
        long,
        value_enum,
        value_name = "KIND,…",
        value_delimiter = ',',
        requires = "suite",
        conflicts_with = "url"
    )]
    ledgers: Vec<LedgerKind>,
    /// With --suite: how often each burst is repeated [default: 5]
    #[arg(long, value_name = "N", requires = "suite", conflicts_with = "url")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    repetitions: Option<u16>,
    /// With --suite: how many validators the part `held` makes [default: 100000]
    #[arg(long, value_name = "N", requires = "suite", conflicts_with = "url")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    held: Option<u32>,
    /// With --suite: how many decisions the part `history` puts into each ledger first, such as
    /// 10000000, which takes a GB per ledger
    #[arg(long, value_name = "ROWS", requires = "suite", conflicts_with = "url")]
    history: Option<u64>,
    /// With --suite: a directory for suite.json, latency.svg and rates.svg, made if it is not there
    #[arg(long, value_name = "DIR", requires = "suite", conflicts_with = "url")]
    out: Option<PathBuf>,
    /// With --suite: where ledgers are put while it runs: a directory on the disk that is to be
    /// measured [default: the system's temporary directory]
    #[arg(long, value_name = "DIR", requires = "suite", conflicts_with = "url")]
    work: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// All validators at once: one root, distinct votes, RANDAO reveals; processor time
    Bursts,
    /// One request at a time
    Single,
    /// Blocks, one at a time, while bursts of other validators go on
    Beside,
    /// Bursts with a cosigner that stands still, one that is killed, and one that answers wrongly
    Faults,
    /// Bursts of 1, 8, 32, … validators
    Sizes,
    /// Many more validators than ask (3-of-4, SQLite)
    Held,
    /// A long past in every ledger (3-of-4)
    History,
}

/// Where ledgers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LedgerKind {
    /// A file per cosigner.
    Sqlite,
    /// One server, a database per cosigner.
    Postgres,
}

/// How much is measured.
#[derive(Debug)]
struct Plan {
    committees: Vec<CommitteeSize>,
    ledgers: Vec<LedgerKind>,
    parts: Vec<Part>,
    validators: usize,
    connections: usize,
    repetitions: usize,
    /// Requests of the part `single`, of each repetition.
    singles: usize,
    /// How long plain signing is measured each time, between repetitions.
    plain_time: Duration,
    held: usize,
    history: u64,
}

/// A burst of one root is measured over so many connections as well: a client that keeps fewer than it
/// has requests asks not quite at once.
const CONNECTIONS_FEW: usize = 256;
/// A full run's validators per burst, and those of a short one.
const VALIDATORS: [usize; 2] = [1_000, 64];
/// Beyond this a signer closes connections.
const CONNECTIONS_MAX: usize = 3_000;

impl Plan {
    fn new(
        args: &SuiteArgs,
        validators: Option<usize>,
        connections: Option<usize>,
    ) -> anyhow::Result<Self> {
        let [full, short] = VALIDATORS;
        let default = if args.short { short } else { full };
        let validators = validators.unwrap_or(default);
        ensure!(
            (2..=100_000).contains(&validators),
            "--validators {validators}: the suite takes 2 to 100000"
        );
        let connections = connections.unwrap_or(validators.min(CONNECTIONS_MAX));
        ensure!(
            (1..=CONNECTIONS_MAX).contains(&connections),
            "--connections {connections}: the suite takes 1 to {CONNECTIONS_MAX}"
        );
        let (three_of_four, all) = (CommitteeSize::new(3, 4)?, ["2-of-3", "3-of-4", "5-of-7"]);
        let committees = match (args.committees.as_slice(), args.short) {
            ([], true) => vec![three_of_four],
            ([], false) => all
                .iter()
                .map(|size| size.parse())
                .collect::<Result<_, _>>()?,
            (given, _) => given.to_vec(),
        };
        let ledgers = match (args.ledgers.as_slice(), args.short) {
            ([], true) => vec![LedgerKind::Sqlite],
            ([], false) => vec![LedgerKind::Sqlite, LedgerKind::Postgres],
            (given, _) => given.to_vec(),
        };
        let is_default = |part: &Part| match part {
            Part::Held => !args.short || args.held.is_some(),
            Part::History => args.history.is_some(),
            Part::Bursts | Part::Single | Part::Beside | Part::Faults | Part::Sizes => true,
        };
        let parts = if args.only.is_empty() {
            Part::value_variants()
                .iter()
                .copied()
                .filter(is_default)
                .collect()
        } else {
            args.only.clone()
        };
        let history = args.history.unwrap_or_default();
        ensure!(
            !parts.contains(&Part::History) || history > 0,
            "the part history needs --history ROWS, such as --history 1000000"
        );
        let repetitions = args.repetitions.unwrap_or(if args.short { 1 } else { 5 });
        Ok(Self {
            committees,
            ledgers,
            parts,
            validators,
            connections,
            repetitions: repetitions.into(),
            singles: if args.short { 16 } else { 100 },
            plain_time: Duration::from_millis(if args.short { 20 } else { 500 }),
            held: usize::try_from(args.held.unwrap_or(100_000))?,
            history,
        })
    }
}

/// Runs the suite: rows as they are found on standard error, the table at the end on standard output.
///
/// # Errors
/// If a committee does not start, or any signature is missing or wrong.
#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
pub(super) async fn run(
    args: &SuiteArgs,
    validators: Option<usize>,
    connections: Option<usize>,
) -> anyhow::Result<()> {
    daemon::install_crypto_provider();
    daemon::harden();
    let plan = Plan::new(args, validators, connections)?;
    if let Some(out) = &args.out {
        fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    }
    let place = args.work.clone().unwrap_or_else(std::env::temp_dir);
    ensure!(place.is_dir(), "{} is no directory", place.display());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let results = Results {
        version: env!("CARGO_PKG_VERSION"),
        command: format!("countersign {}", arguments.join(" ")),
        started_at: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        machine: Machine {
            processor: usage::processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        },
        rows: Vec::new(),
        not_measured: Vec::new(),
        latencies: Vec::new(),
        rates: Vec::new(),
    };
    let mut suite = Suite::new(plan, place, results);
    let interrupted = daemon::shutdown::signal();
    tokio::select! {
        biased;
        () = interrupted => bail!("interrupted"),
        done = Box::pin(suite.run()) => done?,
    }
    let results = suite.into_results();
    println!("{}", results.table());
    if let Some(out) = &args.out {
        write(out, &results)?;
    }
    Ok(())
}

fn write(out: &Path, results: &Results) -> anyhow::Result<()> {
    let latency = Words {
        title: "A burst of attestations with one root: which part is answered when",
        x: "milliseconds since the burst began",
        y: "%",
    };
    let rates = Words {
        title: "Signatures per second, by how many validators ask at once",
        x: "validators that ask at once",
        y: "per second",
    };
    for (name, text) in [
        ("suite.json", serde_json::to_string_pretty(results)?),
        (
            "latency.svg",
            chart::lines(latency, Scale::Linear, &results.latencies),
        ),
        (
            "rates.svg",
            chart::lines(rates, Scale::Doubling, &results.rates),
        ),
    ] {
        let file = out.join(name);
        fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
        say(&format!("written: {}", file.display()));
    }
    Ok(())
}

/// Tells how far it is; somebody who has stopped listening stops nothing.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
