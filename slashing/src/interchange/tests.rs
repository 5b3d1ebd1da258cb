//! One suite for both databases.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use duty::{Epoch, PublicKey, Root, Slot};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    database::{DatabaseConfig, postgres::clause},
    rules::{Attested, Proposed, Ratchet},
    testing::{CHAIN, Place, connect},
};

mod vectors;

mod properties;

mod malformed;

mod meaning;

mod exports;

mod merging;

mod races;

/// A file that is kept in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

async fn import_text(
    database: &Database,
    root: Root,
    text: impl Into<String>,
) -> Result<Imported, ImportError> {
    import(database, root, io::Cursor::new(text.into()), |_| {}).await
}

async fn export_text(database: &Database, root: Root) -> (String, Exported) {
    let file = Memory::default();
    let exported = export(database, root, None, file.clone(), |_| {}).await;
    (file.text(), exported.unwrap())
}

/// A file of the tests' chain.
fn file(data: Vec<Value>) -> String {
    json!({
        "metadata": {
            "interchange_format_version": "5",
            "genesis_validators_root": CHAIN.to_string(),
        },
        "data": data,
    })
    .to_string()
}

/// A section of a file. Roots are numbers; 0 is none.
fn section(validator: PublicKey, blocks: &[(u64, u8)], votes: &[(u64, u64, u8)]) -> Value {
    let rooted = |mut entry: Value, root: u8| {
        if root != 0 {
            entry["signing_root"] = json!(crate::testing::root(root).to_string());
        }
        entry
    };
    let blocks = blocks.iter().map(|(slot, root)| {
        let entry = json!({ "slot": slot.to_string() });
        rooted(entry, *root)
    });
    let votes = votes.iter().map(|(source, target, root)| {
        let entry =
            json!({ "source_epoch": source.to_string(), "target_epoch": target.to_string() });
        rooted(entry, *root)
    });
    json!({
        "pubkey": validator.to_string(),
        "signed_blocks": blocks.collect::<Vec<_>>(),
        "signed_attestations": votes.collect::<Vec<_>>(),
    })
}

/// What a file says of a validator: blocks and attestations, as in [`section`].
type Entries = (Vec<(u64, u8)>, Vec<(u64, u64, u8)>);

/// What an exported file says, read by another parser than ours.
fn sections(text: &str) -> BTreeMap<PublicKey, Entries> {
    let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let root = |entry: &Value| {
        let root = entry.get("signing_root");
        root.map_or(0, |root| {
            u8::from_str_radix(&root.as_str().unwrap()[2..4], 16).unwrap()
        })
    };
    let parsed: Value = serde_json::from_str(text).unwrap();
    assert_eq!(parsed["metadata"]["interchange_format_version"], "5");
    let mut keys = Vec::new();
    let mut all = BTreeMap::new();
    for section in parsed["data"].as_array().unwrap() {
        let key: PublicKey = section["pubkey"].as_str().unwrap().parse().unwrap();
        assert_eq!(section["pubkey"], key.to_string(), "lower case with 0x");
        let blocks = section["signed_blocks"].as_array().unwrap().iter();
        let blocks = blocks.map(|block| (number(&block["slot"]), root(block)));
        let votes = section["signed_attestations"].as_array().unwrap().iter();
        let votes = votes.map(|vote| {
            let (source, target) = (&vote["source_epoch"], &vote["target_epoch"]);
            (number(source), number(target), root(vote))
        });
        keys.push(key);
        all.insert(key, (blocks.collect(), votes.collect()));
    }
    assert!(keys.is_sorted() && all.len() == keys.len(), "one of each");
    all
}

