//! One call: read, answered by what the liar says, and delivered as it delivers.

use std::{
    future::{pending, poll_fn},
    sync::Arc,
    time::Duration,
};

use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::{Message, bytes::Bytes};
use tokio::time::sleep;
use wire::proto::SignRequest;

use super::{
    Member, Work,
    answers::{Answer, Method},
    connections::{DRIP, Wire},
    frames,
    lies::{Lie, On, Trouble},
};

/// Every reason that HTTP/2 has.
const REASONS: [Reason; 14] = [
    Reason::NO_ERROR,
    Reason::PROTOCOL_ERROR,
    Reason::INTERNAL_ERROR,
    Reason::FLOW_CONTROL_ERROR,
    Reason::SETTINGS_TIMEOUT,
    Reason::STREAM_CLOSED,
    Reason::FRAME_SIZE_ERROR,
    Reason::REFUSED_STREAM,
    Reason::CANCEL,
    Reason::COMPRESSION_ERROR,
    Reason::CONNECT_ERROR,
    Reason::ENHANCE_YOUR_CALM,
    Reason::INADEQUATE_SECURITY,
    Reason::HTTP_1_1_REQUIRED,
];
const HTTP_STATUSES: [u16; 4] = [404, 502, 301, 204];
const HUGE_BYTES: usize = 64 * 1024 * 1024;
/// What is sent at once of what is large, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// A call that has come.
pub(super) struct Call {
    pub(super) member: Arc<Member>,
    pub(super) connection: u64,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) wire: Wire,
}

/// Why an answer was not delivered as it should have been: the peer does not want it any more.
type Delivered = Result<(), h2::Error>;

/// Answers one call.
pub(super) async fn answer(call: Call) {
    let Call {
        member,
        connection,
        request,
        respond,
        wire,
    } = call;
    let method = Method::of(request.uri().path());
    let Ok(message) = read(request.into_body()).await else {
        return;
    };
    let lie = member.counted(method, connection);
    let trouble = match &*lie {
        Lie::Stream(trouble, On::Both) if method.is_asked() => {
            let turn = if trouble.comes_and_goes() {
                member.every_second(work(method, &message))
            } else {
                Some(member.turn())
            };
            turn.map(|turn| (*trouble, turn))
        }
        Lie::Stream(trouble, On::Sign) if method == Method::Sign => Some((*trouble, member.turn())),
        _ => None,
    };
    let answer = member.answer(&lie, method, &message).await;
    let _ = match trouble {
        Some((trouble, turn)) => with_trouble(respond, answer, trouble, turn, &wire).await,
        None => deliver(respond, answer).await,
    };
}

fn work(method: Method, message: &[u8]) -> Work {
    match method {
        Method::Sign => Work::of(&SignRequest::decode(message).unwrap()),
        _ => Work::Promise,
    }
}

/// The message of a request: what follows its five bytes.
async fn read(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.split_off(bytes.len().min(5)))
}

fn grpc() -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(()).unwrap()
}

fn ok() -> HeaderMap {
    HeaderMap::from_iter([(
        "grpc-status".parse().unwrap(),
        HeaderValue::from_static("0"),
    )])
}

/// A message with what stands before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

async fn deliver(mut respond: SendResponse<Bytes>, answer: Answer) -> Delivered {
    match answer {
        Answer::Messages(messages) => {
            let mut stream = respond.send_response(grpc(), false)?;
            for message in messages {
                send(&mut stream, framed(&message)).await?;
            }
            stream.send_trailers(ok())
        }
        Answer::Again(message) => {
            let mut stream = respond.send_response(grpc(), false)?;
            loop {
                send(&mut stream, framed(&message)).await?;
            }
        }
        Answer::Status(code, message) => {
            let mut response = grpc();
            let headers = response.headers_mut();
            headers.insert("grpc-status", code.to_string().parse().unwrap());
            if let Ok(message) = message.parse() {
                headers.insert("grpc-message", message);
            }
            respond.send_response(response, true).map(|_| ())
        }
    }
}

