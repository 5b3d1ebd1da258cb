//! An interchange file on its way through a call, a bounded piece at a time. The file is read and
//! written on a thread that may be held; when that is slow the peer waits.
//!
//! A peer that goes away may look like one that has ended (the transport takes a cancelled stream
//! for an ended one), so only the file itself says that it is whole: nothing of a JSON text that
//! ends too early is imported.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use duty::{PublicKey, Root};
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use slashing::{
    Database,
    interchange::{self, ExportError, ImportError, Imported, Progress},
};
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};
use tonic::{Status, Streaming};
use wire::proto::HistoryChunk;

/// Bytes of one piece at most.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Pieces that wait between the peer and the file at most.
const PIECES_MAX: usize = 4;
/// How long a peer may take to send, or to take, one piece.
const PEER_WAIT: Duration = Duration::from_secs(30);

/// Imports what the peer sends, whole or not at all. The import is a task of its own: a peer that
/// goes away before its end makes it fail, and one that goes away after its end changes nothing.
pub(super) async fn import(
    database: Database,
    root: Root,
    from: Streaming<HistoryChunk>,
    places: impl Send + 'static,
) -> Result<Imported, Status> {
    let (feed, incoming) = incoming();
    let importing = tokio::spawn(async move {
        let imported = interchange::import(&database, root, incoming, |_| {}).await;
        drop(places);
        imported
    });
    let fed = feed.pass_on(from).await;
    let imported = importing
        .await
        .map_err(|_| Status::unavailable("this cosigner is stopping"))?;
    match (imported, fed) {
        (Ok(imported), _) => Ok(imported),
        (Err(ImportError::Read(_)), Err(why)) => Err(why),
        (Err(error), _) => Err(import_failed(&error)),
    }
}

/// The file's pieces, each made when there is room for it. After the last piece that carries no
/// error the file is whole.
pub(super) fn export(
    database: Database,
    root: Root,
    validators: Option<Vec<PublicKey>>,
    places: impl Send + 'static,
) -> impl Stream<Item = Result<HistoryChunk, Status>> + Send + 'static {
    let (outgoing, rest, taken) = outgoing();
    let exported = Arc::clone(&rest.exported);
    let progress = move |progress: Progress| {
        *exported.lock() = Exported {
            done: progress.done,
            total: progress.total.unwrap_or_default(),
        };
    };
    tokio::spawn(async move {
        let done = interchange::export(&database, root, validators, outgoing, progress).await;
        // Whoever sees the end may begin the next at once.
        drop(places);
        rest.end(done.map(|_| ()).map_err(|error| export_failed(&error)))
            .await;
    });
    stream::unfold(taken, async |mut taken| {
        let piece = taken.recv().await?;
        Some((piece, taken))
    })
}

fn import_failed(error: &ImportError) -> Status {
    let message = error.to_string();
    match error {
        ImportError::Read(_)
        | ImportError::Malformed { .. }
        | ImportError::Version(_)
        | ImportError::Chain { .. } => Status::invalid_argument(message),
        ImportError::Staging(_) | ImportError::Database(_) => Status::unavailable(message),
        ImportError::InDoubt(_) | ImportError::Incomplete(_) => Status::unknown(message),
    }
}

fn export_failed(error: &ExportError) -> Status {
    let message = error.to_string();
    match error {
        ExportError::Unknown(_) => Status::not_found(message),
        ExportError::Database(_) | ExportError::Write(_) => Status::unavailable(message),
    }
}

enum Piece {
    Bytes(Vec<u8>),
    /// The peer has said that this was all, or has cancelled the call.
    End,
}

/// The file as it comes from the peer.
struct Incoming {
    pieces: Receiver<Piece>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
}

/// Where the peer's pieces go.
struct Feed(Sender<Piece>);

/// A file that is fed by a call.
fn incoming() -> (Feed, Incoming) {
    let (feed, pieces) = mpsc::channel(PIECES_MAX);
    let incoming = Incoming {
        pieces,
        current: io::Cursor::default(),
        ended: false,
    };
    (Feed(feed), incoming)
}

