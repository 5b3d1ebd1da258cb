//! Replies that are looked at before gRPC's client sees them: what it would misread is taken out, and
//! what is too large is known to have been found here, whatever a cosigner says of itself.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Bytes, HttpBody};
use futures_util::{TryFutureExt, future::MapOk};
use http::HeaderMap;
use http_body::Frame;
use tonic::{Status, body::Body, codegen::Service};

/// Bytes of one message of a reply at most; gRPC's client would take as many.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes before each message: a flag, and four of its length.
const PREFIX_BYTES: usize = 5;
/// More about a failed call, for whoever asks for it: nobody here. gRPC's client panics over one that
/// is not base64.
const DETAILS: &str = "grpc-status-details-bin";

/// A message announced a length that no honest cosigner's has.
#[derive(Debug, thiserror::Error)]
#[error("a message of {0} bytes")]
struct TooLarge(usize);

/// Whether a call failed because a message of its reply was too large to be read. A cosigner that
/// says so of the request says it without this source.
pub(in crate::cosigners) fn is_too_large(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<TooLarge>())
}

/// A channel whose replies are looked at.
#[derive(Clone)]
pub(in crate::cosigners) struct Guarded<S>(pub(in crate::cosigners) S);

type Guard = fn(http::Response<Body>) -> http::Response<Body>;

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = MapOk<S::Future, Guard>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let guard: Guard = |mut reply| {
            strip(reply.headers_mut());
            reply.map(|body| {
                Body::new(Reply {
                    body,
                    messages: Messages::default(),
                })
            })
        };
        self.0.call(request).map_ok(guard)
    }
}

fn strip(headers: &mut HeaderMap) {
    headers.remove(DETAILS);
}

