//! The anchor for tools that work on the database of a cosigner that does not run: what they change
//! is counted in it, too, and a ledger that is older than it is not worked on.
//!
//! A tool takes no doubt away: an anchor that does not fit the ledger **before** a change is left as
//! it is, so that the next start sees it.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Anchor, AnchorError, Found, Holder, LedgerId, Mark, TOUCH_GAP_S, UNCLEAN_GAP_S, now_s, slots,
};
use crate::{
    administration::{self, AdministrationError, Standing},
    database::Database,
    ledger::Position,
    machine::on_a_thread,
};

/// Why a tool does not work, or why what it did is not counted.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The anchor's file.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The database.
    #[error("the ledger's database failed: {0}")]
    Ledger(String),
    /// There is no newer one.
    #[error(
        "the ledger counts {ledger} commits and its anchor {anchor}: it is an older state. Start \
         the cosigner on it first, which then abstains until that is harmless"
    )]
    Older {
        /// What the ledger counts.
        ledger: u64,
        /// What the anchor counts.
        anchor: u64,
    },
}

impl From<AdministrationError> for OfflineError {
    fn from(error: AdministrationError) -> Self {
        Self::Ledger(match error {
            AdministrationError::Unavailable(reason) | AdministrationError::InDoubt(reason) => {
                reason
            }
            other @ (AdministrationError::Unknown(_) | AdministrationError::OutOfRange(..)) => {
                other.to_string()
            }
        })
    }
}

/// What was expected of a ledger when it was opened, for [`Expected::count`] after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what is changed must be counted"]
pub struct Expected {
    path: PathBuf,
    fit: Fit,
    /// Where the clock stands that claims are held against.
    now: Option<Position>,
}

/// How anchor and ledger fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// There is no anchor, and the ledger is as it was made.
    New,
    /// The anchor is the ledger's.
    Agreed,
    /// A start would be in doubt.
    Doubt,
}

/// Reads the anchor, without making or locking it. From then on, a server whose ledger counts less
/// than the anchor is passed over for another. `now` is where the clock stands that claims are held
/// against, if they are: nobody has signed what lies beyond.
///
/// # Errors
/// [`OfflineError`]: among others if there is no ledger but an older one.
pub async fn expect(
    path: &Path,
    database: &Database,
    now: Option<Position>,
) -> Result<Expected, OfflineError> {
    // The anchor first: a cosigner that runs meanwhile counts in it what it has committed.
    let file = path.to_owned();
    let seen = on_a_thread(move || read(&file)).await?;
    let mut standing = administration::state(database).await?;
    if let Found::Mark(mark) = &seen.found
        && mark.ledger_id == LedgerId(standing.ledger_id)
    {
        database.known().at_least(mark.commits);
        if standing.commits < mark.commits {
            // PostgreSQL: of another of the servers.
            standing = administration::state(database).await?;
        }
        if standing.commits < mark.commits {
            return Err(OfflineError::Older {
                ledger: standing.commits,
                anchor: mark.commits,
            });
        }
    }
    Ok(Expected {
        path: path.to_owned(),
        fit: fit(&seen, &standing, logged_since_s(database), now_s()),
        now,
    })
}

/// The anchor's file, as it was found.
struct Seen {
    found: Found,
    inode: u64,
    /// When it was last changed, in seconds since 1970.
    changed_s: i64,
}

impl Expected {
    /// Counts what was changed since. If another process has the anchor, that counts by itself.
    ///
    /// # Errors
    /// [`OfflineError`]. The change was made nevertheless, and its loss would not be noticed.
    pub async fn count(self, database: &Database) -> Result<(), OfflineError> {
        if self.fit == Fit::Doubt {
            return Ok(());
        }
        let standing = administration::state(database).await?;
        let logged_since_s = logged_since_s(database);
        let counted = on_a_thread(move || count(&self, &standing, logged_since_s)).await;
        match counted {
            Ok(()) | Err(AnchorError::InUse(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn count(
    expected: &Expected,
    standing: &Standing,
    logged_since_s: Option<i64>,
) -> Result<(), AnchorError> {
    let mut anchor = Anchor::open_within(&expected.path, Duration::ZERO)?;
    let seen = Seen {
        found: anchor.found().clone(),
        inode: anchor.inode,
        changed_s: anchor.changed_s(),
    };
    // One time for both: a machine that is resumed from a snapshot in between is not believed.
    let now_s = now_s();
    let fit = fit(&seen, standing, logged_since_s, now_s);
    let reach = standing.reach.within(expected.now);
    let mark = match seen.found {
        Found::Nothing if expected.fit == Fit::New => {
            let ledger_id = LedgerId(standing.ledger_id);
            let holder = standing.holder.map_or(Holder::NOBODY, Holder);
            let mut mark = anchor.mark(ledger_id, holder, standing.commits);
            mark.ended = true;
            mark.highest = reach;
            mark
        }
        // All else stays as it is: what a start concludes from it must not change.
        Found::Mark(mark) if fit == Fit::Agreed => Mark {
            commits: standing.commits,
            highest: mark.highest.max(reach),
            holder: standing.holder.map_or(Holder::NOBODY, |_| mark.holder),
            alive_at_s: now_s,
            ..mark
        },
        Found::Mark(_) | Found::Nothing | Found::Damaged => return Ok(()),
    };
    anchor.write(mark)
}

/// Whether a start on this ledger would be free of doubt, as far as this can be told here.
fn fit(seen: &Seen, standing: &Standing, logged_since_s: Option<i64>, now_s: u64) -> Fit {
    match &seen.found {
        Found::Nothing if standing.holder.is_none() && standing.commits == 0 => Fit::New,
        Found::Nothing | Found::Damaged => Fit::Doubt,
        Found::Mark(mark) => {
            let holds = match standing.holder {
                Some(holder) => mark.is_of(Holder(holder)),
                None => mark.holder == Holder::NOBODY || mark.commits == 0,
            };
            let silent_s = now_s.saturating_sub(mark.alive_at_s);
            let latest = mark.alive_at_s.saturating_add(TOUCH_GAP_S);
            let mut written = [Some(seen.changed_s), logged_since_s].into_iter().flatten();
            let untouched = |at| u64::try_from(at).is_ok_and(|at| at <= latest);
            let agreed = mark.ledger_id == LedgerId(standing.ledger_id)
                && mark.inode == seen.inode
                && mark.commits <= standing.commits
                && holds
                && (mark.ended || silent_s <= UNCLEAN_GAP_S)
                && written.all(untouched);
            if agreed { Fit::Agreed } else { Fit::Doubt }
        }
    }
}

/// When an SQLite file was last changed before it was opened, if there was a log beside it.
const fn logged_since_s(database: &Database) -> Option<i64> {
    match database {
        Database::Sqlite(database) => database.logged_since_s(),
        Database::Postgres(_) => None,
    }
}

fn read(path: &Path) -> Result<Seen, AnchorError> {
    let failed = |error| AnchorError::File {
        path: path.to_owned(),
        error,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Seen {
                found: Found::Nothing,
                inode: 0,
                changed_s: 0,
            });
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let found = match metadata.len() {
        0 => Found::Nothing,
        _ => slots::read(&file).map_err(failed)?.0,
    };
    Ok(Seen {
        found,
        inode: metadata.ino(),
        changed_s: metadata.ctime(),
    })
}

#[cfg(test)]
mod tests;
