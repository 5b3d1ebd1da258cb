//! The interchange file: taken whole or not at all, and never a step back.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    io::{self, Cursor, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use duty::{PublicKey, Root};
use rusqlite::Connection;
use serde_json::Value;
use slashing::{
    Database, DatabaseConfig, SqliteConfig,
    interchange::{ExportError, Imported, MergeError, export, import, merge},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::Reached;

/// The chain of the files of EIP-3076's own tests.
pub(super) const CHAIN: Root = Root::ZERO;

/// The validator that most of those files are about.
pub(super) const VALIDATOR: &str = "0xa99a76ed7796f7be22d5b7e85deeb7c5677e88e511e0b337618f8c4eb61349b4\
                                    bf2d153f649f7b53359fe8b94a38e44c";

/// Bytes of one input at most: what is longer costs time and shows nothing new.
const BYTES_MAX: usize = 32 * 1024;

/// The highest source and target, and the highest slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Heights {
    vote: Option<(u64, u64)>,
    slot: Option<u64>,
}

impl Heights {
    /// The higher of each.
    fn or(self, other: Self) -> Self {
        let vote = match (self.vote, other.vote) {
            (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        };
        Self {
            vote,
            slot: self.slot.max(other.slot),
        }
    }
}

type Ratchets = BTreeMap<PublicKey, Heights>;

/// One validator's blocks and votes, as a file has them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entries {
    blocks: Vec<(u64, Option<String>)>,
    votes: Vec<(u64, u64, Option<String>)>,
}

/// Holds for `data` as a file: no panic; what is refused leaves nothing, in a merged file or in a
/// ledger; of what is taken
/// - merging keeps the highest of every validator and writes nothing slashable, and merging that
///   again, or twice, changes nothing;
/// - importing raises every ratchet to the file's heights and lowers none, and again raises nothing;
/// - an export carries every ratchet, and an import of it into an empty ledger raises it as high.
pub fn property(data: &[u8]) -> Reached {
    let data = &data[..data.len().min(BYTES_MAX)];
    let merged = match merged(&[data]) {
        Ok(merged) => merged,
        Err(MergeError::File { .. }) => {
            with_ledger(|ledger| ledger.holds_for_refused(data));
            return Reached::Refused;
        }
        Err(failed) => panic!("{failed}"),
    };
    let read = entries(&serde_json::from_slice(&merged).unwrap());
    assert!(!read.values().any(has_slashable_pair), "{read:?}");
    assert_eq!(self::merged(&[&merged]).unwrap(), merged);
    assert_eq!(self::merged(&[&merged, data]).unwrap(), merged);
    // Members that nobody asked for may hold what this JSON library does not.
    let given = serde_json::from_slice::<Value>(data).ok();
    let given = given.map(|given| heights_of(&entries(&given)));
    let highest = heights_of(&read);
    assert!(given.is_none_or(|given| given == highest));
    with_ledger(|ledger| ledger.holds_for(data, &highest));
    Reached::Taken
}

/// Merges, and holds that nothing was written unless all of it was.
fn merged(files: &[&[u8]]) -> Result<Vec<u8>, MergeError> {
    let mut out = Vec::new();
    match merge(files.to_vec(), &mut out) {
        Ok(_) => Ok(out),
        Err(error) => {
            assert!(out.is_empty(), "{error}");
            Err(error)
        }
    }
}

/// What a file has of each validator, read by another parser than the one under test.
fn entries(file: &Value) -> BTreeMap<PublicKey, Entries> {
    let number = |value: &Value| match value {
        Value::String(digits) => digits.parse().unwrap(),
        number => number.as_u64().unwrap(),
    };
    let root = |entry: &Value| {
        let root = entry.get("signing_root").and_then(Value::as_str);
        root.map(|root| hex(root).to_ascii_lowercase())
    };
    let mut all: BTreeMap<PublicKey, Entries> = BTreeMap::new();
    for section in file["data"].as_array().unwrap() {
        let key: PublicKey = hex(section["pubkey"].as_str().unwrap()).parse().unwrap();
        let own = all.entry(key).or_default();
        for block in section["signed_blocks"].as_array().unwrap() {
            own.blocks.push((number(&block["slot"]), root(block)));
        }
        for vote in section["signed_attestations"].as_array().unwrap() {
            let (source, target) = (&vote["source_epoch"], &vote["target_epoch"]);
            own.votes.push((number(source), number(target), root(vote)));
        }
    }
    all
}

fn hex(text: &str) -> &str {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    digits.unwrap_or(text)
}

fn heights_of(all: &BTreeMap<PublicKey, Entries>) -> Ratchets {
    let heights = |(key, own): (&PublicKey, &Entries)| {
        let votes = own.votes.iter().map(|vote| Heights {
            // A source after its target raises the target too.
            vote: Some((vote.0, vote.0.max(vote.1))),
            slot: None,
        });
        let blocks = own.blocks.iter().map(|block| Heights {
            vote: None,
            slot: Some(block.0),
        });
        (
            *key,
            votes.chain(blocks).fold(Heights::default(), Heights::or),
        )
    };
    all.iter().map(heights).collect()
}

/// Whether two entries of one validator are slashable together, by the specification.
fn has_slashable_pair(own: &Entries) -> bool {
    let (blocks, votes) = (&own.blocks, &own.votes);
    let pairs = |count: usize| (0..count).flat_map(move |a| (0..count).map(move |b| (a, b)));
    pairs(votes.len()).filter(|(a, b)| a != b).any(|(a, b)| {
        let (a, b) = (&votes[a], &votes[b]);
        a.1 == b.1 || a.0 < b.0 && b.1 < a.1
    }) || pairs(blocks.len()).any(|(a, b)| a != b && blocks[a].0 == blocks[b].0)
}

