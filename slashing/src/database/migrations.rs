//! Numbered SQL files, applied in order, each once, with a checksum of what was applied.
//!
//! A released file never changes: a database that has applied another text under its number is
//! refused, and so is one that has applied a number this program does not know.

use sha2::{Digest, Sha256};

use super::DatabaseError;

/// One numbered file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    /// From 1, without gaps.
    pub(super) version: i64,
    /// What the file is about, for people.
    pub(super) name: &'static str,
    /// The file's text.
    pub(super) sql: &'static str,
}

impl Migration {
    pub(super) fn checksum(&self) -> [u8; 32] {
        Sha256::digest(self.sql).into()
    }
}

macro_rules! migrations {
    ($database:literal: $(($version:literal, $name:literal)),+) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!(
                "../../../migrations/", $database, "/000", $version, "_", $name, ".sql"
            )),
        }),+]
    };
}

pub(super) const POSTGRES: &[Migration] =
    migrations!("postgres": (1, "ledger"), (2, "vault"), (3, "standing"), (4, "imported"));
pub(super) const SQLITE: &[Migration] =
    migrations!("sqlite": (1, "ledger"), (2, "vault"), (3, "standing"), (4, "imported"));

/// A row of the table of applied migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) version: i64,
    pub(super) checksum: Vec<u8>,
}

/// Those of `known` that are still to be applied, after `applied` (ordered by version).
pub(super) fn pending(
    known: &'static [Migration],
    applied: &[Applied],
) -> Result<&'static [Migration], DatabaseError> {
    let schema = |text: String| Err(DatabaseError::Schema(text));
    for (position, row) in applied.iter().enumerate() {
        let Some(migration) = known.get(position) else {
            return schema(format!(
                "it has migration {}, this program knows them up to {}: use a newer program",
                row.version,
                known.len()
            ));
        };
        if row.version != migration.version {
            return schema(format!(
                "it has migration {} where {} was expected",
                row.version, migration.version
            ));
        }
        if row.checksum != migration.checksum() {
            return schema(format!(
                "its migration {} ({}) was applied from a text that differs from this program's",
                migration.version, migration.name
            ));
        }
    }
    Ok(known.get(applied.len()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(known: &[Migration]) -> Vec<Applied> {
        known
            .iter()
            .map(|migration| Applied {
                version: migration.version,
                checksum: migration.checksum().to_vec(),
            })
            .collect()
    }

    #[test]
    fn what_is_missing_is_pending_in_order() {
        for known in [POSTGRES, SQLITE] {
            for done in 0..=known.len() {
                let pending = pending(known, &applied(&known[..done])).unwrap();
                let versions: Vec<_> = pending.iter().map(|one| one.version).collect();
                let expected: Vec<_> = known[done..].iter().map(|one| one.version).collect();
                assert_eq!(versions, expected);
            }
        }
    }

    #[test]
    fn versions_count_from_one_without_gaps() {
        for known in [POSTGRES, SQLITE] {
            let versions: Vec<_> = known.iter().map(|one| one.version).collect();
            assert_eq!(versions, (1..).take(known.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_newer_a_changed_and_a_missing_version_are_refused() {
        let mut newer = applied(SQLITE);
        newer.push(Applied {
            version: 99,
            checksum: Vec::new(),
        });
        let mut changed = applied(SQLITE);
        changed[0].checksum[0] ^= 1;
        let gap = applied(&SQLITE[1..]);
        for (applied, says) in [(newer, "newer"), (changed, "differs"), (gap, "expected")] {
            let error = pending(SQLITE, &applied).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
