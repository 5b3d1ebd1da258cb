//! One connection: what drives it, what is said on it, and what ends it when its peer is gone.
//!
//! gRPC's own client reads a request's message when its stream is open, so that head and message leave
//! in two writes, and wake the cosigner twice. Here they are handed to the connection together.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use h2::{
    Ping, PingPong, Reason, RecvStream,
    client::{Builder, Connection, SendRequest},
};
use http_body::Frame;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout},
};
use tokio_util::io::InspectReader;
use tracing::debug;

use crate::cosigners::link::{PING_INTERVAL, PING_TIMEOUT};

/// Bytes of one reply, and of all replies, that may be on their way.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes of a reply's headers at most, as in gRPC's own client.
const HEADERS_MAX: u32 = 16 * 1024;
/// How long a peer that says other things may leave a ping unanswered. One that takes nothing, and so
/// answers no ping, would have what it is asked kept here for ever.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Calls at once at most until the peer has said how many it takes, as in gRPC's own client.
const CALLS_AT_FIRST: usize = 100;

/// Calls, to one peer, on one connection.
#[derive(Clone)]
pub(super) struct Calls {
    sender: SendRequest<Bytes>,
    under_way: Arc<AtomicUsize>,
}

/// A call that takes one of the peer's places, until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub(in crate::cosigners) enum CallError {
    /// Nothing was sent, as it would wait at this end until others are answered, and go out then.
    #[error("it takes only {0} calls at once")]
    Full(usize),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// Speaks HTTP/2 over `stream`, on a task that ends with the connection.
///
/// # Errors
/// When the peer is gone before anything was said.
pub(super) async fn open<S>(stream: S) -> Result<Calls, h2::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let stream = InspectReader::new(stream, move |bytes: &[u8]| {
        count.fetch_add(bytes.len(), Ordering::Relaxed);
    });
    let (sender, connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS_MAX)
        .initial_max_send_streams(CALLS_AT_FIRST)
        .enable_push(false)
        .handshake(stream)
        .await?;
    tokio::spawn(drive(connection, read));
    Ok(Calls {
        sender,
        under_way: Arc::default(),
    })
}

/// Until it ends, or its peer does not answer any more: then it is dropped, and what was asked on it
/// fails.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<S, Bytes>,
    read: Arc<AtomicUsize>,
) {
    let Some(pings) = connection.ping_pong() else {
        return;
    };
    tokio::select! {
        // What has come is read before its sender is called silent: this process may have stood still.
        biased;
        ended = connection => {
            if let Err(error) = ended {
                debug!(%error, "a connection to a cosigner broke");
            }
        }
        () = silence(pings, &read) => debug!("a connection to a cosigner does not answer"),
    }
}

/// Ends when the peer does not answer. A reply of megabytes may come before the answer to a ping: what
/// else is heard counts for a while.
async fn silence(mut pings: PingPong, read: &AtomicUsize) {
    loop {
        sleep(PING_INTERVAL).await;
        let asked_at = Instant::now();
        let mut answer = pin!(pings.ping(Ping::opaque()));
        loop {
            let before = read.load(Ordering::Relaxed);
            match timeout(PING_TIMEOUT, &mut answer).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            let is_heard = read.load(Ordering::Relaxed) != before;
            if !is_heard || asked_at.elapsed() >= ANSWER_WAIT {
                return;
            }
        }
    }
}

impl Calls {
    /// When the connection has shown that it stands.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) async fn ready(self) -> Result<Self, h2::Error> {
        let sender = self.sender.ready().await?;
        Ok(Self { sender, ..self })
    }

    /// Asks with one message; dropped, the call is given up. It does not wait at this end for others' ends;
    /// what a peer that takes no bytes is asked ends with its connection.
    ///
    /// # Errors
    /// When the connection, or the call, ends without a reply, or there are too many.
    pub(super) async fn call(
        mut self,
        head: http::Request<()>,
        message: Bytes,
    ) -> Result<http::Response<Reply>, CallError> {
        let places = self.sender.current_max_send_streams();
        let taken = self.under_way.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.under_way);
        if taken >= places {
            return Err(CallError::Full(places));
        }
        let (reply, mut stream) = self.sender.send_request(head, false)?;
        stream.send_data(message, true)?;
        let reply = reply.await?;
        Ok(reply.map(|stream| Reply {
            stream,
            _place: place,
        }))
    }
}

/// The body of a reply.
pub(super) struct Reply {
    stream: RecvStream,
    _place: Place,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let frame = match ready!(self.stream.poll_data(context)) {
            Some(Ok(data)) => {
                // It is taken: as much more may come.
                let released = self.stream.flow_control().release_capacity(data.len());
                Some(released.map(|()| Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => {
                let trailers = ready!(self.stream.poll_trailers(context)).transpose();
                trailers.map(|trailers| trailers.map(Frame::trailers))
            }
        };
        // Said, and not broken: the peer wants no more of the call (RFC 9113, section 8.1).
        let is_end =
            |error: &h2::Error| error.is_reset() && error.reason() == Some(Reason::NO_ERROR);
        let frame = frame.filter(|frame| !frame.as_ref().is_err_and(is_end));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
