//! What an export holds.

use std::io;

use super::{
    CHAIN, Database, ExportError, Exported, Memory, Progress, Step, export, export_text, file,
    import_text, section, sections,
};
use crate::{
    ledger::InitialHistory,
    testing::{Place, attest, decide, patient, propose, register, validator},
};
use duty::{Epoch, Slot};

fn watermark(source: u64, target: u64, slot: u64) -> InitialHistory {
    InitialHistory::Watermark {
        source: Epoch(source),
        target: Epoch(target),
        slot: Slot(slot),
    }
}

#[tokio::test]
async fn an_export_has_own_and_imported_entries_and_every_ratchet() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        let database = place.open().await;
        // Of validator 1 the first decision is pruned, of 2 all; 3 has others' history below and
        // above its own; 4 has a watermark; 5 one at the target that it signed.
        for (validator, target) in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 5), (5, 5)] {
            let claim = attest(target - 1, target);
            assert_eq!(decide(&ledger, validator, claim, 1).await, Ok(()));
        }
        for (validator, slot) in [(1, 7), (2, 5), (3, 20)] {
            assert_eq!(decide(&ledger, validator, propose(slot), 1).await, Ok(()));
        }
        let theirs = section(
            validator(3),
            &[(19, 2), (20, 0)],
            &[(1, 2, 2), (4, 5, 0), (5, 6, 2)],
        );
        let imported = import_text(&database, CHAIN, file(vec![theirs])).await;
        assert_eq!(imported.unwrap().raised, 1);
        register(&database, validator(4), watermark(3, 4, 9)).await;
        register(&database, validator(5), watermark(5, 5, 0)).await;
        place
            .execute(
                "DELETE FROM attestations WHERE target_epoch < 3;
                 DELETE FROM blocks WHERE slot < 6",
            )
            .await
            .unwrap();

        let (text, exported) = export_text(&database, CHAIN).await;
        let all = sections(&text);
        let expected = [
            (1, vec![(7, 1)], vec![(2, 3, 1)]),
            // Pruned, but the ratchet knows the root.
            (2, vec![(5, 1)], vec![(1, 2, 1)]),
            (
                3,
                vec![(19, 2), (20, 1)],
                vec![(1, 2, 2), (4, 5, 1), (5, 6, 2)],
            ),
            (4, vec![(9, 0)], vec![(3, 4, 0)]),
            // (4, 5) was signed, and would be slashable together with the ratchet's (5, 5).
            (5, vec![(0, 0)], vec![(5, 5, 0)]),
            (6, vec![], vec![]),
        ];
        for (number, blocks, votes) in expected {
            assert_eq!(all[&validator(number)], (blocks, votes), "{number}");
        }
        assert_eq!(all.len(), 9);
        let Exported {
            validators,
            entries,
            synthetic,
            left_out,
        } = exported;
        assert_eq!((validators, entries), (9, 13));
        assert_eq!((synthetic, left_out), (6, 1));
    }
}

async fn export_these(database: &Database, numbers: &[u8]) -> Result<String, ExportError> {
    let memory = Memory::default();
    let these = numbers.iter().map(|number| validator(*number)).collect();
    let exported = export(database, CHAIN, Some(these), memory.clone(), |_| {}).await;
    exported.map(|_| memory.text())
}

#[tokio::test]
async fn an_export_of_some_has_these_and_strangers_are_named() {
    for place in Place::each().await {
        let ledger = place.registered(patient()).await;
        let database = place.open().await;
        for number in 1..=4 {
            let claim = attest(1, u64::from(number) + 1);
            assert_eq!(decide(&ledger, number, claim, 1).await, Ok(()));
        }
        let all = sections(&export_these(&database, &[4, 2, 2]).await.unwrap());
        let keys: Vec<_> = all.keys().copied().collect();
        assert_eq!(keys, [validator(2), validator(4)]);
        assert_eq!(all[&validator(4)], (vec![], vec![(1, 5, 1)]));
        let none = sections(&export_these(&database, &[]).await.unwrap());
        assert!(none.is_empty());
        let error = export_these(&database, &[1, 77]).await.unwrap_err();
        assert!(
            matches!(&error, ExportError::Unknown(unknown) if *unknown == [validator(77)]),
            "{error}"
        );
    }
}

/// A disk with so much room.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(io::Error::other("no space is left")),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of some thousand validators with two entries each.
pub(super) fn many(count: u32) -> String {
    let sections = (0..count).map(|number| {
        let mut key = [9; 48];
        key[..4].copy_from_slice(&number.to_be_bytes());
        section(duty::PublicKey(key), &[(8, 1)], &[(1, 2, 1)])
    });
    file(sections.collect())
}

#[tokio::test]
async fn progress_is_told_and_a_file_that_cannot_be_written_is_an_error() {
    for place in Place::each().await {
        let database = place.open().await;
        let (tell, told) = std::sync::mpsc::channel::<Progress>();
        let reader = io::Cursor::new(many(6_000));
        let progress = move |progress| tell.send(progress).unwrap();
        let imported = super::import(&database, CHAIN, reader, progress).await;
        assert_eq!(imported.unwrap().entries, 12_000);
        let told: Vec<_> = told.into_iter().collect();
        let done = |step| told.iter().filter(move |told| told.step == step);
        assert!(done(Step::Reading).count() >= 2, "{told:?}");
        assert!(done(Step::Keeping).is_sorted_by_key(|told| told.done));
        assert_eq!(done(Step::Keeping).next_back().unwrap().done, 12_000);

        let (tell, told) = std::sync::mpsc::channel::<Progress>();
        let memory = Memory::default();
        let progress = move |progress| tell.send(progress).unwrap();
        let exported = export(&database, CHAIN, None, memory.clone(), progress).await;
        assert_eq!(exported.unwrap().validators, 6_000);
        let last = told.into_iter().last().unwrap();
        assert_eq!((last.done, last.total), (6_000, Some(6_000)));
        assert_eq!(sections(&memory.text()).len(), 6_000);

        for room in [0, 100_000] {
            let exported = export(&database, CHAIN, None, Full(room), |_| {}).await;
            assert!(
                matches!(exported, Err(ExportError::Write(_))),
                "{exported:?}"
            );
        }
    }
}
