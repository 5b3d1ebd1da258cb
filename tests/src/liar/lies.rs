//! Ways to misbehave.

use std::time::Duration;

use bls12_381_plus::Scalar;

/// How a cosigner behaves.
#[derive(Debug, Clone)]
pub enum Lie {
    /// As the cosigner behind it does.
    Honest,
    /// As the cosigner behind it, but late: promises, and partials that need no promise.
    Slow(Duration),
    /// It promises everything at once, and signs falsely.
    Partial(FalsePartial),
    /// Well-formed replies that no honest cosigner gives.
    Reply(FalseReply),
    /// False words about itself.
    Status(FalseStatus),
    /// False words about its validators.
    Report(FalseReport),
    /// To every promise and signature another gRPC status: 1 to 16, 17, 2³¹, and from the start.
    Codes,
    /// It promises and signs as it should; the answers do not arrive as they should.
    Stream(Trouble, On),
    /// Nothing arrives as it should, its health included.
    Connection(Breach),
    /// The first is for the first connection that asks to promise or sign, the second for others.
    TwoFaced(Box<Lie>, Box<Lie>),
}

/// Which calls have trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Promises and signatures.
    Both,
    /// Signatures; it promises everything at once.
    Sign,
}

/// What stands where a partial signature should.
#[derive(Debug, Clone)]
pub enum FalsePartial {
    /// Its own, of whatever is asked: it has no ledger.
    Reckless,
    /// Its share's signature over another root.
    AnotherRoot,
    /// What the share of this member (from 1) signs.
    AnotherMembers(u64),
    /// What its share of another validator signs.
    AnotherValidators,
    /// What it gave honestly, some time ago.
    Replayed,
    /// So many bytes, as of its partial as there are.
    Length(usize),
    /// These 96 bytes.
    Bytes([u8; 96]),
    /// Its partial, with x written as a number that is not below the modulus.
    PlusModulus,
    /// Its partial and so many times the generator.
    Plus(Box<Scalar>),
    /// Its partial, with the bits of its first byte turned that this has: 0x80 says it is
    /// compressed, 0x40 that it is infinity, 0x20 which y it has.
    Flags(u8),
    /// Now its partial, now over another root.
    NowAndThen,
    /// In the scaled form.
    Scaled(FalseScaled),
}

/// What a partial says that is scaled, as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FalseScaled {
    /// Its plain partial, uncompressed, is of this scale; of 1 it is.
    Scale(u64),
    /// These bytes are of scale 1.
    Bytes(Vec<u8>),
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FalseReply {
    /// Each outcome twice.
    More,
    /// The last outcome is missing.
    Fewer,
    /// No outcomes.
    None,
    /// Outcomes that say nothing.
    Empty,
    /// The whole reply twice, as two messages.
    Twice,
    /// A partial and a refusal in one outcome.
    Both,
    /// What is asked for is outbid by a ballot of this round.
    Outbid(Outbidding),
    /// It says it has signed these bytes for the duty.
    Signed(Vec<u8>),
    /// Refused for this reason, as numbered in the protocol.
    Refused(i32),
    /// Refused for this reason, at great length.
    RefusedAtLength(i32),
    /// It promises everything; asked to sign, it refuses for this reason.
    PromisesThenRefuses(i32),
}

/// Which round outbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbidding {
    /// 2⁶³.
    Half,
    /// The last that there is.
    Last,
    /// So many more than the one asked for.
    By(u64),
    /// None: a ballot that is not higher.
    Lower,
}

/// What it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FalseStatus {
    /// It cannot sign.
    NotReady,
    /// In quarantine until epoch 2⁶⁴ − 1.
    Quarantined,
    /// It stops at this height.
    Stops(u64),
    /// Everything is frozen, and 2⁶⁴ − 1 validators one by one.
    Frozen,
    /// A megabyte of control characters.
    AtLength,
    /// Another set of validators each time, 2⁶⁴ − 1 of them.
    Restless,
    /// Its ledger does not answer it.
    NoLedger,
}

