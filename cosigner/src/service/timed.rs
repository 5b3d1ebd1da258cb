//! How long a call may take, its message's arrival included; each group of methods has its own.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

/// A service whose calls end within `wait`; a stream of replies, once it has begun, has its own
/// bounds. (The transport's one timeout would be the same for a signature and for an import of a
/// million entries.)
#[derive(Debug, Clone)]
pub(super) struct Timed<S> {
    inner: S,
    wait: Duration,
}

impl<S> Timed<S> {
    pub(super) const fn new(inner: S, wait: Duration) -> Self {
        Self { inner, wait }
    }
}

impl<S: NamedService> NamedService for Timed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Timed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (call, wait) = (self.inner.call(request), self.wait);
        Box::pin(async move {
            timeout(wait, call).await.unwrap_or_else(|_| {
                let message = format!("not done within {} ms", wait.as_millis());
                Ok(Status::deadline_exceeded(message).into_http())
            })
        })
    }
}
