//! The route table, in the order of openapi/, and the way of a signing request.

mod guard;
mod health;
mod reload;
mod sign;
#[cfg(test)]
mod tests;
mod watermark;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{Request, State},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use daemon::{bulk::Bulk, network::Network};
use http::{HeaderMap, StatusCode};
use tower::util::MapRequest;

use crate::{
    admission::Admission,
    cosigners::Cosigners,
    cpu::Cpu,
    metrics::Metrics,
    reply::{JSON, Refused, TEXT, reply},
    signing::Signing,
    validators::Validators,
};
pub(crate) use guard::Front;
use guard::{accepts, collapse_slashes};

/// Settings that are taken over while the process runs.
pub(crate) struct Live {
    /// Host names, lower case; `*` allows all.
    pub(crate) allowed_hosts: BTreeSet<String>,
    pub(crate) deadline: Duration,
    /// How long everything goes on after a stop was asked for, but for a health check that says so.
    pub(crate) stop_delay: Duration,
    /// How long requests under way may take after that.
    pub(crate) drain: Duration,
}

/// Everything that handlers use.
pub(crate) struct App {
    pub(crate) network: Arc<Network>,
    /// What changes while the process runs.
    pub(crate) live: ArcSwap<Live>,
    /// The process will end.
    pub(crate) stopping: AtomicBool,
    /// So many cosigners must be there whatever the committees.
    pub(crate) threshold_min: usize,
    pub(crate) admission: Admission,
    pub(crate) cpu: Cpu,
    /// Where the requests of a burst are worked on.
    pub(crate) bulk: Bulk,
    pub(crate) cosigners: Arc<Cosigners>,
    pub(crate) validators: Arc<Validators>,
    pub(crate) signing: Signing,
    pub(crate) metrics: Arc<Metrics>,
}

impl App {
    /// When a request that begins now is answered at the latest.
    pub(crate) fn deadline(&self) -> Duration {
        self.live.load().deadline
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The routes.
pub(crate) fn router(app: Arc<App>) -> Front {
    let routes = Router::new()
        .route("/api/v1/eth2/sign/{identifier}", post(sign::sign))
        .route("/api/v1/eth2/publicKeys", get(public_keys))
        .route("/api/v1/eth2/highWatermark", get(watermark::high_watermark))
        .route("/upcheck", get(upcheck))
        .route("/healthcheck", get(health::healthcheck))
        .route("/reload", get(reload::report).post(reload::start))
        .fallback(unknown_path)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            guard::guard,
        ))
        .with_state(Arc::clone(&app));
    // A path is rewritten before it is routed.
    let collapse: fn(Request) -> Request = collapse_slashes;
    let routes = MapRequest::new(routes, collapse);
    Front { app, routes }
}

async fn unknown_path() -> Refused {
    Refused::unknown_path()
}

/// JSON whatever `Accept` says: clients that ask for text here parse JSON all the same.
async fn public_keys(State(app): State<Arc<App>>) -> Response {
    reply(
        StatusCode::OK,
        JSON,
        app.validators.snapshot().public_keys(),
    )
}

/// `OK`, or JSON for who excludes text: two clients ask for exactly that.
async fn upcheck(headers: HeaderMap) -> Response {
    if accepts(&headers, "text", "plain") {
        reply(StatusCode::OK, TEXT, "OK")
    } else if accepts(&headers, "application", "json") {
        reply(StatusCode::OK, JSON, r#"{"status":"OK"}"#)
    } else {
        Refused::not_acceptable().into_response()
    }
}
