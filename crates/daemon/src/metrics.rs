//! Metrics in the OpenMetrics text format, on a port of their own.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
pub use prometheus_client::registry::Registry;
use tracing::error;

use crate::config::ConfigError;
use crate::serve::{self, Drain, HttpLimits, Listener, ListenerLimits};

/// What `GET /metrics` is answered with.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long a scrape that is under way at the end may take.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves `registry` at `GET /metrics` on `address`, without TLS, from a task of its own until
/// `shutdown` ends; the address which it listens on (of interest when the port was 0).
///
/// # Errors
///
/// When `address` cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    registry: Registry,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<SocketAddr, ConfigError> {
    let limits = ListenerLimits {
        connections_max: 64,
        ..ListenerLimits::default()
    };
    let listener = Listener::bind(address, None, limits).await?;
    let address = listener.address();
    tokio::spawn(serve::http(
        listener,
        router(registry),
        HttpLimits::default(),
        async {
            shutdown.await;
            Drain::within(DRAIN)
        },
    ));
    Ok(address)
}

/// The one route, for a server that wants it elsewhere.
pub fn router(registry: Registry) -> Router {
    let registry = Arc::new(registry);
    Router::new().route("/metrics", get(move || async move { encoded(&registry) }))
}

fn encoded(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
