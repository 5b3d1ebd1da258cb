//! `GET /healthcheck`: for load balancers, and for the client that polls it each second.

use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::App;
use crate::{
    cosigners::{Health, Standing},
    reply::reply,
};

/// As Web3Signer writes it here.
const HEALTH_JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");

pub(super) async fn healthcheck(State(app): State<Arc<App>>) -> Response {
    let snapshot = app.validators.snapshot();
    let heard: Vec<Health> = app
        .cosigners
        .links()
        .iter()
        .map(|link| link.health())
        .collect();
    let is_ready = |position: usize| heard.get(position).is_some_and(Health::is_ready);
    let ready = (0..heard.len())
        .filter(|position| is_ready(*position))
        .count();
    let quorate = snapshot.shapes().iter().all(|shape| {
        let members = shape.members.iter().filter(|(peer, _)| is_ready(peer.0));
        let indices: BTreeSet<_> = members.map(|(_, index)| index).collect();
        indices.len() >= shape.threshold
    });
    let is_up = snapshot.is_discovered() && ready >= app.threshold_min && quorate;
    let mut checks = vec![json!({"id": "default-check", "status": "UP"})];
    for (link, health) in app.cosigners.links().iter().zip(&heard) {
        checks.push(check(link.san(), health));
    }
    checks.push(json!({
        "id": "keys-check",
        "status": word(snapshot.is_discovered()),
        "checks": [{
            "id": "cosigners-discovery",
            "status": word(snapshot.is_discovered()),
            "data": {"keys-loaded": snapshot.len(), "error-count": 0},
        }],
    }));
    let body = json!({"status": word(is_up), "checks": checks, "outcome": word(is_up)});
    let status = if is_up {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply(status, HEALTH_JSON, body.to_string())
}

fn check(san: &str, health: &Health) -> Value {
    let why = match health {
        Health::Answering { ready: true, .. } => None,
        Health::Answering {
            ready: false,
            message,
            ..
        } => Some(message.as_str()),
        Health::Absent(why) => Some(why.as_str()),
        Health::Unknown => Some("was not heard of yet"),
    };
    let mut data = health.standing().map(Standing::notable).unwrap_or_default();
    if let Some(why) = why {
        data.insert("reason".to_owned(), Value::from(why));
    }
    let mut check = json!({"id": format!("cosigner-check:{san}"), "status": word(why.is_none())});
    if let Some(members) = check.as_object_mut().filter(|_| !data.is_empty()) {
        members.insert("data".to_owned(), Value::Object(data));
    }
    check
}

const fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}
