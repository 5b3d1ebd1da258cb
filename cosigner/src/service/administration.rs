//! The operators' methods: shares, and orders about the ledger. An order is confirmed when it is
//! committed and in force: for every call that begins after the reply.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use daemon::serve::Peer;
use duty::{Epoch, PublicKey, Slot};
use futures_util::Stream;
use slashing::{
    administration::{self, AdministrationError, Freezing, Stop, Whom},
    rules::Watermark,
};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status, Streaming};
use wire::proto::{
    ExportHistoryRequest, FreezeReply, FreezeRequest, HistoryChunk, ImportHistoryReply,
    LedgerReply, LedgerRequest, LedgerState, RaiseReply, RaiseRequest, ReloadReply, ReloadRequest,
    StopAtReply, StopAtRequest, administration_server::Administration,
};

use super::{Service, history};

/// Validators that one order names at most.
const NAMED_MAX: usize = 100_000;
/// Validators that the reply to an import names at most.
const MINIFIED_MAX: usize = 1000;

#[tonic::async_trait]
impl Administration for Service {
    async fn reload(
        &self,
        request: Request<ReloadRequest>,
    ) -> Result<Response<ReloadReply>, Status> {
        let _place = self.peers.admit(&request)?;
        let reloaded = self.parts.vault.reload().await.map_err(|error| {
            tracing::warn!(%error, "shares could not be reloaded");
            Status::unavailable("the database could not be read")
        })?;
        Ok(Response::new(ReloadReply {
            validators: reloaded.validators,
            added: reloaded.added,
        }))
    }

    async fn ledger(
        &self,
        request: Request<LedgerRequest>,
    ) -> Result<Response<LedgerReply>, Status> {
        let _place = self.peers.admit(&request)?;
        let standing = administration::state(self.parts.ledger.database())
            .await
            .map_err(failed)?;
        let state = self.in_force("").await?;
        let quarantine = self.parts.ledger.state().quarantine;
        Ok(Response::new(LedgerReply {
            state: Some(state),
            ledger_id: standing.ledger_id.to_vec(),
            commits: standing.commits,
            validators: standing.validators,
            quarantine: quarantine.map(|why| why.reason).unwrap_or_default(),
        }))
    }

    async fn freeze(
        &self,
        request: Request<FreezeRequest>,
    ) -> Result<Response<FreezeReply>, Status> {
        let _place = self.peers.admit(&request)?;
        let by = by(&request);
        let request = request.into_inner();
        let whom = match (request.all, request.validators.is_empty()) {
            (true, true) => Whom::Everyone,
            (false, false) => Whom::These(these(&request.validators)?),
            (true, false) | (false, true) => {
                return Err(Status::invalid_argument(
                    "either some validators are named, or all are meant",
                ));
            }
        };
        let (freezing, done) = match request.frozen {
            true => (Freezing::Freeze, "frozen"),
            false => (Freezing::Release, "released"),
        };
        let order = administration::freeze(self.parts.ledger.database(), whom.clone(), freezing);
        let changes = order.await.map_err(failed)?;
        let (all, changed) = (request.all, changes.changed);
        tracing::warn!(
            by,
            all,
            changed,
            "an operator's order: validators are {done}"
        );
        let state = self.in_force(COMMITTED).await?;
        let frozen = self.parts.ledger.frozen();
        // What another operator has ordered meanwhile is not confirmed to this one.
        let shown = match &whom {
            Whom::Everyone => state.all_frozen == request.frozen,
            Whom::These(keys) => keys
                .iter()
                .all(|key| frozen.validators.contains(key) == request.frozen),
        };
        confirmed(shown)?;
        Ok(Response::new(FreezeReply {
            changed,
            state: Some(state),
        }))
    }

    async fn stop_at(
        &self,
        request: Request<StopAtRequest>,
    ) -> Result<Response<StopAtReply>, Status> {
        let _place = self.peers.admit(&request)?;
        let by = by(&request);
        let StopAtRequest { epoch, slot } = request.into_inner();
        let stop = Stop {
            epoch: epoch.map(Epoch),
            slot: slot.map(Slot),
        };
        administration::stop_at(self.parts.ledger.database(), stop)
            .await
            .map_err(failed)?;
        tracing::warn!(by, epoch, slot, "an operator's order: signing stops there");
        let state = self.in_force(COMMITTED).await?;
        confirmed((state.stop_epoch, state.stop_slot) == (epoch, slot))?;
        Ok(Response::new(StopAtReply { state: Some(state) }))
    }

    async fn raise(&self, request: Request<RaiseRequest>) -> Result<Response<RaiseReply>, Status> {
        let _place = self.peers.admit(&request)?;
        let by = by(&request);
        let request = request.into_inner();
        let (source, target) = (request.source_epoch, request.target_epoch);
        let watermark = Watermark::new(Epoch(source), Epoch(target), Slot(request.slot))
            .map_err(|conflict| Status::invalid_argument(conflict.to_string()))?;
        let whom = match request.validators.is_empty() {
            true => Whom::Everyone,
            false => Whom::These(these(&request.validators)?),
        };
        let changes = administration::raise(self.parts.ledger.database(), whom, watermark)
            .await
            .map_err(failed)?;
        let (slot, raised) = (request.slot, changes.changed);
        tracing::warn!(
            by,
            source,
            target,
            slot,
            raised,
            "an operator's order: ratchets are raised"
        );
        self.in_force(COMMITTED).await?;
        Ok(Response::new(RaiseReply {
            raised,
            unchanged: changes.unchanged,
        }))
    }

