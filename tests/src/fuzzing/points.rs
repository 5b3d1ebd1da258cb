//! Points and partials: whatever combines is the group's one signature, and whoever is blamed did it.

use std::{collections::BTreeSet, sync::LazyLock};

use duty::{Duty, Epoch, ForkVersion, PublicKey, Root, SigningOrder, SigningRoot};
use keyshare::{SecretKey, Split, split};
use threshold::{
    BadPartial, CombineError, Commitments, Committee, PartialSignature, ShareIndex, Signature,
    verify,
};

use super::{Choices, Reached};

/// What the first byte of an input chooses from.
const KINDS: u8 = 4;
/// How a partial is made, as a byte of an input chooses.
pub(super) const PARTIALS: u8 = 9;
/// Partials in one combination at most: more than any committee here has members.
const PARTIALS_MAX: u8 = 9;

/// A committee whose secrets are known, with what its members would honestly say.
struct Known {
    committee: Committee,
    indices: Vec<ShareIndex>,
    root: SigningRoot,
    honest: Vec<PartialSignature>,
    over_another: Vec<PartialSignature>,
    signature: Signature,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let sizes: [(usize, &[u64]); 3] = [
        (2, &[1, 2, 3]),
        (3, &[1, 2, 7, u64::MAX]),
        (5, &[1, 2, 3, 4, 5, 6, 7]),
    ];
    sizes
        .map(|(threshold, members)| Known::new(threshold, members))
        .into()
});