/// Sends no faster than the peer takes it.
async fn send(stream: &mut SendStream<Bytes>, bytes: Vec<u8>) -> Delivered {
    let mut bytes = Bytes::from(bytes);
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len().min(PIECE_BYTES));
        let room = match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(room) => room?,
            None => return Err(Reason::CANCEL.into()),
        };
        let piece = bytes.split_to(room.min(bytes.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}

async fn drip(stream: &mut SendStream<Bytes>, bytes: &[u8], pause: Duration) -> Delivered {
    for byte in bytes {
        send(stream, vec![*byte]).await?;
        sleep(pause).await;
    }
    Ok(())
}

async fn with_trouble(
    mut respond: SendResponse<Bytes>,
    answer: Answer,
    trouble: Trouble,
    turn: usize,
    wire: &Wire,
) -> Delivered {
    let reason = REASONS[turn % REASONS.len()];
    let Answer::Messages(messages) = answer else {
        return deliver(respond, answer).await;
    };
    let bytes = framed(&messages.concat());
    let html = |status: u16| {
        let page = Response::builder()
            .status(status)
            .header("content-type", "text/html");
        page.body(()).unwrap()
    };
    match trouble {
        Trouble::NoHeaders => return pending().await,
        Trouble::Resets => {
            respond.send_reset(reason);
            return Ok(());
        }
        Trouble::GoesAway => {
            let _ = wire.goodbye.send(reason);
            return pending().await;
        }
        Trouble::Frames(kind) => {
            let stream = respond.stream_id().as_u32();
            for outgoing in frames::of(kind, stream) {
                let _ = wire.frames.send(outgoing).await;
            }
            return pending().await;
        }
        Trouble::ContentType | Trouble::HttpStatus => {
            let status = match trouble {
                Trouble::ContentType => 200,
                _ => HTTP_STATUSES[turn % HTTP_STATUSES.len()],
            };
            let mut stream = respond.send_response(html(status), false)?;
            return stream.send_data(Bytes::from_static(b"<html>It works!</html>"), true);
        }
        _ => {}
    }
    let stream = &mut respond.send_response(grpc(), false)?;
    match trouble {
        Trouble::NoBody => return pending().await,
        Trouble::HalfBody | Trouble::ResetsMidway => {
            send(stream, bytes[..bytes.len() / 2].to_vec()).await?;
            if trouble == Trouble::HalfBody {
                return pending().await;
            }
            // Else the reset may overtake the data.
            sleep(Duration::from_millis(5)).await;
            stream.send_reset(reason);
            return Ok(());
        }
        Trouble::NoEnd => {
            send(stream, bytes).await?;
            return pending().await;
        }
        Trouble::Drips => drip(stream, &bytes, DRIP).await?,
        Trouble::Huge => {
            let length = u32::try_from(HUGE_BYTES).unwrap().to_be_bytes();
            send(stream, [&[0], &length[..]].concat()).await?;
            for _ in 0..HUGE_BYTES / PIECE_BYTES {
                send(stream, vec![0x0a; PIECE_BYTES]).await?;
            }
        }
        Trouble::Endless => {
            send(stream, vec![0, 0xff, 0xff, 0xff, 0xff]).await?;
            loop {
                send(stream, vec![0x0a; 1_000]).await?;
                sleep(Duration::from_millis(10)).await;
            }
        }
        Trouble::Compressed => {
            let mut bytes = bytes;
            bytes[0] = 1;
            send(stream, bytes).await?;
        }
        Trouble::Malformed => send(stream, framed(&[0x0a, 0xff, 0xff, 0x03, 0x5a])).await?,
        Trouble::NoStatus => {
            send(stream, bytes).await?;
            return stream.send_data(Bytes::new(), true);
        }
        Trouble::Details => {
            let mut trailers = ok();
            trailers.insert("grpc-status", HeaderValue::from_static("13"));
            trailers.insert(
                "grpc-status-details-bin",
                HeaderValue::from_static("no base64!"),
            );
            return stream.send_trailers(trailers);
        }
        Trouble::WordyStatus => {
            send(stream, bytes).await?;
            let mut trailers = ok();
            trailers.insert("grpc-status", HeaderValue::from_static("fine"));
            return stream.send_trailers(trailers);
        }
        _ => {}
    }
    stream.send_trailers(ok())
}
