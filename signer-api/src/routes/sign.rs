//! `POST /api/v1/eth2/sign/{identifier}`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use daemon::bulk::Bulk;
use duty::PublicKey;
use http::{HeaderMap, StatusCode, header::ACCEPT};
use threshold::Signature;
use tokio::time::{Instant, timeout_at};

use super::App;
use crate::{
    admission::{Admitted, Place, Turned},
    cpu::Urgency,
    metrics::Stage,
    reply::{JSON, Refused, TEXT, reply},
    signing::Task,
    validators::Known,
    web3signer::{self, RequestKind, SigningRequest},
};

/// Bodies up to this many bytes are parsed where they arrive: that takes less than a tenth of a
/// millisecond. Longer ones are whole blocks, and payloads: what a proposal waits for.
const PARSED_HERE_BYTES_MAX: usize = 8 * 1024;

/// How long work that is done elsewhere has to say itself that it is too late.
const SAYS_SO: Duration = Duration::from_millis(20);

/// The type of a request that could not be parsed, as a label.
const UNKNOWN_TYPE: &str = "unknown";

pub(super) async fn sign(
    State(app): State<Arc<App>>,
    identifier: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // What is not even text is no key, and as unknown as any other.
    let identifier = identifier.map_or_else(|_| String::new(), |Path(text)| text);
    let (head, body) = request.into_parts();
    reached(&app, &identifier, &head.headers, body).await
}

/// The identifier of a path that is that of a signing request beyond doubt; others are left to the
/// router.
pub(super) fn identifier(path: &str) -> Option<&str> {
    let identifier = path.strip_prefix("/api/v1/eth2/sign/")?;
    let is_plain = identifier.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_plain && !identifier.is_empty()).then_some(identifier)
}

/// The answer to a request that has passed the guard.
pub(super) async fn reached(
    app: &Arc<App>,
    identifier: &str,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let (kind, signed) = match admit(app, headers, body).await {
        (kind, Ok(admitted)) => answer(app, identifier, kind, admitted).await,
        (kind, Err(refused)) => (kind, Err(refused)),
    };
    let response = match signed {
        Ok(signature) => success(headers, &signature),
        Err(refused) => {
            if refused.status() == StatusCode::BAD_REQUEST {
                app.metrics.malformed();
            }
            refused.into_response()
        }
    };
    app.metrics.answered(kind, response.status().as_u16());
    response
}

