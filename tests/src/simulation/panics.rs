//! A panic of the production's code is a finding, wherever it happens: a task that panics is otherwise
//! merely gone, like one whose process ended.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether this thread runs a seed.
    static LISTENS: Cell<bool> = const { Cell::new(false) };
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `seed`, which stays on this thread: what it gave, unless it panicked itself, and the first panic
/// of anything that it began.
pub(super) fn listened_to<T>(seed: impl FnOnce() -> T) -> (Option<T>, Option<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if LISTENS.get() {
                FIRST.with_borrow_mut(|first| {
                    first.get_or_insert_with(|| panic.to_string().replace('\n', " "));
                });
            } else {
                usual(panic);
            }
        }));
    });
    LISTENS.set(true);
    let given = panic::catch_unwind(AssertUnwindSafe(seed)).ok();
    LISTENS.set(false);
    (given, FIRST.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_of_a_task_that_nobody_waits_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let seed = |panics: bool| {
            runtime.block_on(async move {
                tokio::spawn(async move { assert!(!panics, "a task") });
                tokio::task::yield_now().await;
                7
            })
        };
        let (given, first) = listened_to(|| seed(true));
        assert_eq!(given, Some(7));
        assert!(first.unwrap().contains("a task"));
        assert_eq!(listened_to(|| seed(false)), (Some(7), None));
        let (given, first) = listened_to(|| -> u8 { panic!("the seed") });
        assert_eq!(given, None);
        assert!(first.unwrap().contains("the seed"));
    }
}
