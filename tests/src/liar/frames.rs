//! HTTP/2 below its rules: frames that a library would not send, between those that it does.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy, sink, split},
    sync::mpsc,
    time::sleep,
};

use super::lies::Frames;

/// What goes out of one connection.
pub(super) enum Outgoing {
    /// Once.
    Bytes(Vec<u8>),
    /// Again and again, and nothing else any more.
    Flood(Vec<u8>),
}

/// Frames on their way out.
pub(super) type Sender = mpsc::Sender<Outgoing>;

/// The pause between two writes of a flood: it is its kind that hurts, not this machine's load.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);
/// What a flood writes at once, in bytes.
const FLOOD_BYTES: usize = 16 * 1024;

const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` of HPACK's static table.
const STATUS_200: u8 = 0x88;

/// Frames that may wait to be written.
const WAITING_MAX: usize = 16;

/// The way out of a connection, and what takes it.
pub(super) fn queue() -> (Sender, mpsc::Receiver<Outgoing>) {
    mpsc::channel(WAITING_MAX)
}

/// Carries bytes between a socket and HTTP/2's library; what the library sends goes frame by frame,
/// so that others may go between.
pub(super) async fn carry(
    socket: impl AsyncRead + AsyncWrite,
    library: DuplexStream,
    outgoing: (Sender, mpsc::Receiver<Outgoing>),
    byte_pause: Option<Duration>,
) {
    let (mut from_socket, mut to_socket) = split(socket);
    let (mut from_library, mut to_library) = split(library);
    let (frames, mut outgoing) = outgoing;
    let inwards = async {
        let _ = copy(&mut from_socket, &mut to_library).await;
        // The library may have had enough of it; the peer has not.
        let _ = copy(&mut from_socket, &mut sink()).await;
    };
    let cut = async {
        while let Ok(frame) = next_frame(&mut from_library).await {
            if frames.send(Outgoing::Bytes(frame)).await.is_err() {
                return;
            }
        }
        // The library is done; a flood is not.
        frames.closed().await;
    };
    let outwards = async {
        while let Some(next) = outgoing.recv().await {
            match next {
                Outgoing::Bytes(bytes) => write(&mut to_socket, &bytes, byte_pause).await?,
                Outgoing::Flood(piece) => loop {
                    write(&mut to_socket, &piece, byte_pause).await?;
                    sleep(FLOOD_PAUSE).await;
                },
            }
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::select! {
        () = inwards => {}
        () = cut => {}
        _ = outwards => {}
    }
}

async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    byte_pause: Option<Duration>,
) -> std::io::Result<()> {
    let Some(pause) = byte_pause else {
        to.write_all(bytes).await?;
        return to.flush().await;
    };
    for byte in bytes {
        to.write_all(&[*byte]).await?;
        to.flush().await?;
        sleep(pause).await;
    }
    Ok(())
}

async fn next_frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER_BYTES];
    from.read_exact(&mut bytes).await?;
    let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    let length = usize::try_from(length).unwrap();
    bytes.resize(HEADER_BYTES + length, 0);
    from.read_exact(&mut bytes[HEADER_BYTES..]).await?;
    Ok(bytes)
}

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The settings of a server that has none.
pub(super) fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// A header field that is in no table: name and value of fewer than 127 bytes.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend(name.as_bytes());
    bytes.push(u8::try_from(value.len()).unwrap());
    bytes.extend(value);
    bytes
}

/// `bytes` so often that a flood's write has its size.
fn repeated(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat(FLOOD_BYTES.div_ceil(bytes.len()))
}

/// What is sent where the answer to `stream` should be.
pub(super) fn of(kind: Frames, stream: u32) -> Vec<Outgoing> {
    let status = vec![STATUS_200];
    let filler = field("x-filler", &[b'a'; 100]).repeat(20);
    let grpc = [status.clone(), field("content-type", b"application/grpc")].concat();
    let opened = || frame(HEADERS, END_HEADERS, stream, &grpc);
    let continuations = || Outgoing::Flood(repeated(&frame(CONTINUATION, 0, stream, &filler)));
    let once = |bytes| vec![Outgoing::Bytes(bytes)];
    match kind {
        Frames::Continuations => {
            let begun = frame(HEADERS, 0, stream, &grpc);
            vec![Outgoing::Bytes(begun), continuations()]
        }
        Frames::Trailers => {
            let data = frame(DATA, 0, stream, &[0, 0, 0, 0, 0]);
            let trailers = frame(HEADERS, END_STREAM, stream, &field("grpc-status", b"0"));
            let begun = [opened(), data, trailers].concat();
            vec![Outgoing::Bytes(begun), continuations()]
        }
        Frames::HugeHeaders => {
            let pieces = (1 << 20) / filler.len();
            let mut bytes = frame(HEADERS, END_STREAM, stream, &grpc);
            for _ in 0..pieces {
                bytes.extend(frame(CONTINUATION, 0, stream, &filler));
            }
            bytes.extend(frame(CONTINUATION, END_HEADERS, stream, &filler));
            once(bytes)
        }
        Frames::HeaderBomb => {
            // One field of 4,000 bytes enters the dynamic table, and is named 16,000 times. Its length
            // is 127 and then 3,873, seven bits at a time.
            let mut block = vec![STATUS_200, 0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
            block.extend([b'b'; 4_000]);
            let mut bytes = frame(HEADERS, END_STREAM, stream, &block);
            bytes.extend(frame(CONTINUATION, END_HEADERS, stream, &[0xbe; 16_000]));
            once(bytes)
        }
        Frames::Informational => {
            let hints = [vec![0x08, 3], b"103".to_vec()].concat();
            let hint = frame(HEADERS, END_HEADERS, stream, &hints);
            vec![Outgoing::Flood(repeated(&hint))]
        }
        Frames::EmptyData => {
            let data = frame(DATA, 0, stream, &[]);
            vec![Outgoing::Bytes(opened()), Outgoing::Flood(repeated(&data))]
        }
        Frames::Pings => vec![Outgoing::Flood(repeated(&frame(PING, 0, 0, &[7; 8])))],
        Frames::Settings => vec![Outgoing::Flood(repeated(&settings()))],
        Frames::Push => once(frame(
            PUSH_PROMISE,
            END_HEADERS,
            stream,
            &[vec![0, 0, 0, 2], status].concat(),
        )),
        Frames::UnknownStream => once(frame(DATA, 0, 1_000_001, b"nobody asked")),
        Frames::TooLarge => once(frame(DATA, 0, stream, &vec![0; 17 * 1024])),
        Frames::Window => {
            let raise = frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
            once([raise.clone(), raise].concat())
        }
    }
}
