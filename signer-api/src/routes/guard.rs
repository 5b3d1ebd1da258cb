//! What is checked of every request before it is routed: origin, host, the body's length.

use std::{
    borrow::Cow,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::future::Either;
use http::{HeaderMap, Method, Uri, header, uri::PathAndQuery};
use tower::{Service, util::MapRequest};

use super::{App, sign};
use crate::{
    admission::{BODY_BYTES_MAX, Turned, discard},
    reply::Refused,
};

/// In Web3Signer's order: CORS, host, body.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refuse(refused, request).await,
    }
}

/// Signing requests go straight to their handler, past the router and its boxes: at a slot's
/// deadline they are a burst, and under overload what is refused must cost little. Everything else,
/// also what only looks like one, is routed.
#[derive(Clone)]
pub(crate) struct Front {
    pub(super) app: Arc<App>,
    pub(super) routes: MapRequest<Router, fn(Request) -> Request>,
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>,
        <Router as Service<Request>>::Future,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.method() != Method::POST || sign::identifier(request.uri().path()).is_none() {
            return Either::Right(self.routes.call(request));
        }
        let app = Arc::clone(&self.app);
        Either::Left(Box::pin(async move {
            if let Err(refused) = check(&app, &request) {
                return Ok(refuse(refused, request).await);
            }
            let (head, body) = request.into_parts();
            let identifier = sign::identifier(head.uri.path()).unwrap_or_default();
            Ok(sign::reached(&app, identifier, &head.headers, body).await)
        }))
    }
}

async fn refuse(refused: Refused, request: Request) -> Response {
    discard(request.into_body().into_data_stream()).await;
    refused.into_response()
}

fn check(app: &App, request: &Request) -> Result<(), Refused> {
    let headers = request.headers();
    // No origin is ever allowed: this is no API for pages in browsers.
    if headers.contains_key(header::ORIGIN) {
        return Err(Refused::origin_not_allowed());
    }
    let host = match headers.get(header::HOST) {
        Some(host) => Some(host.to_str().unwrap_or_default()),
        // HTTP/2 has it in the request line.
        None => request.uri().authority().map(http::uri::Authority::as_str),
    };
    let host = host.ok_or_else(Refused::no_host)?;
    let allowed_hosts = &app.live.load().allowed_hosts;
    let open = ["*", "all"].iter().any(|all| allowed_hosts.contains(*all));
    if !open && !allowed_hosts.contains(&*name_of(host)) {
        return Err(Refused::host_not_allowed());
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(Turned::TooLarge.into());
    }
    Ok(())
}

/// A `Host` without its port, in lower case.
fn name_of(host: &str) -> Cow<'_, str> {
    let is_port = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        // The colons within brackets are an IPv6 address's own.
        Some((name, port)) if is_port(port) && !port.contains(']') => name,
        Some(_) | None => host,
    };
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

/// Whether `Accept` allows that media type. Parameters, and so qualities, are ignored.
pub(super) fn accepts(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    let mut none = true;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let range = range.split(';').next().unwrap_or_default().trim();
            if range.is_empty() {
                continue;
            }
            none = false;
            let Some((range_kind, range_subtype)) = range.split_once('/') else {
                continue;
            };
            let fits = |range: &str, value: &str| range == "*" || range.eq_ignore_ascii_case(value);
            if fits(range_kind, kind) && fits(range_subtype, subtype) {
                return true;
            }
        }
    }
    none
}

/// `//api/…`, which some clients make of a URL with a trailing slash, is `/api/…`.
pub(super) fn collapse_slashes(mut request: Request) -> Request {
    let path = request.uri().path();
    if path.contains("//") {
        let mut collapsed = String::with_capacity(path.len());
        for c in path.chars() {
            if c != '/' || !collapsed.ends_with('/') {
                collapsed.push(c);
            }
        }
        if let Some(query) = request.uri().query() {
            collapsed.push('?');
            collapsed.push_str(query);
        }
        let mut parts = request.uri().clone().into_parts();
        if let Ok(path_and_query) = PathAndQuery::try_from(collapsed) {
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_loses_its_port_and_its_case() {
        for (host, name) in [
            ("localhost", "localhost"),
            ("LocalHost:9000", "localhost"),
            ("127.0.0.1:9000", "127.0.0.1"),
            ("[::1]:9000", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:b", "a:b"),
            ("", ""),
        ] {
            assert_eq!(name_of(host), name, "{host}");
        }
    }

    #[test]
    fn accept_is_read_as_web3signer_reads_it() {
        for (accept, json, text) in [
            (None, true, true),
            (Some("application/json"), true, false),
            (Some("Application/JSON; q=0"), true, false),
            (Some("text/plain, */*;q=0.1"), true, true),
            (Some("application/*"), true, false),
            (Some("image/png"), false, false),
            (Some("json"), false, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(accepts(&headers, "application", "json"), json, "{accept:?}");
            assert_eq!(accepts(&headers, "text", "plain"), text, "{accept:?}");
        }
    }

    #[test]
    fn repeated_slashes_are_one() {
        for (from, to) in [
            ("//api//v1/x", "/api/v1/x"),
            ("http://h:1//upcheck?a=//b", "http://h:1/upcheck?a=//b"),
            ("/upcheck", "/upcheck"),
        ] {
            let mut request = Request::default();
            *request.uri_mut() = from.parse().unwrap();
            assert_eq!(collapse_slashes(request).uri().to_string(), to);
        }
    }
}
