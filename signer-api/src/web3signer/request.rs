//! One request, from bytes to an order whose root is known.

use daemon::network::Network;
use duty::{Duty, PublicKey, Root, SigningOrder, SigningRoot};

use super::{
    drafts::{Context, Draft, draft},
    error::BadRequest,
    fork_info::Chain,
    kind::RequestKind,
    members::{self, Raw, member, pick},
    payloads::{BODY_MEMBERS, Payloads},
    values::LenientRoot,
};

/// A request that can be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    /// The type it was sent as, older names made canonical: a label for metrics.
    pub kind: RequestKind,
    /// What shall be signed.
    pub order: SigningOrder,
    /// The order's signing root; equal to the one in the request if that had one.
    pub root: SigningRoot,
}

/// Parses the body of a signing request for that validator (sections 3.1 and 3.2, steps 1 to 3).
///
/// `body` should already be bounded (10 MiB by section 1); the time taken is linear in it.
///
/// # Errors
/// [`BadRequest`] for whatever section 3.4 answers with 400, and for what section 10 changes to 400.
pub fn parse(
    body: &[u8],
    validator: PublicKey,
    network: &Network,
) -> Result<SigningRequest, BadRequest> {
    let text = std::str::from_utf8(body).map_err(|_| BadRequest::NotUtf8)?;
    if text.trim_ascii().is_empty() {
        return Err(BadRequest::Empty);
    }
    let [kind, given, given_snake, fork_info, payloads @ ..] = pick("", text, BODY_MEMBERS)?;
    let kind = parse_kind(kind)?;
    let given = Given::parse(given, given_snake)?;
    let payloads = Payloads::parse(payloads, network)?;
    let draft = draft(kind, payloads, &Context { fork_info, network })?;
    let (order, root) = settle(draft, &given, validator)?;
    Ok(SigningRequest { kind, order, root })
}

/// The type that a body names, whatever else is wrong with it; it takes microseconds for what is
/// not a whole block. `None` if it names none that is known, or is no JSON.
#[must_use]
pub fn kind_of(body: &[u8]) -> Option<RequestKind> {
    let text = std::str::from_utf8(body).ok()?;
    let [kind] = pick("", text, ["type"]).ok()?;
    parse_kind(kind).ok()
}

/// The type that a body names first, however it goes on: as [`kind_of`] says, if [`parse`] will take
/// the body. Clients name the type before all else, so that this takes next to nothing.
#[must_use]
pub fn likely_kind(body: &[u8]) -> Option<RequestKind> {
    RequestKind::from_name(&members::first(body, "type")?)
}

fn parse_kind(raw: Option<Raw<'_>>) -> Result<RequestKind, BadRequest> {
    let raw = raw.ok_or_else(|| members::missing("", "type"))?;
    let name: String = member("type", raw)?;
    RequestKind::from_name(&name).ok_or_else(|| BadRequest::UnknownType(members::clipped(&name)))
}

/// The root that the client computed, under either spelling.
struct Given(Vec<(&'static str, SigningRoot)>);

impl Given {
    fn parse(camel: Option<Raw<'_>>, snake: Option<Raw<'_>>) -> Result<Self, BadRequest> {
        let mut roots = Vec::new();
        for (name, raw) in [("signingRoot", camel), ("signing_root", snake)] {
            if let Some(raw) = raw {
                let LenientRoot(Root(root)) = member(name, raw)?;
                roots.push((name, SigningRoot(root)));
            }
        }
        Ok(Self(roots))
    }

    /// Whether a root was given, and it is this one.
    fn confirms(&self, root: SigningRoot) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, given)| *given == root)
    }

    fn check(&self, computed: SigningRoot) -> Result<(), BadRequest> {
        match self.0.iter().find(|(_, given)| *given != computed) {
            None => Ok(()),
            Some(&(member, given)) => Err(BadRequest::RootMismatch {
                member,
                given,
                computed,
            }),
        }
    }
}

/// Chooses the draft's object: the likely one, unless the given root proves that the client meant
/// another shape of the same object. That costs a few hashes, and as only objects that cannot be
/// slashed have several shapes, it cannot create a slashable signature (section 5.2).
fn settle(
    draft: Draft,
    given: &Given,
    validator: PublicKey,
) -> Result<(SigningOrder, SigningRoot), BadRequest> {
    let Draft {
        chain,
        likely,
        others,
    } = draft;
    let order = |duty| rooted(chain, validator, duty);
    let likely = likely.map(order);
    if let Ok((_, root)) = likely
        && given.check(root).is_ok()
    {
        return likely;
    }
    if let Some(meant) = others
        .into_iter()
        .map(order)
        .find(|(_, root)| given.confirms(*root))
    {
        return Ok(meant);
    }
    let (order, root) = likely?;
    given.check(root)?;
    Ok((order, root))
}

fn rooted(chain: Chain, validator: PublicKey, duty: Duty) -> (SigningOrder, SigningRoot) {
    let order = SigningOrder {
        validator,
        fork_version: chain.fork_version,
        genesis_validators_root: chain.genesis_validators_root,
        duty,
    };
    let root = order.signing_root();
    (order, root)
}
