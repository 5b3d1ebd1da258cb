//! Partials that are computed before a ledger has permitted them: while their duty's promise travels
//! and while the ledger writes, a processor would only wait for a network and a disk. What is
//! computed stays withheld until there is a permit for it ([`Withheld`]); what is never permitted
//! is dropped.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use duty::{Claim, PublicKey, SigningRoot};
use futures_util::future::join_all;
use keyshare::Withheld;
use parking_lot::Mutex;
use slashing::Question;
use tokio::sync::oneshot;

use super::{Service, signers::Urgency};

/// Partials of batches up to this long are computed beforehand. In a burst no processor waits for
/// the disk, so nothing would be gained.
pub(super) const PREPARED_MAX: usize = 8;
/// As many are kept; one more takes the place of the oldest.
const KEPT_MAX: usize = 64;
/// A duty that was promised is signed sooner than this, or somewhere else.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// What would be signed: by whose share, and what.
type Expected = (PublicKey, SigningRoot);

/// What was begun when its duty was promised, the oldest first.
#[derive(Default)]
pub(super) struct Prepared(Mutex<VecDeque<Begun>>);

struct Begun {
    expected: Expected,
    since: Instant,
    partial: oneshot::Receiver<Withheld>,
}

impl Prepared {
    /// Makes room for those that were not begun: where each goes when it is there.
    fn begin(
        &self,
        expected: impl Iterator<Item = Expected>,
    ) -> (Vec<Expected>, Vec<oneshot::Sender<Withheld>>) {
        let since = Instant::now();
        let mut kept = self.0.lock();
        kept.retain(|begun| begun.is_of_use(since));
        let mut begin = |expected: Expected| {
            if kept.iter().any(|begun| begun.expected == expected) {
                return None;
            }
            if kept.len() >= KEPT_MAX {
                kept.pop_front();
            }
            let (goes, partial) = oneshot::channel();
            kept.push_back(Begun {
                expected,
                since,
                partial,
            });
            Some((expected, goes))
        };
        expected.filter_map(&mut begin).unzip()
    }

    /// What was begun, for who signs it.
    fn take(&self, expected: &Expected) -> Option<oneshot::Receiver<Withheld>> {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|begun| begun.expected == *expected)?;
        kept.remove(at).map(|begun| begun.partial)
    }

    /// Drops what nobody has asked for.
    pub(super) fn forget(&self) {
        let now = Instant::now();
        self.0.lock().retain(|begun| begun.is_of_use(now));
    }
}

impl Begun {
    fn is_of_use(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < KEPT_FOR
    }
}

impl Service {
    /// Begins to compute the partials of duties that were just promised, if a thread is free.
    pub(super) fn prepare_soon(&self, promised: &[Question]) {
        let urgency = promised.iter().map(|question| match question.claim {
            Claim::Propose { .. } => Urgency::Proposal,
            Claim::Attest { .. } => Urgency::Prompt,
        });
        // A batch that goes with others' waits as they do.
        let (1..=PREPARED_MAX, Some(urgency)) = (promised.len(), urgency.max()) else {
            return;
        };
        let Some(thread) = self.parts.signers.free(urgency) else {
            return;
        };
        let expected = promised
            .iter()
            .map(|question| (question.validator, question.root));
        let (expected, places) = self.prepared.begin(expected);
        if expected.is_empty() {
            return;
        }
        let vault = Arc::clone(&self.parts.vault);
        let metrics = Arc::clone(&self.parts.metrics);
        thread.run(move || {
            let started = Instant::now();
            let partials = vault.prepare(&expected);
            metrics.stage("sign", started.elapsed());
            for (place, partial) in places.into_iter().zip(partials) {
                if let Some(partial) = partial {
                    // Who it was for may have been forgotten.
                    let _ = place.send(partial);
                }
            }
        });
    }

    /// The partials of what a ledger decides on meanwhile: as many, in their order. What was not
    /// begun is computed now.
    pub(super) async fn prepare(
        &self,
        urgency: Urgency,
        expected: Vec<Expected>,
    ) -> Vec<Option<Withheld>> {
        let mut missing = Vec::new();
        let begun: Vec<_> = expected
            .into_iter()
            .map(|expected| {
                let begun = self.prepared.take(&expected);
                if begun.is_none() {
                    missing.push(expected);
                }
                begun
            })
            .collect();
        let begun = join_all(begun.into_iter().map(|begun| async move {
            match begun {
                Some(partial) => Some(partial.await.ok()),
                None => None,
            }
        }));
        let (begun, missing) = tokio::join!(begun, self.prepare_now(urgency, missing));
        let mut missing = missing.into_iter();
        begun
            .into_iter()
            .map(|begun| begun.unwrap_or_else(|| missing.next().flatten()))
            .collect()
    }

    async fn prepare_now(
        &self,
        urgency: Urgency,
        expected: Vec<Expected>,
    ) -> Vec<Option<Withheld>> {
        if expected.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let vault = Arc::clone(&self.parts.vault);
        let prepare = move || vault.prepare(&expected);
        let prepared = self.parts.signers.run(urgency, prepare).await;
        self.parts.metrics.stage("sign", started.elapsed());
        prepared.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(validator: u8, root: u8) -> Expected {
        (PublicKey([validator; 48]), SigningRoot([root; 32]))
    }

    #[test]
    fn what_was_begun_is_not_begun_again_and_taken_once() {
        let prepared = Prepared::default();
        let both = [expected(1, 1), expected(1, 2)];
        let (begun, places) = prepared.begin(both.into_iter());
        assert_eq!((begun, places.len()), (both.to_vec(), 2));
        let (again, _) = prepared.begin([expected(1, 2), expected(2, 2)].into_iter());
        assert_eq!(again, [expected(2, 2)]);
        assert!(prepared.take(&expected(1, 1)).is_some());
        assert!(prepared.take(&expected(1, 1)).is_none(), "it is for one");
        assert!(prepared.take(&expected(2, 1)).is_none());
    }

    #[test]
    fn what_nobody_asks_for_does_not_pile_up() {
        let prepared = Prepared::default();
        let many = (0..=255).map(|root| expected(1, root));
        let (_, places) = prepared.begin(many);
        assert_eq!(places.len(), 256);
        assert_eq!(prepared.0.lock().len(), KEPT_MAX);
        assert!(places.first().is_some_and(oneshot::Sender::is_closed));
        assert!(prepared.take(&expected(1, 255)).is_some());
        let since = Instant::now() - KEPT_FOR;
        for begun in prepared.0.lock().iter_mut() {
            begun.since = since;
        }
        prepared.forget();
        assert!(prepared.0.lock().is_empty());
        assert!(places.iter().all(oneshot::Sender::is_closed));
    }
}
