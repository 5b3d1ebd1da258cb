//! Ledgers with a long past: made by the ledger itself, decision by decision, without a signature.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use cosigner::config::Settings;
use daemon::network::Network;
use duty::{Claim, Epoch, PublicKey, Root};
use futures_util::future::{join_all, try_join_all};
use indicatif::ProgressBar;
use slashing::{Ask, Database, Ledger, LedgerLimits, Opening, Origin};

use crate::attestation::Attestation;

/// Decisions of one commit: many, to be done soon.
const BATCH_MAX: usize = 4_096;
/// How long one decision may take: the disk is busy.
const WAIT: Duration = Duration::from_secs(60);

/// Has every ledger decide one attestation of every validator for each of these epochs.
///
/// # Errors
/// If a ledger cannot be opened, or does not permit.
pub(super) async fn fill(
    configurations: &[PathBuf],
    keys: &[PublicKey],
    chain: (&Network, Root),
    epochs: Range<u64>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let filled = configurations
        .iter()
        .map(|configuration| fill_one(configuration, keys, chain, epochs.clone(), bar));
    try_join_all(filled).await?;
    Ok(())
}

async fn fill_one(
    configuration: &Path,
    keys: &[PublicKey],
    (network, chain): (&Network, Root),
    epochs: Range<u64>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let settings = Settings::load(configuration)?;
    let database = Database::open(&settings.config.database, chain).await?;
    let opening = Opening {
        limits: LedgerLimits {
            ledger_wait: WAIT,
            batch_max: BATCH_MAX,
            ..LedgerLimits::default()
        },
        anchor: settings.anchor.clone(),
        time: Arc::new(|| None),
        origin: Origin::AsLeft,
    };
    let ledger = Ledger::open(database, opening).await?;
    for epoch in epochs {
        let (source, target) = (Epoch(epoch.saturating_sub(1)), Epoch(epoch));
        let decided = keys.iter().map(|key| {
            let vote = Attestation::new(network, chain, *key, (source, target), 0);
            ledger.decide(Ask {
                validator: *key,
                claim: Claim::Attest { source, target },
                root: vote.signing_root(),
                fence: Box::new(()),
            })
        });
        for permit in join_all(decided).await {
            // Nothing is signed: a permit that is dropped is a signature that nobody made.
            drop(permit.context("a ledger did not take its past")?);
        }
        bar.inc(u64::try_from(keys.len())?);
    }
    ledger.close().await;
    Ok(())
}
