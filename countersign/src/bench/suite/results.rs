//! What was found: rows of a table, which is also a file.

use serde::Serialize;

use super::figures::Spread;

/// Everything that one run of the suite found.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// The version of the program that was measured.
    pub(super) version: &'static str,
    /// The command line.
    pub(super) command: String,
    /// Seconds since 1970 at the start.
    pub(super) started_at: u64,
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
    /// Why some rows are not there.
    pub(super) not_measured: Vec<String>,
    /// Of each cluster's bursts of one root: when so many of them all were answered.
    pub(super) latencies: Vec<Curve>,
    /// Of each cluster: signatures per second by the number of validators that ask at once.
    pub(super) rates: Vec<Curve>,
}

/// Where it was found.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
}

/// Points of a chart's line.
#[derive(Debug, Serialize)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Which committee, on which kind of ledger.
    pub(super) cluster: String,
    /// What was measured.
    pub(super) what: String,
    /// Over the repetitions.
    pub(super) measured: Spread,
    pub(super) unit: &'static str,
    /// Plain signatures per second and core, in the same run, between the repetitions: least and most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plain: Option<(f64, f64)>,
    /// As a multiple of something; of plain signing, the median of each repetition's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<Ratio>,
    /// What it must be: the ratio if there is one, else the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) met: Option<bool>,
}

/// A multiple, and of what.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ratio {
    pub(super) value: f64,
    pub(super) of: &'static str,
}

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub(super) fn new(cluster: &str, what: &str, measured: Spread, unit: &'static str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            what: what.to_owned(),
            measured,
            unit,
            plain: None,
            ratio: None,
            target: None,
            met: None,
        }
    }

    pub(super) fn with_ratio(mut self, value: f64, of: &'static str) -> Self {
        self.ratio = Some(Ratio { value, of });
        self
    }

    /// Holds it against a target, if there is one for this cluster.
    pub(super) fn against(mut self, target: Option<Target>) -> Self {
        let value = self
            .ratio
            .as_ref()
            .map_or(self.measured.median, |ratio| ratio.value);
        self.target = target;
        self.met = target.map(|target| match target {
            Target::AtLeast(least) => value >= least,
            Target::AtMost(most) => value <= most,
        });
        self
    }

    /// Its line in the table.
    pub(super) fn line(&self) -> String {
        let Spread {
            median,
            least,
            most,
        } = self.measured;
        let (ratio, of) = self.ratio.as_ref().map_or_else(
            || (String::new(), ""),
            |ratio| (format!("{:.2}", ratio.value), ratio.of),
        );
        let target = self.target.map_or_else(String::new, |target| {
            let met = if self.met == Some(true) {
                "met"
            } else {
                "NOT MET"
            };
            match target {
                Target::AtLeast(least) => format!("≥ {least} {met}"),
                Target::AtMost(most) => format!("≤ {most} {met}"),
            }
        });
        let spread = if most > least {
            format!("{} – {}", number(least), number(most))
        } else {
            String::new()
        };
        let line = format!(
            "{:16} {:44} {:>9} {:13} {spread:>16} {ratio:>7} {of:18} {target}",
            self.cluster,
            self.what,
            number(median),
            self.unit
        );
        line.trim_end().to_owned()
    }
}

impl Results {
    /// The table.
    pub(super) fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:16} {:44} {:>9} {:13} {:>16} {:>7} {:18} target",
            "cluster", "measured", "median", "", "least – most", "ratio", "of"
        )];
        lines.extend(self.rows.iter().map(Row::line));
        lines.extend(
            self.not_measured
                .iter()
                .map(|why| format!("not measured: {why}")),
        );
        lines.join("\n")
    }
}

/// About three digits.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::{Row, Target};
    use crate::bench::figures::Spread;

    #[test]
    fn a_target_is_for_the_ratio_if_there_is_one() {
        let row = |ratio: Option<f64>, target| {
            let row = Row::new("3-of-4 SQLite", "burst", Spread::of(vec![10.0]), "ms");
            let row = match ratio {
                Some(value) => row.with_ratio(value, "× plain"),
                None => row,
            };
            row.against(target).met
        };
        for (ratio, target, met) in [
            (None, None, None),
            (None, Some(Target::AtMost(10.0)), Some(true)),
            (None, Some(Target::AtLeast(10.1)), Some(false)),
            (Some(0.5), Some(Target::AtMost(0.5)), Some(true)),
            (Some(0.5), Some(Target::AtLeast(0.7)), Some(false)),
        ] {
            assert_eq!(row(ratio, target), met, "{ratio:?} {target:?}");
        }
    }
}