impl Known {
    fn new(threshold: usize, members: &[u64]) -> Self {
        let members = members.iter().map(|&value| ShareIndex::new(value).unwrap());
        let mut state = 1_u64;
        let mut entropy = |slice: &mut [u8]| {
            for byte in slice {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
        };
        let key = SecretKey::from_entropy(&[7; 32]);
        let made = split(key, threshold, &members.collect(), &mut entropy).unwrap();
        let Split { committee, shares } = made;
        let order = |epoch| SigningOrder {
            validator: committee.group_key(),
            fork_version: ForkVersion([0; 4]),
            genesis_validators_root: Root::ZERO,
            duty: Duty::RandaoReveal(Epoch(epoch)),
        };
        let signed = |epoch| -> Vec<PartialSignature> {
            let sign = |share: &keyshare::SecretShare| {
                share.sign(order(epoch).permit_without_claim().unwrap())
            };
            shares.values().map(sign).collect()
        };
        let indices: Vec<ShareIndex> = shares.keys().copied().collect();
        let (root, honest) = (order(1).signing_root(), signed(1));
        let all: Vec<_> = indices
            .iter()
            .copied()
            .zip(honest.iter().copied())
            .collect();
        Self {
            root,
            over_another: signed(2),
            signature: committee.combine(root, &all).unwrap(),
            honest,
            indices,
            committee,
        }
    }

    fn position(&self, index: ShareIndex) -> Option<usize> {
        self.indices.iter().position(|known| *known == index)
    }

    /// Whether these are the bytes that this member alone makes: a partial has one encoding.
    fn is_honest(&self, index: ShareIndex, partial: PartialSignature) -> bool {
        self.position(index).map(|at| self.honest[at]) == Some(partial)
    }
}

/// The known committees' members and commitments: for seeds.
pub(super) fn reports() -> Vec<(Vec<u64>, Vec<[u8; 48]>)> {
    let reports = KNOWN.iter().map(|known| {
        let members = known.indices.iter().map(|index| index.value());
        (
            members.collect(),
            known.committee.commitments().as_slice().to_vec(),
        )
    });
    reports.collect()
}

/// Holds for `data`, a byte that chooses and then
/// - commitments: what is taken reads back as the same bytes and makes a consistent committee;
/// - partials of a known committee, good and bad: see `partials`;
/// - a key, a root and a signature: only the group's own verifies;
/// - text: a point's digits read back.
pub fn property(data: &[u8]) -> Reached {
    let mut choices = Choices::new(data);
    match choices.below(KINDS) {
        0 => commitments(choices),
        1 => partials(choices),
        2 => signature(choices),
        _ => digits(choices),
    }
}

fn commitments(mut choices: Choices<'_>) -> Reached {
    let members = u64::from(choices.below(9));
    let stride = u64::from(choices.byte()) + 1;
    let compressed: Vec<[u8; 48]> = choices
        .rest()
        .chunks(48)
        .map(|chunk| Choices::new(chunk).array())
        .collect();
    let Ok(taken) = Commitments::new(compressed.clone()) else {
        return Reached::Refused;
    };
    assert_eq!(taken.as_slice(), compressed);
    assert_eq!(taken.group_key().0, compressed[0]);
    let members: BTreeSet<ShareIndex> = (1..=members)
        .map(|member| ShareIndex::new(member.wrapping_mul(stride)).unwrap())
        .collect();
    let (t, n) = (compressed.len(), members.len());
    let Ok(committee) = Committee::new(taken, members.clone()) else {
        assert!(t > n || 2 * t <= n, "{t} of {n} is safe");
        return Reached::Refused;
    };
    assert!(t <= n && n < 2 * t, "{t} of {n} is not safe");
    // Any t of the public shares lead back to the group key, unless one of them is at infinity.
    let shares = members.iter().map(|&member| committee.public_share(member));
    let any_infinite = shares.into_iter().any(|share| share.0[0] == 0xc0);
    for taken in [
        members.iter().take(t).copied().collect(),
        members.iter().rev().take(t).copied().collect(),
    ] {
        let key = committee.interpolated_group_key(&taken);
        assert!(any_infinite || key == Some(committee.group_key()));
    }
    Reached::Taken
}

/// What combines is the group's signature, bit for bit. Who is blamed is exactly who gave something
/// else than the one valid partial of its index; no honest index is ever among them.
fn partials(mut choices: Choices<'_>) -> Reached {
    let known = &KNOWN[usize::from(choices.below(3))];
    let mut given: Vec<(ShareIndex, PartialSignature)> = Vec::new();
    while !choices.is_empty() && given.len() < usize::from(PARTIALS_MAX) {
        let next = partial(known, &given, &mut choices);
        given.push(next);
    }
    let (t, root) = (known.committee.threshold(), known.root);
    let distinct: BTreeSet<ShareIndex> = given.iter().map(|(index, _)| *index).collect();
    let are_members = distinct
        .iter()
        .all(|index| known.position(*index).is_some());
    let is_honest =
        |(index, partial): &&(ShareIndex, PartialSignature)| known.is_honest(*index, *partial);
    let liars: Vec<ShareIndex> = given
        .iter()
        .filter(|each| !is_honest(each))
        .map(|(index, _)| *index)
        .collect();
    let outcome = known.committee.combine(root, &given);
    match &outcome {
        Ok(signature) => {
            assert_eq!(*signature, known.signature);
            assert!(are_members && distinct.len() == given.len() && given.len() >= t);
        }
        Err(CombineError::TooFew { .. }) => assert!(given.len() < t),
        Err(CombineError::Duplicate(_)) => assert!(distinct.len() < given.len()),
        Err(CombineError::NotAMember(index)) => assert_eq!(known.position(*index), None),
        Err(CombineError::Blame(blamed)) => assert_eq!(*blamed, liars),
        Err(error @ (CombineError::Unexplained | CombineError::Commitments(_))) => {
            panic!("nobody to blame: {error}")
        }
    }
    if liars.is_empty() && distinct.len() == given.len() && given.len() >= t {
        assert_eq!(outcome, Ok(known.signature));
    }
    if let Some((index, partial)) = given.first() {
        match known.committee.verify_partial(*index, root, partial) {
            Ok(verified) => {
                assert!(known.is_honest(*index, *partial));
                assert_eq!((verified.index(), verified.root()), (*index, root));
            }
            Err(error @ BadPartial::Commitments(_)) => panic!("{error}"),
            Err(BadPartial::NotAMember(_)) => assert_eq!(known.position(*index), None),
            Err(BadPartial::Point(_) | BadPartial::Mismatch) => {
                assert!(!known.is_honest(*index, *partial));
            }
        }
    }
    match outcome {
        Ok(_) | Err(CombineError::Blame(_)) => Reached::Taken,
        Err(_) => Reached::Refused,
    }
}

fn partial(
    known: &Known,
    before: &[(ShareIndex, PartialSignature)],
    choices: &mut Choices<'_>,
) -> (ShareIndex, PartialSignature) {
    let at = usize::from(choices.byte());
    let index = known.indices.get(at).copied();
    // Beyond the members: one that is none.
    let index = index.unwrap_or(ShareIndex::new(1_000).unwrap());
    let at = at % known.indices.len();
    let mut bytes = plain(known.honest[at]);
    match choices.below(PARTIALS) {
        0 => {}
        1 => bytes = plain(known.honest[(at + 1) % known.indices.len()]),
        2 => bytes = plain(known.over_another[at]),
        3 => bytes = choices.array(),
        4 => bytes[usize::from(choices.byte()) % 96] ^= choices.byte(),
        // The sign, and the flag of infinity.
        5 => bytes[0] ^= 0x20,
        6 => {
            bytes = [0; 96];
            bytes[0] = 0xc0;
        }
        7 => bytes = before.last().map_or(bytes, |(_, partial)| plain(*partial)),
        _ => bytes = known.signature.0,
    }
    (index, PartialSignature::Plain(bytes))
}

/// Shares sign in this form, and so is what is made of it.
fn plain(partial: PartialSignature) -> [u8; 96] {
    match partial {
        PartialSignature::Plain(point) => point,
        PartialSignature::Scaled { .. } => panic!("{partial} is scaled"),
    }
}

fn signature(mut choices: Choices<'_>) -> Reached {
    let known = &KNOWN[usize::from(choices.below(3))];
    let mut key = known.committee.group_key().0;
    let (mut root, mut signature) = (known.root, known.signature);
    match choices.below(4) {
        0 => {}
        1 => key = choices.array(),
        2 => root.0 = choices.array(),
        _ => signature.0 = choices.array(),
    }
    let own = known.committee.group_key().0 == key;
    let is_theirs = own && root == known.root && signature == known.signature;
    let verified = verify(&PublicKey(key), root, &signature);
    assert_eq!(verified.is_ok(), is_theirs, "{verified:?}");
    verified.map_or(Reached::Refused, |()| Reached::Taken)
}

fn digits(choices: Choices<'_>) -> Reached {
    let Ok(text) = str::from_utf8(choices.rest()) else {
        return Reached::Refused;
    };
    let canonical = text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase();
    let signature = text.parse::<Signature>();
    let is_one = signature.is_ok();
    let key = text.parse::<PublicKey>();
    for read in [
        signature.map(|it| it.to_string()),
        key.map(|it| it.to_string()),
    ] {
        if let Ok(shown) = &read {
            assert_eq!(*shown, format!("0x{canonical}"));
        }
    }
    if is_one || key.is_ok() {
        Reached::Taken
    } else {
        Reached::Refused
    }
}
