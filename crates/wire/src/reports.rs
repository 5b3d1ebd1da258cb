//! Ballots and discovery reports, there and back.

use duty::PublicKey;
use threshold::{Ballot, ShareIndex};

use crate::{Malformed, Problem, bytes, proto, required};

/// What one cosigner says of one validator. Nothing in it is checked beyond its form: it is taken
/// when at least t cosigners say the same of everything but their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The validator's key.
    pub validator: PublicKey,
    /// The reporting cosigner's share index.
    pub index: ShareIndex,
    /// The share indices of the whole committee, ascending, as reported.
    pub members: Vec<u64>,
    /// The Feldman commitments, as many as the threshold, compressed G1 points, as reported.
    pub commitments: Vec<[u8; 48]>,
}

/// A ballot as it travels.
#[must_use]
pub fn ballot_to_proto(ballot: &Ballot) -> proto::Ballot {
    proto::Ballot {
        round: ballot.round,
        root: ballot.root.0.to_vec(),
    }
}

/// A ballot as it arrived.
///
/// # Errors
/// [`Malformed`] if it is missing or its root is not 32 bytes long.
pub fn ballot_from_proto(ballot: Option<proto::Ballot>) -> Result<Ballot, Malformed> {
    let ballot = required("ballot", ballot)?;
    Ok(Ballot {
        round: ballot.round,
        root: bytes("ballot.root", &ballot.root)?,
    })
}

/// A report as it travels.
#[must_use]
pub fn report_to_proto(report: &Report) -> proto::Validator {
    proto::Validator {
        pubkey: report.validator.0.to_vec(),
        index: report.index.value(),
        members: report.members.clone(),
        commitments: report
            .commitments
            .iter()
            .map(|point| point.to_vec())
            .collect(),
    }
}

/// A report as it arrived.
///
/// # Errors
/// [`Malformed`] names the member with a wrong length, or an index of 0.
pub fn report_from_proto(validator: proto::Validator) -> Result<Report, Malformed> {
    let index = ShareIndex::new(validator.index).map_err(|_| Malformed {
        member: "validator.index",
        problem: Problem::Range,
    })?;
    let commitments = validator
        .commitments
        .iter()
        .map(|point| bytes("validator.commitments", point))
        .collect::<Result<_, _>>()?;
    Ok(Report {
        validator: bytes("validator.pubkey", &validator.pubkey)?,
        index,
        members: validator.members,
        commitments,
    })
}

#[cfg(test)]
mod tests {
    use duty::SigningRoot;

    use super::*;

    #[test]
    fn ballots_and_reports_survive_the_way_there_and_back() {
        let ballot = Ballot {
            round: u64::MAX,
            root: SigningRoot([3; 32]),
        };
        assert_eq!(
            ballot_from_proto(Some(ballot_to_proto(&ballot))),
            Ok(ballot)
        );
        let report = Report {
            validator: PublicKey([1; 48]),
            index: ShareIndex::new(u64::MAX).unwrap(),
            members: vec![1, u64::MAX],
            commitments: vec![[1; 48], [2; 48]],
        };
        assert_eq!(report_from_proto(report_to_proto(&report)), Ok(report));
    }

    #[test]
    fn malformed_ballots_and_reports_are_refused() {
        assert!(ballot_from_proto(None).is_err());
        assert!(
            ballot_from_proto(Some(proto::Ballot {
                round: 0,
                root: vec![0; 31]
            }))
            .is_err()
        );
        let good = proto::Validator {
            pubkey: vec![1; 48],
            index: 1,
            members: vec![1],
            commitments: vec![vec![1; 48]],
        };
        assert!(report_from_proto(good.clone()).is_ok());
        for bad in [
            proto::Validator {
                pubkey: vec![1; 47],
                ..good.clone()
            },
            proto::Validator {
                index: 0,
                ..good.clone()
            },
            proto::Validator {
                commitments: vec![vec![1; 49]],
                ..good
            },
        ] {
            assert!(report_from_proto(bad).is_err());
        }
    }
}
