//! `countersign keys split`: from EIP-2335 keystores to one encrypted package per cosigner.
//!
//! Whole keys exist here, in this process, from decryption until they are split, and nowhere
//! after. Either every package is written, read back and proved against its commitments, or none
//! stays behind.

mod output;
mod sharing;

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use threshold::{CommitteeSize, ShareIndex};

use crate::keystore::{self, Passwords};
use output::Output;
pub use sharing::{SharingError, packages};

const EXAMPLES: &str = "Examples:
  # All keystores in a directory, one password for all, for cosigners 1 to 4 of which 3 sign
  countersign keys split --keystores validator_keys --passwords password.txt --out packages

  # A password file for each keystore, five of seven cosigners
  countersign keys split --keystores keys --passwords secrets --committee 5-of-7 --out packages

  # Passphrases of your own, one file per cosigner
  countersign keys split --keystores keystore.json --passwords password.txt --committee 2-of-3 \\
      --passphrase-file one.txt --passphrase-file two.txt --passphrase-file three.txt --out packages

With a directory of passwords each file is named as its keystore or as its public key (with or
without 0x), with or without .txt. Then, on each cosigner: cosigner import --help.";

/// Split EIP-2335 keystores into one encrypted package per cosigner
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SplitArgs {
    /// An EIP-2335 keystore, or a directory of them
    #[arg(long, value_name = "FILE|DIR")]
    pub keystores: PathBuf,
    /// The file with the password of all keystores, or a directory with one file for each
    #[arg(long, value_name = "FILE|DIR")]
    pub passwords: PathBuf,
    /// How many cosigners must sign, of how many there are
    #[arg(long, value_name = "T-of-N", default_value = "3-of-4")]
    pub committee: CommitteeSize,
    /// The cosigners' share indices, separated by commas [default: 1 to N]
    #[arg(long, value_name = "INDEX,…", value_delimiter = ',', value_parser = parse_index)]
    pub indices: Vec<ShareIndex>,
    /// The directory to write packages into; files that are there already are never replaced
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// A file with the passphrase of one cosigner's package; give it once per cosigner, in the
    /// order of their indices [default: passphrases are made and written beside the packages]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Vec<PathBuf>,
}

fn parse_index(text: &str) -> Result<ShareIndex, String> {
    let value = text
        .trim()
        .parse::<u64>()
        .map_err(|error| error.to_string())?;
    ShareIndex::new(value).map_err(|error| error.to_string())
}

/// Splits as `args` say, and tells the user on standard output what to do next.
///
/// # Errors
/// A clause that names the file or the argument and what is wrong with it; then no package was
/// left behind.
pub fn run(args: SplitArgs) -> anyhow::Result<()> {
    daemon::harden();
    split_into_packages(&args, &mut std::io::stdout().lock())
}

fn split_into_packages(args: &SplitArgs, report: &mut dyn Write) -> anyhow::Result<()> {
    let members = members(args)?;
    let mut output = Output::prepare(&args.out, &members, &args.passphrase_file)?;
    let passwords = Passwords::at(&args.passwords);
    let bar = progress_bar("decrypting")?;
    let keys = keystore::decrypt_all(&args.keystores, &passwords, &|progress| {
        show_progress(&bar, progress.done, progress.total);
    })?;
    bar.finish_and_clear();

    let validators = keys.len();
    let bar = progress_bar("splitting")?;
    let packages = packages(keys, args.committee, &members, &mut |done| {
        show_progress(&bar, done, validators);
    })?;
    bar.finish_and_clear();

    for package in packages {
        let index = package.index;
        output
            .write(package)
            .with_context(|| format!("the package of cosigner {index} could not be made"))?;
    }
    let files = output.keep()?;
    tell(report, args, validators, &files).context("standard output cannot be written")
}

/// The committee's indices: those given, or 1 to n.
fn members(args: &SplitArgs) -> anyhow::Result<BTreeSet<ShareIndex>> {
    let size = args.committee.members();
    if args.indices.is_empty() {
        let indices = (1..).take(size).map(ShareIndex::new);
        return Ok(indices.collect::<Result<_, _>>()?);
    }
    let members: BTreeSet<ShareIndex> = args.indices.iter().copied().collect();
    anyhow::ensure!(
        members.len() == args.indices.len(),
        "--indices names a cosigner twice"
    );
    anyhow::ensure!(
        members.len() == size,
        "--indices names {} cosigners, --committee {} has {size}",
        members.len(),
        args.committee
    );
    Ok(members)
}

/// Hidden until there is more than one key to show, and where standard error is no terminal.
fn progress_bar(what: &'static str) -> anyhow::Result<ProgressBar> {
    let template = "{msg:>12} {bar:40} {pos}/{len} {eta}";
    let style = ProgressStyle::with_template(template)?;
    Ok(ProgressBar::new(0).with_style(style).with_message(what))
}

fn show_progress(bar: &ProgressBar, done: usize, total: usize) {
    if total > 1 {
        bar.set_length(u64::try_from(total).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    }
}

/// What was made, what to do with it, and what must not happen any more.
fn tell(
    to: &mut dyn Write,
    args: &SplitArgs,
    validators: usize,
    files: &output::Files,
) -> std::io::Result<()> {
    let keys = if validators == 1 { "key" } else { "keys" };
    writeln!(
        to,
        "Split {validators} validator {keys} for a committee of {}. One package per cosigner:\n",
        args.committee
    )?;
    for package in &files.packages {
        writeln!(to, "  {}", package.display())?;
    }
    if !files.passphrases.is_empty() {
        writeln!(to, "\nand the passphrase of each, made for you:\n")?;
        for passphrase in &files.passphrases {
            writeln!(to, "  {}", passphrase.display())?;
        }
        writeln!(
            to,
            "\nWho has {} packages and their passphrases has the keys. Move each passphrase to its \
             cosigner\nby another channel than its package, then remove both from here.",
            args.committee.threshold()
        )?;
    }
    writeln!(
        to,
        "\nOn each cosigner run `cosigner import` with its package, its passphrase, and what its \
         keys\nhave signed so far (`cosigner import --help`)."
    )?;
    tell_about_single_keys(to, &args.keystores)
}

fn tell_about_single_keys(to: &mut dyn Write, keystores: &Path) -> std::io::Result<()> {
    let keystores = keystores
        .canonicalize()
        .unwrap_or_else(|_| keystores.to_owned());
    writeln!(
        to,
        "\nTHE SINGLE KEYS MUST NOT BE USED ANY MORE. A validator that signs with its whole key \
         anywhere,\nwhile a committee signs for it too, can be slashed. Before the first cosigner \
         imports:\n\n  1. stop every validator client and every signer that has these keys, and \
         take the keys out of it;\n  2. export its slashing-protection history (EIP-3076): the \
         committee must know what was signed;\n  3. keep the keystores offline, as a backup, or \
         destroy them.\n\nThis tool has wiped the keys from its memory. The keystores were not \
         touched; they still lie at\n\n  {}",
        keystores.display()
    )
}

#[cfg(test)]
mod tests;
