//! The spool: a private temporary SQLite database, in which entries wait and are looked through.
//!
//! SQLite keeps little of it in memory and the rest in an unnamed file of the directory for
//! temporary files, which is gone with the process, however that ends.

use std::collections::BTreeSet;

use duty::{Epoch, PublicKey, Slot};
use rusqlite::{Connection, Row, params};

use super::{
    ImportError,
    rows::{
        Batch, Block, Corrupt, Line, LineColumns, Rise, Vote, root_column, to_column, to_height,
        to_root, to_validator,
    },
};

/// Entries that wait in memory to be written together.
const PENDING_MAX: usize = 4096;
/// Entries in one batch at most.
pub(super) const BATCH_MAX: usize = 2048;

/// Nothing here outlives the process, so nothing is synced and nothing is rolled back.
const SET_UP: &str = "/* set_up */
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;
PRAGMA cache_size = -16384; -- KiB
CREATE TABLE validators (id INTEGER PRIMARY KEY, validator BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE sections (section INTEGER PRIMARY KEY, id INTEGER NOT NULL) STRICT;
CREATE TABLE votes (
    section INTEGER NOT NULL,
    source  INTEGER NOT NULL,
    target  INTEGER NOT NULL,
    root    BLOB    NOT NULL -- empty if it is not known
) STRICT;
CREATE TABLE blocks (
    section INTEGER NOT NULL,
    slot    INTEGER NOT NULL,
    root    BLOB    NOT NULL
) STRICT;
CREATE TABLE minified (id INTEGER PRIMARY KEY) STRICT;
CREATE TABLE wanted (validator BLOB NOT NULL UNIQUE) STRICT;
BEGIN;";

/// ?1 section, ?2 source, ?3 target, ?4 root
const ADD_VOTE: &str = "/* add_vote */ INSERT INTO votes VALUES (?1, ?2, ?3, ?4)";

/// ?1 section, ?2 slot, ?3 root
const ADD_BLOCK: &str = "/* add_block */ INSERT INTO blocks VALUES (?1, ?2, ?3)";

/// ?1 validator
const ADD_VALIDATOR: &str = "/* add_validator */
INSERT INTO validators (validator) VALUES (?1) ON CONFLICT DO NOTHING";

/// ?1 section, ?2 validator
const NAME_SECTION: &str = "/* name_section */
INSERT INTO sections (section, id) SELECT ?1, id FROM validators WHERE validator = ?2";

/// Validators with two entries that are slashable together, or with one that nobody may sign: a
/// source after its target; a vote that surrounds or is surrounded by another; two votes with one
/// target; two blocks with one slot. Two roots differ only if both are known.
const FIND_SLASHABLE: &str = "/* find_slashable */
INSERT INTO minified (id)
SELECT id FROM (
    SELECT id, source, target,
        max(source) OVER (PARTITION BY id ORDER BY target, source
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest_before
    FROM votes JOIN sections USING (section)
) WHERE source > target OR highest_before > source
UNION
SELECT id FROM votes JOIN sections USING (section) GROUP BY id, target
HAVING min(source) <> max(source) OR min(nullif(root, x'')) <> max(nullif(root, x''))
UNION
SELECT id FROM blocks JOIN sections USING (section) GROUP BY id, slot
HAVING min(nullif(root, x'')) <> max(nullif(root, x''))";

/// What is left of a validator that is minified: its highest source and target, and its highest
/// slot, of which no message is known.
const MINIFY: &str = "/* minify */
CREATE TEMP TABLE highest_votes AS
    SELECT min(section) AS section, max(source) AS source, max(max(source), max(target)) AS target
    FROM votes JOIN sections USING (section) JOIN minified USING (id) GROUP BY id;
CREATE TEMP TABLE highest_blocks AS
    SELECT min(section) AS section, max(slot) AS slot
    FROM blocks JOIN sections USING (section) JOIN minified USING (id) GROUP BY id;
DELETE FROM votes WHERE section IN (SELECT section FROM sections JOIN minified USING (id));
DELETE FROM blocks WHERE section IN (SELECT section FROM sections JOIN minified USING (id));
INSERT INTO votes SELECT section, source, target, x'' FROM highest_votes;
INSERT INTO blocks SELECT section, slot, x'' FROM highest_blocks;";

const READ_MINIFIED: &str = "/* read_minified */
SELECT validator FROM minified JOIN validators USING (id) ORDER BY validator";

const READ_RISES: &str = "/* read_rises */
SELECT validator, source, target, slot FROM validators
LEFT JOIN (SELECT id, max(source) AS source, max(target) AS target
           FROM votes JOIN sections USING (section) GROUP BY id) USING (id)
LEFT JOIN (SELECT id, max(slot) AS slot
           FROM blocks JOIN sections USING (section) GROUP BY id) USING (id)
ORDER BY validator";

/// ?1 validator
const ADD_WANTED: &str = "/* add_wanted */ INSERT INTO wanted VALUES (?1)";

const RESTRICT: &str = "/* restrict */
DELETE FROM validators WHERE validator NOT IN (SELECT validator FROM wanted);
DELETE FROM sections WHERE id NOT IN (SELECT id FROM validators);
DELETE FROM votes WHERE section NOT IN (SELECT section FROM sections);
DELETE FROM blocks WHERE section NOT IN (SELECT section FROM sections);";

const COUNT_ENTRIES: &str = "/* count_entries */
SELECT (SELECT count(*) FROM votes) + (SELECT count(*) FROM blocks)";

/// In the order of the key of `imported_attestations`, so that a table grows at one end.
const READ_VOTES: &str = "/* read_votes */
SELECT DISTINCT target, validator, source, root
FROM votes JOIN sections USING (section) JOIN validators USING (id)
ORDER BY target, validator, source, root";

/// In the order of the key of `imported_blocks`.
const READ_BLOCKS: &str = "/* read_blocks */
SELECT DISTINCT slot, validator, root
FROM blocks JOIN sections USING (section) JOIN validators USING (id)
ORDER BY slot, validator, root";

/// Each validator with its highest source, target and slot, and then its entries.
const READ_LINES: &str = "/* read_lines */
SELECT validator, 0 AS kind, source, target AS height, slot, NULL AS root, NULL AS block_root
FROM validators
LEFT JOIN (SELECT id, max(source) AS source, max(target) AS target
           FROM votes JOIN sections USING (section) GROUP BY id) USING (id)
LEFT JOIN (SELECT id, max(slot) AS slot
           FROM blocks JOIN sections USING (section) GROUP BY id) USING (id)
UNION ALL
SELECT validator, 1, NULL, slot, NULL, root, NULL
FROM blocks JOIN sections USING (section) JOIN validators USING (id)
UNION ALL
SELECT validator, 2, source, target, NULL, root, NULL
FROM votes JOIN sections USING (section) JOIN validators USING (id)
ORDER BY validator, kind, height, source, root DESC";

/// Entries by the section of the file that they stood in, and sections by validator.
pub(super) struct Spool {
    connection: Connection,
    section: i64,
    entries: u64,
    votes: Vec<(i64, Vote)>,
    blocks: Vec<(i64, Block)>,
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn failed(error: rusqlite::Error) -> ImportError {
    ImportError::Staging(error.to_string())
}

impl Spool {
    pub(super) fn new() -> Result<Self, ImportError> {
        // An empty name: a database of this connection's only, in a temporary file.
        let connection = Connection::open("").map_err(failed)?;
        connection.execute_batch(SET_UP).map_err(failed)?;
        Ok(Self {
            connection,
            section: 0,
            entries: 0,
            votes: Vec::new(),
            blocks: Vec::new(),
        })
    }

    /// Entries that were added.
    pub(super) const fn entries(&self) -> u64 {
        self.entries
    }

    /// What is added from now on is another section's.
    pub(super) const fn begin_section(&mut self) {
        self.section += 1;
    }

    /// Says whose the section is: also after its entries.
    pub(super) fn name_section(&mut self, validator: PublicKey) -> Result<(), ImportError> {
        let key = validator.as_bytes();
        let named = self
            .connection
            .execute(ADD_VALIDATOR, [key])
            .and_then(|_| {
                self.connection
                    .execute(NAME_SECTION, params![self.section, key])
            })
            .map_err(failed)?;
        exactly(named, 1)
    }

    pub(super) fn add_vote(&mut self, vote: Vote) -> Result<(), ImportError> {
        self.votes.push((self.section, vote));
        self.added()
    }

    pub(super) fn add_block(&mut self, block: Block) -> Result<(), ImportError> {
        self.blocks.push((self.section, block));
        self.added()
    }

    fn added(&mut self) -> Result<(), ImportError> {
        self.entries += 1;
        match self.votes.len() + self.blocks.len() < PENDING_MAX {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Writes what waits in memory.
    pub(super) fn flush(&mut self) -> Result<(), ImportError> {
        let mut add = self.connection.prepare(ADD_VOTE).map_err(failed)?;
        for (section, vote) in self.votes.drain(..) {
            let (source, target) = (to_column(vote.source.0)?, to_column(vote.target.0)?);
            let row = params![section, source, target, root_column(&vote.root)];
            exactly(add.execute(row).map_err(failed)?, 1)?;
        }
        let mut add = self.connection.prepare(ADD_BLOCK).map_err(failed)?;
        for (section, block) in self.blocks.drain(..) {
            let row = params![section, to_column(block.slot.0)?, root_column(&block.root)];
            exactly(add.execute(row).map_err(failed)?, 1)?;
        }
        Ok(())
    }

    /// Leaves of every validator whose entries are slashable together only the highest. Returns
    /// these validators, in order.
    pub(super) fn minify(&mut self) -> Result<Vec<PublicKey>, ImportError> {
        let found = self.connection.execute(FIND_SLASHABLE, []);
        if found.map_err(failed)? == 0 {
            return Ok(Vec::new());
        }
        self.connection.execute_batch(MINIFY).map_err(failed)?;
        self.collect(READ_MINIFIED, |row| Ok(to_validator(blob(row, 0)?)?))
    }

    /// The highest of every validator, ordered by validator.
    pub(super) fn rises(&self) -> Result<Vec<Rise>, ImportError> {
        self.collect(READ_RISES, |row| {
            let height = |index| {
                let column: Option<i64> = row.get(index).map_err(failed)?;
                column.map(to_height).transpose().map_err(ImportError::from)
            };
            let (source, target) = (height(1)?, height(2)?);
            Ok(Rise {
                validator: to_validator(blob(row, 0)?)?,
                attested: source
                    .zip(target)
                    .map(|(source, target)| (Epoch(source), Epoch(target))),
                proposed: height(3)?.map(Slot),
            })
        })
    }

    fn collect<T>(
        &self,
        query: &str,
        parse: impl Fn(&Row<'_>) -> Result<T, ImportError>,
    ) -> Result<Vec<T>, ImportError> {
        let mut all = Vec::new();
        self.each(query, |row| {
            all.push(parse(row)?);
            Ok(())
        })?;
        Ok(all)
    }

    fn each(
        &self,
        query: &str,
        mut take: impl FnMut(&Row<'_>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let mut statement = self.connection.prepare(query).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            take(row)?;
        }
        Ok(())
    }

    /// Forgets what is about other validators. Returns how many entries are left.
    pub(super) fn restrict(&mut self, to: &BTreeSet<PublicKey>) -> Result<u64, ImportError> {
        for validator in to {
            let added = self.connection.execute(ADD_WANTED, [validator.as_bytes()]);
            exactly(added.map_err(failed)?, 1)?;
        }
        self.connection.execute_batch(RESTRICT).map_err(failed)?;
        let left = self
            .connection
            .query_row(COUNT_ENTRIES, [], |row| row.get(0));
        self.entries = to_height(left.map_err(failed)?)?;
        Ok(self.entries)
    }

    /// Hands every entry on, each once, in the order of the tables' keys.
    pub(super) fn batches(
        &self,
        mut take: impl FnMut(Batch) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let mut votes = Vec::new();
        self.each(READ_VOTES, |row| {
            let vote = Vote {
                target: Epoch(to_height(row.get(0).map_err(failed)?)?),
                source: Epoch(to_height(row.get(2).map_err(failed)?)?),
                root: to_root(blob(row, 3)?)?,
            };
            votes.push((to_validator(blob(row, 1)?)?, vote));
            match votes.len() < BATCH_MAX {
                true => Ok(()),
                false => take(Batch::Votes(std::mem::take(&mut votes))),
            }
        })?;
        let mut blocks = Vec::new();
        self.each(READ_BLOCKS, |row| {
            let block = Block {
                slot: Slot(to_height(row.get(0).map_err(failed)?)?),
                root: to_root(blob(row, 2)?)?,
            };
            blocks.push((to_validator(blob(row, 1)?)?, block));
            match blocks.len() < BATCH_MAX {
                true => Ok(()),
                false => take(Batch::Blocks(std::mem::take(&mut blocks))),
            }
        })?;
        if !votes.is_empty() {
            take(Batch::Votes(votes))?;
        }
        if !blocks.is_empty() {
            take(Batch::Blocks(blocks))?;
        }
        Ok(())
    }

    /// Hands every line of an export on: per validator its highest, then its entries.
    pub(super) fn lines(
        &self,
        mut take: impl FnMut(PublicKey, Line) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        self.each(READ_LINES, |row| {
            let (validator, line) = parse_line(row).map_err(failed)??;
            take(validator, line)
        })
    }
}

/// A row of an export's query, on any SQLite database.
pub(super) fn parse_line(
    row: &Row<'_>,
) -> Result<Result<(PublicKey, Line), Corrupt>, rusqlite::Error> {
    let bytes = |index| Ok::<_, rusqlite::Error>(row.get_ref(index)?.as_blob_or_null()?);
    let columns = LineColumns {
        validator: bytes(0)?.unwrap_or_default(),
        kind: row.get(1)?,
        source: row.get(2)?,
        height: row.get(3)?,
        slot: row.get(4)?,
        root: bytes(5)?,
        block_root: bytes(6)?,
    };
    Ok(columns.parse())
}

fn blob<'r>(row: &'r Row<'_>, index: usize) -> Result<&'r [u8], ImportError> {
    let value = row.get_ref(index).map_err(failed)?;
    value
        .as_blob()
        .map_err(|error| ImportError::Staging(error.to_string()))
}

fn exactly(written: usize, expected: usize) -> Result<(), ImportError> {
    match written == expected {
        true => Ok(()),
        false => Err(ImportError::Staging(
            "a statement wrote other rows than it was given".to_owned(),
        )),
    }
}
