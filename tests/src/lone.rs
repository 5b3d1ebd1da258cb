//! One cosigner without a committee: a real process, asked over gRPC as a signer-api would.

use std::{path::PathBuf, time::Duration};

use daemon::tls::{self, TlsFiles};
use duty::{
    AttestationData, BeaconBlockHeader, Checkpoint, Duty, Epoch, ForkVersion, PublicKey, Root,
    SigningOrder, Slot,
};
use threshold::Ballot;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use wire::proto::{
    PromiseItem, PromiseRequest, SignItem, SignRequest, StatusRequest,
    cosigner_client::CosignerClient, promise_outcome::Outcome as Promise, refusal::Reason,
    sign_outcome::Outcome as Sign,
};

use crate::{cluster::Prepared, process::Process, vectors::NetworkLabel};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before asking again what could not be answered.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How long one call may take: also one to a process that is frozen for a while.
const CALL_WAIT: Duration = Duration::from_secs(10);

/// The cosigner of a 1-of-1 committee, so that its partials are signatures.
pub struct Lone {
    prepared: Prepared,
    process: Process,
    asker: Asker,
}

impl Lone {
    /// Starts the first cosigner of a committee, and waits until it is ready. It has one thread for
    /// its tasks, so that the same thread makes the same system calls in every life.
    pub async fn start(prepared: Prepared) -> Self {
        let home = prepared.home(1);
        let config = home.join("cosigner.toml");
        let arguments = ["run", "--stop-with-stdin", "--config"];
        let process = Process::start_with(
            "cosigner",
            &[&arguments[..], &[config.to_str().unwrap()]].concat(),
            &[("TOKIO_WORKER_THREADS", "1")],
            &home.join("log"),
        );
        let asker = Asker(client(&prepared));
        let mut lone = Self {
            prepared,
            process,
            asker,
        };
        lone.ready().await;
        lone
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it was started from.
    #[must_use]
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Starts it again, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.process.restart();
        self.asker = Asker(client(&self.prepared));
        self.ready().await;
    }

    /// Who asks it.
    #[must_use]
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Waits until it says that it can promise and sign what can be slashed.
    pub async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.asker.0.status(StatusRequest {}).await;
            if status.as_ref().is_ok_and(|status| status.get_ref().ready) {
                return;
            }
            let log = self.process.log();
            assert!(Instant::now() < deadline, "not ready: {status:?}\n{log}");
            assert!(self.process.runs(), "it ended: {log}");
            sleep(ASK_AGAIN).await;
        }
    }

    /// Whether its ledger has the row of a decision, read from the database itself.
    pub async fn has_row(&self, order: &SigningOrder) -> bool {
        let table = match order.duty {
            Duty::Block(_) => "blocks",
            _ => "attestations",
        };
        let (validator, root) = (order.validator.0, order.signing_root().0);
        let (validator, root) = (validator.as_slice(), root.as_slice());
        let count: i64 = match self.database() {
            Database::Sqlite(path) => {
                let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
                let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
                connection.busy_timeout(PATIENCE).unwrap();
                let sql = format!(
                    "SELECT count(*) FROM {table} WHERE validator = ?1 AND signing_root = ?2"
                );
                let count = connection.query_row(&sql, (validator, root), |row| row.get(0));
                count.unwrap()
            }
            Database::Postgres(url) => {
                let sql = format!(
                    "SELECT count(*) FROM {table} WHERE validator = $1 AND signing_root = $2"
                );
                let client = connect(&url).await;
                let row = client.query_one(&sql, &[&validator, &root]).await;
                row.unwrap().get(0)
            }
        };
        count > 0
    }

    /// Where its database is.
    #[must_use]
    pub fn database(&self) -> Database {
        let config = std::fs::read_to_string(self.prepared.home(1).join("cosigner.toml")).unwrap();
        let config: toml::Table = config.parse().unwrap();
        let section = |name| config["database"].get(name);
        match (section("sqlite"), section("postgres")) {
            (Some(sqlite), _) => Database::Sqlite(sqlite["path"].as_str().unwrap().into()),
            (_, Some(postgres)) => Database::Postgres(postgres["url"].as_str().unwrap().into()),
            (None, None) => panic!("{config:?} has no database"),
        }
    }
}

/// Asks a cosigner, like a signer-api.
#[derive(Clone)]
pub struct Asker(CosignerClient<Channel>);

impl Asker {
    /// Asks once for partials of these duties, as one batch: promises in round 0, then signatures.
    /// `None` for what was not signed, whatever the reason.
    pub async fn ask_once(&mut self, orders: &[&SigningOrder]) -> Vec<Option<Vec<u8>>> {
        self.try_once(orders)
            .await
            .unwrap_or_else(|_| vec![None; orders.len()])
    }

    async fn try_once(
        &mut self,
        orders: &[&SigningOrder],
    ) -> Result<Vec<Option<Vec<u8>>>, tonic::Status> {
        let items = orders.iter().map(|order| to_promise(order, 0)).collect();
        self.0.promise(PromiseRequest { items }).await?;
        let items = orders.iter().map(|order| to_sign(order, 0)).collect();
        let reply = self
            .0
            .sign(SignRequest {
                items,
                scaled: false,
            })
            .await?
            .into_inner();
        let partial = |outcome: wire::proto::SignOutcome| match outcome.outcome {
            Some(Sign::Partial(bytes)) => Some(bytes),
            Some(Sign::Scaled(_)) => panic!("a form that was not asked for"),
            Some(Sign::Outbid(_) | Sign::Refused(_)) | None => None,
        };
        Ok(reply.outcomes.into_iter().map(partial).collect())
    }

