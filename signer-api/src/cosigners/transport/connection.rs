//! One connection: what drives it, what is said on it, and what ends it when its peer is gone.
//!
//! gRPC's own client reads a request's message when its stream is open, so that head and message leave
//! in two writes, and wake the cosigner twice. Here they are handed to the connection together.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Bytes, HttpBody};
use h2::{
    Ping, PingPong, RecvStream,
    client::{Builder, Connection, SendRequest},
};
use http_body::Frame;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tracing::debug;

use crate::cosigners::link::{PING_INTERVAL, PING_TIMEOUT};

/// Bytes of one reply, and of all replies, that may be on their way.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes of a reply's headers at most, as in gRPC's own client.
const HEADERS_MAX: u32 = 16 * 1024;
/// Calls at once at most until the peer has said how many it takes, as in gRPC's own client.
const CALLS_AT_FIRST: usize = 100;

/// Speaks HTTP/2 over `stream`, on a task that ends with the connection.
///
/// # Errors
/// When the peer is gone before anything was said.
pub(super) async fn open<S>(stream: S) -> Result<SendRequest<Bytes>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS_MAX)
        .initial_max_send_streams(CALLS_AT_FIRST)
        .enable_push(false)
        .handshake(stream)
        .await?;
    tokio::spawn(drive(connection));
    Ok(sender)
}

/// Until it ends, or its peer does not answer any more: then it is dropped, and what was asked on it
/// fails.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(mut connection: Connection<S, Bytes>) {
    let Some(pings) = connection.ping_pong() else {
        return;
    };
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                debug!(%error, "a connection to a cosigner broke");
            }
        }
        () = unanswered(pings) => debug!("a connection to a cosigner does not answer"),
    }
}

/// Ends when the peer is silent.
async fn unanswered(mut pings: PingPong) {
    loop {
        sleep(PING_INTERVAL).await;
        let ping = pings.ping(Ping::opaque());
        if !matches!(timeout(PING_TIMEOUT, ping).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// Asks on a connection that is ready, with one message; dropped, the call is given up.
///
/// # Errors
/// When the connection, or the call, ends without a reply.
pub(super) async fn call(
    mut connection: SendRequest<Bytes>,
    head: http::Request<()>,
    message: Bytes,
) -> Result<http::Response<Reply>, h2::Error> {
    let (reply, mut stream) = connection.send_request(head, false)?;
    stream.send_data(message, true)?;
    Ok(reply.await?.map(Reply))
}

/// The body of a reply.
pub(super) struct Reply(RecvStream);

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(context)) {
            Some(data) => {
                let data = data?;
                // It is taken: as much more may come.
                self.0.flow_control().release_capacity(data.len())?;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            None => {
                let trailers = ready!(self.0.poll_trailers(context))?;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
