//! What it means that so many of a committee's cosigners confirmed: the words after the lines.

use threshold::CommitteeSize;

/// What an order is for, which decides how many confirmations make it effective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Something must not be signed: enough cosigners to leave fewer than t that would.
    Forbid,
    /// Something may be signed again: t cosigners are needed for it.
    Allow,
    /// A history is collected: each signature has t cosigners that know of it.
    Collect,
    /// Somebody wants to know.
    Look,
}

/// The sentence that follows the cosigners' lines: how many confirmed, what that means with t of
/// n, and what to do about the others.
pub(super) fn conclusion(
    purpose: Purpose,
    confirmed: usize,
    asked: usize,
    size: Option<CommitteeSize>,
) -> String {
    let did = match purpose {
        Purpose::Forbid | Purpose::Allow => "confirmed",
        Purpose::Collect | Purpose::Look => "answered",
    };
    let counted = format!("{confirmed} of {asked} {did}");
    let missing = asked.saturating_sub(confirmed);
    let Some(size) = size else {
        return if missing == 0 || purpose == Purpose::Look {
            counted
        } else {
            format!(
                "{counted}; repeat the command until all have (with --committee it is said whether \
                 these are enough)"
            )
        };
    };
    let t = size.threshold();
    // So many leave fewer than t, and so many share a member with any t.
    let blocking = asked.saturating_sub(t).saturating_add(1);
    match purpose {
        Purpose::Look => counted,
        Purpose::Forbid | Purpose::Allow if missing == 0 => counted,
        Purpose::Collect if missing == 0 => {
            format!("{counted}; `countersign ledger merge` makes one file of them")
        }
        Purpose::Forbid if confirmed >= blocking => format!(
            "{counted}; it is effective, because {t} must sign and at most {missing} can be left \
             that would; repeat the command until all confirm"
        ),
        Purpose::Forbid => format!(
            "{counted}; THIS IS NOT EFFECTIVE: {t} must sign, and {missing} may be left that do \
             not know of it; mend what was refused, and repeat the command until at least \
             {blocking}, better all, confirm"
        ),
        Purpose::Allow if confirmed >= t => format!(
            "{counted}; that is enough to sign, because {t} must; repeat the command until all \
             confirm"
        ),
        Purpose::Allow => format!(
            "{counted}; that is not enough to sign: {t} must, so repeat the command until at least \
             {t}, better all, confirm"
        ),
        Purpose::Collect if confirmed >= blocking => format!(
            "{counted}; together they hold every signature, because {t} cosigners know of each; \
             `countersign ledger merge` makes one file of them"
        ),
        Purpose::Collect => format!(
            "{counted}; together they MAY LACK SIGNATURES: only {blocking} or more share a \
             cosigner with every {t} that signed; repeat the command"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_so_many_mean_what_the_threshold_makes_of_them() {
        use Purpose::{Allow, Collect, Forbid, Look};
        for (purpose, committee, confirmed, says) in [
            (Forbid, "3-of-4", 4, "4 of 4 confirmed"),
            (Forbid, "3-of-4", 2, "2 of 4 confirmed; it is effective"),
            (
                Forbid,
                "3-of-4",
                1,
                "1 of 4 confirmed; THIS IS NOT EFFECTIVE",
            ),
            (Forbid, "5-of-7", 3, "3 of 7 confirmed; it is effective"),
            (Forbid, "5-of-7", 2, "at least 3, better all"),
            (Forbid, "2-of-2", 1, "it is effective"),
            (Allow, "3-of-4", 3, "that is enough to sign"),
            (Allow, "3-of-4", 2, "not enough to sign: 3 must"),
            (Collect, "3-of-4", 4, "merge"),
            (Collect, "3-of-4", 2, "hold every signature"),
            (Collect, "3-of-4", 1, "MAY LACK SIGNATURES: only 2 or more"),
            (Look, "3-of-4", 1, "1 of 4 answered"),
        ] {
            let size: CommitteeSize = committee.parse().unwrap();
            let said = conclusion(purpose, confirmed, size.members(), Some(size));
            assert!(
                said.contains(says),
                "{purpose:?} {committee} {confirmed}: {said}"
            );
        }
        let said = conclusion(Forbid, 1, 2, None);
        assert!(said.contains("until all have"), "{said}");
    }

    #[test]
    fn an_order_that_is_called_effective_leaves_fewer_than_t() {
        for n in 1..=20 {
            for t in 1..=n {
                let Ok(size) = CommitteeSize::new(t, n) else {
                    continue;
                };
                for confirmed in 0..n {
                    let said = conclusion(Purpose::Forbid, confirmed, n, Some(size));
                    assert_eq!(
                        said.contains("it is effective"),
                        n - confirmed < t,
                        "{said}"
                    );
                }
            }
        }
    }
}
