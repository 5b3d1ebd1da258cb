//! The vault's tables in PostgreSQL.

use std::time::Duration;

use duty::PublicKey;
use slashing::{
    administration::postgres::count_in,
    database::PostgresDatabase,
    interchange::postgres::import_in,
    ledger::{InitialHistory, postgres::register},
};
use tokio::time::timeout;
use tokio_postgres::{Row, Transaction, types::Type};

use super::{
    Added, Past, VaultError, all_named,
    rows::{Header, ShareRow},
    validators,
};
use crate::sealing::KdfCost;

/// How long reading may take.
const READ_WAIT: Duration = Duration::from_secs(10);
/// How long an import's transaction may take.
const IMPORT_WAIT: Duration = Duration::from_secs(300);

const READ_HEADER: &str = "/* read_header */
SELECT identity, kdf_memory_kib, kdf_passes, kdf_lanes, kdf_salt, kdf_check, wrapped_key FROM vault";

/// So that two processes never make two headers.
const LOCK_HEADER: &str = "/* lock_header */ LOCK TABLE vault IN EXCLUSIVE MODE";

/// $1 identity, $2 memory in KiB, $3 passes, $4 lanes, $5 salt, $6 check, $7 wrapped key
const WRITE_HEADER: &str = "/* write_header */
INSERT INTO vault
    (identity, kdf_memory_kib, kdf_passes, kdf_lanes, kdf_salt, kdf_check, wrapped_key)
SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS (SELECT 1 FROM vault)";

const READ_GENERATION: &str = "/* read_generation */ SELECT generation FROM vault";

/// $1 generation
const READ_SHARES: &str = "/* read_shares */
SELECT validator, share_index, members, commitments, sealed, generation
FROM shares WHERE generation > $1 ORDER BY generation, validator";

/// Locks the row until the end of the transaction: imports come one after another.
const RAISE_GENERATION: &str = "/* raise_generation */
UPDATE vault SET generation = generation + 1 RETURNING generation";

/// $1 validators
const FIND_SHARES: &str = "/* find_shares */
SELECT validator FROM shares WHERE validator = ANY($1) ORDER BY validator LIMIT 1";

/// $1 validator, $2 index, $3 members, $4 commitments, $5 sealed, $6 generation
const ADD_SHARE: &str = "/* add_share */
INSERT INTO shares (validator, share_index, members, commitments, sealed, generation)
VALUES ($1, $2, $3, $4, $5, $6)";

pub(super) async fn read_header(database: &PostgresDatabase) -> Result<Option<Header>, VaultError> {
    within(READ_WAIT, async {
        let client = client(database).await?;
        client
            .query_typed_opt(READ_HEADER, &[])
            .await?
            .as_ref()
            .map(header)
            .transpose()
    })
    .await
}

/// Writes the header, unless there is one.
pub(super) async fn write_header(
    database: &PostgresDatabase,
    header: &Header,
) -> Result<(), VaultError> {
    let [memory, passes, lanes] = [
        header.cost.memory_kib,
        header.cost.passes,
        header.cost.lanes,
    ]
    .map(i64::from);
    within(READ_WAIT, async {
        let mut client = client(database).await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(LOCK_HEADER).await?;
        transaction
            .execute_typed(
                WRITE_HEADER,
                &[
                    (&header.identity.as_slice(), Type::BYTEA),
                    (&memory, Type::INT8),
                    (&passes, Type::INT8),
                    (&lanes, Type::INT8),
                    (&header.salt.as_slice(), Type::BYTEA),
                    (&header.check.as_slice(), Type::BYTEA),
                    (&header.wrapped_key, Type::BYTEA),
                ],
            )
            .await?;
        Ok(transaction.commit().await?)
    })
    .await
}

pub(super) async fn generation(database: &PostgresDatabase) -> Result<i64, VaultError> {
    within(READ_WAIT, async {
        let client = client(database).await?;
        let row = client.query_typed_opt(READ_GENERATION, &[]).await?;
        Ok(row.ok_or(VaultError::Header("there is none"))?.try_get(0)?)
    })
    .await
}

pub(super) async fn shares_after(
    database: &PostgresDatabase,
    generation: i64,
) -> Result<Vec<(i64, ShareRow)>, VaultError> {
    within(READ_WAIT, async {
        let client = client(database).await?;
        let rows = client
            .query_typed(READ_SHARES, &[(&generation, Type::INT8)])
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(5)?, share(row)?)))
            .collect()
    })
    .await
}

