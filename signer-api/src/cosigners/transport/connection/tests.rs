use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use futures_util::future::poll_fn;
use h2::{Reason, RecvStream, server};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, copy, duplex, split};

use super::*;

/// Notes what is written at a time, of several pieces or one, as TLS takes it.
struct Noted {
    stream: DuplexStream,
    writes: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.lock().push(bytes.to_vec());
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &**piece).collect();
        self.poll_write(context, &pieces.concat())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The kinds of the frames in these bytes (RFC 9113, section 4.1: a length of three bytes, a kind, and
/// five more bytes before what they carry).
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, rest @ ..] = bytes {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        kinds.push(*kind);
        bytes = &rest[5 + length..];
    }
    kinds
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;

fn head() -> http::Request<()> {
    let head = http::Request::post("http://cosigner-1/countersign.cosigner.v1.Cosigner/Sign");
    head.body(()).unwrap()
}

/// All of a request's message.
async fn read(mut message: RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = message.data().await {
        let data = data.unwrap();
        message.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

/// A peer that answers each call with its own message, `times` over, and trailers.
async fn repeating(stream: DuplexStream, times: usize) {
    let mut connection = server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let message = read(request.into_body()).await;
            let mut reply = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            reply
                .send_data(message.repeat(times).into(), false)
                .unwrap();
            let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
            reply.send_trailers(trailers.into_iter().collect()).unwrap();
        });
    }
}

/// As [`repeating`], over a way on which 1,000 bytes come back every half second.
fn repeating_slowly(times: usize) -> DuplexStream {
    let (near, far) = duplex(1 << 10);
    let (relay, slow) = duplex(1 << 10);
    tokio::spawn(repeating(slow, times));
    tokio::spawn(async move {
        let (mut from_near, mut to_near) = split(far);
        let (mut from_far, mut to_far) = split(relay);
        tokio::spawn(async move { copy(&mut from_near, &mut to_far).await });
        let mut piece = [0; 1_000];
        while let Ok(bytes @ 1..) = from_far.read(&mut piece).await {
            sleep(Duration::from_millis(500)).await;
            to_near.write_all(&piece[..bytes]).await.unwrap();
        }
    });
    near
}

async fn called(connection: &Calls, message: Vec<u8>) -> Result<(Vec<u8>, bool), CallError> {
    let ready = connection.clone().ready().await?;
    let mut reply = ready.call(head(), message.into()).await?.into_body();
    let (mut all, mut has_trailers) = (Vec::new(), false);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut reply).poll_frame(context)).await {
        match frame?.into_data() {
            Ok(data) => all.extend_from_slice(&data),
            Err(frame) => has_trailers = frame.is_trailers(),
        }
    }
    Ok((all, has_trailers))
}

#[tokio::test]
async fn a_calls_head_and_message_leave_in_one_write() {
    let (near, far) = duplex(1 << 20);
    let writes = Arc::default();
    let noted = Noted {
        stream: near,
        writes: Arc::clone(&writes),
    };
    tokio::spawn(repeating(far, 1));
    let connection = open(noted).await.unwrap();
    // Of one item and of a whole batch.
    for bytes in [1, 100, 300, 12_000] {
        let message = vec![7; bytes];
        assert_eq!(
            called(&connection, message.clone()).await.unwrap(),
            (message, true)
        );
        // What is said of the connection itself may come before, after, or in between.
        let writes = std::mem::take(&mut *writes.lock());
        let writes = writes.iter().map(|write| {
            kinds(
                write
                    .strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                    .unwrap_or(write),
            )
        });
        let of_the_call = |kinds: Vec<u8>| -> Vec<u8> {
            kinds
                .into_iter()
                .filter(|kind| [DATA, HEADERS].contains(kind))
                .collect()
        };
        let writes: Vec<_> = writes
            .map(of_the_call)
            .filter(|kinds| !kinds.is_empty())
            .collect();
        assert_eq!(writes, [[HEADERS, DATA]], "a message of {bytes} bytes");
    }
}

