//! What a signer-api says of cosigners: in its metrics, in its health check, and in its log.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::cluster::Cluster;

/// Of one kind, and of one cosigner, a line is logged in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Names of failures, in the metric.
pub type Reasons = &'static [&'static str];
pub const FAULTY: Reasons = &["faulty"];
pub const TIMED_OUT: Reasons = &["timed_out"];
/// As a connection ends, or no call does.
pub const BROKEN: Reasons = &["unreachable", "timed_out"];
/// As a status is, or what stands for one.
pub const VARIOUS: Reasons = &["faulty", "unreachable", "busy", "timed_out"];

/// How often, by cosigner and reason.
pub type Counts = BTreeMap<(u64, String), u64>;

/// What a signer-api has counted so far.
pub struct Counted {
    pub misdeeds: Counts,
    pub dissents: Counts,
    pub failures: Counts,
    /// Who is only probed.
    unasked: BTreeSet<u64>,
}

impl Counted {
    pub async fn by(cluster: &Cluster, signer: usize) -> Self {
        let metrics = cluster.metrics(signer).await;
        let of = |name| {
            let lines = metrics.lines();
            lines.filter_map(|line| count(line, name)).collect()
        };
        let unasked = metrics.lines().filter_map(unasked).collect();
        Self {
            misdeeds: of("countersign_cosigner_blamed_total"),
            dissents: of("countersign_cosigner_dissents_total"),
            failures: of("countersign_cosigner_failures_total"),
            unasked,
        }
    }
}

/// `countersign_cosigner_asked{cosigner="cosigner-4"} 0`
fn unasked(line: &str) -> Option<u64> {
    let labels = line.strip_prefix("countersign_cosigner_asked")?;
    let labels = labels.strip_suffix("} 0")?;
    let number = between(labels, "cosigner=\"cosigner-", "\"")?;
    Some(number.parse().unwrap())
}

/// `name{cosigner="cosigner-4",reason="partial"} 3`
fn count(line: &str, name: &str) -> Option<((u64, String), u64)> {
    let (labels, count) = line.strip_prefix(name)?.split_once("} ")?;
    let number = between(labels, "cosigner=\"cosigner-", "\"")?;
    let reason = between(labels, "reason=\"", "\"")?;
    let key = (number.parse().ok()?, reason.to_owned());
    Some((key, count.parse().ok()?))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// Who was counted for what more often than before.
pub fn risen<'a>(before: &'a Counts, now: &'a Counts) -> impl Iterator<Item = (u64, &'a str)> {
    let has_risen = |(key, count): &(&_, &u64)| before.get(*key).is_none_or(|was| *count > was);
    let risen = now.iter().filter(has_risen);
    risen.map(|((number, reason), _)| (*number, reason.as_str()))
}

/// What the health check says of each cosigner.
struct Health(BTreeMap<u64, Value>);

impl Health {
    async fn by(cluster: &Cluster, signer: usize) -> Self {
        let health = cluster.get(signer, "/healthcheck").await.json();
        let checks = health["checks"].as_array().unwrap().iter();
        let checks = checks.filter_map(|check| {
            let number = check["id"].as_str()?;
            let number = number.strip_prefix("cosigner-check:cosigner-")?;
            Some((number.parse().ok()?, check.clone()))
        });
        Self(checks.collect())
    }
}

/// What a signer-api shows at one time.
pub struct Seen {
    /// Not later than what is shown.
    pub at: Instant,
    pub counted: Counted,
    health: Health,
}

impl Seen {
    pub async fn by(cluster: &Cluster, signer: usize) -> Self {
        Self {
            at: Instant::now(),
            counted: Counted::by(cluster, signer).await,
            health: Health::by(cluster, signer).await,
        }
    }

    /// What the health check says of this one.
    pub fn health(&self, number: u64) -> &Value {
        &self.health.0[&number]
    }

    /// Whether this one has no connection, it says; who only fails calls may have one.
    pub fn is_absent(&self, number: u64) -> bool {
        self.health(number)["data"]["reason"] == "has no connection"
    }

    /// Who cannot sign, it says.
    pub fn down(&self) -> BTreeSet<u64> {
        let is_down = |check: &Value| check["status"] != "UP";
        let down = self.health.0.iter().filter(|(_, check)| is_down(check));
        down.map(|(number, _)| *number).collect()
    }

    /// Who is only probed, it says.
    pub const fn unasked(&self) -> &BTreeSet<u64> {
        &self.counted.unasked
    }
}

/// What a line of the log says of a cosigner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// It is to blame.
    Blame,
    /// It did not agree.
    Dissent,
    /// Calls to it fail, one after the other.
    Fails,
    /// Its health is not heard.
    Silent,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub word: Word,
    pub number: u64,
    /// Empty where no word of a few is given.
    pub reason: String,
    read: Instant,
}

/// The log of one signer-api, as far as it was read.
#[derive(Default)]
pub struct Log {
    bytes: usize,
    lines: Vec<Line>,
}

impl Log {
    /// What was logged since it was read last.
    pub fn read(&mut self, cluster: &mut Cluster, signer: usize) -> Vec<Line> {
        let log = cluster.signer(signer).log();
        let new = &log[self.bytes..];
        // The last line may be half written.
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.bytes += whole;
        let lines: Vec<Line> = new[..whole].lines().filter_map(line).collect();
        self.lines.extend(lines.iter().cloned());
        lines
    }

    /// Whether this was logged since `since`, or so shortly before that it need not be again.
    pub fn tells(&self, word: Word, number: u64, reason: &str, since: Instant) -> bool {
        self.lines.iter().any(|line| {
            line.word == word
                && (line.number, line.reason.as_str()) == (number, reason)
                && line.read + LOG_INTERVAL >= since
        })
    }

    /// Whether one of these was logged since `since`.
    pub fn says(&self, words: &[Word], number: u64, since: Instant) -> bool {
        self.lines
            .iter()
            .any(|line| line.number == number && words.contains(&line.word) && line.read >= since)
    }

    /// Whether it was ever blamed.
    pub fn blames(&self, number: u64) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.word == Word::Blame && line.number == number)
    }
}

fn line(line: &str) -> Option<Line> {
    let word = if line.contains("a cosigner is to blame") {
        Word::Blame
    } else if line.contains("a cosigner did not agree to what others signed") {
        Word::Dissent
    } else if line.contains("a cosigner fails repeatedly") {
        Word::Fails
    } else if line.contains("a cosigner does not answer") {
        Word::Silent
    } else {
        return None;
    };
    let named = || {
        let number = between(line, "cosigner=cosigner-", " ")?.parse().ok()?;
        let reason = match word {
            Word::Blame | Word::Dissent => between(line, "reason=\"", "\"")?,
            Word::Fails | Word::Silent => "",
        };
        Some((number, reason.to_owned()))
    };
    let (number, reason) = named().unwrap_or_else(|| panic!("names nobody, or nothing: {line}"));
    Some(Line {
        word,
        number,
        reason,
        read: Instant::now(),
    })
}
