//! Entries as values, and as the columns of the three databases that hold them: the ledger's two
//! kinds and the temporary one.

use duty::{Epoch, PublicKey, SigningRoot, Slot};

use crate::rules::{Attested, Proposed, Ratchet};

/// A signed attestation; the root of a message that is only known by its heights is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) source: Epoch,
    pub(super) target: Epoch,
    pub(super) root: Option<SigningRoot>,
}

/// A signed block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) slot: Slot,
    pub(super) root: Option<SigningRoot>,
}

/// What a file raises of one validator's ratchet: either side, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rise {
    pub(super) validator: PublicKey,
    /// The highest source and the highest target.
    pub(super) attested: Option<(Epoch, Epoch)>,
    pub(super) proposed: Option<Slot>,
}

impl Rise {
    pub(super) const fn is_empty(&self) -> bool {
        self.attested.is_none() && self.proposed.is_none()
    }
}

/// One line of an export. A validator's come in this order, each kind in that of its heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The ratchet, once per validator, before its entries.
    Top(Ratchet),
    /// An entry of the history.
    Block(Block),
    /// An entry of the history.
    Vote(Vote),
}

/// Rows that are kept together, in the order of the tables' keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Batch {
    Votes(Vec<(PublicKey, Vote)>),
    Blocks(Vec<(PublicKey, Block)>),
}

impl Batch {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Votes(votes) => votes.len(),
            Self::Blocks(blocks) => blocks.len(),
        }
    }
}

/// A row that the schema should have refused, or a number that the parser should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} in a row of the history is not possible")]
pub(super) struct Corrupt(&'static str);

pub(super) fn to_column(height: u64) -> Result<i64, Corrupt> {
    i64::try_from(height).map_err(|_| Corrupt("height"))
}

pub(super) fn to_height(column: i64) -> Result<u64, Corrupt> {
    u64::try_from(column).map_err(|_| Corrupt("height"))
}

pub(super) fn to_validator(column: &[u8]) -> Result<PublicKey, Corrupt> {
    PublicKey::try_from(column).map_err(|_| Corrupt("validator"))
}

/// The column of a root that may be unknown: empty if it is.
pub(super) fn root_column(root: &Option<SigningRoot>) -> &[u8] {
    root.as_ref().map_or(&[], |root| root.as_bytes().as_slice())
}

pub(super) fn to_root(column: &[u8]) -> Result<Option<SigningRoot>, Corrupt> {
    match column.is_empty() {
        true => Ok(None),
        false => SigningRoot::try_from(column)
            .map(Some)
            .map_err(|_| Corrupt("root")),
    }
}

pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The columns of a [`Rise`], besides its validator.
pub(super) struct RiseColumns {
    pub(super) source: Option<i64>,
    pub(super) target: Option<i64>,
    pub(super) slot: Option<i64>,
}

impl TryFrom<&Rise> for RiseColumns {
    type Error = Corrupt;

    fn try_from(rise: &Rise) -> Result<Self, Corrupt> {
        let column = |height: Option<u64>| height.map(to_column).transpose();
        Ok(Self {
            source: column(rise.attested.map(|(source, _)| source.0))?,
            target: column(rise.attested.map(|(_, target)| target.0))?,
            slot: column(rise.proposed.map(|slot| slot.0))?,
        })
    }
}

/// A row of an export's query: the columns `validator`, `kind`, `source`, `height` (a target, or a
/// block's slot), `slot` (a ratchet's), `root`, `block_root` (a ratchet's).
pub(super) struct LineColumns<'a> {
    pub(super) validator: &'a [u8],
    pub(super) kind: i64,
    pub(super) source: Option<i64>,
    pub(super) height: Option<i64>,
    pub(super) slot: Option<i64>,
    pub(super) root: Option<&'a [u8]>,
    pub(super) block_root: Option<&'a [u8]>,
}

/// The values of the column `kind`, by which lines are ordered.
const TOP: i64 = 0;
const BLOCK: i64 = 1;
const VOTE: i64 = 2;

impl LineColumns<'_> {
    pub(super) fn parse(&self) -> Result<(PublicKey, Line), Corrupt> {
        let height = |column: Option<i64>| match column {
            Some(column) => to_height(column),
            None => Err(Corrupt("height")),
        };
        let root = |column: Option<&[u8]>| to_root(column.unwrap_or_default());
        let line = match self.kind {
            TOP => Line::Top(Ratchet {
                attested: match self.height {
                    Some(target) => Some(Attested {
                        source: Epoch(height(self.source)?),
                        target: Epoch(to_height(target)?),
                        root: root(self.root)?,
                    }),
                    None => None,
                },
                proposed: match self.slot {
                    Some(slot) => Some(Proposed {
                        slot: Slot(to_height(slot)?),
                        root: root(self.block_root)?,
                    }),
                    None => None,
                },
            }),
            BLOCK => Line::Block(Block {
                slot: Slot(height(self.height)?),
                root: root(self.root)?,
            }),
            VOTE => Line::Vote(Vote {
                source: Epoch(height(self.source)?),
                target: Epoch(height(self.height)?),
                root: root(self.root)?,
            }),
            _ => return Err(Corrupt("kind")),
        };
        Ok((to_validator(self.validator)?, line))
    }
}
