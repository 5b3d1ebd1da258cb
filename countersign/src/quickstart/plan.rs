//! What a quickstart directory was made for, so that running it again continues with the same.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use duty::PublicKey;
use serde::{Deserialize, Serialize};

use super::{ClockMode, QuickstartArgs, postgres::without_password};

/// The file whose presence says that a directory is complete.
const FILE: &str = "quickstart.json";

/// Everything that must stay as it was when the directory was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// t-of-n.
    pub(super) committee: String,
    pub(super) network: String,
    pub(super) genesis_validators_root: Option<duty::Root>,
    pub(super) genesis_time: Option<u64>,
    pub(super) clock: ClockMode,
    /// The Postgres server's URL, without a password, or `None` for SQLite files.
    pub(super) postgres: Option<String>,
    /// How many keys were made, if they were.
    pub(super) validators: Option<u32>,
    /// The keystore that was split, if one was.
    pub(super) keystore: Option<PathBuf>,
    /// The validator that signs the demonstration, and its vote's epochs.
    pub(super) demonstration: Demonstration,
}

/// The one attestation that quickstart signs, the same at every start: an exact repeat proves that
/// nothing was forgotten and costs no further vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Demonstration {
    pub(super) validator: PublicKey,
    pub(super) source: u64,
    pub(super) target: u64,
}

impl Plan {
    /// The plan of a directory that is complete, `None` of one that does not exist or is empty.
    ///
    /// # Errors
    /// If the directory holds something else, or was left half made.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let file = dir.join(FILE);
        match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .with_context(|| format!("{} is not a quickstart's plan", file.display())),
            Err(_) if is_empty(dir)? => Ok(None),
            Err(_) => bail!(
                "{} is not empty and holds no complete quickstart: give another --dir, or remove it \
                 if an earlier quickstart was interrupted there",
                dir.display()
            ),
        }
    }

    /// Writes the plan, last of all, in one step.
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let (new, file) = (dir.join("quickstart.json.new"), dir.join(FILE));
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &file).with_context(|| format!("{} cannot be written", file.display()))
    }

    /// Refuses arguments that contradict what the directory was made for.
    pub(super) fn agrees_with(&self, args: &QuickstartArgs, dir: &Path) -> anyhow::Result<()> {
        let same = |flag: &str, given: Option<String>, held: String| {
            ensure!(
                given.as_ref().is_none_or(|given| *given == held),
                "{} was made with {flag} {held}: leave {flag} out, or give another --dir",
                dir.display()
            );
            Ok(())
        };
        same(
            "--committee",
            args.committee.map(|c| c.to_string()),
            self.committee.clone(),
        )?;
        same("--network", args.network.clone(), self.network.clone())?;
        same(
            "--clock",
            args.clock.map(|clock| clock.to_string()),
            self.clock.to_string(),
        )?;
        same(
            "--postgres",
            args.postgres
                .as_deref()
                .map(without_password)
                .transpose()?
                .map(|(url, _)| url),
            self.postgres
                .clone()
                .unwrap_or_else(|| "(none: SQLite)".to_owned()),
        )?;
        let new = |count: Option<u32>| count.map(|count| count.to_string());
        let held = new(self.validators).unwrap_or_else(|| "(none: a keystore)".to_owned());
        same("--validators", new(args.validators), held)?;
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let held = file(&self.keystore).unwrap_or_else(|| "(none: new keys)".to_owned());
        same("--keystore", file(&args.keystore), held)?;
        Ok(())
    }
}

fn is_empty(dir: &Path) -> anyhow::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", dir.display())),
    }
}

/// Where things lie in a quickstart directory.
pub(crate) struct Layout<'a>(pub(crate) &'a Path);

impl Layout<'_> {
    pub(crate) fn certificates(&self) -> PathBuf {
        self.0.join("certs")
    }

    pub(crate) fn cosigner(&self, number: u64) -> PathBuf {
        self.0.join(format!("cosigner-{number}"))
    }

    pub(super) fn signer_api(&self) -> PathBuf {
        self.0.join("signer-api")
    }

    pub(super) fn postgres_password(&self) -> PathBuf {
        self.0.join("postgres.password")
    }
}
