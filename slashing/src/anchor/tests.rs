use std::fs;

use super::*;

const LEDGER: LedgerId = LedgerId([3; 16]);
const HOLDER: Holder = Holder([4; 16]);

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("anchor");
    (directory, path)
}

/// An anchor whose last two records count 1 and 2 commits.
fn written(path: &Path) {
    let mut anchor = Anchor::open(path).unwrap();
    for commits in 1..=2 {
        let mark = anchor.mark(LEDGER, HOLDER, commits);
        anchor.write(mark).unwrap();
    }
}

fn commits(path: &Path) -> Option<u64> {
    match Anchor::open(path).unwrap().found() {
        Found::Mark(mark) => Some(mark.commits),
        Found::Nothing => Some(0),
        Found::Damaged => None,
    }
}

#[test]
fn what_was_written_last_is_found() {
    let (_directory, path) = place();
    assert_eq!(*Anchor::open(&path).unwrap().found(), Found::Nothing);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let mut anchor = Anchor::open(&path).unwrap();
    for commits in [1, 2, 9, 10, u64::MAX] {
        let mut mark = anchor.mark(LEDGER, HOLDER, commits);
        mark.next = Some(Holder([0xff; 16]));
        mark.server = Some(ServerMark {
            system_identifier: i64::MAX,
            timeline: u32::MAX,
            lsn: u64::MAX,
        });
        mark.highest = Highest {
            source: Epoch(u64::MAX),
            target: Epoch(u64::MAX),
            slot: Slot(u64::MAX),
        };
        anchor.write(mark.clone()).unwrap();
        drop(anchor);
        anchor = Anchor::open(&path).unwrap();
        assert_eq!(*anchor.found(), Found::Mark(mark.clone()));
        assert!(anchor.is_of_this_file(&mark));
    }
}

#[test]
fn a_record_that_was_cut_short_leaves_the_one_before() {
    // Record 1 is the second of the file, record 2 the first.
    for (damage, found) in [
        (vec![], Some(2)),
        (vec![70], Some(1)),
        (vec![1023 - 800], Some(1)),
        (vec![1024 + 70], Some(2)),
        (vec![70, 1024 + 70], None),
    ] {
        let (_directory, path) = place();
        written(&path);
        let mut bytes = fs::read(&path).unwrap();
        for at in &damage {
            bytes[*at] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
        assert_eq!(commits(&path), found, "{damage:?}");
    }
}

#[test]
fn a_file_that_was_cut_or_is_another_thing_is_damaged() {
    for text in ["", "x", "not an anchor at all"] {
        let (_directory, path) = place();
        fs::write(&path, text).unwrap();
        let found = if text.is_empty() { Some(0) } else { None };
        assert_eq!(commits(&path), found, "{text:?}");
    }
    let (_directory, path) = place();
    written(&path);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100)
        .unwrap();
    assert_eq!(commits(&path), None);
}

#[test]
fn a_copy_is_told_from_the_file_that_was_written() {
    let (directory, path) = place();
    written(&path);
    let copy = directory.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    let anchor = Anchor::open(&copy).unwrap();
    let Found::Mark(mark) = anchor.found() else {
        panic!("{:?}", anchor.found());
    };
    assert!(!anchor.is_of_this_file(mark));
}

#[test]
fn two_processes_never_have_it_at_once() {
    let (_directory, path) = place();
    let first = Anchor::open(&path).unwrap();
    let second = Anchor::open_within(&path, Duration::from_millis(50));
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another process uses the anchor"), "{error}");
    drop(first);
    Anchor::open_within(&path, Duration::ZERO).unwrap();
}
