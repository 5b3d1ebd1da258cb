//! A ratchet as a row's columns, the same in both databases.

use duty::{Epoch, SigningRoot, Slot};

use crate::rules::{Attested, Proposed, Ratchet};

/// The columns `source_epoch`, `target_epoch`, `attestation_root`, `slot`, `block_root`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) source: Option<i64>,
    pub(super) target: Option<i64>,
    pub(super) attestation_root: Option<Vec<u8>>,
    pub(super) slot: Option<i64>,
    pub(super) block_root: Option<Vec<u8>>,
}

/// A row that the schema should have refused, or a number that the rule should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} in a row of the ledger is not possible")]
pub(crate) struct Corrupt(pub(crate) &'static str);

pub(crate) fn to_column(number: u64) -> Result<i64, Corrupt> {
    i64::try_from(number).map_err(|_| Corrupt("height"))
}

pub(super) fn to_height(column: i64) -> Result<u64, Corrupt> {
    u64::try_from(column).map_err(|_| Corrupt("height"))
}

pub(super) fn to_root(column: &[u8]) -> Result<SigningRoot, Corrupt> {
    SigningRoot::try_from(column).map_err(|_| Corrupt("root"))
}

fn root_column(root: Option<SigningRoot>) -> Option<Vec<u8>> {
    root.map(|root| root.as_bytes().to_vec())
}

impl TryFrom<&Ratchet> for Columns {
    type Error = Corrupt;

    fn try_from(ratchet: &Ratchet) -> Result<Self, Corrupt> {
        let mut columns = Self::default();
        if let Some(attested) = ratchet.attested {
            columns.source = Some(to_column(attested.source.0)?);
            columns.target = Some(to_column(attested.target.0)?);
            columns.attestation_root = root_column(attested.root);
        }
        if let Some(proposed) = ratchet.proposed {
            columns.slot = Some(to_column(proposed.slot.0)?);
            columns.block_root = root_column(proposed.root);
        }
        Ok(columns)
    }
}

impl TryFrom<Columns> for Ratchet {
    type Error = Corrupt;

    fn try_from(columns: Columns) -> Result<Self, Corrupt> {
        let root = |column: Option<Vec<u8>>| column.as_deref().map(to_root).transpose();
        let attested = match (columns.source, columns.target) {
            (Some(source), Some(target)) => Some(Attested {
                source: Epoch(to_height(source)?),
                target: Epoch(to_height(target)?),
                root: root(columns.attestation_root)?,
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(Corrupt("attestation")),
        };
        let proposed = match columns.slot {
            Some(slot) => Some(Proposed {
                slot: Slot(to_height(slot)?),
                root: root(columns.block_root)?,
            }),
            None => None,
        };
        Ok(Self { attested, proposed })
    }
}