/// The body of a reply.
struct Reply {
    body: Body,
    messages: Messages,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let looked_at = frame.map(|frame| {
            let mut frame = frame?;
            if let Some(trailers) = frame.trailers_mut() {
                strip(trailers);
            }
            if let Some(data) = frame.data_ref() {
                self.messages.follow(data).map_err(too_large)?;
            }
            Ok(frame)
        });
        Poll::Ready(looked_at)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn too_large(found: TooLarge) -> Status {
    let mut status = Status::out_of_range(found.to_string());
    status.set_source(Arc::new(found));
    status
}

/// Where in a row of messages, each behind its prefix, the bytes that were seen end.
#[derive(Default)]
struct Messages {
    prefix: Vec<u8>,
    /// Bytes of a message that are still to come.
    left: usize,
}

impl Messages {
    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        while !bytes.is_empty() {
            let wanted = match self.left {
                0 => PREFIX_BYTES.saturating_sub(self.prefix.len()),
                left => left,
            };
            let (seen, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.left > 0 {
                self.left = self.left.saturating_sub(seen.len());
                continue;
            }
            self.prefix.extend_from_slice(seen);
            let [flag, length @ ..] = self.prefix.as_slice() else {
                continue;
            };
            if *flag > 1 {
                // No message, perhaps a web page: gRPC's client says so.
                self.left = usize::MAX;
                continue;
            }
            if let Ok(length) = length.try_into().map(u32::from_be_bytes) {
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                self.prefix.clear();
            }
            if self.left > MESSAGE_BYTES_MAX {
                return Err(TooLarge(self.left));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        future::{Ready, ready},
    };

    use futures_util::FutureExt;
    use http::HeaderValue;
    use tonic::Code;
    use wire::proto::{StatusReply, StatusRequest, cosigner_client::CosignerClient};

    use super::*;

    const FAR_TOO_LARGE: usize = 64 * 1024 * 1024;

    fn prefix(length: usize) -> Vec<u8> {
        let length = u32::try_from(length).unwrap().to_be_bytes();
        [&[0], length.as_slice()].concat()
    }

    #[test]
    fn lengths_are_found_wherever_the_pieces_end() {
        let rows: [(&[usize], Option<usize>); 5] = [
            (&[0, 0, 7], None),
            (&[MESSAGE_BYTES_MAX], None),
            (&[MESSAGE_BYTES_MAX + 1], Some(MESSAGE_BYTES_MAX + 1)),
            (&[3, FAR_TOO_LARGE, 1], Some(FAR_TOO_LARGE)),
            (&[0, 300, 0xffff_ffff], Some(0xffff_ffff)),
        ];
        for (lengths, found) in rows {
            let mut bytes = Vec::new();
            for length in lengths {
                bytes.extend(prefix(*length));
                // Read as a prefix, they would be of what is far too large.
                bytes.extend(vec![0xff; (*length).min(MESSAGE_BYTES_MAX)]);
            }
            for piece in [1, 3, 5, 7, 1_000, bytes.len()] {
                let mut messages = Messages::default();
                let mut pieces = bytes.chunks(piece);
                let problem = pieces.find_map(|piece| messages.follow(piece).err());
                let problem = problem.map(|TooLarge(length)| length);
                assert_eq!(problem, found, "{lengths:?} in pieces of {piece}");
            }
        }
    }

    /// Answers every call so.
    #[derive(Clone, Default)]
    struct Cosigner {
        headers: HeaderMap,
        bytes: Vec<u8>,
        trailers: HeaderMap,
    }

    impl Service<http::Request<Body>> for Cosigner {
        type Response = http::Response<Body>;
        type Error = std::convert::Infallible;
        type Future = Ready<Result<http::Response<Body>, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            let said = self.clone();
            let frames = [
                Frame::data(said.bytes.into()),
                Frame::trailers(said.trailers),
            ];
            let mut response = http::Response::new(Body::new(Frames(frames.into())));
            *response.headers_mut() = said.headers;
            ready(Ok(response))
        }
    }

    struct Frames(VecDeque<Frame<Bytes>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn asked(cosigner: &Cosigner) -> Result<StatusReply, Status> {
        let mut client = CosignerClient::new(Guarded(cosigner.clone()));
        let called = client.status(StatusRequest {}).now_or_never().unwrap();
        called.map(tonic::Response::into_inner)
    }

    fn says(code: &'static str, message: &'static str) -> HeaderMap {
        let header = |name: &'static str, value| (name.parse().unwrap(), value);
        HeaderMap::from_iter([
            header("grpc-status", HeaderValue::from_static(code)),
            header("grpc-message", HeaderValue::from_static(message)),
        ])
    }

    #[test]
    fn what_is_found_too_large_here_is_told_from_what_a_cosigner_finds_too_large() {
        let good = Cosigner {
            bytes: prefix(0),
            trailers: says("0", ""),
            ..Cosigner::default()
        };
        assert_eq!(asked(&good).unwrap(), StatusReply::default());
        let too_large = [
            prefix(MESSAGE_BYTES_MAX + 1),
            [prefix(0), prefix(FAR_TOO_LARGE)].concat(),
        ];
        for bytes in too_large {
            // Whatever it says besides.
            for headers in [HeaderMap::new(), says("0", "")] {
                let trailers = says("11", "yours is too large");
                let cosigner = Cosigner {
                    headers,
                    bytes: bytes.clone(),
                    trailers,
                };
                assert!(is_too_large(&asked(&cosigner).unwrap_err()));
            }
        }
        let words = "a message of 67108864 bytes";
        let (headers, trailers) = (says("11", words), says("11", words));
        for cosigner in [
            Cosigner {
                headers,
                ..Cosigner::default()
            },
            Cosigner { trailers, ..good },
        ] {
            let status = asked(&cosigner).unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::OutOfRange, words));
            assert!(!is_too_large(&status));
        }
    }

    #[test]
    fn a_web_page_is_not_taken_for_a_message_that_is_too_large() {
        let page = Cosigner {
            bytes: b"<html>It works!</html>".repeat(10),
            ..Cosigner::default()
        };
        let status = asked(&page).unwrap_err();
        assert!(!is_too_large(&status), "{status}");
        let mut messages = Messages::default();
        let mut bytes = page.bytes.chunks(1);
        assert!(bytes.all(|byte| messages.follow(byte).is_ok()));
    }

    #[test]
    fn details_that_are_none_are_no_harm() {
        let mut bad = says("13", "it is");
        bad.insert(DETAILS, HeaderValue::from_static("no base64!"));
        let in_headers = Cosigner {
            headers: bad.clone(),
            ..Cosigner::default()
        };
        let in_trailers = Cosigner {
            trailers: bad,
            ..Cosigner::default()
        };
        for cosigner in [in_headers, in_trailers] {
            let status = asked(&cosigner).unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::Internal, "it is"));
        }
    }
}
