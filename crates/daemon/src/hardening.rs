//! What a process that holds secrets takes from itself.

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use tracing::warn;

/// No core dumps, no debugger of the same user, no swapping where that is allowed, and new files
/// for the owner alone. Call it first in `main`, after [`crate::telemetry::init`].
///
/// What the system refuses is logged with how to allow it, and the process goes on: a signer in a
/// container without the right to lock memory still protects its validators.
pub fn harden() {
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        warn!(%error, "core dumps could not be forbidden: start with `ulimit -c 0`");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "other processes of this user may read this process' memory");
    }
    if let Err(reason) = lock_memory() {
        warn!(
            reason,
            "memory may be swapped to disk: allow locking it (systemd: LimitMEMLOCK=infinity, \
             docker: --ulimit memlock=-1) or turn swap off"
        );
    }
}

/// Locks what is mapped now and later, without making any of it resident before it is used.
///
/// Only under an unlimited RLIMIT_MEMLOCK: under a finite one locking would succeed here and a
/// later allocation would fail and abort the process.
fn lock_memory() -> Result<(), String> {
    if let Some(bytes) = getrlimit(Resource::Memlock).current {
        // Anyone may raise a limit to its maximum, and root the maximum too.
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        setrlimit(Resource::Memlock, unlimited)
            .map_err(|_| format!("only {bytes} bytes of it may be locked"))?;
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|error| error.to_string())
}