impl Read for Incoming {
    /// **Only** to be called on a thread that may be held.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.ended {
                return Ok(read);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = io::Cursor::new(bytes),
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the sender went away before the end",
                    ));
                }
            }
        }
    }
}

impl Feed {
    /// Passes on what the peer sends, until it says that this was all, or nobody reads any more.
    async fn pass_on(self, mut from: Streaming<HistoryChunk>) -> Result<(), Status> {
        loop {
            let next = timeout(PEER_WAIT, from.message()).await;
            let piece = match next.map_err(|_| late())?? {
                Some(chunk) if chunk.json.len() > PIECE_BYTES_MAX => {
                    return Err(Status::invalid_argument(format!(
                        "a piece of a file has at most {PIECE_BYTES_MAX} bytes"
                    )));
                }
                Some(chunk) => Piece::Bytes(chunk.json),
                None => Piece::End,
            };
            let last = matches!(piece, Piece::End);
            if self.0.send(piece).await.is_err() || last {
                return Ok(());
            }
        }
    }
}

fn late() -> Status {
    let seconds = PEER_WAIT.as_secs();
    Status::deadline_exceeded(format!("no piece of the file came within {seconds} s"))
}

/// How far an export has come.
#[derive(Debug, Clone, Copy, Default)]
struct Exported {
    done: u64,
    total: u64,
}

/// The file on its way to the peer.
struct Outgoing {
    pieces: Sender<Result<HistoryChunk, Status>>,
    buffer: Arc<Mutex<Vec<u8>>>,
    exported: Arc<Mutex<Exported>>,
    runtime: Handle,
}

/// What ends a file that was written.
struct Rest {
    pieces: Sender<Result<HistoryChunk, Status>>,
    buffer: Arc<Mutex<Vec<u8>>>,
    /// To be kept up to date by whoever writes.
    exported: Arc<Mutex<Exported>>,
}

/// A file that is taken by a call. Must be called within a tokio runtime.
fn outgoing() -> (Outgoing, Rest, Receiver<Result<HistoryChunk, Status>>) {
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    let (buffer, exported) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::default());
    let outgoing = Outgoing {
        pieces: pieces.clone(),
        buffer: Arc::clone(&buffer),
        exported: Arc::clone(&exported),
        runtime: Handle::current(),
    };
    let rest = Rest {
        pieces,
        buffer,
        exported,
    };
    (outgoing, rest, taken)
}

impl Write for Outgoing {
    /// **Only** to be called on a thread that may be held.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let full = {
            let mut buffer = self.buffer.lock();
            let room = PIECE_BYTES_MAX.saturating_sub(buffer.len());
            let taken = bytes.get(..room).unwrap_or(bytes);
            buffer.extend_from_slice(taken);
            match buffer.len() < PIECE_BYTES_MAX {
                true => return Ok(taken.len()),
                false => (taken.len(), std::mem::take(&mut *buffer)),
            }
        };
        let (taken, json) = full;
        let piece = chunk(json, *self.exported.lock());
        self.runtime
            .block_on(self.pieces.send_timeout(Ok(piece), PEER_WAIT))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the file"))?;
        Ok(taken)
    }

    /// The last piece goes with [`Rest::end`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Rest {
    /// Sends the last piece, or says why there is none.
    async fn end(self, outcome: Result<(), Status>) {
        let json = std::mem::take(&mut *self.buffer.lock());
        let last = outcome.map(|()| chunk(json, *self.exported.lock()));
        // A peer that went away is told nothing.
        let _unheard = self.pieces.send_timeout(last, PEER_WAIT).await;
    }
}

fn chunk(json: Vec<u8>, exported: Exported) -> HistoryChunk {
    HistoryChunk {
        json,
        validators_done: exported.done,
        validators_total: exported.total,
    }
}
