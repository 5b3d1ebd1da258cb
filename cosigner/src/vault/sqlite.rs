//! The vault's tables in SQLite.

use duty::PublicKey;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use slashing::{
    administration::sqlite::count_in,
    database::SqliteDatabase,
    interchange::sqlite::import_in,
    ledger::{InitialHistory, sqlite::register},
};

use super::{
    Added, Past, VaultError, all_named,
    rows::{Header, ShareRow},
    validators,
};
use crate::sealing::KdfCost;

const READ_HEADER: &str = "/* read_header */
SELECT identity, kdf_memory_kib, kdf_passes, kdf_lanes, kdf_salt, kdf_check, wrapped_key FROM vault";

/// ?1 identity, ?2 memory in KiB, ?3 passes, ?4 lanes, ?5 salt, ?6 check, ?7 wrapped key
const WRITE_HEADER: &str = "/* write_header */
INSERT INTO vault
    (identity, kdf_memory_kib, kdf_passes, kdf_lanes, kdf_salt, kdf_check, wrapped_key)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM vault)";

const READ_GENERATION: &str = "/* read_generation */ SELECT generation FROM vault";

/// ?1 generation
const READ_SHARES: &str = "/* read_shares */
SELECT validator, share_index, members, commitments, sealed, generation
FROM shares WHERE generation > ?1 ORDER BY generation, validator";

const RAISE_GENERATION: &str = "/* raise_generation */
UPDATE vault SET generation = generation + 1 RETURNING generation";

/// ?1 validator
const FIND_SHARE: &str = "/* find_share */ SELECT 1 FROM shares WHERE validator = ?1";

/// ?1 validator, ?2 index, ?3 members, ?4 commitments, ?5 sealed, ?6 generation
const ADD_SHARE: &str = "/* add_share */
INSERT INTO shares (validator, share_index, members, commitments, sealed, generation)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(super) async fn read_header(database: &SqliteDatabase) -> Result<Option<Header>, VaultError> {
    call(database, |connection| {
        Ok(connection.query_row(READ_HEADER, [], header).optional()?)
    })
    .await
}

/// Writes the header, unless there is one.
pub(super) async fn write_header(
    database: &SqliteDatabase,
    header: Header,
) -> Result<(), VaultError> {
    let KdfCost {
        memory_kib,
        passes,
        lanes,
    } = header.cost;
    call(database, move |connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            WRITE_HEADER,
            params![
                header.identity,
                memory_kib,
                passes,
                lanes,
                header.salt,
                header.check,
                header.wrapped_key
            ],
        )?;
        Ok(transaction.commit()?)
    })
    .await
}

pub(super) async fn generation(database: &SqliteDatabase) -> Result<i64, VaultError> {
    call(database, |connection| {
        Ok(connection.query_row(READ_GENERATION, [], |row| row.get(0))?)
    })
    .await
}

pub(super) async fn shares_after(
    database: &SqliteDatabase,
    generation: i64,
) -> Result<Vec<(i64, ShareRow)>, VaultError> {
    call(database, move |connection| {
        let mut statement = connection.prepare(READ_SHARES)?;
        let rows = statement.query_map([generation], |row| Ok((row.get(5)?, share(row)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
    .await
}

/// `BEGIN … COMMIT` of an import.
pub(super) async fn add(
    database: &SqliteDatabase,
    rows: Vec<ShareRow>,
    past: Past,
) -> Result<Added, VaultError> {
    let validators = validators(&rows)?;
    let (history, file) = past.split();
    let ledger = database.clone();
    call(database, move |connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut history_imported = None;
        if let Some((path, staged)) = file {
            history_imported = Some(all_named(
                path,
                import_in(&transaction, staged, &validators),
            )?);
        }
        let generation: i64 = transaction.query_row(RAISE_GENERATION, [], |row| row.get(0))?;
        for row in rows {
            add_one(&transaction, &row, generation, &history)?;
        }
        let counted = count_in(&transaction, &ledger)?;
        transaction.commit()?;
        Ok(Added {
            counted,
            history: history_imported,
        })
    })
    .await
}

fn add_one(
    transaction: &Transaction<'_>,
    row: &ShareRow,
    generation: i64,
    history: &InitialHistory,
) -> Result<(), VaultError> {
    let validator = PublicKey::try_from(row.validator.as_slice())
        .map_err(|_| VaultError::Header("a validator's key is not 48 bytes long"))?;
    let found = transaction
        .query_row(FIND_SHARE, [&row.validator], |_| Ok(()))
        .optional()?;
    if found.is_some() {
        return Err(VaultError::AlreadyHeld(validator));
    }
    register(transaction, validator, history)?;
    let added = transaction.execute(
        ADD_SHARE,
        params![
            row.validator,
            row.share_index,
            row.members,
            row.commitments,
            row.sealed,
            generation
        ],
    )?;
    match added {
        1 => Ok(()),
        _ => Err(VaultError::Unavailable(format!(
            "{added} rows were added instead of one"
        ))),
    }
}

fn header(row: &Row<'_>) -> rusqlite::Result<Header> {
    Ok(Header {
        identity: row.get(0)?,
        cost: KdfCost {
            memory_kib: row.get(1)?,
            passes: row.get(2)?,
            lanes: row.get(3)?,
        },
        salt: row.get(4)?,
        check: row.get(5)?,
        wrapped_key: row.get(6)?,
    })
}

fn share(row: &Row<'_>) -> rusqlite::Result<ShareRow> {
    Ok(ShareRow {
        validator: row.get(0)?,
        share_index: row.get(1)?,
        members: row.get(2)?,
        commitments: row.get(3)?,
        sealed: row.get(4)?,
    })
}

async fn call<T: Send + 'static>(
    database: &SqliteDatabase,
    work: impl FnOnce(&mut Connection) -> Result<T, VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    database
        .call(work)
        .await
        .map_err(|error| VaultError::Unavailable(error.to_string()))?
}

impl From<rusqlite::Error> for VaultError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