/// A request's type, as a label, and what became of it.
type Labelled<T> = (&'static str, Result<T, Refused>);

/// Reads a request, and finds a place for it. Who finds none is told so before more than its type was
/// looked at: most requests' bodies come with their heads.
async fn admit(app: &App, headers: &HeaderMap, body: Body) -> Labelled<(Admitted, Place)> {
    let admitted = match app.admission.read(headers, body).await {
        Ok(admitted) => admitted,
        Err(turned) => return (UNKNOWN_TYPE, Err(turned_away(app, turned))),
    };
    let (urgency, kind) = urgency(&admitted.body);
    let validators = app.validators.snapshot().len();
    let place = app.admission.enter_as(urgency, validators);
    app.metrics.places(app.admission.places());
    let place = place.map_err(|turned| turned_away(app, turned));
    (kind, place.map(|place| (admitted, place)))
}

/// Works on a request where it was read, or, if it is one of a burst, where it delays no proposal.
async fn answer(
    app: &Arc<App>,
    identifier: &str,
    kind: &'static str,
    (admitted, place): (Admitted, Place),
) -> Labelled<Signature> {
    let deadline = Instant::now() + app.deadline();
    let elsewhere = place.in_crowd().then(|| app.bulk.clone());
    let mut accepted = Accepted {
        kind,
        admitted,
        place,
        deadline,
        among: elsewhere.clone().unwrap_or(Bulk::inline()),
    };
    let Some(bulk) = elsewhere else {
        return work(app, identifier, accepted).await;
    };
    let (app, identifier) = (Arc::clone(app), identifier.to_owned());
    let work = async move {
        if deadline <= Instant::now() {
            return (kind, Err(Refused::too_late()));
        }
        accepted.place.begin();
        work(&app, &identifier, accepted).await
    };
    match timeout_at(deadline + SAYS_SO, bulk.run(work)).await {
        Ok(done) => done.unwrap_or_else(|| (kind, Err(Refused::broken()))),
        Err(_) => (kind, Err(Refused::too_late())),
    }
}

/// A request that is to be worked on.
struct Accepted {
    kind: &'static str,
    admitted: Admitted,
    place: Place,
    deadline: Instant,
    /// Where its like are worked on, if it is one of many.
    among: Bulk,
}

/// In the order of section 3.2: body, root, key, protection.
async fn work(app: &App, identifier: &str, accepted: Accepted) -> Labelled<Signature> {
    courtesy::offer();
    let began = Instant::now();
    let Accepted {
        mut kind,
        admitted,
        place,
        deadline,
        among,
    } = accepted;
    let key = web3signer::parse_identifier(identifier);
    // What is no key is unknown, but only after the body was found good.
    let validator = key.unwrap_or(PublicKey([0; 48]));
    let parsed = parse(app, &admitted.body, validator, deadline, &mut kind).await;
    drop(admitted);
    let SigningRequest { order, root, .. } = match parsed {
        Ok(parsed) => parsed,
        Err(refused) => return (kind, Err(refused)),
    };
    app.metrics.stage(Stage::Parse, began.elapsed());
    let known = match key {
        Some(key) => app.validators.snapshot().find(&key),
        None => Known::Unknown,
    };
    let validator = match known {
        Known::Served(validator) => validator,
        Known::Undecided => return (kind, Err(Refused::undiscovered())),
        Known::Unknown => {
            app.metrics.missing_identifier();
            return (kind, Err(Refused::unknown_validator()));
        }
    };
    let task = Task {
        order,
        root,
        validator,
        deadline,
        place,
        among,
    };
    (kind, app.signing.sign(task).await.map_err(Refused::from))
}

fn turned_away(app: &App, turned: Turned) -> Refused {
    if turned == Turned::Overloaded {
        app.metrics.overloaded();
        courtesy::rush();
    }
    Refused::from(turned)
}

/// What a body waits behind, by its type, which is a label as well.
fn urgency(body: &Bytes) -> (Urgency, &'static str) {
    if body.len() > PARSED_HERE_BYTES_MAX {
        return (Urgency::Prompt, UNKNOWN_TYPE);
    }
    match web3signer::likely_kind(body) {
        Some(named) if named.is_prompt() => (Urgency::Prompt, named.name()),
        Some(named) => (Urgency::Usual, named.name()),
        None => (Urgency::Usual, UNKNOWN_TYPE),
    }
}

async fn parse(
    app: &App,
    body: &Bytes,
    validator: PublicKey,
    deadline: Instant,
    kind: &mut &'static str,
) -> Result<SigningRequest, Refused> {
    if body.len() <= PARSED_HERE_BYTES_MAX {
        let parsed = web3signer::parse(body, validator, &app.network);
        return parsed.map_err(|problem| {
            *kind = web3signer::kind_of(body).map_or(UNKNOWN_TYPE, RequestKind::name);
            Refused::bad_request(&problem)
        });
    }
    let (body, network) = (body.clone(), Arc::clone(&app.network));
    let job = move || {
        let parsed = web3signer::parse(&body, validator, &network);
        let named = match &parsed {
            Ok(request) => Some(request.kind),
            Err(_) => web3signer::kind_of(&body),
        };
        (named, parsed)
    };
    let done = timeout_at(deadline, app.cpu.run(Urgency::Prompt, job)).await;
    let (named, parsed) = done
        .map_err(|_| Refused::too_late())?
        .ok_or_else(Refused::broken)?;
    *kind = named.map_or(UNKNOWN_TYPE, RequestKind::name);
    parsed.map_err(|problem| Refused::bad_request(&problem))
}

fn success(headers: &HeaderMap, signature: &Signature) -> Response {
    let accept = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    if web3signer::wants_json(accept) {
        reply(
            StatusCode::OK,
            JSON,
            format!("{{\"signature\":\"{signature}\"}}"),
        )
    } else {
        reply(StatusCode::OK, TEXT, signature.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn only_paths_that_need_no_router_are_seen_without_it() {
        for (path, seen) in [
            ("/api/v1/eth2/sign/0xaB9", Some("0xaB9")),
            ("/api/v1/eth2/sign/key", Some("key")),
            ("/api/v1/eth2/sign/", None),
            ("/api/v1/eth2/sign/0xab/", None),
            ("/api/v1/eth2/sign/0x%61b", None),
            ("/api/v1/eth2/sign//0xab", None),
            ("//api/v1/eth2/sign/0xab", None),
            ("/api/v1/eth2/signs/0xab", None),
            ("/api/v1/eth2/sign", None),
        ] {
            assert_eq!(identifier(path), seen, "{path}");
        }
    }
}
