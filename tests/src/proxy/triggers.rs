//! Moments in a stream of bytes at which something is to happen.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use super::{Fault, Way};

/// Looks at bytes as they come; says how many of them still pass when its moment has come.
pub struct Trigger(Look);

type Look = Box<dyn FnMut(&[u8]) -> Option<usize> + Send>;

impl Trigger {
    /// After so many bytes.
    #[must_use]
    pub fn after(bytes: usize) -> Self {
        let mut left = bytes;
        Self(Box::new(move |chunk| {
            let passes = left;
            left = left.saturating_sub(chunk.len());
            (passes <= chunk.len()).then_some(passes)
        }))
    }

    /// When these bytes come: none of what came with them passes.
    #[must_use]
    pub fn before(needle: &'static [u8]) -> Self {
        Self(Box::new(move |chunk| has(chunk, needle).then_some(0)))
    }

    /// When these bytes have come: what came with them passes.
    #[must_use]
    pub fn behind(needle: &'static [u8]) -> Self {
        Self(Box::new(move |chunk| {
            has(chunk, needle).then_some(chunk.len())
        }))
    }

    /// Behind the `nth` (from 1) piece of at least so many bytes, where small ones do not count: of
    /// encrypted streams that is all that can be told.
    #[must_use]
    pub fn behind_large(bytes: usize, nth: usize) -> Self {
        let mut seen = 0;
        Self(Box::new(move |chunk| {
            seen += usize::from(chunk.len() >= bytes);
            (seen >= nth).then_some(chunk.len())
        }))
    }
}

fn has(chunk: &[u8], needle: &[u8]) -> bool {
    chunk.windows(needle.len()).any(|bytes| bytes == needle)
}

struct Armed {
    way: Way,
    trigger: Trigger,
    then: Vec<(Way, Fault)>,
}

/// The one moment that a proxy waits for.
#[derive(Default)]
pub(super) struct Triggers {
    armed: Mutex<Option<Armed>>,
    struck: watch::Sender<bool>,
}

impl Triggers {
    pub(super) fn arm(&self, way: Way, trigger: Trigger, then: &[(Way, Fault)]) {
        self.struck.send_replace(false);
        *self.lock() = Some(Armed {
            way,
            trigger,
            then: then.to_vec(),
        });
    }

    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    pub(super) fn struck(&self) -> watch::Receiver<bool> {
        self.struck.subscribe()
    }

    /// Says that what was to happen has.
    pub(super) fn tell(&self) {
        self.struck.send_replace(true);
    }

    /// If its moment has come, throws what is to be thrown, once, and says how many of the bytes still
    /// pass. What was cleared throws nothing any more.
    pub(super) fn strike(
        &self,
        way: Way,
        bytes: &[u8],
        throw: impl Fn(Way, Fault),
    ) -> Option<usize> {
        let mut armed = self.lock();
        let waits = armed.as_mut().filter(|armed| armed.way == way)?;
        let passes = (waits.trigger.0)(bytes)?;
        for (way, fault) in armed.take()?.then {
            throw(way, fault);
        }
        Some(passes)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap()
    }
}
