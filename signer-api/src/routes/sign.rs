//! `POST /api/v1/eth2/sign/{identifier}`.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use duty::PublicKey;
use http::{HeaderMap, StatusCode, header::ACCEPT};
use threshold::Signature;
use tokio::time::Instant;

use super::App;
use crate::{
    cpu::Urgency,
    metrics::Stage,
    reply::{JSON, Refused, TEXT, reply},
    signing::Task,
    validators::Known,
    web3signer::{self, SigningRequest},
};

/// Bodies up to this many bytes are parsed where they arrive: that takes less than a tenth of a
/// millisecond. Longer ones are whole blocks.
const PARSED_HERE_BYTES_MAX: usize = 8 * 1024;

/// The type of a request that could not be parsed, as a label.
const UNKNOWN_TYPE: &str = "unknown";

pub(super) async fn sign(
    State(app): State<Arc<App>>,
    identifier: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // What is not even text is no key, and as unknown as any other.
    let identifier = identifier.map_or_else(|_| String::new(), |Path(text)| text);
    let mut kind = UNKNOWN_TYPE;
    let signed = answer(&app, &identifier, &headers, body, &mut kind).await;
    let response = match signed {
        Ok(signature) => success(&headers, &signature),
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

/// In the order of section 3.2: body, root, key, protection.
async fn answer(
    app: &App,
    identifier: &str,
    headers: &HeaderMap,
    body: Body,
    kind: &mut &'static str,
) -> Result<Signature, Refused> {
    let overloaded = |turned| {
        if turned == crate::admission::Turned::Overloaded {
            app.metrics.overloaded();
        }
        Refused::from(turned)
    };
    let admitted = app
        .admission
        .read(headers, body)
        .await
        .map_err(overloaded)?;
    let place = app.admission.enter().map_err(overloaded)?;
    let began = Instant::now();
    let deadline = began + app.deadline;
    let key = web3signer::parse_identifier(identifier);
    // What is no key is unknown, but only after the body was found good.
    let validator = key.unwrap_or(PublicKey([0; 48]));
    let parsed = parse(app, &admitted.body, validator).await?;
    drop(admitted);
    app.metrics.stage(Stage::Parse, began.elapsed());
    *kind = parsed.kind.name();
    let known = match key {
        Some(key) => app.validators.snapshot().find(&key),
        None => Known::Unknown,
    };
    let validator = match known {
        Known::Served(validator) => validator,
        Known::Undecided => return Err(Refused::undiscovered()),
        Known::Unknown => {
            app.metrics.missing_identifier();
            return Err(Refused::unknown_validator());
        }
    };
    let SigningRequest { order, root, .. } = parsed;
    let task = Task {
        order,
        root,
        validator,
        deadline,
        place,
    };
    app.signing.sign(task).await.map_err(Refused::from)
}

async fn parse(app: &App, body: &Bytes, validator: PublicKey) -> Result<SigningRequest, Refused> {
    let parsed = if body.len() <= PARSED_HERE_BYTES_MAX {
        Some(web3signer::parse(body, validator, &app.network))
    } else {
        let (body, network) = (body.clone(), Arc::clone(&app.network));
        let job = move || web3signer::parse(&body, validator, &network);
        app.cpu.run(Urgency::Prompt, job).await
    };
    parsed
        .ok_or_else(Refused::broken)?
        .map_err(|problem| Refused::bad_request(&problem))
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
