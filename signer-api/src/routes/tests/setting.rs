//! A router over real peers, and answers as a client reads them.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use daemon::{bulk::Bulk, network::Network};
use http::{Method, Request, header};
use serde_json::Value;
use tower::ServiceExt;

use crate::{
    routes::{App, Front, router},
    testing::{Peers, eventually},
};

const FORK_INFO: &str = r#""fork_info":{"fork":{"previous_version":"0x05000000",
    "current_version":"0x06000000","epoch":"411392"},"genesis_validators_root":
    "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"}"#;

pub(super) struct Setting {
    pub(super) peers: Peers,
    pub(super) app: Arc<App>,
    pub(super) router: Front,
    pub(super) registry: daemon::metrics::Registry,
}

/// An answer, read.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) allow: String,
    pub(super) retry_after: bool,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }

    /// Version B's form, with Nimbus' member.
    pub(super) fn check_error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.content_type, "application/json; charset=utf-8");
        let body = self.json();
        assert_eq!(body["code"], status);
        assert_eq!(body["message"], body["error"]);
        assert_eq!(body["request_id"].is_string(), status >= 500);
        assert_eq!(body["reason"].is_string(), status >= 500);
        body["message"].as_str().unwrap().to_owned()
    }
}

impl Setting {
    pub(super) async fn new() -> Self {
        Self::with(Peers::start(2, 3, 1).await)
    }

    pub(super) fn with(peers: Peers) -> Self {
        Self::handing_over(peers, Bulk::inline())
    }

    /// Where a burst's requests are worked on elsewhere.
    pub(super) fn handing_over(peers: Peers, bulk: Bulk) -> Self {
        let network = Arc::new(Network::preset("mainnet").unwrap());
        let committee = peers.config.committee().unwrap();
        let mut registry = daemon::metrics::Registry::default();
        let app =
            crate::cli::build(&peers.config, network, committee, bulk, &mut registry).unwrap();
        let router = router(Arc::clone(&app));
        Self {
            peers,
            app,
            router,
            registry,
        }
    }

    pub(super) async fn discovered(self) -> Self {
        let all_ready = || {
            self.app
                .cosigners
                .links()
                .iter()
                .all(|link| link.health().is_ready())
        };
        let served = || self.app.validators.snapshot().len() == self.peers.keys.len();
        eventually("the validators are served", || served() && all_ready()).await;
        self
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    pub(super) async fn get(&self, path: &str, accept: &[&str]) -> Answer {
        self.send(request(Method::GET, path, accept, "")).await
    }

    pub(super) async fn sign(&self, identifier: &str, body: &str, accept: &[&str]) -> Answer {
        let path = format!("/api/v1/eth2/sign/{identifier}");
        self.send(request(Method::POST, &path, accept, body)).await
    }

    pub(super) fn key(&self) -> String {
        self.peers.keys[0].to_string()
    }
}

pub(super) fn request(method: Method, path: &str, accept: &[&str], body: &str) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:9000");
    for accept in accept {
        request = request.header(header::ACCEPT, *accept);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn read(response: Response) -> Answer {
    let text = |name| {
        let value = response
            .headers()
            .get(name)
            .map(|value: &http::HeaderValue| value.to_str());
        value.transpose().unwrap().unwrap_or_default().to_owned()
    };
    let (status, content_type) = (response.status().as_u16(), text(header::CONTENT_TYPE));
    let (allow, retry_after) = (text(header::ALLOW), !text(header::RETRY_AFTER).is_empty());
    let body = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer {
        status,
        content_type,
        allow,
        retry_after,
        body,
    }
}

pub(super) fn randao(epoch: u64) -> String {
    format!(r#"{{"randao_reveal":{{"epoch":"{epoch}"}},{FORK_INFO},"type":"RANDAO_REVEAL"}}"#)
}

pub(super) fn attestation(block: u8) -> String {
    let root = format!("0x{}", format!("{block:02x}").repeat(32));
    format!(
        r#"{{"type":"ATTESTATION",{FORK_INFO},"attestation":{{"slot":"13500000","index":"0",
        "beacon_block_root":"{root}","source":{{"epoch":"421874","root":"{root}"}},
        "target":{{"epoch":"421875","root":"{root}"}}}}}}"#
    )
}