    /// Asks for a partial until there is one, or a refusal that is final: then `None`.
    pub async fn ask(&mut self, order: &SigningOrder) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        // Above what was promised before.
        let mut round = 1;
        loop {
            let mut last = "outbid".to_owned();
            match self.answer(order, round).await {
                Ok(Answer::Partial(bytes)) => return Some(bytes),
                Ok(Answer::Never) => return None,
                Ok(Answer::Outbid(higher)) => round = higher + 1,
                Ok(Answer::NotNow(reason)) => {
                    last = format!("{reason:?}");
                    round += 1;
                }
                // The channel connects anew.
                Err(error) => last = error.to_string(),
            }
            assert!(Instant::now() < deadline, "{last}: {order:?}");
            sleep(ASK_AGAIN).await;
        }
    }

    async fn answer(&mut self, order: &SigningOrder, round: u64) -> Result<Answer, tonic::Status> {
        let items = vec![to_promise(order, round)];
        let reply = self.0.promise(PromiseRequest { items }).await?;
        let outcome = reply.into_inner().outcomes.remove(0).outcome;
        let root = order.signing_root().0;
        // With another root it is asked to sign all the same, for it must not.
        let is_lost = match outcome.unwrap() {
            Promise::Promised(promised) => !promised.signed.is_empty() && promised.signed != root,
            Promise::Outbid(ballot) => return Ok(Answer::Outbid(ballot.round)),
            Promise::Refused(refusal) => return Ok(Answer::refused(refusal.reason())),
        };
        let items = vec![to_sign(order, round)];
        let reply = self
            .0
            .sign(SignRequest {
                items,
                scaled: false,
            })
            .await?;
        let outcome = reply.into_inner().outcomes.remove(0).outcome;
        Ok(match outcome.unwrap() {
            Sign::Partial(bytes) => Answer::Partial(bytes),
            Sign::Scaled(_) => panic!("a form that was not asked for"),
            Sign::Outbid(_) | Sign::Refused(_) if is_lost => Answer::Never,
            Sign::Outbid(ballot) => Answer::Outbid(ballot.round),
            Sign::Refused(refusal) => Answer::refused(refusal.reason()),
        })
    }
}

/// Where a cosigner keeps its ledger.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A URL.
    Postgres(String),
}

/// A connection that is tried for until there is one: a server recovers from a crash.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(ASK_AGAIN).await;
    }
}

enum Answer {
    Partial(Vec<u8>),
    /// Of this round.
    Outbid(u64),
    Never,
    NotNow(Reason),
}

impl Answer {
    fn refused(reason: Reason) -> Self {
        match reason {
            Reason::Slashable => Self::Never,
            Reason::BeyondClock
            | Reason::Ledger
            | Reason::Busy
            | Reason::Starting
            | Reason::TooLate
            | Reason::Quarantined => Self::NotNow(reason),
            other => panic!("refused as {other:?}"),
        }
    }
}

fn client(prepared: &Prepared) -> CosignerClient<Channel> {
    let certs = prepared.dir().join("certs");
    let files = TlsFiles {
        certificate: certs.join("signer-api-1.crt"),
        key: certs.join("signer-api-1.key"),
        ca: certs.join("ca.crt"),
    };
    let channel = Endpoint::from_shared(format!("http://{}", prepared.address(1)))
        .unwrap()
        .timeout(CALL_WAIT)
        .connect_with_connector_lazy(tls::mutual_client(&files, "cosigner-1").unwrap());
    CosignerClient::new(channel)
}

fn ballot(order: &SigningOrder, round: u64) -> Option<wire::proto::Ballot> {
    let root = order.signing_root();
    Some(wire::ballot_to_proto(&Ballot { round, root }))
}

fn to_promise(order: &SigningOrder, round: u64) -> PromiseItem {
    PromiseItem {
        order: Some(wire::order_to_proto(order)),
        ballot: ballot(order, round),
    }
}

fn to_sign(order: &SigningOrder, round: u64) -> SignItem {
    SignItem {
        order: Some(wire::order_to_proto(order)),
        ballot: ballot(order, round),
        lead: 0,
    }
}

fn order(validator: PublicKey, duty: Duty) -> SigningOrder {
    let chain = NetworkLabel::Mainnet.genesis_validators_root();
    SigningOrder {
        validator,
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: chain.parse().unwrap(),
        duty,
    }
}

/// An attestation; `message` makes its head.
#[must_use]
pub fn attestation(validator: PublicKey, source: u64, target: u64, message: u8) -> SigningOrder {
    let checkpoint = |epoch| Checkpoint {
        epoch: Epoch(epoch),
        root: Root([9; 32]),
    };
    let data = AttestationData {
        slot: Slot(target * 32),
        index: 0,
        beacon_block_root: Root([message; 32]),
        source: checkpoint(source),
        target: checkpoint(target),
    };
    order(validator, Duty::Attestation(data))
}

/// A block; `message` makes its body.
#[must_use]
pub fn block(validator: PublicKey, slot: u64, message: u8) -> SigningOrder {
    let header = BeaconBlockHeader {
        slot: Slot(slot),
        proposer_index: 1,
        parent_root: Root([3; 32]),
        state_root: Root([3; 32]),
        body_root: Root([message; 32]),
    };
    order(validator, Duty::Block(header))
}
