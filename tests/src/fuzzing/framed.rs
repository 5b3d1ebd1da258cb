//! Messages between peers as gRPC carries them: framed, limited, and read by the wire's own codec.

use std::fmt::Debug;

use futures_util::{FutureExt, stream};
use prost::{
    Message,
    bytes::{Buf, BufMut},
};
use tonic::{
    Code, Status,
    codec::{Codec, EncodeBody, EncodeBuf, Encoder, Streaming},
};
use wire::codec::WholeCodec;

/// Writes whatever bytes, as a peer may.
struct Raw;

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&bytes);
        Ok(())
    }
}

/// The message that the bytes are, if they are one. Three read the same in them: the generic decoder
/// in one piece, the same over two pieces (`cut` chooses which), and the wire's codec behind gRPC's
/// frames, where each of two messages ends where it ends. What is longer than the receiver takes is
/// refused, and what the wire's codec writes is the message again.
pub(super) fn decoded<M>(bytes: &[u8], cut: u8) -> Option<M>
where
    M: Message + Default + PartialEq + Clone + Debug + 'static,
{
    let generic = M::decode(bytes);
    let (left, right) = bytes.split_at(bytes.len() * usize::from(cut) / 256);
    assert_eq!(
        M::decode(left.chain(right)).ok(),
        generic.as_ref().ok().cloned()
    );
    let message = generic.ok();

    let bytes = bytes.to_vec();
    let mut read = received(Raw, [bytes.clone(), bytes.clone()], bytes.len());
    for _ in 0..2 {
        match (next::<M>(&mut read), &message) {
            (Ok(read), Some(_)) => assert_eq!(read, message),
            (Err(status), None) => {
                assert_eq!(status.code(), Code::Internal, "{status}");
                break;
            }
            (read, _) => panic!("{message:?} was read as {read:?}"),
        }
    }
    if let Some(shorter) = bytes.len().checked_sub(1) {
        let refused = next::<M>(&mut received(Raw, [bytes], shorter)).unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    }

    let message = message?;
    let written = message.encode_to_vec();
    assert_eq!(M::decode(written.as_slice()).as_ref(), Ok(&message));
    let codec = &mut WholeCodec::<M, M>::default();
    let mut sent = received(codec.encoder(), [message.clone()], written.len());
    assert_eq!(next(&mut sent).unwrap().as_ref(), Some(&message));
    assert_eq!(next::<M>(&mut sent).unwrap(), None);
    Some(message)
}

/// These messages at their receiver, which takes none of more than so many bytes.
fn received<E, M, const N: usize>(encoder: E, sent: [E::Item; N], bytes_max: usize) -> Streaming<M>
where
    E: Encoder<Error = Status> + Send + 'static,
    E::Item: Send + 'static,
    M: Message + Default + 'static,
{
    let sent = stream::iter(sent.map(Ok));
    let body = EncodeBody::new_client(encoder, sent, None, Some(usize::MAX));
    let decoder = WholeCodec::<M, M>::default().decoder();
    Streaming::new_request(decoder, body, None, Some(bytes_max))
}

/// Everything is there: nothing has to be waited for.
fn next<M>(from: &mut Streaming<M>) -> Result<Option<M>, Status> {
    from.message().now_or_never().unwrap()
}
