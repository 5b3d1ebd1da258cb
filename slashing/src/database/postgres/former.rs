//! Passwords that were configured before, until the configured one has let us in: the file is changed
//! before the role's password is, or the other way round, and connections may be lost in between.

use std::sync::Arc;

use parking_lot::Mutex;
use zeroize::Zeroizing;

/// So many are tried: each takes a connection.
const KEPT: usize = 3;

type Password = Zeroizing<Vec<u8>>;

/// The newest first. Clones share them: who still connects by an older configuration learns for all.
#[derive(Clone, Default)]
pub(super) struct Former(Arc<Mutex<Vec<Password>>>);

impl Former {
    /// Notes the password that `now` takes the place of.
    pub(super) fn add(&self, was: Option<&[u8]>, now: &[u8]) {
        let mut kept = self.0.lock();
        kept.retain(|password| password.as_slice() != now && Some(password.as_slice()) != was);
        if let Some(was) = was {
            kept.insert(0, Zeroizing::new(was.to_vec()));
        }
        kept.truncate(KEPT);
    }

    /// Those that may still let us in.
    pub(super) fn newest_first(&self) -> Vec<Password> {
        self.0.lock().clone()
    }

    /// The role's password is this one: what was configured before it counts no more.
    pub(super) fn has_let_in(&self, password: Option<&[u8]>) {
        let mut kept = self.0.lock();
        let place = kept.iter().position(|one| Some(one.as_slice()) == password);
        kept.truncate(place.map_or(0, |place| place.saturating_add(1)));
    }
}
