//! The public test files of EIP-3076, every step of each.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use duty::{Claim, Epoch, PublicKey, Root, SigningRoot, Slot};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{export_text, import_text};
use crate::{
    database::Database,
    ledger::{Ask, Denial, Ledger, Refused},
    testing::{Place, connect, patient},
};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/eip-3076");

/// A schema of a database that all of these tests share: it is made much faster than a database.
async fn place_on_postgres() -> Place {
    static SHARED: OnceCell<String> = OnceCell::const_new();
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let url = SHARED.get_or_init(throwaway::database).await;
    let schema = format!("schema_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed));
    let create = format!("CREATE SCHEMA {schema}");
    connect(url).await.batch_execute(&create).await.unwrap();
    Place::postgres(format!("{url}?options=-csearch_path%3D{schema}"))
}

/// What a ledger does between two steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Between {
    /// It goes on.
    Stays,
    /// It is exported, and another, empty one imports that and goes on.
    Moves,
}

/// A ledger under test and what it decided itself.
struct Tested {
    place: Place,
    database: Database,
    ledger: Ledger,
    decided: BTreeSet<(PublicKey, String, SigningRoot)>,
}

impl Tested {
    async fn at(place: Place, chain: Root) -> Self {
        let database = Database::open(&place.config, chain).await.unwrap();
        let opening = place.opening(patient(), None);
        Self {
            ledger: Ledger::open(database.clone(), opening).await.unwrap(),
            database,
            decided: BTreeSet::new(),
            place,
        }
    }

    async fn moved(self, chain: Root) -> Self {
        let (text, _) = export_text(&self.database, chain).await;
        let fresh = match self.database {
            Database::Sqlite(_) => Place::sqlite(),
            Database::Postgres(_) => place_on_postgres().await,
        };
        drop(self.place);
        let moved = Self::at(fresh, chain).await;
        let imported = import_text(&moved.database, chain, text).await.unwrap();
        assert_eq!(
            imported.minified,
            Vec::new(),
            "an export is never slashable"
        );
        moved
    }

    async fn check(&mut self, message: &Value, claim: Claim, context: &str) {
        let validator = message["pubkey"].as_str().unwrap().parse().unwrap();
        let root = message["signing_root"].as_str();
        let root: SigningRoot = root.map_or(SigningRoot([0; 32]), |root| root.parse().unwrap());
        let key = (validator, format!("{claim:?}"), root);
        let expected = message["should_succeed"].as_bool().unwrap();
        let ask = Ask {
            validator,
            claim,
            root,
            fence: Box::new(()),
        };
        let outcome = self.ledger.decide(ask).await;
        match outcome {
            Ok(_) => assert!(expected || self.decided.contains(&key), "{context}"),
            Err(denial) => {
                let conflict = matches!(
                    denial,
                    Denial::Refused(Refused::Conflict(_) | Refused::NotRegistered)
                );
                assert!(conflict && !expected, "{context}: {denial}");
                return;
            }
        }
        self.decided.insert(key);
    }
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

/// Runs one file on one place. Returns the number of messages that were judged.
async fn check(name: &str, file: &Value, place: Place, between: Between) -> usize {
    let chain = file["genesis_validators_root"].as_str().unwrap();
    let chain: Root = chain.parse().unwrap();
    let mut tested = Tested::at(place, chain).await;
    let mut judged = 0;
    for (position, step) in file["steps"].as_array().unwrap().iter().enumerate() {
        let context = format!("{name}, step {position}, {between:?}");
        if position > 0 && between == Between::Moves {
            tested = tested.moved(chain).await;
        }
        let text = step["interchange"].to_string();
        let imported = import_text(&tested.database, chain, text).await;
        assert_eq!(
            imported.is_ok(),
            step["should_succeed"].as_bool().unwrap(),
            "{context}: {imported:?}"
        );
        if between == Between::Moves {
            tested = tested.moved(chain).await;
        }
        for block in step["blocks"].as_array().unwrap() {
            let slot = Slot(number(&block["slot"]));
            let context = format!("{context}: {block}");
            tested.check(block, Claim::Propose { slot }, &context).await;
            judged += 1;
        }
        for vote in step["attestations"].as_array().unwrap() {
            let claim = Claim::Attest {
                source: Epoch(number(&vote["source_epoch"])),
                target: Epoch(number(&vote["target_epoch"])),
            };
            let context = format!("{context}: {vote}");
            tested.check(vote, claim, &context).await;
            judged += 1;
        }
    }
    judged
}

#[tokio::test]
async fn every_step_of_every_public_test_file_holds_here_and_after_a_move() {
    let mut files: Vec<_> = fs::read_dir(Path::new(FILES))
        .unwrap_or_else(|error| panic!("{FILES}: {error}"))
        .map(|file| file.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    assert_eq!(files.len(), 38);
    let mut judged = [0, 0];
    for files in files.chunks(8) {
        let runs = files.iter().flat_map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            [Between::Stays, Between::Moves].map(|between| {
                let (name, file) = (name.clone(), file.clone());
                async move {
                    let on_sqlite = check(&name, &file, Place::sqlite(), between).await;
                    let place = place_on_postgres().await;
                    let on_postgres = check(&name, &file, place, between).await;
                    [on_sqlite, on_postgres]
                }
            })
        });
        for [on_sqlite, on_postgres] in join_all(runs).await {
            judged[0] += on_sqlite;
            judged[1] += on_postgres;
        }
    }
    // As many messages as the files hold, once per way.
    assert_eq!(judged, [2 * MESSAGES, 2 * MESSAGES]);
}

/// Blocks and attestations of all steps of all files.
const MESSAGES: usize = 150;
