//! How much a thread counts when processors are short.

use rustix::process::setpriority_process;

/// A tenth of the usual share, where others want the processor too.
const BEHIND: i32 = 10;

/// Puts the calling thread behind those that answer: one that computes for long must not keep a
/// short answer waiting. Without effect where the system does not let it.
pub fn compute_behind_others() {
    // On Linux, no process means the calling thread.
    if let Err(error) = setpriority_process(None, BEHIND) {
        tracing::debug!(%error, "a computing thread keeps its priority");
    }
}
