//! How much is taken on at once. More is answered, not absorbed.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest body of a request, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Memory for bodies is counted in pieces of this many bytes.
const PIECE_BYTES: usize = 1024;

/// Bodies of more bytes than this leave a quarter of the memory to the others: what is signed is
/// short, but for blocks, and a few clients that send slowly must not keep all the others out.
const SHORT_BYTES_MAX: usize = 64 * 1024;

/// How much of a body that is too long is read and thrown away, so that a client that writes before
/// it reads gets its answer and not a broken connection; and for how long.
const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// Why a request was not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too many requests, or bodies, at once.
    Overloaded,
    /// The body is longer than [`BODY_BYTES_MAX`].
    TooLarge,
    /// The body did not arrive, or not in time.
    Broken,
}

/// A request's place, kept until it is done.
#[derive(Debug)]
pub(crate) struct Place {
    _request: OwnedSemaphorePermit,
}

/// A body, and the memory that it takes of what all may take.
pub(crate) struct Admitted {
    /// The whole body.
    pub(crate) body: Bytes,
    _memory: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// Bounds over all requests.
pub(crate) struct Admission {
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// What of it long bodies may take.
    long: Arc<Semaphore>,
}

impl Admission {
    pub(crate) fn new(requests_max: usize, body_memory_bytes: usize) -> Self {
        let bounded =
            |permits: usize| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        let pieces = body_memory_bytes.div_ceil(PIECE_BYTES);
        let long = pieces
            .saturating_sub(pieces / 4)
            .max(BODY_BYTES_MAX.div_ceil(PIECE_BYTES));
        Self {
            requests: bounded(requests_max),
            memory: bounded(pieces),
            long: bounded(long),
        }
    }

    /// A place among the requests.
    pub(crate) fn enter(&self) -> Result<Place, Turned> {
        let permit = Arc::clone(&self.requests).try_acquire_owned();
        permit
            .map(|_request| Place { _request })
            .map_err(|_| Turned::Overloaded)
    }

    /// Reads a body, taking memory for it before it is read: as its Content-Length says, else as
    /// much as is allowed.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Admitted, Turned> {
        let announced = headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let expected = announced.unwrap_or(BODY_BYTES_MAX);
        if expected > BODY_BYTES_MAX {
            discard(body.into_data_stream()).await;
            return Err(Turned::TooLarge);
        }
        let pieces = u32::try_from(expected.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let take = |memory: &Arc<Semaphore>| {
            let taken = Arc::clone(memory).try_acquire_many_owned(pieces);
            taken.map_err(|_| Turned::Overloaded)
        };
        let is_long = expected > SHORT_BYTES_MAX;
        let long = is_long.then(|| take(&self.long)).transpose()?;
        let _memory = (take(&self.memory)?, long);
        let body = collect(body, expected).await?;
        Ok(Admitted { body, _memory })
    }
}

/// Reads the rest of a body that will not be used, within bounds.
pub(crate) async fn discard(mut pieces: BodyDataStream) {
    let reading = async {
        let mut bytes = 0_usize;
        while let Some(Ok(piece)) = pieces.next().await {
            bytes = bytes.saturating_add(piece.len());
            if bytes > DISCARDED_BYTES_MAX {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_WAIT, reading).await;
}

/// The whole body, which is mostly one piece and then not copied.
async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, Turned> {
    let mut pieces = body.into_data_stream();
    let mut whole: Option<Bytes> = None;
    let mut joined: Vec<u8> = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Turned::Broken)?;
        let so_far = whole.as_ref().map_or(joined.len(), Bytes::len);
        if so_far.saturating_add(piece.len()) > bytes_max {
            discard(pieces).await;
            return Err(Turned::TooLarge);
        }
        match whole.take() {
            None if joined.is_empty() => whole = Some(piece),
            None => joined.extend_from_slice(&piece),
            Some(first) => {
                joined.reserve(bytes_max.min(first.len().saturating_add(piece.len())));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&piece);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| joined.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_bounded_one_by_one_and_together() {
        let admission = Admission::new(1, 28 * 1024 * 1024);
        let headers = HeaderMap::new();
        let read = |bytes: usize| admission.read(&headers, Body::from(vec![b'x'; bytes]));
        let first = read(BODY_BYTES_MAX).await;
        assert_eq!(
            first.as_ref().ok().map(|a| a.body.len()),
            Some(BODY_BYTES_MAX)
        );
        assert_eq!(read(BODY_BYTES_MAX + 1).await.err(), Some(Turned::TooLarge));
        let second = read(1).await;
        assert!(second.is_ok());
        assert_eq!(
            read(1).await.err(),
            Some(Turned::Overloaded),
            "unknown lengths count whole"
        );
        drop(first);
        assert!(read(1).await.is_ok());
    }

    #[tokio::test]
    async fn long_bodies_that_never_arrive_keep_no_short_one_out() {
        let admission = Admission::new(1, 40 * 1024 * 1024);
        let announcing = |bytes: usize| {
            let length = http::HeaderValue::from(bytes);
            HeaderMap::from_iter([(http::header::CONTENT_LENGTH, length)])
        };
        let headers = announcing(BODY_BYTES_MAX);
        let never =
            || Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut waiting: Vec<_> = (0..4)
            .map(|_| Box::pin(admission.read(&headers, never())))
            .collect();
        let turned: Vec<bool> = waiting
            .iter_mut()
            .map(|read| futures_util::FutureExt::now_or_never(read).is_some())
            .collect();
        assert_eq!(turned, [false, false, false, true]);
        let short = admission.read(&announcing(2), Body::from("{}")).await;
        assert!(short.is_ok());
    }

    #[tokio::test]
    async fn a_body_in_many_pieces_is_put_together() {
        let pieces = ["ab", "", "cd", "e"].map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let admitted = Admission::new(1, BODY_BYTES_MAX)
            .read(&HeaderMap::new(), body)
            .await;
        assert_eq!(
            admitted.ok().map(|a| a.body),
            Some(Bytes::from_static(b"abcde"))
        );
    }

    #[test]
    fn one_place_more_than_there_are_is_overload() {
        let admission = Admission::new(2, 1);
        let (first, _second) = (admission.enter().unwrap(), admission.enter().unwrap());
        assert_eq!(admission.enter().err(), Some(Turned::Overloaded));
        drop(first);
        assert!(admission.enter().is_ok());
    }
}
