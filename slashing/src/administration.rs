//! What an operator decides about a ledger: who is frozen, where signing stops, what is raised.
//!
//! Free functions on a database, for a running cosigner and for a tool beside it: whoever holds the
//! ledger reads these rows in the transaction of each decision. Every function is one transaction,
//! which changes everything it was asked for or nothing, and can be asked again. Nothing here lowers
//! a ratchet, permits anything, or deletes.

use std::{collections::BTreeSet, fmt, time::Duration};

use duty::{Epoch, PublicKey, Slot};

use crate::{
    anchor::Highest,
    database::{Database, Known},
    ledger::columns::{Corrupt, to_column},
    rules::{HEIGHT_MAX, Height, Watermark},
};

pub mod postgres;

pub mod sqlite;

/// How long one order may take, waiting for whoever else writes included.
const ORDER_WAIT: Duration = Duration::from_secs(60);
/// By how much an order or an import raises the ledger's count of commits: its number must be beyond
/// whatever a decision that is in doubt on another server can have, so that a server which lacks it
/// never counts as much.
const ORDER_STEP: i64 = 1 << 20;
/// Validators that an error names; of the others it says how many there are.
const NAMED_MAX: usize = 5;

/// Whom an order is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Every validator of the ledger; a freeze holds for those to come as well.
    Everyone,
    /// These, each of which must be in the ledger.
    These(BTreeSet<PublicKey>),
}

/// What is done to validators, for every kind of duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezing {
    /// From now on they sign nothing.
    Freeze,
    /// They sign again. Validators that were frozen one by one and everyone are two things: each
    /// is released as it was frozen, and a validator signs only when neither holds.
    Release,
}

/// Where signing stops, for a planned migration. `None`: there is no such order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stop {
    /// No attestation with this target or a higher one is signed.
    pub epoch: Option<Epoch>,
    /// No block of this slot or a higher one is signed.
    pub slot: Option<Slot>,
}

impl Stop {
    /// The lower of each: what both forbid, and what either does.
    pub(crate) fn lower(self, other: Self) -> Self {
        Self {
            epoch: self.epoch.into_iter().chain(other.epoch).min(),
            slot: self.slot.into_iter().chain(other.slot).min(),
        }
    }
}

/// What is true of a ledger as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which ledger it is. A copy has the same.
    pub ledger_id: [u8; 16],
    /// The run of a cosigner that holds the ledger, or held it last; none before the first.
    pub holder: Option<[u8; 16]>,
    /// Who that says it is; empty before the first.
    pub holder_name: String,
    /// The number of its last commit: it rises with each, and leaps when the ledger is taken.
    pub commits: u64,
    /// Slashable duties wait for this epoch.
    pub quarantined_until: Option<Epoch>,
    /// Where signing stops.
    pub stop: Stop,
    /// Nothing is signed for any validator.
    pub all_frozen: bool,
    /// Validators that are frozen one by one.
    pub frozen: u64,
    /// Validators that are registered.
    pub validators: u64,
    /// Raised with each change that an operator made, imports included.
    pub orders: u64,
    /// The highest of all ratchets.
    pub reach: Highest,
}

/// Of the rows that an order was about, what came of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Those that are another thing now.
    pub changed: u64,
    /// Those that were that way, or further, before.
    pub unchanged: u64,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdministrationError {
    /// Nothing was changed for anyone: these are not registered.
    #[error("not in this ledger, so that nothing was changed: {}", Named(.0))]
    Unknown(Vec<PublicKey>),
    /// A height that no ledger holds.
    #[error("{0} {1} does not fit a signed 64-bit integer")]
    OutOfRange(Height, u64),
    /// The database could not be reached, was held by somebody else for too long, or failed before
    /// anything was committed. The same order may be given again.
    #[error("the ledger's database failed, and nothing was changed: {0}")]
    Unavailable(String),
    /// Whether it was committed is not known. Giving the same order again is safe, and settles it.
    #[error("it is not known whether the change was committed, so ask for it again: {0}")]
    InDoubt(String),
}

/// The number of a change that was counted among the ledger's commits, and is yet to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "when it is committed, it must be known of"]
pub struct Counted(u64);

impl Counted {
    /// It was committed: from now on, a server whose ledger counts less holds an older state.
    pub fn committed(self, database: &Database) {
        database.known().at_least(self.0);
    }

    fn read(commits: i64, known: &Known) -> Result<Self, Uncounted> {
        let commits = u64::try_from(commits)
            .map_err(|_| Uncounted::Failed("its count is not possible".to_owned()))?;
        known.try_at(commits);
        Ok(Self(commits))
    }
}

/// Why a change was not counted. It must not be committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uncounted {
    /// The ledger was put back. Counted, the change would hide that.
    #[error(
        "commit {0} of this ledger is known of and not in it: it is an older state, which only a \
         cosigner that starts on it can take up"
    )]
    Older(u64),
    /// The database.
    #[error("{0}")]
    Failed(String),
}

/// A few of many keys, for people.
pub(crate) struct Named<'a>(pub(crate) &'a [PublicKey]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, validator) in self.0.iter().take(NAMED_MAX).enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{validator}")?;
        }
        match self.0.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Freezes validators, or lets them go. `changed` counts those for which this order says another
