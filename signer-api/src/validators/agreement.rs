//! What cosigners say of their validators, and what is believed of it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    thread,
};

use duty::PublicKey;
use threshold::{Commitments, Committee, CommitteeSize, ShareIndex, round::Peer};
use wire::Report;

use super::Validator;

/// What one cosigner says.
pub(super) type Listing = HashMap<PublicKey, Report>;

/// What all of them together say.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    pub(super) validators: HashMap<PublicKey, Arc<Validator>>,
    /// Reported by some; those who were never heard of decide.
    pub(super) undecided: HashSet<PublicKey>,
    /// Whose reports contradict what is believed, and how.
    pub(super) lies: Vec<(Peer, String)>,
    /// Validators that enough cosigners agree on and that are not served all the same.
    pub(super) unsuitable: Option<Noted>,
    /// Validators of whom two cosigners claim one index.
    pub(super) disputed: Option<Noted>,
}

/// Some validators that something is to be said of, in one line however many they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) count: usize,
    /// Of one of them.
    pub(super) why: String,
}

/// What a report says of the committee: cosigners must say exactly the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Version<'a> {
    members: &'a [u64],
    commitments: &'a [[u8; 48]],
}

/// A version that enough cosigners report.
struct Candidate<'a> {
    key: PublicKey,
    version: Version<'a>,
    claims: Vec<(Peer, ShareIndex)>,
}

/// What is agreed on. `committee` is the least that is believed; committees in `before` that have
/// not changed are taken over, because making one costs curve arithmetic.
pub(super) fn agree(
    listings: &[Option<Arc<Listing>>],
    committee: CommitteeSize,
    before: &HashMap<PublicKey, Arc<Validator>>,
) -> Agreed {
    let mut agreed = Agreed::default();
    let unheard = listings.iter().filter(|listing| listing.is_none()).count();
    let heard: Vec<(Peer, &Listing)> = listings
        .iter()
        .enumerate()
        .filter_map(|(position, listing)| Some((Peer(position), listing.as_deref()?)))
        .collect();
    let keys: BTreeSet<PublicKey> = heard
        .iter()
        .flat_map(|(_, listing)| listing.keys().copied())
        .collect();
    let mut candidates = Vec::new();
    for key in keys {
        let reports: Vec<(Peer, &Report)> = heard
            .iter()
            .filter_map(|(peer, listing)| Some((*peer, listing.get(&key)?)))
            .collect();
        match choose(key, &reports, committee, &mut agreed) {
            Some(candidate) => candidates.push(candidate),
            None if reports.len().saturating_add(unheard) >= committee.threshold() => {
                agreed.undecided.insert(key);
            }
            None => {}
        }
    }
    for made in make_all(&candidates, committee, before) {
        match made {
            Ok((key, validator)) => {
                agreed.validators.insert(key, validator);
            }
            Err(why) => {
                note(&mut agreed.unsuitable, why);
            }
        }
    }
    agreed
}

/// The version that at least its own threshold of cosigners report, if there is one. With a least
/// threshold of more than half of all there cannot be two. Who says otherwise is to blame.
fn choose<'a>(
    key: PublicKey,
    reports: &[(Peer, &'a Report)],
    committee: CommitteeSize,
    agreed: &mut Agreed,
) -> Option<Candidate<'a>> {
    let mut versions: BTreeMap<Version<'_>, Vec<(Peer, ShareIndex)>> = BTreeMap::new();
    for (peer, report) in reports {
        let version = Version {
            members: &report.members,
            commitments: &report.commitments,
        };
        versions
            .entry(version)
            .or_default()
            .push((*peer, report.index));
    }
    let (version, mut claims) = versions.into_iter().find(|(version, claims)| {
        claims.len() >= version.commitments.len() && claims.len() >= committee.threshold()
    })?;
    let believed: BTreeSet<Peer> = claims.iter().map(|(peer, _)| *peer).collect();
    for (peer, _) in reports.iter().filter(|(peer, _)| !believed.contains(peer)) {
        agreed.lies.push((
            *peer,
            format!("reports another committee of {key} than the others"),
        ));
    }
    claims.retain(|(peer, index)| {
        let is_member = version.members.contains(&index.value());
        if !is_member {
            agreed.lies.push((
                *peer,
                format!("claims {index}, which is no member, of {key}"),
            ));
        }
        is_member
    });
    // Who lies is settled by whose partials verify; that two claim one index is worth a line.
    let indices: BTreeSet<ShareIndex> = claims.iter().map(|(_, index)| *index).collect();
    if indices.len() < claims.len() {
        let why = format!("two cosigners claim one index of {key}");
        note(&mut agreed.disputed, why);
    }
    Some(Candidate {
        key,
        version,
        claims,
    })
}

