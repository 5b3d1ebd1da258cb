//! Registers validators in a transaction of the vault's.

use duty::PublicKey;
use tokio_postgres::{Transaction, types::Type};

use super::{Failed, arrays::parse_row};
use crate::ledger::{InitialHistory, RegisterError, columns::Columns};

/// $1 validator
const LOCK_RATCHET: &str = "/* lock_ratchet */
SELECT validator, source_epoch, target_epoch, attestation_root, slot, block_root, disabled
FROM ratchets WHERE validator = $1 FOR UPDATE";

/// $1 validator, $2 source epoch, $3 target epoch, $4 attestation root, $5 slot, $6 block root
const ADD_RATCHET: &str = "/* add_ratchet */
INSERT INTO ratchets
    (validator, source_epoch, target_epoch, attestation_root, slot, block_root)
VALUES ($1, $2, $3, $4, $5, $6)";

/// $1 validator, $2 source epoch, $3 target epoch, $4 attestation root, $5 slot, $6 block root
const RAISE_RATCHET: &str = "/* raise_ratchet */
UPDATE ratchets SET
    source_epoch = $2, target_epoch = $3, attestation_root = $4, slot = $5, block_root = $6
WHERE validator = $1";

/// Registers a validator within the caller's transaction, so that its key and its history become
/// active together. A validator that is registered keeps its ratchet, raised if need be.
///
/// # Errors
/// [`RegisterError`]; the transaction must then be rolled back.
pub async fn register(
    transaction: &Transaction<'_>,
    validator: PublicKey,
    history: &InitialHistory,
) -> Result<(), RegisterError> {
    let failed = |failed: Failed| RegisterError::Database(failed.to_string());
    let key = validator.as_bytes().as_slice();
    let existing = transaction
        .query_typed_opt(LOCK_RATCHET, &[(&key, Type::BYTEA)])
        .await
        .map_err(|error| failed(error.into()))?;
    let existing = existing
        .as_ref()
        .map(parse_row)
        .transpose()
        .map_err(failed)?;
    let ratchet = history.ratchet(existing.map(|row| row.ratchet).unwrap_or_default())?;
    let columns = Columns::try_from(&ratchet).map_err(|error| failed(error.into()))?;
    let written = transaction
        .execute_typed(
            if existing.is_some() {
                RAISE_RATCHET
            } else {
                ADD_RATCHET
            },
            &[
                (&key, Type::BYTEA),
                (&columns.source, Type::INT8),
                (&columns.target, Type::INT8),
                (&columns.attestation_root, Type::BYTEA),
                (&columns.slot, Type::INT8),
                (&columns.block_root, Type::BYTEA),
            ],
        )
        .await
        .map_err(|error| failed(error.into()))?;
    match written {
        1 => Ok(()),
        _ => Err(failed(Failed::Count)),
    }
}