/// `BEGIN … COMMIT` of an import.
pub(super) async fn add(
    database: &PostgresDatabase,
    rows: Vec<ShareRow>,
    past: Past,
) -> Result<Added, VaultError> {
    let named = validators(&rows)?;
    let (history, file) = past.split();
    within(IMPORT_WAIT, async {
        let mut client = client(database).await?;
        let transaction = client.transaction().await?;
        let mut history_imported = None;
        if let Some((path, staged)) = file {
            history_imported = Some(all_named(
                path,
                import_in(&transaction, staged, &named).await,
            )?);
        }
        let row = transaction.query_typed_opt(RAISE_GENERATION, &[]).await?;
        let generation: i64 = row.ok_or(VaultError::Header("there is none"))?.try_get(0)?;
        let validators: Vec<&[u8]> = rows.iter().map(|row| row.validator.as_slice()).collect();
        let held = transaction
            .query_typed_opt(FIND_SHARES, &[(&validators, Type::BYTEA_ARRAY)])
            .await?;
        if let Some(row) = held {
            return Err(VaultError::AlreadyHeld(validator(row.try_get(0)?)?));
        }
        for row in &rows {
            add_one(&transaction, row, generation, &history).await?;
        }
        let counted = count_in(&transaction, database).await?;
        transaction.commit().await?;
        Ok(Added {
            counted,
            history: history_imported,
        })
    })
    .await
}

async fn add_one(
    transaction: &Transaction<'_>,
    row: &ShareRow,
    generation: i64,
    history: &InitialHistory,
) -> Result<(), VaultError> {
    register(transaction, validator(&row.validator)?, history).await?;
    let added = transaction
        .execute_typed(
            ADD_SHARE,
            &[
                (&row.validator, Type::BYTEA),
                (&row.share_index, Type::BYTEA),
                (&row.members, Type::BYTEA),
                (&row.commitments, Type::BYTEA),
                (&row.sealed, Type::BYTEA),
                (&generation, Type::INT8),
            ],
        )
        .await?;
    match added {
        1 => Ok(()),
        _ => Err(VaultError::Unavailable(format!(
            "{added} rows were added instead of one"
        ))),
    }
}

fn validator(bytes: &[u8]) -> Result<PublicKey, VaultError> {
    PublicKey::try_from(bytes)
        .map_err(|_| VaultError::Header("a validator's key is not 48 bytes long"))
}

fn header(row: &Row) -> Result<Header, VaultError> {
    let number = |column| {
        u32::try_from(row.try_get::<_, i64>(column)?)
            .map_err(|_| VaultError::Header("its Argon2id cost is out of range"))
    };
    Ok(Header {
        identity: fixed(row, 0)?,
        cost: KdfCost {
            memory_kib: number(1)?,
            passes: number(2)?,
            lanes: number(3)?,
        },
        salt: fixed(row, 4)?,
        check: fixed(row, 5)?,
        wrapped_key: row.try_get(6)?,
    })
}

fn fixed<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], VaultError> {
    row.try_get::<_, &[u8]>(column)?
        .try_into()
        .map_err(|_| VaultError::Header("a column has a wrong length"))
}

fn share(row: &Row) -> Result<ShareRow, VaultError> {
    Ok(ShareRow {
        validator: row.try_get(0)?,
        share_index: row.try_get(1)?,
        members: row.try_get(2)?,
        commitments: row.try_get(3)?,
        sealed: row.try_get(4)?,
    })
}

async fn client(database: &PostgresDatabase) -> Result<deadpool_postgres::Client, VaultError> {
    database
        .client()
        .await
        .map_err(|error| VaultError::Unavailable(error.to_string()))
}

async fn within<T>(
    wait: Duration,
    work: impl Future<Output = Result<T, VaultError>>,
) -> Result<T, VaultError> {
    timeout(wait, work).await.unwrap_or_else(|_| {
        Err(VaultError::Unavailable(format!(
            "it did not answer within {} s",
            wait.as_secs()
        )))
    })
}

impl From<tokio_postgres::Error> for VaultError {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = error
            .as_db_error()
            .map_or_else(|| error.to_string(), ToString::to_string);
        Self::Unavailable(text)
    }
}