/// thing than what was said before; for [`Whom::Everyone`] it leaves out those that are frozen one
/// by one anyway.
///
/// # Errors
/// [`AdministrationError`].
pub async fn freeze(
    database: &Database,
    whom: Whom,
    freezing: Freezing,
) -> Result<Changes, AdministrationError> {
    carry_out(database, Order::Freeze(whom, freezing)).await
}

/// Sets both heights at which signing stops; one that is `None` is lifted.
///
/// # Errors
/// [`AdministrationError`].
pub async fn stop_at(database: &Database, stop: Stop) -> Result<(), AdministrationError> {
    let heights = [
        (Height::Target, stop.epoch.map(|epoch| epoch.0)),
        (Height::Slot, stop.slot.map(|slot| slot.0)),
    ];
    for (height, value) in heights {
        if let Some(value) = value.filter(|value| *value > HEIGHT_MAX) {
            return Err(AdministrationError::OutOfRange(height, value));
        }
    }
    carry_out(database, Order::Stop(stop)).await.map(|_| ())
}

/// Raises ratchets to at least the watermark. Nothing is lowered; a side that rises can be
/// repeated no more ([`crate::rules::Ratchet::raised_to`]).
///
/// **Invariant:** the database does what the pure function says; kept by
/// `tests::raising_in_the_database_is_the_pure_function`.
///
/// # Errors
/// [`AdministrationError`].
pub async fn raise(
    database: &Database,
    whom: Whom,
    watermark: Watermark,
) -> Result<Changes, AdministrationError> {
    carry_out(database, Order::Raise(whom, watermark)).await
}

/// What is true of the ledger as a whole, as of one commit. A read.
///
/// # Errors
/// [`AdministrationError::Unavailable`].
pub async fn state(database: &Database) -> Result<Standing, AdministrationError> {
    match database {
        Database::Sqlite(database) => sqlite::state(database).await,
        Database::Postgres(database) => postgres::state(database).await,
    }
}

/// One change, carried out in one transaction on either database.
#[derive(Debug, Clone)]
enum Order {
    Freeze(Whom, Freezing),
    Stop(Stop),
    Raise(Whom, Watermark),
}

impl Order {
    const fn whom(&self) -> Option<&BTreeSet<PublicKey>> {
        match self {
            Self::Freeze(Whom::These(these), _) | Self::Raise(Whom::These(these), _) => Some(these),
            Self::Freeze(Whom::Everyone, _) | Self::Raise(Whom::Everyone, _) | Self::Stop(_) => {
                None
            }
        }
    }
}

async fn carry_out(database: &Database, order: Order) -> Result<Changes, AdministrationError> {
    let (changes, counted) = match database {
        Database::Sqlite(database) => sqlite::carry_out(database, order).await,
        Database::Postgres(database) => postgres::carry_out(database, &order).await,
    }?;
    counted.committed(database);
    Ok(changes)
}

/// A watermark's numbers as columns.
struct Heights {
    source: i64,
    target: i64,
    slot: i64,
}

/// The columns of `standing`, as both databases give them.
struct StandingRow {
    ledger_id: Vec<u8>,
    holder: Option<Vec<u8>>,
    holder_name: String,
    commits: i64,
    quarantined_until: Option<i64>,
    stop_epoch: Option<i64>,
    stop_slot: Option<i64>,
    frozen_all: bool,
    orders: i64,
    frozen: i64,
    validators: i64,
    highest_source: Option<i64>,
    highest_target: Option<i64>,
    highest_slot: Option<i64>,
}

impl TryFrom<StandingRow> for Standing {
    type Error = Corrupt;

    fn try_from(row: StandingRow) -> Result<Self, Corrupt> {
        let number = |column: i64| u64::try_from(column).map_err(|_| Corrupt("number"));
        let height = |column: Option<i64>| column.map(number).transpose();
        Ok(Self {
            ledger_id: row.ledger_id.try_into().map_err(|_| Corrupt("identity"))?,
            holder: row
                .holder
                .map(|holder| holder.try_into().map_err(|_| Corrupt("holder")))
                .transpose()?,
            holder_name: row.holder_name,
            commits: number(row.commits)?,
            quarantined_until: height(row.quarantined_until)?.map(Epoch),
            stop: Stop {
                epoch: height(row.stop_epoch)?.map(Epoch),
                slot: height(row.stop_slot)?.map(Slot),
            },
            all_frozen: row.frozen_all,
            frozen: number(row.frozen)?,
            validators: number(row.validators)?,
            orders: number(row.orders)?,
            reach: Highest {
                source: Epoch(height(row.highest_source)?.unwrap_or_default()),
                target: Epoch(height(row.highest_target)?.unwrap_or_default()),
                slot: Slot(height(row.highest_slot)?.unwrap_or_default()),
            },
        })
    }
}

impl Heights {
    fn of(watermark: &Watermark) -> Result<Self, Corrupt> {
        let (source, target, slot) = watermark.heights();
        Ok(Self {
            source: to_column(source.0)?,
            target: to_column(target.0)?,
            slot: to_column(slot.0)?,
        })
    }
}

/// The changes among so many rows.
fn changes(of: u64, changed: u64) -> Changes {
    Changes {
        changed,
        unchanged: of.saturating_sub(changed),
    }
}

#[cfg(test)]
mod tests;
