//! What cosigners and databases answered, in words.

use slashing::administration::Freezing;
use wire::proto::{ImportHistoryReply, LedgerReply, LedgerState};

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `1 validator`, `2 validators`.
pub(super) fn validators(number: u64) -> String {
    count(number, "validator", "validators")
}

/// What is not signed at which heights.
pub(super) fn stop(epoch: Option<u64>, slot: Option<u64>) -> String {
    let attestations =
        epoch.map(|epoch| format!("no attestation with target epoch {epoch} or above"));
    let blocks = slot.map(|slot| format!("no block of slot {slot} or above"));
    match (attestations, blocks) {
        (Some(attestations), Some(blocks)) => format!("{attestations} and {blocks} is signed"),
        (Some(attestations), None) => format!("{attestations} is signed; blocks are not stopped"),
        (None, Some(blocks)) => format!("{blocks} is signed; attestations are not stopped"),
        (None, None) => "no height is stopped".to_owned(),
    }
}

/// What freezing changed, and what is frozen now.
pub(super) fn frozen(freezing: Freezing, changed: u64, state: &LedgerState) -> String {
    let did = match freezing {
        Freezing::Freeze => "frozen",
        Freezing::Release => "let go",
    };
    let now = if state.all_frozen {
        "every validator is frozen now".to_owned()
    } else if state.frozen == 0 {
        "none is frozen now".to_owned()
    } else {
        format!("{} frozen now", are(state.frozen))
    };
    format!("{} {did}; {now}", validators(changed))
}

fn are(number: u64) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", validators(number))
}

/// How many ratchets rose.
pub(super) fn raised(raised: u64, unchanged: u64) -> String {
    let total = raised.saturating_add(unchanged);
    format!(
        "{raised} of {} raised, {unchanged} stood there or above",
        validators(total)
    )
}

/// What is in force; `quarantine` says why it is quarantined, if that is known.
pub(super) fn state(state: &LedgerState, quarantine: &str) -> String {
    let mut clauses = Vec::new();
    if let Some(epoch) = state.quarantined_until_epoch {
        let why = if quarantine.is_empty() {
            String::new()
        } else {
            format!(" ({quarantine})")
        };
        clauses.push(format!("QUARANTINED until epoch {epoch}{why}"));
    }
    if state.all_frozen {
        clauses.push("every validator is FROZEN".to_owned());
    }
    if state.frozen > 0 {
        clauses.push(format!("{} FROZEN", are(state.frozen)));
    }
    if state.stop_epoch.is_some() || state.stop_slot.is_some() {
        clauses.push(stop(state.stop_epoch, state.stop_slot));
    }
    if clauses.is_empty() {
        clauses.push("nothing is frozen or stopped".to_owned());
    }
    clauses.join("; ")
}

/// One ledger, whole.
pub(super) fn status(reply: &LedgerReply, in_force: &LedgerState) -> String {
    format!(
        "ledger {}: {}; {}",
        const_hex::encode(&reply.ledger_id),
        validators(reply.validators),
        state(in_force, &reply.quarantine),
    )
}

/// What a history changed.
pub(super) fn imported(reply: &ImportHistoryReply) -> String {
    let keys: Vec<String> = reply
        .minified
        .iter()
        .map(const_hex::encode_prefixed)
        .collect();
    imported_of(reply.validators, reply.entries, reply.raised, &keys)
}

/// As [`imported`], of numbers and the keys of validators whose entries were slashable together.
pub(super) fn imported_of(named: u64, entries: u64, raised: u64, keys: &[String]) -> String {
    let said = format!(
        "{} of {}, {} raised",
        count(entries, "entry", "entries"),
        validators(named),
        count(raised, "ratchet", "ratchets"),
    );
    if keys.is_empty() {
        return said;
    }
    format!("{said}; {}", minified(keys))
}

/// Keys that a line names; of the others it says how many there are.
const NAMED_MAX: usize = 10;
/// Validators that a cosigner names at most, so that so many may be more.
const REPORTED_MAX: usize = 1_000;

/// Whose entries were slashable together.
pub(super) fn minified(keys: &[String]) -> String {
    let at_least = if keys.len() == REPORTED_MAX {
        "at least "
    } else {
        ""
    };
    let named: Vec<&str> = keys.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = match keys.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "SLASHABLE ENTRIES of {at_least}{}, of which only the highest heights count: {}{more}",
        validators(u64::try_from(keys.len()).unwrap_or(u64::MAX)),
        named.join(" ")
    )
}

/// What a file holds that was written.
pub(super) fn exported(named: u64, entries: u64) -> String {
    format!(
        "{} of {}",
        count(entries, "entry", "entries"),
        validators(named)
    )
}

/// What a file does not hold.
pub(super) fn left_out(entries: u64) -> String {
    format!(
        "{} left out, slashable together with others that were imported; the ratchets, which are \
         in the file, are above them",
        count(entries, "entry", "entries")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_said_in_words() {
        let nothing = LedgerState::default();
        for (in_force, why, said) in [
            (nothing, "", "nothing is frozen or stopped"),
            (
                LedgerState {
                    quarantined_until_epoch: Some(7),
                    ..nothing
                },
                "it is behind its anchor",
                "QUARANTINED until epoch 7 (it is behind its anchor)",
            ),
            (
                LedgerState {
                    stop_epoch: Some(3),
                    frozen: 1,
                    ..nothing
                },
                "",
                "1 validator is FROZEN; no attestation with target epoch 3 or above is signed; \
                 blocks are not stopped",
            ),
            (
                LedgerState {
                    stop_epoch: Some(3),
                    stop_slot: Some(96),
                    all_frozen: true,
                    ..nothing
                },
                "",
                "every validator is FROZEN; no attestation with target epoch 3 or above and no \
                 block of slot 96 or above is signed",
            ),
        ] {
            assert_eq!(state(&in_force, why), said);
        }
    }

    #[test]
    fn what_changed_is_counted() {
        let state = |frozen, all_frozen| LedgerState {
            frozen,
            all_frozen,
            ..LedgerState::default()
        };
        use Freezing::{Freeze, Release};
        for (freezing, changed, state, said) in [
            (
                Freeze,
                1,
                state(1, false),
                "1 validator frozen; 1 validator is frozen now",
            ),
            (
                Freeze,
                9,
                state(2, true),
                "9 validators frozen; every validator is frozen now",
            ),
            (
                Release,
                1,
                state(0, false),
                "1 validator let go; none is frozen now",
            ),
        ] {
            assert_eq!(frozen(freezing, changed, &state), said);
        }
        assert_eq!(
            raised(2, 1),
            "2 of 3 validators raised, 1 stood there or above"
        );
    }

    #[test]
    fn slashable_entries_are_named_but_not_without_end() {
        let keys = |count: usize| vec!["0xaa".to_owned(); count];
        for (count, said) in [
            (
                1,
                "of 1 validator, of which only the highest heights count: 0xaa",
            ),
            (12, "0xaa 0xaa and 2 more"),
            (REPORTED_MAX, "of at least 1000 validators"),
        ] {
            let line = imported_of(12, 30, 2, &keys(count));
            assert!(line.starts_with("30 entries of 12 validators, 2 ratchets raised; "));
            assert!(line.contains(said), "{line}");
        }
        assert_eq!(
            imported_of(1, 1, 1, &[]),
            "1 entry of 1 validator, 1 ratchet raised"
        );
    }
}