    type ExportHistoryStream = Pin<Box<dyn Stream<Item = Result<HistoryChunk, Status>> + Send>>;

    async fn export_history(
        &self,
        request: Request<ExportHistoryRequest>,
    ) -> Result<Response<Self::ExportHistoryStream>, Status> {
        let place = self.peers.admit(&request)?;
        let by = by(&request);
        let validators = match request.into_inner().validators {
            none if none.is_empty() => None,
            some => Some(these(&some)?.into_iter().collect()),
        };
        let one_at_a_time = self.one_history()?;
        tracing::info!(by, "an operator exports the history");
        let pieces = history::export(
            self.parts.ledger.database().clone(),
            self.parts.genesis_validators_root,
            validators,
            (place, one_at_a_time),
        );
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn import_history(
        &self,
        request: Request<Streaming<HistoryChunk>>,
    ) -> Result<Response<ImportHistoryReply>, Status> {
        let place = self.peers.admit(&request)?;
        let by = by(&request);
        let one_at_a_time = self.one_history()?;
        let imported = history::import(
            self.parts.ledger.database().clone(),
            self.parts.genesis_validators_root,
            request.into_inner(),
            (place, one_at_a_time),
        )
        .await?;
        let (validators, raised) = (imported.validators, imported.raised);
        let (entries, minified) = (imported.entries, imported.minified.len());
        tracing::warn!(
            by,
            validators,
            entries,
            raised,
            minified,
            "an operator has imported a history"
        );
        self.in_force("the history is imported, but not in force: ask again: ")
            .await?;
        let named = imported.minified.iter().take(MINIFIED_MAX);
        Ok(Response::new(ImportHistoryReply {
            validators,
            entries,
            raised,
            minified: named.map(|key| key.0.to_vec()).collect(),
        }))
    }
}

/// What an operator must know of an order that was carried out in the database and not here.
const COMMITTED: &str = "the order is committed, but not in force: ask again: ";

/// Whether what this process goes by shows what was ordered.
fn confirmed(shown: bool) -> Result<(), Status> {
    let other = || Status::unavailable(format!("{COMMITTED}the ledger says another thing now"));
    shown.then_some(()).ok_or_else(other)
}

impl Service {
    /// Takes up what was committed, and says what is true now.
    async fn in_force(&self, context: &str) -> Result<LedgerState, Status> {
        let refreshed = self.parts.ledger.refresh().await;
        refreshed.map_err(|error| Status::unavailable(format!("{context}{error}")))?;
        Ok(self.ledger_state())
    }

    /// The one place for a history on its way in or out: each takes its share of disk and database.
    fn one_history(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = Arc::clone(&self.histories).try_acquire_owned();
        place.map_err(|_| Status::resource_exhausted("another history is being moved"))
    }

    /// What is true of the ledger as a whole, as this process knows it; for the metrics, too.
    pub(super) fn ledger_state(&self) -> LedgerState {
        let state = self.parts.ledger.state();
        let reply = LedgerState {
            quarantined_until_epoch: state.quarantine.map(|quarantine| quarantine.until.0),
            stop_epoch: state.stop.epoch.map(|epoch| epoch.0),
            stop_slot: state.stop.slot.map(|slot| slot.0),
            all_frozen: state.frozen.all,
            frozen: u64::try_from(state.frozen.validators.len()).unwrap_or(u64::MAX),
        };
        self.parts.metrics.ledger(&reply);
        reply
    }
}

/// The names of the operator's certificate, for the log.
fn by<T>(request: &Request<T>) -> String {
    let peer = request.extensions().get::<Peer>();
    peer.map_or_else(String::new, |peer| peer.sans.join(", "))
}

fn these(validators: &[Vec<u8>]) -> Result<BTreeSet<PublicKey>, Status> {
    if validators.len() > NAMED_MAX {
        return Err(Status::invalid_argument(format!(
            "an order names at most {NAMED_MAX} validators"
        )));
    }
    let key = |bytes: &Vec<u8>| {
        PublicKey::try_from(bytes.as_slice()).map_err(|_| {
            let length = bytes.len();
            Status::invalid_argument(format!(
                "a validator's key has {length} bytes instead of 48"
            ))
        })
    };
    validators.iter().map(key).collect()
}

fn failed(error: AdministrationError) -> Status {
    let message = error.to_string();
    match error {
        AdministrationError::Unknown(_) => Status::not_found(message),
        AdministrationError::OutOfRange(..) => Status::invalid_argument(message),
        AdministrationError::Unavailable(_) => Status::unavailable(message),
        // As the transport says it of a call whose answer was lost.
        AdministrationError::InDoubt(_) => Status::unknown(message),
    }
}
