//! Whatever is in a ledger and in a file: nothing falls, and nothing is lost on the way.

use duty::{Epoch, PublicKey, Slot};
use futures_util::future::join;
use proptest::prelude::*;
use serde_json::Value;

use super::{
    CHAIN, export_text, file, has_slashable_pair, heights, import_text, ratchets, section, sections,
};
use crate::{
    database::DatabaseConfig,
    rules::{Attested, HEIGHT_MAX, Proposed, Ratchet, Watermark},
    testing::{Place, root},
};

/// A validator of a ledger: its ratchet (roots are numbers, 0 is none), and what a file has of it.
#[derive(Debug, Clone)]
struct Subject {
    attested: Option<(u64, u64, u8)>,
    proposed: Option<(u64, u8)>,
    blocks: Vec<(u64, u8)>,
    votes: Vec<(u64, u64, u8)>,
}

fn height() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..6_u64, 1 => Just(HEIGHT_MAX)]
}

fn subject() -> impl Strategy<Value = Subject> {
    let own_vote = (height(), height(), 0..3_u8);
    let own_vote = own_vote.prop_map(|(a, b, root)| (a.min(b), a.max(b), root));
    // Mostly a source below its target, as in real life; sometimes not.
    let vote = (height(), height(), 0..3_u8, 0..10_u8);
    let vote = vote.prop_map(|(a, b, root, chance)| match chance {
        0 => (a, b, root),
        _ => (a.min(b), a.max(b), root),
    });
    (
        prop::option::of(own_vote),
        prop::option::of((height(), 0..3_u8)),
        prop::collection::vec((height(), 0..3_u8), 0..4),
        prop::collection::vec(vote, 0..5),
    )
        .prop_map(|(attested, proposed, blocks, votes)| Subject {
            attested,
            proposed,
            blocks,
            votes,
        })
}

fn key(number: usize) -> PublicKey {
    let mut key = [3; 48];
    key[..8].copy_from_slice(&number.to_be_bytes());
    PublicKey(key)
}

fn known(number: u8) -> Option<duty::SigningRoot> {
    (number != 0).then(|| root(number))
}

impl Subject {
    fn ratchet(&self) -> Ratchet {
        Ratchet {
            attested: self.attested.map(|(source, target, root)| Attested {
                source: Epoch(source),
                target: Epoch(target),
                root: known(root),
            }),
            proposed: self.proposed.map(|(slot, root)| Proposed {
                slot: Slot(slot),
                root: known(root),
            }),
        }
    }

    /// What the rule's own raising makes of the ratchet, each side by itself.
    fn raised(&self) -> Ratchet {
        let mut ratchet = self.ratchet();
        let source = self.votes.iter().map(|vote| vote.0).max();
        let target = self.votes.iter().map(|vote| vote.0.max(vote.1)).max();
        if let Some((source, target)) = source.zip(target) {
            let mark = Watermark::new(Epoch(source), Epoch(target), Slot(0)).unwrap();
            ratchet.attested = ratchet.raised_to(&mark).attested;
        }
        if let Some(slot) = self.blocks.iter().map(|block| block.0).max() {
            let mark = Watermark::new(Epoch(0), Epoch(0), Slot(slot)).unwrap();
            ratchet.proposed = ratchet.raised_to(&mark).proposed;
        }
        ratchet
    }
}

/// Writes ratchets, and the decisions at their tops, where the root is known.
async fn write(place: &Place, subjects: &[Subject]) {
    let literal = |bytes: &[u8]| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match place.config {
            DatabaseConfig::Sqlite(_) => format!("x'{digits}'"),
            DatabaseConfig::Postgres(_) => format!("'\\x{digits}'::bytea"),
        }
    };
    let null = || "NULL".to_owned();
    let rooted = |number: u8| known(number).map_or_else(null, |root| literal(root.as_bytes()));
    let mut sql = String::new();
    for (number, subject) in subjects.iter().enumerate() {
        let key = literal(key(number).as_bytes());
        let (source, target, vote) = subject.attested.map_or_else(
            || (null(), null(), null()),
            |(source, target, root)| (source.to_string(), target.to_string(), rooted(root)),
        );
        let (slot, block) = subject.proposed.map_or_else(
            || (null(), null()),
            |(slot, root)| (slot.to_string(), rooted(root)),
        );
        sql.push_str(&format!(
            "INSERT INTO ratchets (validator, source_epoch, target_epoch, attestation_root, slot, \
             block_root) VALUES ({key}, {source}, {target}, {vote}, {slot}, {block});"
        ));
        if vote != "NULL" {
            sql.push_str(&format!(
                "INSERT INTO attestations (target_epoch, validator, source_epoch, signing_root) \
                 VALUES ({target}, {key}, {source}, {vote});"
            ));
        }
    }
    place.execute(&sql).await.unwrap();
}

fn files(subjects: &[Subject]) -> String {
    let sections = subjects.iter().enumerate().map(|(number, subject)| {
        let Subject { blocks, votes, .. } = subject;
        section(key(number), blocks, votes)
    });
    file(sections.collect::<Vec<Value>>())
}

/// Imports a file on a place, and moves what came of it to another.
async fn check(place: Place, fresh: Place, subjects: &[Subject]) -> String {
    let database = place.open().await;
    write(&place, subjects).await;
    let imported = import_text(&database, CHAIN, files(subjects))
        .await
        .unwrap();
    let after = ratchets(&place).await;
    let mut rose = 0;
    for (number, subject) in subjects.iter().enumerate() {
        assert_eq!(after[&key(number)], subject.raised(), "{subject:?}");
        rose += u64::from(subject.raised() != subject.ratchet());
    }
    assert_eq!(imported.raised, rose);

    // Imported again, nothing changes.
    let again = import_text(&database, CHAIN, files(subjects)).await;
    assert_eq!(again.unwrap().raised, 0);
    assert_eq!(ratchets(&place).await, after);

    let (text, _) = export_text(&database, CHAIN).await;
    for (validator, entries) in &sections(&text) {
        assert!(!has_slashable_pair(entries), "{validator}: {entries:?}");
        let Ratchet { attested, proposed } = heights(&after[validator]);
        let (blocks, votes) = entries;
        let top = votes.last().map(|vote| (Epoch(vote.0), Epoch(vote.1)));
        assert_eq!(top, attested.map(|own| (own.source, own.target)));
        let top = blocks.last().map(|block| Slot(block.0));
        assert_eq!(top, proposed.map(|own| own.slot));
    }
    let moved = import_text(&fresh.open().await, CHAIN, text.clone()).await;
    assert_eq!(moved.unwrap().minified, Vec::new());
    let there = ratchets(&fresh).await;
    assert!(after.iter().all(|(key, own)| there[key] == heights(own)));
    assert_eq!(there.len(), after.len());
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn an_import_never_lowers_and_an_export_carries_every_ratchet(
        subjects in prop::collection::vec(subject(), 300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            // What is exported here is imported there.
            let [one, two] = Place::each().await;
            let [three, four] = Place::each().await;
            let from_sqlite = check(one, four, &subjects);
            let from_postgres = check(two, three, &subjects);
            let (sqlite, postgres) = join(from_sqlite, from_postgres).await;
            assert_eq!(sqlite, postgres, "both export the same bytes");
        });
    }
}