#[tokio::test]
async fn a_reply_that_is_larger_than_what_may_be_on_its_way_comes_whole() {
    let (near, far) = duplex(1 << 16);
    tokio::spawn(repeating(far, 40));
    let connection = open(near).await.unwrap();
    let message = vec![9; 100_000];
    for _ in 0..3 {
        let (reply, has_trailers) = called(&connection, message.clone()).await.unwrap();
        assert_eq!((reply.len(), has_trailers), (4_000_000, true));
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_is_given_up() {
    let (near, far) = duplex(1 << 16);
    let given_up = tokio::spawn(async move {
        let mut connection = server::handshake(far).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let reset = poll_fn(|context| respond.poll_reset(context));
        tokio::select! {
            reset = reset => reset.unwrap(),
            _ = connection.accept() => panic!("another call"),
        }
    });
    let connection = open(near).await.unwrap();
    let asked = called(&connection, vec![1; 10]);
    let waited = timeout(Duration::from_millis(100), asked).await;
    assert!(waited.is_err(), "nobody answers");
    assert_eq!(given_up.await.unwrap(), Reason::CANCEL);
}

#[tokio::test]
async fn no_call_waits_here_for_a_place_there() {
    let (near, far) = duplex(1 << 16);
    let peer = tokio::spawn(async move {
        let mut connection = server::Builder::new()
            .max_concurrent_streams(2)
            .handshake::<_, Bytes>(far)
            .await
            .unwrap();
        let mut held = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            held.push(
                respond
                    .send_response(http::Response::new(()), false)
                    .unwrap(),
            );
            if held.len() == 3 {
                // Says, after the reply's head, that it wants no more of the call, as one that has answered.
                let mut third = held.remove(2);
                tokio::spawn(async move {
                    sleep(Duration::from_millis(50)).await;
                    third.send_reset(Reason::NO_ERROR);
                });
            }
        }
    });
    let connection = open(near).await.unwrap();
    let call = || async {
        let ready = connection.clone().ready().await.unwrap();
        ready.call(head(), vec![1; 10].into()).await
    };
    // The first says how many there may be.
    let (first, second) = (call().await.unwrap(), call().await.unwrap());
    let Err(error) = call().await else {
        panic!("a third call at once")
    };
    assert_eq!(error.to_string(), "it takes only 2 calls at once");
    // A place is free when a reply is read, or is not wanted any more.
    drop(first);
    let mut third = call().await.unwrap().into_body();
    let end = poll_fn(|context| Pin::new(&mut third).poll_frame(context)).await;
    assert!(end.is_none(), "{end:?}");
    drop((second, connection));
    peer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_is_noticed() {
    // It takes everything.
    let (near, _far) = duplex(1 << 16);
    let connection = open(near).await.unwrap();
    let began = Instant::now();
    called(&connection, vec![1; 10]).await.unwrap_err();
    let waited = began.elapsed();
    assert!(waited >= PING_TIMEOUT, "{waited:?}");
    let at_most = PING_INTERVAL + PING_TIMEOUT + Duration::from_secs(1);
    assert!(waited <= at_most, "{waited:?}");
    called(&connection, vec![1; 10]).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_nothing_and_says_something_all_the_time_is_noticed() {
    let (near, mut far) = duplex(1 << 16);
    tokio::spawn(async move {
        // Its settings come first, then frames of a kind that nobody knows (RFC 9113, section 5.5).
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        while far.write_all(&[0, 0, 0, 99, 0, 0, 0, 0, 0]).await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
    });
    let connection = open(near).await.unwrap();
    let began = Instant::now();
    let asked = called(&connection, vec![1; 10]);
    let asked = timeout(ANSWER_WAIT + PING_INTERVAL + 2 * PING_TIMEOUT, asked).await;
    asked.expect("the connection has ended").unwrap_err();
    assert!(began.elapsed() >= ANSWER_WAIT, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_slow_is_waited_for() {
    // Its reply comes so slowly that a ping's answer, behind it, is late.
    let connection = open(repeating_slowly(300)).await.unwrap();
    let began = Instant::now();
    let (reply, _) = called(&connection, vec![1; 100]).await.unwrap();
    assert_eq!(reply.len(), 30_000);
    assert!(began.elapsed() > PING_INTERVAL + 2 * PING_TIMEOUT);
    assert!(began.elapsed() < ANSWER_WAIT);

    // It answers a call after a minute, and what belongs to the connection at once.
    let (near, far) = duplex(1 << 16);
    tokio::spawn(async move {
        let mut connection = server::handshake(far).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                sleep(Duration::from_secs(60)).await;
                let reply = http::Response::new(());
                respond.send_response(reply, true).unwrap();
            });
        }
    });
    let connection = open(near).await.unwrap();
    let answered = called(&connection, vec![1; 10]).await.unwrap();
    assert_eq!(answered, (vec![], false));
}
