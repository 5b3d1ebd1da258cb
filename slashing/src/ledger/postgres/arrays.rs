//! What goes into and comes out of statements: one array per column, and rows.

use duty::{Claim, PublicKey};
use tokio_postgres::{Client, Row as SqlRow, Statement, types::ToSql};

use super::Failed;
use crate::{
    ledger::{
        Question,
        batch::{Row, Write},
        columns::{Columns, Corrupt, to_column},
    },
    rules::Ratchet,
};

pub(super) fn keys<'a>(validators: impl Iterator<Item = &'a PublicKey>) -> Vec<&'a [u8]> {
    validators
        .map(|validator| validator.as_bytes().as_slice())
        .collect()
}

/// A row's first column.
pub(super) fn validator(row: &SqlRow) -> Result<PublicKey, Failed> {
    let bytes: &[u8] = row.try_get(0)?;
    PublicKey::try_from(bytes).map_err(|_| Corrupt("validator").into())
}

pub(super) fn parse_row(row: &SqlRow) -> Result<Row, Failed> {
    let columns = Columns {
        source: row.try_get(1)?,
        target: row.try_get(2)?,
        attestation_root: row.try_get(3)?,
        slot: row.try_get(4)?,
        block_root: row.try_get(5)?,
    };
    Ok(Row {
        validator: validator(row)?,
        ratchet: Ratchet::try_from(columns)?,
        disabled: row.try_get(6)?,
    })
}

/// The parameters of the statement that writes ratchets: one array per column.
#[derive(Default)]
pub(super) struct RatchetArrays {
    validators: Vec<Vec<u8>>,
    sources: Vec<Option<i64>>,
    targets: Vec<Option<i64>>,
    attestation_roots: Vec<Option<Vec<u8>>>,
    slots: Vec<Option<i64>>,
    block_roots: Vec<Option<Vec<u8>>>,
}

impl RatchetArrays {
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        [
            &self.validators,
            &self.sources,
            &self.targets,
            &self.attestation_roots,
            &self.slots,
            &self.block_roots,
        ]
    }
}

impl TryFrom<&[Write]> for RatchetArrays {
    type Error = Corrupt;

    fn try_from(writes: &[Write]) -> Result<Self, Corrupt> {
        let mut arrays = Self::default();
        for write in writes {
            let columns = Columns::try_from(&write.ratchet)?;
            arrays.validators.push(write.validator.as_bytes().to_vec());
            arrays.sources.push(columns.source);
            arrays.targets.push(columns.target);
            arrays.attestation_roots.push(columns.attestation_root);
            arrays.slots.push(columns.slot);
            arrays.block_roots.push(columns.block_root);
        }
        Ok(arrays)
    }
}

/// Claims by kind, one array per column of the history.
#[derive(Default)]
pub(super) struct HistoryArrays {
    pub(super) attesters: Vec<Vec<u8>>,
    sources: Vec<i64>,
    pub(super) targets: Vec<i64>,
    attestation_roots: Vec<Vec<u8>>,
    pub(super) proposers: Vec<Vec<u8>>,
    pub(super) slots: Vec<i64>,
    block_roots: Vec<Vec<u8>>,
}

impl HistoryArrays {
    pub(super) fn rows(&self) -> usize {
        self.attesters.len() + self.proposers.len()
    }

    /// Appends the attestations, if there are any. Returns how many were.
    pub(super) async fn add_attestations(
        &self,
        client: &Client,
        add: &Statement,
    ) -> Result<usize, Failed> {
        if self.attesters.is_empty() {
            return Ok(0);
        }
        let columns: [&(dyn ToSql + Sync); 4] = [
            &self.targets,
            &self.attesters,
            &self.sources,
            &self.attestation_roots,
        ];
        let added = client.execute(add, &columns).await?;
        usize::try_from(added).map_err(|_| Failed::Count)
    }

    /// Appends the blocks, if there are any. Returns how many were.
    pub(super) async fn add_blocks(
        &self,
        client: &Client,
        add: &Statement,
    ) -> Result<usize, Failed> {
        if self.proposers.is_empty() {
            return Ok(0);
        }
        let columns: [&(dyn ToSql + Sync); 3] = [&self.slots, &self.proposers, &self.block_roots];
        let added = client.execute(add, &columns).await?;
        usize::try_from(added).map_err(|_| Failed::Count)
    }
}

impl TryFrom<&[Question]> for HistoryArrays {
    type Error = Corrupt;

    fn try_from(questions: &[Question]) -> Result<Self, Corrupt> {
        let mut arrays = Self::default();
        for question in questions {
            let validator = question.validator.as_bytes().to_vec();
            let root = question.root.as_bytes().to_vec();
            match question.claim {
                Claim::Attest { source, target } => {
                    arrays.attesters.push(validator);
                    arrays.sources.push(to_column(source.0)?);
                    arrays.targets.push(to_column(target.0)?);
                    arrays.attestation_roots.push(root);
                }
                Claim::Propose { slot } => {
                    arrays.proposers.push(validator);
                    arrays.slots.push(to_column(slot.0)?);
                    arrays.block_roots.push(root);
                }
            }
        }
        Ok(arrays)
    }
}