fn note(noted: &mut Option<Noted>, why: String) {
    let noted = noted.get_or_insert(Noted { count: 0, why });
    noted.count = noted.count.saturating_add(1);
}

type Made = Result<(PublicKey, Arc<Validator>), String>;

/// Makes committees on as many threads as there are processors.
fn make_all(
    candidates: &[Candidate<'_>],
    committee: CommitteeSize,
    before: &HashMap<PublicKey, Arc<Validator>>,
) -> Vec<Made> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = candidates.len().div_ceil(threads).max(1);
    let make_share = |share: &[Candidate<'_>]| -> Vec<Made> {
        let made = share
            .iter()
            .map(|candidate| make(candidate, committee, before));
        made.collect()
    };
    thread::scope(|scope| {
        let makers: Vec<_> = candidates
            .chunks(share)
            .map(|share| scope.spawn(move || make_share(share)))
            .collect();
        let made = makers.into_iter().map(|maker| {
            // A maker that panics takes the process with it in a release.
            maker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        made.flatten().collect()
    })
}

fn make(
    candidate: &Candidate<'_>,
    least: CommitteeSize,
    before: &HashMap<PublicKey, Arc<Validator>>,
) -> Made {
    let Candidate {
        key,
        version,
        claims,
    } = candidate;
    if let Some(known) = before.get(key)
        && is_same(&known.committee, version)
    {
        if known.members == *claims {
            return Ok((*key, Arc::clone(known)));
        }
        let committee = known.committee.clone();
        return Ok((
            *key,
            Arc::new(Validator {
                committee,
                members: claims.clone(),
            }),
        ));
    }
    let (t, n) = (version.commitments.len(), version.members.len());
    if t < least.threshold() || n < least.members() {
        return Err(format!(
            "{key} is shared {t}-of-{n}, which is less than the configured {least}"
        ));
    }
    let size = CommitteeSize::new(t, n).map_err(|error| format!("{key}: {error}"))?;
    let members = version.members.iter().map(|index| ShareIndex::new(*index));
    let members: BTreeSet<ShareIndex> = members
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{key}: {error}"))?;
    if members.len() != size.members() {
        return Err(format!("{key} lists a member twice"));
    }
    // At least one of those who report it is honest, and checked all when it took its share.
    let commitments = Commitments::deferred(version.commitments.to_vec());
    let commitments = commitments.map_err(|error| format!("{key}: {error}"))?;
    if commitments.group_key() != *key {
        return Err(format!("{key} is not what its commitments commit to"));
    }
    let committee = Committee::new(commitments, members);
    let committee = committee.map_err(|error| format!("{key}: {error}"))?;
    Ok((
        *key,
        Arc::new(Validator {
            committee,
            members: claims.clone(),
        }),
    ))
}

fn is_same(committee: &Committee, version: &Version<'_>) -> bool {
    committee.commitments().as_slice() == version.commitments
        && committee.members().len() == version.members.len()
        && committee
            .members()
            .iter()
            .map(|index| index.value())
            .eq(version.members.iter().copied())
}
