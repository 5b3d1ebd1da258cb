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
/// Pages of one listing at most: honest ones are full, but for the last.
const PAGES_MAX: usize = VALIDATORS_MAX / PAGE_MAX + 1;
/// What the reports of one listing may take in memory, in bytes.
const LISTING_BYTES_MAX: usize = 256 * 1024 * 1024;
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
            // As its health said, not the listing: who says one here and another there is asked
            // again when its health changes, not at once and for ever.
            Ok(()) => listed = wanted,
            Err(why) => {
                warn!(cosigner = %link.san(), why, "a cosigner's validators could not be listed");
                drop(validators);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A complete listing, or why there is none.
pub(super) async fn fetch(link: &Link) -> Result<Listing, String> {
    let listing = tokio::time::timeout(LISTING_TIMEOUT, fetch_pages(link)).await;
    listing.unwrap_or_else(|_| Err("the listing took too long".to_owned()))
}

async fn fetch_pages(link: &Link) -> Result<Listing, String> {
    let called = link.transport().validators().await;
    let mut pages = called.map_err(|status| link.judge(&status))?;
    let mut generation = None;
    let mut listing = Listing::new();
    let (mut count, mut bytes) = (0_usize, 0_usize);
    while let Some(page) = pages
        .message()
        .await
        .map_err(|status| link.judge(&status))?
    {
        if *generation.get_or_insert(page.generation) != page.generation {
            return Err("its validators changed while they were listed".to_owned());
        }
        count = count.saturating_add(1);
        bytes = bytes.saturating_add(page.validators.iter().map(size).sum::<usize>());
        let is_honest =
            page.validators.len() <= PAGE_MAX && count <= PAGES_MAX && bytes <= LISTING_BYTES_MAX;
        if !is_honest {
            link.blame(Misdeed::Report, "lists more validators than are taken");
        }
        // To hold too many is no lie.
        if !is_honest || listing.len().saturating_add(page.validators.len()) > VALIDATORS_MAX {
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
    Ok(listing)
}

/// What a report takes in memory, in bytes, or a little more.
fn size(report: &proto::Validator) -> usize {
    let members = report.members.len().saturating_mul(size_of::<u64>());
    let commitments = report.commitments.iter();
    let commitments = commitments.map(|point| size_of::<Vec<u8>>().saturating_add(point.len()));
    size_of::<proto::Validator>()
        .saturating_add(members)
        .saturating_add(commitments.sum())
}
