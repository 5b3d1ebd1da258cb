//! What the operator sees: lines, and progress bars where standard error is a terminal.

use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Where a command's results belong.
    Stdout,
    /// Because standard output carries a file.
    Stderr,
}

/// Lines and bars that do not run into each other.
pub(super) struct Screen {
    bars: MultiProgress,
    lines: Lines,
}

impl Screen {
    pub(super) fn new(lines: Lines) -> Self {
        Self {
            bars: MultiProgress::new(),
            lines,
        }
    }

    /// Shows one line. Somebody who has stopped listening stops nothing.
    pub(super) fn say(&self, line: &str) {
        self.bars.suspend(|| {
            let _ = match self.lines {
                Lines::Stdout => writeln!(io::stdout(), "{line}"),
                Lines::Stderr => writeln!(io::stderr(), "{line}"),
            };
        });
    }

    /// A bar of something that is counted in `unit`; not drawn where standard error is no terminal.
    pub(super) fn bar(&self, name: &str, unit: Unit) -> ProgressBar {
        let template = match unit {
            Unit::Bytes => "{prefix:>14} {bar:40} {bytes}/{total_bytes} {eta} {msg}",
            Unit::Entries => "{prefix:>14} {bar:40} {pos}/{len} entries {eta} {msg}",
            Unit::Validators => "{prefix:>14} {bar:40} {pos}/{len} validators {eta} {msg}",
        };
        // The templates are constants: one that is wrong shows indicatif's own bar.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0)
            .with_style(style)
            .with_prefix(name.to_owned());
        self.bars.add(bar)
    }
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Signed blocks and attestations.
    Entries,
    /// Validators that are done.
    Validators,
}
