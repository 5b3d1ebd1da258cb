use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::{FutureExt, stream};
use tonic::{
    Request,
    body::Body,
    codec::{EncodeBody, SingleMessageCompressionOverride, Streaming},
    codegen::{Service, http},
};

use super::*;
use crate::{
    batches::{Batch, sign},
    proto::{SignOutcome, SignReply},
};

/// Replies that differ in length.
fn replies(count: usize) -> Vec<SignReply> {
    let reply = |at: usize| SignReply {
        outcomes: vec![SignOutcome::default(); (at + 1) * 100],
    };
    (0..count).map(reply).collect()
}

/// As a cosigner's gRPC frames them.
fn framed(replies: Vec<SignReply>) -> Body {
    let encoder = WholeCodec::<SignReply, SignReply>::default().encoder();
    let replies = stream::iter(replies.into_iter().map(Ok));
    let single = SingleMessageCompressionOverride::default();
    Body::new(EncodeBody::new_server(encoder, replies, None, single, None))
}

/// All that a decoder makes of them, up to its first error.
fn read<D>(decoder: D, replies: Vec<SignReply>) -> (Vec<SignReply>, Option<Status>)
where
    D: Decoder<Item = SignReply, Error = Status> + Send + 'static,
{
    let ok = http::StatusCode::OK;
    let mut from = Streaming::new_response(decoder, framed(replies), ok, None, None);
    let mut read = Vec::new();
    loop {
        // Everything is there: nothing has to be waited for.
        match from.message().now_or_never().unwrap() {
            Ok(Some(reply)) => read.push(reply),
            Ok(None) => return (read, None),
            Err(status) => return (read, Some(status)),
        }
    }
}

#[test]
fn an_only_message_and_none_are_read_as_by_whoever_takes_more() {
    for count in [0, 1] {
        let (sole, failed) = read(SoleDecoder::default(), replies(count));
        assert!(failed.is_none(), "{failed:?}");
        assert_eq!(sole, replies(count));
        let (whole, failed) = read(WholeDecoder::default(), replies(count));
        assert!(failed.is_none(), "{failed:?}");
        assert_eq!(whole, sole);
    }
}

#[test]
fn a_second_message_is_an_error_of_its_own_to_who_reads_one_only() {
    for count in [2, 3] {
        let (sole, failed) = read(SoleDecoder::default(), replies(count));
        assert_eq!(sole, replies(1));
        assert!(is_several(&failed.unwrap()));
        let (whole, failed) = read(WholeDecoder::default(), replies(count));
        assert!(failed.is_none(), "{failed:?}");
        assert_eq!(whole, replies(count));
    }
}

/// Answers every call with so many messages.
struct Cosigner(usize);

impl Service<http::Request<Body>> for Cosigner {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<http::Response<Body>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(http::Response::new(framed(replies(self.0)))))
    }
}

fn called(answers: usize) -> Result<SignReply, Status> {
    let batch = Request::new(Batch::signatures(Vec::new()));
    sign(Cosigner(answers), batch).now_or_never().unwrap()
}

#[test]
fn a_call_is_answered_by_one_message_and_by_several_it_is_known_to_have_failed() {
    assert_eq!(called(1).unwrap(), replies(1)[0]);
    assert!(is_several(&called(2).unwrap_err()));
    let none = called(0).unwrap_err();
    assert!(!is_several(&none), "{none}");
    assert!(!is_several(&Status::internal(Another.to_string())));
}
