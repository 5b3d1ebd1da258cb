//! May this be signed? The rule, and the ledger that remembers.
//!
//! This crate promises that a [`duty::Permit`] for a slashable claim exists only after the
//! decision was written and its commit has returned, and that no two permits of one validator are
//! slashable together, whatever callers, crashes and races do, while the database keeps what it
//! committed. It never signs, and it never licenses a repeat of what it did not decide itself.

pub mod rules;

pub mod anchor;

pub mod ledger;

pub mod administration;

pub mod interchange;

pub mod database;

mod machine;

#[cfg(feature = "test-seams")]
pub mod simulation;

pub use database::{
    Access, Database, DatabaseConfig, DatabaseError, PostgresConfig, PostgresDatabase,
    SqliteConfig, SqliteDatabase,
};
pub use ledger::{
    Ask, Denial, InitialHistory, Ledger, LedgerLimits, OpenError, Opening, Origin, Position,
    Prospect, Question, Refused, RegisterError, Time, Unavailable,
};

#[cfg(test)]
mod testing;
