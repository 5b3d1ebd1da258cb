//! The vault's tables, whichever database they are in.

use slashing::{database::Database, interchange::Imported};

use super::{
    Past, VaultError, in_background, postgres,
    rows::{DataKey, Header, ShareRow},
    sqlite,
};
use crate::sealing::{Entropy, Passphrase};

/// Reads the header, or makes it if there is none, and derives the data key.
pub(super) async fn unlock(
    database: &Database,
    passphrase: Passphrase,
    entropy: Entropy<'_>,
) -> Result<DataKey, VaultError> {
    let header = match read_header(database).await? {
        Some(header) => header,
        None => {
            let header = Header::make(&passphrase, entropy)?;
            match database {
                Database::Sqlite(database) => sqlite::write_header(database, header).await?,
                Database::Postgres(database) => postgres::write_header(database, &header).await?,
            }
            // Whoever was first: this process or another one.
            let written = read_header(database).await?;
            written.ok_or(VaultError::Header("it was not stored"))?
        }
    };
    in_background(move || header.unlock(&passphrase)).await?
}

async fn read_header(database: &Database) -> Result<Option<Header>, VaultError> {
    match database {
        Database::Sqlite(database) => sqlite::read_header(database).await,
        Database::Postgres(database) => postgres::read_header(database).await,
    }
}

/// The generation of the last import; 0 before the first.
pub(super) async fn generation(database: &Database) -> Result<u64, VaultError> {
    let generation = match database {
        Database::Sqlite(database) => sqlite::generation(database).await,
        Database::Postgres(database) => postgres::generation(database).await,
    }?;
    u64::try_from(generation).map_err(|_| VaultError::Header("its generation is negative"))
}

/// The shares that came with later imports, in their order, each with its generation.
pub(super) async fn shares_after(
    database: &Database,
    generation: u64,
) -> Result<Vec<(u64, ShareRow)>, VaultError> {
    let after = i64::try_from(generation)
        .map_err(|_| VaultError::Header("its generation is out of range"))?;
    let rows = match database {
        Database::Sqlite(database) => sqlite::shares_after(database, after).await,
        Database::Postgres(database) => postgres::shares_after(database, after).await,
    }?;
    rows.into_iter()
        .map(|(generation, row)| match u64::try_from(generation) {
            Ok(generation) => Ok((generation, row)),
            Err(_) => Err(VaultError::Header("a share's generation is negative")),
        })
        .collect()
}

/// Adds shares and registers their validators in one transaction.
pub(super) async fn add(
    database: &Database,
    rows: Vec<ShareRow>,
    past: Past,
) -> Result<Option<Imported>, VaultError> {
    let added = match database {
        Database::Sqlite(database) => sqlite::add(database, rows, past).await,
        Database::Postgres(database) => postgres::add(database, rows, past).await,
    }?;
    added.counted.committed(database);
    Ok(added.history)
}
