//! The methods of the protocol file: bounds, then the work, then the reply.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use slashing::Unavailable;
use tonic::{Request, Response, Status};
use wire::{
    BATCH_MAX, PAGE_MAX,
    proto::{
        LeadReply, LeadRequest, PromiseReply, PromiseRequest, SignReply, SignRequest, StatusReply,
        StatusRequest, ValidatorsPage, ValidatorsRequest, cosigner_server::Cosigner,
    },
};

use super::{STOPPING, Service, orders::Refusal, peers::Kind};

/// Larger batches are a burst's.
const CROWD: usize = 8;

fn bounded<T>(items: &[T]) -> Result<(), Status> {
    match items.len() {
        1..=BATCH_MAX => Ok(()),
        length => Err(Status::invalid_argument(format!(
            "a batch holds 1 to {BATCH_MAX} items, this one {length}"
        ))),
    }
}

impl Service {
    /// Does a batch's work here, or, of one that is `in_crowd`, where it delays no proposal.
    async fn delaying_none<T: Send + 'static, W: Future<Output = T> + Send + 'static>(
        &self,
        in_crowd: bool,
        work: impl FnOnce(Arc<Self>) -> W + Send,
    ) -> Result<T, Status> {
        let stopping = || Status::unavailable(STOPPING);
        let service = self.itself.upgrade().ok_or_else(stopping)?;
        let work = work(service);
        if in_crowd {
            self.parts.bulk.run(work).await.ok_or_else(stopping)
        } else {
            Ok(work.await)
        }
    }
}

#[tonic::async_trait]
impl Cosigner for Service {
    async fn promise(
        &self,
        request: Request<PromiseRequest>,
    ) -> Result<Response<PromiseReply>, Status> {
        let orders = request.get_ref().items.iter();
        let kind = Kind::of(orders.map(|item| item.order.as_ref()));
        let place = self.peers.admit_as(kind, &request)?;
        let items = request.into_inner().items;
        bounded(&items)?;
        let in_crowd = kind == Kind::Duties && items.len() > CROWD;
        let work = |service: Arc<Self>| async move {
            let _place = place;
            service.promise_all(items).await
        };
        let outcomes = self.delaying_none(in_crowd, work).await?;
        Ok(Response::new(PromiseReply { outcomes }))
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignReply>, Status> {
        let orders = request.get_ref().items.iter();
        let kind = Kind::of(orders.map(|item| item.order.as_ref()));
        let place = self.peers.admit_as(kind, &request)?;
        let SignRequest { items, scaled } = request.into_inner();
        bounded(&items)?;
        let in_crowd = kind == Kind::Duties && items.len() > CROWD;
        let work = |service: Arc<Self>| async move {
            let _place = place;
            service.sign_all(items, scaled).await
        };
        let outcomes = self.delaying_none(in_crowd, work).await?;
        let outcomes = outcomes.map_err(Status::invalid_argument)?;
        Ok(Response::new(SignReply { outcomes }))
    }

    async fn lead(&self, request: Request<LeadRequest>) -> Result<Response<LeadReply>, Status> {
        let _place = self.peers.admit(&request)?;
        let LeadRequest {
            lead,
            replaces,
            process,
        } = request.into_inner();
        let lead = wire::lead_from_proto(lead)
            .ok_or_else(|| Status::invalid_argument("a lead is a number above 0"))?;
        let replaces = wire::lead_from_proto(replaces);
        let begins = process == self.process;
        let led = self.lead(lead, replaces, begins).await;
        Ok(Response::new(wire::horizon_to_proto(led)))
    }

    type ValidatorsStream = Pin<Box<dyn Stream<Item = Result<ValidatorsPage, Status>> + Send>>;

    async fn validators(
        &self,
        request: Request<ValidatorsRequest>,
    ) -> Result<Response<Self::ValidatorsStream>, Status> {
        // The place is the stream's: it lasts as long as the listing is being read.
        let place = self.peers.admit(&request)?;
        let listing = self.parts.vault.listing();
        let generation = listing.generation;
        // An empty listing is one empty page, so that its generation is told too.
        let pages = listing.reports.len().div_ceil(PAGE_MAX).max(1);
        let page = move |number: usize| {
            let _place = &place;
            let reports = listing.reports.iter().skip(number.saturating_mul(PAGE_MAX));
            let validators = reports.take(PAGE_MAX).map(wire::report_to_proto).collect();
            Ok(ValidatorsPage {
                generation,
                validators,
            })
        };
        Ok(Response::new(Box::pin(stream::iter((0..pages).map(page)))))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusReply>, Status> {
        let _place = self.peers.admit(&request)?;
        let listing = self.parts.vault.listing();
        let answer = self.parts.ledger.ping().await;
        let ledger = match &answer {
            Ok(()) | Err(Unavailable::Quarantined(_)) => Some(self.ledger_state()),
            Err(
                Unavailable::Busy
                | Unavailable::Slow(_)
                | Unavailable::Unreachable(_)
                | Unavailable::Failed(_)
                | Unavailable::ClockJumped(_)
                | Unavailable::Taken(_)
                | Unavailable::Stopped,
            ) => None,
        };
        let not_ready = match answer {
            _ if self.is_stopping() => Some(STOPPING.to_owned()),
            Err(unavailable) => Some(Refusal::from(unavailable).message),
            Ok(()) if self.promises.is_starting() => {
                Some("nothing is promised in the first two seconds after a start".to_owned())
            }
            Ok(()) if ledger.is_some_and(|ledger| ledger.all_frozen) => {
                Some("an operator has frozen every validator".to_owned())
            }
            Ok(()) => None,
        };
        Ok(Response::new(StatusReply {
            ready: not_ready.is_none(),
            message: not_ready.unwrap_or_default(),
            generation: listing.generation,
            validators: u64::try_from(listing.reports.len()).unwrap_or(u64::MAX),
            ledger,
            process: self.process,
        }))
    }
}