/// All rows of all tables, as text.
async fn tables(place: &Place) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    match &place.config {
        DatabaseConfig::Sqlite(config) => {
            let connection = rusqlite::Connection::open(&config.path).unwrap();
            let texts = |query: &str| -> Vec<String> {
                let mut statement = connection.prepare(query).unwrap();
                let rows = statement.query_map([], |row| row.get(0)).unwrap();
                rows.map(Result::unwrap).collect()
            };
            for table in texts("SELECT name FROM sqlite_schema WHERE type = 'table'") {
                let columns = texts(&format!(
                    "SELECT group_concat('quote(\"' || name || '\")', '||'',''||') \
                     FROM pragma_table_info('{table}')"
                ));
                let rows = texts(&format!("SELECT {} FROM {table} ORDER BY 1", columns[0]));
                all.insert(table, rows);
            }
        }
        DatabaseConfig::Postgres(config) => {
            let client = connect(&config.url).await;
            let named = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
            for table in client.query(named, &[]).await.unwrap() {
                let table: String = table.get(0);
                let query = format!("SELECT t::text FROM {table} AS t ORDER BY 1");
                let rows = client.query(&query, &[]).await;
                let rows = rows.map_err(|error| clause(&error)).unwrap();
                all.insert(table, rows.iter().map(|row| row.get(0)).collect());
            }
        }
    }
    assert!(all.len() >= 8, "{:?}", all.keys());
    all
}

/// The ratchets, read beside the code under test.
async fn ratchets(place: &Place) -> BTreeMap<PublicKey, Ratchet> {
    type Columns = (Vec<u8>, [Option<i64>; 3], Option<Vec<u8>>, Option<Vec<u8>>);
    const READ: &str = "SELECT validator, source_epoch, target_epoch, slot, attestation_root, \
                        block_root FROM ratchets";
    let rows: Vec<Columns> = match &place.config {
        DatabaseConfig::Sqlite(config) => {
            let connection = rusqlite::Connection::open(&config.path).unwrap();
            let mut read = connection.prepare(READ).unwrap();
            let rows = read.query_map([], |row| {
                let heights = [row.get(1)?, row.get(2)?, row.get(3)?];
                Ok((row.get(0)?, heights, row.get(4)?, row.get(5)?))
            });
            rows.unwrap().map(Result::unwrap).collect()
        }
        DatabaseConfig::Postgres(config) => {
            let rows = connect(&config.url).await.query(READ, &[]).await.unwrap();
            let parse = |row: &tokio_postgres::Row| {
                let heights = [row.get(1), row.get(2), row.get(3)];
                (row.get(0), heights, row.get(4), row.get(5))
            };
            rows.iter().map(parse).collect()
        }
    };
    let parse = |(validator, [source, target, slot], vote, block): Columns| {
        let height = |column: i64| u64::try_from(column).unwrap();
        let root = |column: Option<Vec<u8>>| column.map(|root| root.as_slice().try_into().unwrap());
        let ratchet = Ratchet {
            attested: source.zip(target).map(|(source, target)| Attested {
                source: Epoch(height(source)),
                target: Epoch(height(target)),
                root: root(vote),
            }),
            proposed: slot.map(|slot| Proposed {
                slot: Slot(height(slot)),
                root: root(block),
            }),
        };
        (validator.as_slice().try_into().unwrap(), ratchet)
    };
    rows.into_iter().map(parse).collect()
}

/// A ratchet without its roots: what another ledger can know of it.
fn heights(ratchet: &Ratchet) -> Ratchet {
    Ratchet {
        attested: ratchet.attested.map(|own| Attested { root: None, ..own }),
        proposed: ratchet.proposed.map(|own| Proposed { root: None, ..own }),
    }
}

/// Whether two entries of one validator are slashable together, by the specification.
fn has_slashable_pair((blocks, votes): &Entries) -> bool {
    let pairs = |count: usize| (0..count).flat_map(move |a| (0..count).map(move |b| (a, b)));
    let surrounds = |a: (u64, u64, u8), b: (u64, u64, u8)| a.0 < b.0 && b.1 < a.1;
    let double = |a: (u64, u64, u8), b: (u64, u64, u8)| a != b && a.1 == b.1;
    pairs(votes.len())
        .any(|(a, b)| a != b && (surrounds(votes[a], votes[b]) || double(votes[a], votes[b])))
        || pairs(blocks.len()).any(|(a, b)| a != b && blocks[a].0 == blocks[b].0)
}