/// What it says of its validators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FalseReport {
    /// It claims this index.
    Index(u64),
    /// Commitments that nobody else has.
    Commitments,
    /// A commitment less: a lower threshold.
    LowerThreshold,
    /// A member less.
    Members,
    /// Points that are none.
    NoPoints,
    /// Every validator twice.
    Twice,
    /// Besides, validators that nobody else knows.
    Strangers,
    /// A listing without an end.
    Endless,
    /// Pages of one listing that are of different generations.
    Changing,
    /// None at all: as if it held no share.
    Nothing,
}

/// What happens to one answer, or by it to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No answer.
    NoHeaders,
    /// Headers, and nothing else.
    NoBody,
    /// Half of the message.
    HalfBody,
    /// All of it, but no end.
    NoEnd,
    /// One byte a second.
    Drips,
    /// A message of 64 MiB.
    Huge,
    /// A message that is said to have 4 GiB less a byte, and begins.
    Endless,
    /// It is said to be compressed.
    Compressed,
    /// It is no message.
    Malformed,
    /// Success, without a message.
    NoMessage,
    /// A web page.
    ContentType,
    /// Of every second answer, one of these HTTP statuses in turn: 404, 502, 301, 204.
    HttpStatus,
    /// No gRPC status at the end.
    NoStatus,
    /// A gRPC status that is no number.
    WordyStatus,
    /// A failure with details that are not base64.
    Details,
    /// Of every second answer, the stream is reset at once, for every reason in turn.
    Resets,
    /// The same, in the midst of the message.
    ResetsMidway,
    /// The connection is given up, for every reason in turn.
    GoesAway,
    /// Frames on the connection.
    Frames(Frames),
}

impl Trouble {
    /// Whether good answers come between: who only fails is soon not asked any more, and would not show
    /// all that it can do.
    pub(super) const fn comes_and_goes(self) -> bool {
        matches!(self, Self::HttpStatus | Self::Resets | Self::ResetsMidway)
    }
}

/// Frames that no honest peer sends, or not so many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// Headers that are continued for ever.
    Continuations,
    /// Trailers that are continued for ever.
    Trailers,
    /// Headers of a mebibyte.
    HugeHeaders,
    /// A few bytes that unpack to 64 MiB of headers.
    HeaderBomb,
    /// "Early hints" without an end.
    Informational,
    /// Data without a byte, without an end.
    EmptyData,
    /// Pings without an end.
    Pings,
    /// Settings without an end.
    Settings,
    /// A push, which nobody asked for.
    Push,
    /// Data of a stream that nobody opened.
    UnknownStream,
    /// A frame larger than agreed.
    TooLarge,
    /// A window that is too large for a window.
    Window,
}

/// How a connection is wrong from its first byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// Accepted, and closed.
    Closes,
    /// Accepted, and reset.
    Resets,
    /// Accepted, and nothing.
    SaysNothing,
    /// HTTP/2 without TLS.
    Plaintext,
    /// The certificate of this cosigner (from 1).
    Name(u64),
    /// A certificate of an authority that is not trusted.
    Authority,
    /// After the handshake, nothing.
    NoHttp2,
    /// After the handshake, HTTP/1.1.
    Http1,
    /// After the handshake, noise.
    Noise,
    /// After the handshake, one byte a second.
    Drips,
    /// After the settings, it goes away.
    GoesAway,
}

impl Lie {
    /// Whether connections must begin anew for it, or end with it.
    pub(super) fn severs(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Stream(trouble, _) => {
                matches!(trouble, Trouble::Frames(_) | Trouble::GoesAway)
            }
            _ => false,
        }
    }

    /// Whether what it lists is another than before.
    pub(super) fn relists(&self) -> bool {
        matches!(self, Self::Report(_))
    }

    /// What is wrong with its connections.
    pub(super) fn breach(&self) -> Option<Breach> {
        match self {
            Self::Connection(breach) => Some(*breach),
            _ => None,
        }
    }
}
