//! `GET /healthcheck`: for load balancers, and for the client that polls it each second.

use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use threshold::round::Peer;

use super::App;
use crate::{
    cosigners::{Health, Link, Standing},
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
    let failing = |position| app.cosigners.link(Peer(position))?.failing();
    let is_ready = |position: usize| {
        let is_ready = heard.get(position).is_some_and(Health::is_ready);
        is_ready && failing(position).is_none()
    };
    let ready = (0..heard.len())
        .filter(|position| is_ready(*position))
        .count();
    let quorate = snapshot.shapes().iter().all(|shape| {
        let members = shape.members.iter().filter(|(peer, _)| is_ready(peer.0));
        let indices: BTreeSet<_> = members.map(|(_, index)| index).collect();
        indices.len() >= shape.threshold
    });
    let serves = !app.is_stopping();
    let is_up = serves && snapshot.is_discovered() && ready >= app.threshold_min && quorate;
    let mut checks = vec![json!({"id": "default-check", "status": word(serves)})];
    for (link, health) in app.cosigners.links().iter().zip(&heard) {
        checks.push(check(link, health));
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

fn check(link: &Link, health: &Health) -> Value {
    let why = match health {
        Health::Answering { ready: true, .. } => link.failing(),
        Health::Answering {
            ready: false,
            message,
            ..
        } => Some(message.clone()),
        Health::Absent(why) => Some(why.clone()),
        Health::Unknown => Some("was not heard of yet".to_owned()),
    };
    let status = word(why.is_none());
    let mut data = health.standing().map(Standing::notable).unwrap_or_default();
    data.extend(link.blamed());
    data.extend(link.dissent());
    if let Some(why) = why {
        data.insert("reason".to_owned(), Value::from(why));
    }
    let id = format!("cosigner-check:{}", link.san());
    let mut check = json!({"id": id, "status": status});
    if let Some(members) = check.as_object_mut().filter(|_| !data.is_empty()) {
        members.insert("data".to_owned(), Value::Object(data));
    }
    check
}

const fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}
