//! Messages and others that conflict with them, and what must be true of them after a fault.

use duty::{PublicKey, SigningOrder};

use crate::lone::{Lone, attestation, block};

/// A message and another that must not be signed beside it.
pub struct Case {
    /// What is asked for first of all.
    pub wanted: SigningOrder,
    /// What must not be signed beside it.
    pub other: SigningOrder,
    /// What is asked for first after the fault.
    pub first: First,
}

/// What is asked for first after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The same again.
    Wanted,
    /// What conflicts with it.
    Other,
}

/// Of five validators, one each; all above what earlier trials asked for.
#[must_use]
pub fn cases(validators: &[PublicKey], trial: u64) -> Vec<Case> {
    let &[a, b, c, d, e] = validators else {
        panic!("five validators")
    };
    let height = trial * 8;
    let vote = |validator, source, target, message| {
        attestation(validator, height + source, height + target, message)
    };
    let case = |wanted, other, first| Case {
        wanted,
        other,
        first,
    };
    vec![
        case(vote(a, 1, 2, 1), vote(a, 1, 2, 2), First::Wanted),
        case(vote(b, 1, 2, 1), vote(b, 1, 2, 2), First::Other),
        // One that surrounds it, and one that it surrounds.
        case(vote(c, 2, 3, 1), vote(c, 1, 4, 2), First::Other),
        case(vote(d, 1, 4, 1), vote(d, 2, 3, 2), First::Other),
        case(block(e, height, 1), block(e, height, 2), First::Other),
    ]
}

/// Asks for the same and for what conflicts; returns how many messages had rows before.
pub async fn conclude(lone: &Lone, cases: &[Case], partials: &[Option<Vec<u8>>]) -> usize {
    let mut asker = lone.asker();
    let mut rows = 0;
    for (case, before) in cases.iter().zip(partials) {
        let has_row = lone.has_row(&case.wanted).await;
        rows += usize::from(has_row);
        assert!(has_row || before.is_none(), "a partial without a row");
        let (wanted, other) = match case.first {
            First::Wanted => {
                let wanted = asker.ask(&case.wanted).await;
                (wanted, asker.ask(&case.other).await)
            }
            First::Other => {
                let other = asker.ask(&case.other).await;
                (asker.ask(&case.wanted).await, other)
            }
        };
        let signed = wanted.is_some() || before.is_some();
        assert!(!(signed && other.is_some()), "conflicting partials");
        assert!(wanted.is_some() || other.is_some(), "a duty is stuck");
        assert!(!has_row || wanted.is_some(), "no repeat of what has a row");
        if let Some(before) = before {
            assert_eq!(wanted.as_ref(), Some(before), "another partial");
        }
        for (order, partial) in [(&case.wanted, wanted), (&case.other, other)] {
            if let Some(partial) = partial {
                assert!(lone.has_row(order).await, "a partial without a row");
                let signature = threshold::Signature(partial.try_into().unwrap());
                let (key, root) = (&order.validator, order.signing_root());
                threshold::verify(key, root, &signature).unwrap();
            }
        }
    }
    rows
}
