//! Requests that are not sent when it is too late.
//!
//! A channel without a connection keeps a request until there is one. What was to be signed under an
//! old promise could so reach a cosigner that has restarted since. A request's message is read when
//! its stream is open: it is not given out late, and whoever waits for that does not wait longer.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Request, Status,
    body::Body,
    codegen::{Service, http},
    transport::Channel,
};

use super::{Call, SendBy, guarded::Guarded};

/// Whether a request's message has been given out.
#[derive(Debug, Clone)]
struct Sending {
    by: Instant,
    begun: Arc<AtomicBool>,
}

/// Makes a call whose request may be sent until its [`SendBy`]; gives it up when it was not.
pub(super) fn unless_late<Q, A, F>(
    mut request: Request<Q>,
    call: impl FnOnce(Request<Q>) -> F,
) -> Call<A>
where
    F: Future<Output = Result<A, Status>> + Send + 'static,
    A: Send,
{
    let Some(SendBy(by)) = request.extensions().get().copied() else {
        return Box::pin(call(request));
    };
    let begun = Arc::new(AtomicBool::new(false));
    let sending = Sending {
        by,
        begun: Arc::clone(&begun),
    };
    request.extensions_mut().insert(sending);
    let call = call(request);
    Box::pin(async move {
        let mut call = pin!(call);
        let ended = match timeout_at(by, &mut call).await {
            Ok(ended) => ended,
            Err(_) if begun.load(Ordering::Acquire) => call.await,
            Err(_) => Err(late()),
        };
        // What failed because the message was kept back is no failure of the connection.
        let kept_back = || is_late(by) && !begun.load(Ordering::Acquire);
        ended.map_err(|status| if kept_back() { late() } else { status })
    })
}

/// Nothing was sent: no answer, and no failure of the connection's.
#[derive(Debug, thiserror::Error)]
#[error("was not sent in time")]
struct Late;

fn late() -> Status {
    let mut status = Status::deadline_exceeded(Late.to_string());
    status.set_source(Arc::new(Late));
    status
}

/// Whether a call failed because its message was kept back.
pub(in crate::cosigners) fn is_late_call(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<Late>())
}

fn is_late(by: Instant) -> bool {
    Instant::now() >= by
}

/// A channel that keeps late messages back.
#[derive(Clone)]
pub(super) struct Timely(pub(super) Guarded<Channel>);

impl Service<http::Request<Body>> for Timely {
    type Response = http::Response<Body>;
    type Error = <Guarded<Channel> as Service<http::Request<Body>>>::Error;
    type Future = <Guarded<Channel> as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some(sending) = request.extensions_mut().remove::<Sending>() else {
            return self.0.call(request);
        };
        self.0
            .call(request.map(|body| kept_back_if_late(body, sending)))
    }
}

/// A message that is given out in time or not at all.
fn kept_back_if_late(body: Body, sending: Sending) -> Body {
    let mut data = axum::body::Body::new(body).into_data_stream();
    let frames = stream::poll_fn(move |context| {
        if !sending.begun.load(Ordering::Acquire) {
            if is_late(sending.by) {
                return Poll::Ready(Some(Err(axum::Error::new(late()))));
            }
            sending.begun.store(true, Ordering::Release);
        }
        data.poll_next_unpin(context)
    });
    Body::new(axum::body::Body::from_stream(frames))
}