/// A ledger on SQLite, emptied for each input.
struct Ledger {
    runtime: Runtime,
    database: Database,
    beside: Connection,
    directory: TempDir,
}

thread_local! {
    static LEDGER: OnceCell<Ledger> = const { OnceCell::new() };
}

fn with_ledger<T>(run: impl FnOnce(&Ledger) -> T) -> T {
    LEDGER.with(|ledger| run(ledger.get_or_init(Ledger::new)))
}

/// A file that is kept in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ledger {
    fn new() -> Self {
        // In memory, if there is such a place: every commit waits for the disk otherwise.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let directory = directory.unwrap();
        let path = directory.path().join("ledger.sqlite");
        let config = DatabaseConfig::Sqlite(SqliteConfig { path: path.clone() });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .unwrap();
        let database = runtime.block_on(Database::open(&config, CHAIN)).unwrap();
        Self {
            runtime,
            database,
            beside: Connection::open(path).unwrap(),
            directory,
        }
    }

    /// Empties the tables, which the ledger's own triggers forbid.
    fn empty(&self) {
        const STAYS: &str = "SELECT sql FROM sqlite_schema WHERE name = 'ratchets_stay'";
        let trigger: String = self.beside.query_row(STAYS, [], |row| row.get(0)).unwrap();
        let emptied = format!(
            "BEGIN IMMEDIATE; DROP TRIGGER ratchets_stay; DELETE FROM ratchets; {trigger};
             DELETE FROM imported_attestations; DELETE FROM imported_blocks; COMMIT;"
        );
        self.beside.execute_batch(&emptied).unwrap();
    }

    /// Empties the tables, and registers a validator that has signed something.
    fn begin(&self) -> Ratchets {
        self.empty();
        let digits = &VALIDATOR[2..];
        let insert = format!(
            "INSERT INTO ratchets (validator, source_epoch, target_epoch, slot)
             VALUES (x'{digits}', 3, 5, 9)"
        );
        self.beside.execute_batch(&insert).unwrap();
        self.ratchets()
    }

    fn ratchets(&self) -> Ratchets {
        const READ: &str = "SELECT validator, source_epoch, target_epoch, slot FROM ratchets";
        let mut read = self.beside.prepare(READ).unwrap();
        let rows = read.query_map([], |row| {
            let validator: Vec<u8> = row.get(0)?;
            let heights: [Option<i64>; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
            Ok((validator, heights))
        });
        rows.unwrap()
            .map(|row| {
                let (validator, [source, target, slot]) = row.unwrap();
                let height = |column: i64| u64::try_from(column).unwrap();
                let vote = source.map(height).zip(target.map(height));
                let slot = slot.map(height);
                let key = PublicKey::try_from(validator.as_slice()).unwrap();
                (key, Heights { vote, slot })
            })
            .collect()
    }

    fn rows_imported(&self) -> i64 {
        const COUNT: &str = "SELECT (SELECT count(*) FROM imported_attestations)
                                  + (SELECT count(*) FROM imported_blocks)";
        self.beside.query_row(COUNT, [], |row| row.get(0)).unwrap()
    }

    fn import(&self, file: &[u8]) -> Result<Imported, slashing::interchange::ImportError> {
        let file = Cursor::new(file.to_vec());
        self.runtime
            .block_on(import(&self.database, CHAIN, file, |_| {}))
    }

    fn export(&self) -> Result<Vec<u8>, ExportError> {
        let out = Memory::default();
        let written = export(&self.database, CHAIN, None, out.clone(), |_| {});
        self.runtime.block_on(written)?;
        let bytes = out.0.lock().unwrap().clone();
        Ok(bytes)
    }

    fn holds_for_refused(&self, file: &[u8]) {
        let before = self.begin();
        let refused = self.import(file).unwrap_err();
        assert!(refused.to_string().len() < 1_000, "{refused}");
        assert_eq!(self.ratchets(), before);
        assert_eq!(self.rows_imported(), 0);
    }

    fn holds_for(&self, file: &[u8], highest: &Ratchets) {
        let before = self.begin();
        let imported = match self.import(file) {
            Ok(imported) => imported,
            Err(refused) => {
                // Of another chain: a merge has no chain of its own.
                assert!(refused.to_string().contains("is for genesis"), "{refused}");
                assert_eq!(self.ratchets(), before);
                assert_eq!(self.rows_imported(), 0);
                return;
            }
        };
        let mut expected = before.clone();
        for (key, heights) in highest {
            let own = expected.entry(*key).or_default();
            *own = own.or(*heights);
        }
        assert_eq!(self.ratchets(), expected);
        let rose = expected
            .iter()
            .filter(|(key, own)| before.get(key) != Some(own));
        assert_eq!(imported.raised, u64::try_from(rose.count()).unwrap());
        assert_eq!(imported.validators, u64::try_from(highest.len()).unwrap());
        let again = self.import(file).unwrap();
        assert_eq!(
            again,
            Imported {
                raised: 0,
                ..imported
            }
        );
        assert_eq!(self.ratchets(), expected);

        let exported = self.export().unwrap();
        let read = entries(&serde_json::from_slice(&exported).unwrap());
        assert!(!read.values().any(has_slashable_pair), "{read:?}");
        assert_eq!(heights_of(&read), expected);
        self.empty();
        let moved = self.import(&exported).unwrap();
        assert_eq!(moved.minified, Vec::new());
        assert_eq!(self.ratchets(), expected);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // The directory goes last: the database's threads have the file open.
        let _kept_until_now = self.directory.path();
    }
}
