//! Asking cosigners for their validators.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tracing::warn;
use wire::{PAGE_MAX, proto, report_from_proto};

use super::{Validators, agreement::Listing};
use crate::cosigners::{Link, Misdeed};

/// How long a complete listing may take.
const LISTING_TIMEOUT: Duration = Duration::from_secs(30);
/// Validators of one cosigner at most.
const VALIDATORS_MAX: usize = 250_000;
/// The pause after a listing that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Refreshes one cosigner's listing whenever its generation changes, until `validators` is gone.
pub(super) async fn follow(validators: Weak<Validators>, link: Arc<Link>) {
    let mut changes = link.health_changes();
    let mut listed = None;
    loop {
        let wanted = changes
            .borrow_and_update()
            .generation()
            .filter(|now| Some(*now) != listed);
        if wanted.is_none() {
            // Reloads refresh without this task; that costs at most one listing more.
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(validators) = validators.upgrade() else {
            return;
        };
        match validators.refresh(&link).await {
            Ok(generation) => listed = Some(generation),
            Err(why) => {
                warn!(cosigner = %link.san(), why, "a cosigner's validators could not be listed");
                drop(validators);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A complete listing and its generation, or why there is none.
pub(super) async fn fetch(link: &Link) -> Result<(u64, Listing), String> {
    let listing = tokio::time::timeout(LISTING_TIMEOUT, fetch_pages(link)).await;
    listing.unwrap_or_else(|_| Err("the listing took too long".to_owned()))
}

async fn fetch_pages(link: &Link) -> Result<(u64, Listing), String> {
    let called = link.client().validators(proto::ValidatorsRequest {}).await;
    let mut pages = called
        .map_err(|status| link.describe(&status))?
        .into_inner();
    let mut generation = None;
    let mut listing = Listing::new();
    while let Some(page) = pages
        .message()
        .await
        .map_err(|status| link.describe(&status))?
    {
        if *generation.get_or_insert(page.generation) != page.generation {
            return Err("its validators changed while they were listed".to_owned());
        }
        let within = page.validators.len() <= PAGE_MAX
            && listing.len().saturating_add(page.validators.len()) <= VALIDATORS_MAX;
        if !within {
            link.blame(Misdeed::Report, "lists more validators than are taken");
            return Err("it lists more validators than are taken".to_owned());
        }
        for validator in page.validators {
            match report_from_proto(validator) {
                Ok(report) => {
                    let key = report.validator;
                    if listing.insert(key, report).is_some() {
                        link.blame(Misdeed::Report, &format!("lists {key} twice"));
                    }
                }
                Err(malformed) => link.blame(Misdeed::Report, &malformed.to_string()),
            }
        }
    }
    // Without validators there need not be a page to carry a generation.
    let generation = generation.or_else(|| link.health().generation());
    Ok((generation.unwrap_or_default(), listing))
}
