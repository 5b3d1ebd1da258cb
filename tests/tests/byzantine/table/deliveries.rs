//! Trouble with how answers are delivered: streams, frames, connections.

use super::*;

fn trouble(name: &'static str, trouble: Trouble, fails: Reasons) -> Case {
    Case {
        fails,
        out: &[Word::Fails],
        ..case(name, move |_, _| Lie::Stream(trouble, On::Both))
    }
}

/// Trouble of so many kinds, each of which is seen, because good answers come between.
fn now_and_then(name: &'static str, with: Trouble, kinds: u64) -> Case {
    Case {
        proof: Proof::Promises(2 * kinds),
        out: &[],
        beyond: Beyond::Either,
        ..trouble(name, with, VARIOUS)
    }
}

/// More than is read.
fn too_much(name: &'static str, with: Trouble) -> Case {
    Case {
        blamed: Some("reply"),
        ..trouble(name, with, FAULTY)
    }
}

/// As [`trouble`], and nothing else arrives on its connection either.
fn broken(name: &'static str, with: Trouble) -> Case {
    Case {
        out: &[Word::Fails, Word::Silent],
        ..trouble(name, with, BROKEN)
    }
}

/// Trouble with signatures alone: promises have raised hopes.
pub(super) fn withheld(name: &'static str, trouble: Trouble, fails: Reasons) -> Case {
    Case {
        fails,
        proof: Proof::Signatures,
        late: A_BIT_LATE,
        ..case(name, move |_, _| Lie::Stream(trouble, On::Sign))
    }
}

fn breach(name: &'static str, breach: Breach) -> Case {
    Case {
        proof: Proof::Connections,
        fails: BROKEN,
        out: &[Word::Fails, Word::Silent],
        ..case(name, move |_, _| Lie::Connection(breach))
    }
}

pub(super) fn troubles() -> Vec<Case> {
    vec![
        Case {
            proof: Proof::Promises(2 * 18),
            fails: VARIOUS,
            beyond: Beyond::Either,
            ..case("every gRPC status", |_, _| Lie::Codes)
        },
        trouble("no answer", Trouble::NoHeaders, TIMED_OUT),
        trouble("headers, no more", Trouble::NoBody, TIMED_OUT),
        trouble("half a message", Trouble::HalfBody, TIMED_OUT),
        trouble("no end", Trouble::NoEnd, TIMED_OUT),
        trouble("a byte a second", Trouble::Drips, TIMED_OUT),
        withheld("signs a byte a second", Trouble::Drips, TIMED_OUT),
        too_much("64 MiB", Trouble::Huge),
        too_much("4 GiB, by and by", Trouble::Endless),
        trouble("compressed", Trouble::Compressed, FAULTY),
        trouble("no message of the protocol", Trouble::Malformed, FAULTY),
        trouble("no message", Trouble::NoMessage, FAULTY),
        trouble("a web page", Trouble::ContentType, FAULTY),
        now_and_then("HTTP statuses", Trouble::HttpStatus, 4),
        trouble("no gRPC status", Trouble::NoStatus, FAULTY),
        trouble("a gRPC status in words", Trouble::WordyStatus, FAULTY),
        trouble("details that are none", Trouble::Details, FAULTY),
        now_and_then("resets", Trouble::Resets, 14),
        now_and_then("resets midway", Trouble::ResetsMidway, 14),
        withheld("resets signatures", Trouble::Resets, VARIOUS),
        broken("goes away", Trouble::GoesAway),
        withheld("goes away from signatures", Trouble::GoesAway, BROKEN),
    ]
}

pub(super) fn floods() -> Vec<Case> {
    [
        ("endless headers", Frames::Continuations),
        ("endless trailers", Frames::Trailers),
        ("huge headers", Frames::HugeHeaders),
        ("headers that unpack", Frames::HeaderBomb),
        ("endless hints", Frames::Informational),
        ("endless data of no bytes", Frames::EmptyData),
        ("pings", Frames::Pings),
        ("settings", Frames::Settings),
        ("a push", Frames::Push),
        ("a stream of nobody", Frames::UnknownStream),
        ("a frame too large", Frames::TooLarge),
        ("a window too large", Frames::Window),
    ]
    .map(|(name, frames)| broken(name, Trouble::Frames(frames)))
    .into()
}

pub(super) fn breaches() -> Vec<Case> {
    vec![
        breach("closes connections", Breach::Closes),
        breach("resets connections", Breach::Resets),
        breach("says nothing", Breach::SaysNothing),
        breach("plaintext", Breach::Plaintext),
        Case {
            lie: Box::new(|scene, member| {
                Lie::Connection(Breach::Name(member % scene.members + 1))
            }),
            ..breach("another cosigner's certificate", Breach::Closes)
        },
        breach("another authority", Breach::Authority),
        breach("no HTTP/2", Breach::NoHttp2),
        breach("HTTP/1.1", Breach::Http1),
        breach("noise", Breach::Noise),
        breach("everything a byte a second", Breach::Drips),
        breach("goes away at once", Breach::GoesAway),
    ]
}
