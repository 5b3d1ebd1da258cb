//! Messages to and from gRPC's buffers, whole.
//!
//! A buffer of tonic's is written and read byte by byte, through several layers: a batch takes several
//! times as long so as it takes in memory that lies in one piece. The bytes are the same.

use std::{error::Error, marker::PhantomData, sync::Arc};

use prost::{
    Message,
    bytes::{Buf, BufMut},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Sends a `T`, receives a `U`.
#[derive(Debug)]
pub struct WholeCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for WholeCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for WholeCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WholeEncoder<T>;
    type Decoder = WholeDecoder<U>;

    fn encoder(&mut self) -> WholeEncoder<T> {
        WholeEncoder(PhantomData)
    }

    fn decoder(&mut self) -> WholeDecoder<U> {
        WholeDecoder(PhantomData)
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct WholeEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for WholeEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message.encode_to_vec());
        Ok(())
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct WholeDecoder<U>(PhantomData<U>);

impl<U> Default for WholeDecoder<U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<U: Message + Default> Decoder for WholeDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let message = U::decode(&*bytes);
        let message = message.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}

/// Reads the only message of a reply. gRPC's client would pass over a second one.
#[derive(Debug)]
pub struct SoleDecoder<U> {
    messages: WholeDecoder<U>,
    has_read: bool,
}

impl<U> Default for SoleDecoder<U> {
    fn default() -> Self {
        Self {
            messages: WholeDecoder::default(),
            has_read: false,
        }
    }
}

impl<U: Message + Default> Decoder for SoleDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if std::mem::replace(&mut self.has_read, true) {
            let mut status = Status::internal(Another.to_string());
            status.set_source(Arc::new(Another));
            return Err(status);
        }
        self.messages.decode(from)
    }
}

/// There was another message where there is one.
#[derive(Debug, thiserror::Error)]
#[error("several messages for one call")]
struct Another;

/// Whether a call failed because its reply was more than one message.
#[must_use]
pub fn is_several(status: &Status) -> bool {
    status.source().is_some_and(|source| source.is::<Another>())
}

#[cfg(test)]
mod tests;
