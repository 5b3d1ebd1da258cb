//! Migrations, and the chain that the ledger is bound to.

use duty::Root;
use tokio_postgres::Client;

use super::{clause, unavailable};
use crate::database::{
    DatabaseError,
    migrations::{self, Applied, Migration},
    same_chain,
};

pub(super) const READ_CHAIN: &str = "/* read_chain */ SELECT genesis_validators_root FROM ledger";

/// $1 genesis validators root
const WRITE_CHAIN: &str = "/* write_chain */
INSERT INTO ledger (genesis_validators_root)
SELECT $1 WHERE NOT EXISTS (SELECT FROM ledger)";

/// Binds the ledger to a chain, unless it is bound already.
pub(super) async fn bind(
    client: &mut Client,
    genesis_validators_root: Root,
) -> Result<(), DatabaseError> {
    // Two that start at once: one of them inserts, the other trips over the key and reads.
    let root = genesis_validators_root.as_bytes().as_slice();
    let written = client.execute(WRITE_CHAIN, &[&root]).await;
    let row = client
        .query_opt(READ_CHAIN, &[])
        .await
        .map_err(unavailable)?;
    match row {
        Some(row) => same_chain(
            row.try_get(0).map_err(unavailable)?,
            genesis_validators_root,
        ),
        None => Err(written.map_or_else(unavailable, |_| {
            DatabaseError::Schema("its ledger is bound to no chain".to_owned())
        })),
    }
}

const FIND_VERSIONS: &str = "/* find_versions */ SELECT to_regclass('schema_versions') IS NOT NULL";

const MAKE_VERSIONS: &str = "/* make_versions */
CREATE TABLE IF NOT EXISTS schema_versions (
    version    bigint      PRIMARY KEY,
    name       text        NOT NULL,
    checksum   bytea       NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)";

const LOCK_VERSIONS: &str =
    "/* lock_versions */ LOCK TABLE schema_versions IN ACCESS EXCLUSIVE MODE";

const READ_VERSIONS: &str =
    "/* read_versions */ SELECT version, checksum FROM schema_versions ORDER BY version";

/// $1 version, $2 name, $3 checksum
const ADD_VERSION: &str = "/* add_version */
INSERT INTO schema_versions (version, name, checksum) VALUES ($1, $2, $3)";

/// Applies what is pending in one transaction. Two that start at once: the second waits for the
/// first's lock on the table of versions, and then finds nothing to do.
pub(super) async fn migrate(client: &mut Client) -> Result<(), DatabaseError> {
    let found = client
        .query_one(FIND_VERSIONS, &[])
        .await
        .map_err(unavailable)?;
    if found.try_get(0).map_err(unavailable)? {
        let applied = client
            .query(READ_VERSIONS, &[])
            .await
            .map_err(unavailable)?;
        if pending(&applied)?.is_empty() {
            // Nothing to do, which a role that may not change the schema can find out, too.
            return Ok(());
        }
    } else if let Err(error) = client.batch_execute(MAKE_VERSIONS).await {
        // CREATE … IF NOT EXISTS is not safe against another that does the same at once.
        let found = client
            .query_one(FIND_VERSIONS, &[])
            .await
            .map_err(unavailable)?;
        if !found.try_get::<_, bool>(0).map_err(unavailable)? {
            return Err(unavailable(error));
        }
    }
    apply(client).await
}

async fn apply(client: &mut Client) -> Result<(), DatabaseError> {
    let transaction = client.transaction().await.map_err(unavailable)?;
    transaction
        .batch_execute(LOCK_VERSIONS)
        .await
        .map_err(unavailable)?;
    let applied = transaction
        .query(READ_VERSIONS, &[])
        .await
        .map_err(unavailable)?;
    for migration in pending(&applied)? {
        let failed = |error| failed(migration, &error);
        transaction
            .batch_execute(migration.sql)
            .await
            .map_err(failed)?;
        let checksum = migration.checksum();
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&migration.version, &migration.name, &checksum.as_slice()];
        transaction
            .execute(ADD_VERSION, &row)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(unavailable)
}

fn pending(rows: &[tokio_postgres::Row]) -> Result<&'static [Migration], DatabaseError> {
    let applied = rows
        .iter()
        .map(|row| {
            Ok(Applied {
                version: row.try_get(0)?,
                checksum: row.try_get(1)?,
            })
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(unavailable)?;
    migrations::pending(migrations::POSTGRES, &applied)
}

fn failed(migration: &Migration, error: &tokio_postgres::Error) -> DatabaseError {
    let Migration { version, name, .. } = migration;
    DatabaseError::Unavailable(format!("migration {version} ({name}): {}", clause(error)))
}
