//! Batches as they are sent: of items that were encoded once, however many cosigners get them.

use std::marker::PhantomData;

use duty::SigningOrder;
use prost::{
    Message,
    bytes::{BufMut, Bytes},
};
use threshold::{Ballot, round::Lead};
use tonic::{
    Request, Status,
    client::{Grpc, GrpcService},
    codec::{Codec, EncodeBuf, Encoder},
    codegen::{Body, StdError, http::uri::PathAndQuery},
};

use crate::{ballot_to_proto, codec::SoleDecoder, lead_to_proto, order_to_proto, proto};

/// An item of a batch as it travels: without a lead, a `PromiseItem` and a `SignItem` are the same
/// bytes, which clones share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Item(Bytes);

impl Item {
    /// Encodes the item. A ballot is for slashable duties, a lead for signatures without a promise.
    #[must_use]
    pub fn new(order: &SigningOrder, ballot: Option<&Ballot>, lead: Option<Lead>) -> Self {
        let item = proto::SignItem {
            order: Some(order_to_proto(order)),
            ballot: ballot.map(ballot_to_proto),
            lead: lead_to_proto(lead),
        };
        Self(item.encode_to_vec().into())
    }
}

/// A `PromiseRequest` or a `SignRequest`, on its way out: the former says nothing of `scaled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    items: Vec<Item>,
    scaled: bool,
}

impl Batch {
    /// Asks for promises. 1 to [`BATCH_MAX`](crate::BATCH_MAX) items.
    #[must_use]
    pub const fn promises(items: Vec<Item>) -> Self {
        Self {
            items,
            scaled: false,
        }
    }

    /// Asks for partial signatures, scaled where that is possible. 1 to
    /// [`BATCH_MAX`](crate::BATCH_MAX) items.
    #[must_use]
    pub const fn signatures(items: Vec<Item>) -> Self {
        Self {
            items,
            scaled: true,
        }
    }

    /// The items, in order.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// As its receiver reads it, if it is one of `R`.
    ///
    /// # Errors
    /// When it is not.
    pub fn read<R: Message + Default>(&self) -> Result<R, prost::DecodeError> {
        R::decode(self.to_bytes().as_slice())
    }

    /// The message's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sent = Vec::with_capacity(self.encoded_len());
        self.encode(&mut sent);
        sent
    }

    /// Bytes that [`Batch::encode`] writes.
    fn encoded_len(&self) -> usize {
        let items = self.items.iter();
        let items = items.map(|Item(item)| prost::encoding::bytes::encoded_len(ITEMS, item));
        let scaled = if self.scaled {
            prost::encoding::bool::encoded_len(SCALED, &self.scaled)
        } else {
            0
        };
        items.sum::<usize>().saturating_add(scaled)
    }

    fn encode(&self, to: &mut impl BufMut) {
        for Item(item) in &self.items {
            prost::encoding::bytes::encode(ITEMS, item, to);
        }
        if self.scaled {
            prost::encoding::bool::encode(SCALED, &self.scaled, to);
        }
    }
}

/// The members' numbers in the protocol file.
const ITEMS: u32 = 1;
const SCALED: u32 = 2;

/// Asks a cosigner to promise.
///
/// # Errors
/// The call's status.
pub async fn promise<S>(cosigner: S, batch: Request<Batch>) -> Result<proto::PromiseReply, Status>
where
    S: GrpcService<tonic::body::Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    call(cosigner, "/countersign.cosigner.v1.Cosigner/Promise", batch).await
}

/// Asks a cosigner for partial signatures.
///
/// # Errors
/// The call's status.
pub async fn sign<S>(cosigner: S, batch: Request<Batch>) -> Result<proto::SignReply, Status>
where
    S: GrpcService<tonic::body::Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    call(cosigner, "/countersign.cosigner.v1.Cosigner/Sign", batch).await
}

/// As the generated client does it.
async fn call<S, R>(cosigner: S, path: &'static str, batch: Request<Batch>) -> Result<R, Status>
where
    S: GrpcService<tonic::body::Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as Body>::Error: Into<StdError> + Send,
    R: Message + Default + Send + Sync + 'static,
{
    let mut client = Grpc::new(cosigner);
    client.ready().await.map_err(|error| {
        let error: StdError = error.into();
        Status::unknown(format!("Service was not ready: {error}"))
    })?;
    let path = PathAndQuery::from_static(path);
    let answered = client.unary(batch, path, Batches(PhantomData)).await;
    answered.map(tonic::Response::into_inner)
}

/// A batch there, an `R` back.
struct Batches<R>(PhantomData<R>);

impl<R: Message + Default + Send + Sync + 'static> Codec for Batches<R> {
    type Encode = Batch;
    type Decode = R;
    type Encoder = BatchEncoder;
    type Decoder = SoleDecoder<R>;

    fn encoder(&mut self) -> BatchEncoder {
        BatchEncoder
    }

    fn decoder(&mut self) -> SoleDecoder<R> {
        SoleDecoder::default()
    }
}

struct BatchEncoder;

impl Encoder for BatchEncoder {
    type Item = Batch;
    type Error = Status;

    fn encode(&mut self, batch: Batch, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&batch.to_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use duty::{Duty, Epoch, ForkVersion, PublicKey, Root, SigningRoot, Slot};

    use super::*;

    fn order(duty: Duty) -> SigningOrder {
        SigningOrder {
            validator: PublicKey([7; 48]),
            fork_version: ForkVersion([1, 2, 3, 4]),
            genesis_validators_root: Root([9; 32]),
            duty,
        }
    }

    fn bytes(batch: &Batch) -> Vec<u8> {
        let bytes = batch.to_bytes();
        assert_eq!(bytes.len(), batch.encoded_len());
        bytes
    }

    #[test]
    fn a_batch_is_the_bytes_of_the_message_that_it_stands_for() {
        let ballot = Ballot {
            round: 3,
            root: SigningRoot([5; 32]),
        };
        let orders = [
            (order(Duty::AggregateAndProof(Root([1; 32]))), None),
            (order(Duty::AggregationSlot(Slot(0))), None),
            (order(Duty::RandaoReveal(Epoch(u64::MAX))), Some(ballot)),
        ];
        for count in 0..=orders.len() {
            let orders = &orders[..count];
            let items = |(order, ballot): &(SigningOrder, Option<Ballot>)| {
                Item::new(order, ballot.as_ref(), None)
            };
            let items: Vec<Item> = orders.iter().map(items).collect();
            let promises = proto::PromiseRequest {
                items: orders
                    .iter()
                    .map(|(order, ballot)| proto::PromiseItem {
                        order: Some(order_to_proto(order)),
                        ballot: ballot.as_ref().map(ballot_to_proto),
                    })
                    .collect(),
            };
            let signatures = proto::SignRequest {
                items: orders
                    .iter()
                    .map(|(order, ballot)| proto::SignItem {
                        order: Some(order_to_proto(order)),
                        ballot: ballot.as_ref().map(ballot_to_proto),
                        lead: 0,
                    })
                    .collect(),
                scaled: true,
            };
            let batch = Batch::promises(items.clone());
            assert_eq!(bytes(&batch), promises.encode_to_vec());
            assert_eq!(batch.read(), Ok(promises));
            let batch = Batch::signatures(items);
            assert_eq!(bytes(&batch), signatures.encode_to_vec());
            assert_eq!(batch.read(), Ok(signatures));
        }
    }
}
