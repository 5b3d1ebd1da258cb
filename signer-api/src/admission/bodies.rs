//! Bodies, and the memory that all of them may take at once.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Turned;

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

/// A body, and the memory that it takes of what all may take.
pub(crate) struct Admitted {
    /// The whole body.
    pub(crate) body: Bytes,
    _memory: Memory,
}

/// What all bodies may take.
pub(super) struct Bodies {
    all: Arc<Semaphore>,
    /// What of it long bodies may take.
    long: Arc<Semaphore>,
}

/// What one body takes of it: as much as has arrived, not as much as was announced.
struct Memory {
    pieces: usize,
    of_all: OwnedSemaphorePermit,
    of_long: OwnedSemaphorePermit,
}

impl Bodies {
    pub(super) fn new(memory_bytes: usize) -> Self {
        let pieces = memory_bytes.div_ceil(PIECE_BYTES);
        let long = pieces
            .saturating_sub(pieces / 4)
            .max(BODY_BYTES_MAX.div_ceil(PIECE_BYTES));
        Self {
            all: super::bounded(pieces),
            long: super::bounded(long),
        }
    }

    /// Reads a body, taking memory for it as it arrives.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Admitted, Turned> {
        let announced = headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
            discard(body.into_data_stream()).await;
            return Err(Turned::TooLarge);
        }
        let memory = Memory {
            pieces: 0,
            of_all: take(&self.all, 0)?,
            of_long: take(&self.long, 0)?,
        };
        let mut reading = Reading {
            bodies: self,
            memory,
            whole: None,
            joined: Vec::new(),
        };
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            match reading.add(piece.map_err(|_| Turned::Broken)?) {
                Ok(()) => {}
                Err(turned) => {
                    // What it took is the others' from now on.
                    drop(reading);
                    discard(pieces).await;
                    return Err(turned);
                }
            }
        }
        let body = reading.whole.unwrap_or_else(|| reading.joined.into());
        let _memory = reading.memory;
        Ok(Admitted { body, _memory })
    }

    /// Takes what is missing for so many bytes.
    fn grow(&self, memory: &mut Memory, bytes: usize) -> Result<(), Turned> {
        let pieces = bytes.div_ceil(PIECE_BYTES);
        let missing = pieces.saturating_sub(memory.pieces);
        if missing == 0 {
            return Ok(());
        }
        if bytes > SHORT_BYTES_MAX {
            let missing = pieces.saturating_sub(memory.of_long.num_permits());
            memory.of_long.merge(take(&self.long, missing)?);
        }
        memory.of_all.merge(take(&self.all, missing)?);
        memory.pieces = pieces;
        Ok(())
    }
}

fn take(memory: &Arc<Semaphore>, pieces: usize) -> Result<OwnedSemaphorePermit, Turned> {
    let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
    Arc::clone(memory)
        .try_acquire_many_owned(pieces)
        .map_err(|_| Turned::Overloaded)
}

/// A body on its way. It is mostly one piece, and then not copied.
struct Reading<'a> {
    bodies: &'a Bodies,
    memory: Memory,
    whole: Option<Bytes>,
    joined: Vec<u8>,
}

impl Reading<'_> {
    fn add(&mut self, piece: Bytes) -> Result<(), Turned> {
        let so_far = self.whole.as_ref().map_or(self.joined.len(), Bytes::len);
        let bytes = so_far.saturating_add(piece.len());
        if bytes > BODY_BYTES_MAX {
            return Err(Turned::TooLarge);
        }
        if bytes == piece.len() {
            self.bodies.grow(&mut self.memory, bytes)?;
            self.whole = Some(piece);
            return Ok(());
        }
        if bytes > self.joined.capacity() {
            // Twice as much each time, and no more than there can be.
            let room = bytes.saturating_mul(2).min(BODY_BYTES_MAX);
            self.bodies.grow(&mut self.memory, room)?;
            self.joined
                .reserve_exact(room.saturating_sub(self.joined.len()));
        }
        if let Some(first) = self.whole.take() {
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(&piece);
        Ok(())
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

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::CONTENT_LENGTH};

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn announcing(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(bytes))])
    }

    /// So much of a body, and never the rest.
    fn stuck(bytes: usize) -> Body {
        let begun = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; bytes])]);
        Body::from_stream(begun.chain(futures_util::stream::pending()))
    }

    #[tokio::test]
    async fn bodies_are_bounded_one_by_one_and_together() {
        let bodies = Bodies::new(14 * MIB);
        let headers = HeaderMap::new();
        let read = |bytes: usize| bodies.read(&headers, Body::from(vec![b'x'; bytes]));
        let first = read(BODY_BYTES_MAX).await;
        let length = first.as_ref().ok().map(|a| a.body.len());
        assert_eq!(length, Some(BODY_BYTES_MAX));
        assert_eq!(read(BODY_BYTES_MAX + 1).await.err(), Some(Turned::TooLarge));
        assert!(read(1).await.is_ok());
        assert_eq!(read(MIB).await.err(), Some(Turned::Overloaded));
        drop(first);
        assert!(read(MIB).await.is_ok());
    }

    #[tokio::test]
    async fn long_bodies_that_never_arrive_keep_no_short_one_out() {
        let bodies = Bodies::new(40 * MIB);
        let headers = announcing(BODY_BYTES_MAX);
        let mut waiting: Vec<_> = (0..4)
            .map(|_| Box::pin(bodies.read(&headers, stuck(BODY_BYTES_MAX - 1))))
            .collect();
        for (number, read) in waiting.iter_mut().enumerate() {
            let turned = futures_util::FutureExt::now_or_never(read).is_some();
            // The fourth is on its way out: the rest of it is read first.
            assert!(!turned, "{number}");
        }
        assert_eq!(bodies.long.available_permits(), 0);
        let short = bodies.read(&announcing(2), Body::from("{}")).await;
        assert!(short.is_ok());
        drop(waiting);
        assert_eq!(bodies.long.available_permits(), 30 * 1024);
        assert_eq!(bodies.all.available_permits(), 40 * 1024 - 1);
    }

    #[tokio::test]
    async fn what_was_only_announced_takes_no_memory() {
        let bodies = Bodies::new(16 * MIB);
        let headers = announcing(BODY_BYTES_MAX);
        let mut waiting: Vec<_> = (0..1_000)
            .map(|_| Box::pin(bodies.read(&headers, stuck(1))))
            .collect();
        for read in &mut waiting {
            assert!(futures_util::FutureExt::now_or_never(read).is_none());
        }
        let whole = bodies
            .read(&headers, Body::from(vec![b'x'; BODY_BYTES_MAX]))
            .await;
        assert!(whole.is_ok());
    }

    #[tokio::test]
    async fn a_body_in_many_pieces_is_put_together() {
        let pieces = ["ab", "", "cd", "e"].map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let admitted = Bodies::new(BODY_BYTES_MAX)
            .read(&HeaderMap::new(), body)
            .await;
        let body = admitted.ok().map(|a| a.body);
        assert_eq!(body, Some(Bytes::from_static(b"abcde")));
    }
}
