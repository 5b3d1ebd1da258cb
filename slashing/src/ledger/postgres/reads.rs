//! What only reads: rows and history within a batch, and the answers to questions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use duty::{Claim, Epoch, PublicKey, Slot};
use futures_util::future::try_join;
use tokio::{
    runtime::Handle,
    sync::Mutex,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::{Client, Error, Statement, types::ToSql};

use super::{
    Accepted, Failed,
    arrays::{HistoryArrays, keys, parse_row, validator},
    standing,
};
use crate::{
    database::{
        PostgresDatabase,
        postgres::{Connection, clause},
    },
    ledger::{
        Prospect, Question, Refused, Unavailable,
        batch::{self, Past, Row},
        columns::{to_height, to_root},
        lease::{Frozen, Lease},
        session::Ordered,
        standing::Standing,
    },
};

/// $1 validators
const READ_RATCHETS: &str = "/* read_ratchets */
SELECT validator, source_epoch, target_epoch, attestation_root, slot, block_root, disabled
FROM ratchets WHERE validator = ANY($1)";

/// $1 validators, $2 target epochs
const READ_ATTESTATIONS: &str = "/* read_attestations */
SELECT validator, signing_root, target_epoch, source_epoch
FROM attestations JOIN unnest($1::bytea[], $2::bigint[]) AS asked (validator, target_epoch)
    USING (validator, target_epoch)";

/// $1 validators, $2 slots
const READ_BLOCKS: &str = "/* read_blocks */
SELECT validator, signing_root, slot
FROM blocks JOIN unnest($1::bytea[], $2::bigint[]) AS asked (validator, slot)
    USING (validator, slot)";

/// The statements that only read.
pub(super) struct Reads {
    read_ratchets: Statement,
    read_attestations: Statement,
    read_blocks: Statement,
}

impl Reads {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let (read_ratchets, (read_attestations, read_blocks)) = try_join(
            client.prepare(READ_RATCHETS),
            try_join(
                client.prepare(READ_ATTESTATIONS),
                client.prepare(READ_BLOCKS),
            ),
        )
        .await?;
        Ok(Self {
            read_ratchets,
            read_attestations,
            read_blocks,
        })
    }

    pub(super) async fn rows(
        &self,
        client: &Client,
        validators: impl Iterator<Item = &PublicKey>,
    ) -> Result<Vec<Row>, Failed> {
        let keys = keys(validators);
        let rows = client.query(&self.read_ratchets, &[&keys]).await?;
        rows.iter().map(parse_row).collect()
    }

    /// What this ledger decided for the same targets and slots.
    pub(super) async fn past(
        &self,
        client: &Client,
        questions: &[Question],
    ) -> Result<Past, Failed> {
        let asked = HistoryArrays::try_from(questions)?;
        let attestations: [&(dyn ToSql + Sync); 2] = [&asked.attesters, &asked.targets];
        let blocks: [&(dyn ToSql + Sync); 2] = [&asked.proposers, &asked.slots];
        let (attestations, blocks) = try_join(
            client.query(&self.read_attestations, &attestations),
            client.query(&self.read_blocks, &blocks),
        )
        .await?;
        let mut past = Past::default();
        for row in &attestations {
            let claim = Claim::Attest {
                source: Epoch(to_height(row.try_get(3)?)?),
                target: Epoch(to_height(row.try_get(2)?)?),
            };
            past.add(validator(row)?, claim, to_root(row.try_get(1)?)?);
        }
        for row in &blocks {
            let slot = Slot(to_height(row.try_get(2)?)?);
            past.add(
                validator(row)?,
                Claim::Propose { slot },
                to_root(row.try_get(1)?)?,
            );
        }
        Ok(past)
    }
}

/// Answers questions over one connection, made when it is first needed. Callers share it: their
/// queries are sent one behind the other, without waiting for the answers in between.
#[derive(Clone)]
pub(in crate::ledger) struct Reader {
    database: PostgresDatabase,
    lease: Arc<Lease>,
    current: Arc<Mutex<Option<Arc<ReadSession>>>>,
    /// Where connections are made and served, whoever asks first.
    runtime: Handle,
}

struct ReadSession {
    connection: Connection,
    reads: Reads,
    /// Set when it failed or did not answer in time: nobody is to use it again.
    broken: AtomicBool,
}

impl Reader {
    /// Its connections are this runtime's.
    pub(in crate::ledger) fn new(database: PostgresDatabase, lease: Arc<Lease>) -> Self {
        Self {
            database,
            lease,
            current: Arc::default(),
            runtime: Handle::current(),
        }
    }

    pub(in crate::ledger) async fn foresee(
        &self,
        questions: &[Question],
        ledger_wait: Duration,
    ) -> Result<Vec<Result<Prospect, Refused>>, Unavailable> {
        let deadline = Instant::now() + ledger_wait;
        let session = timeout_at(deadline, self.session())
            .await
            .map_err(|_| Unavailable::Slow(ledger_wait))??;
        let answers = match timeout_at(deadline, session.foresee(questions)).await {
            Ok(answers) => answers.map_err(|failed| Unavailable::Failed(failed.to_string())),
            Err(_) => Err(Unavailable::Slow(ledger_wait)),
        };
        if answers.is_err() {
            session.broken.store(true, Ordering::Relaxed);
        }
        answers
    }

    /// What an operator has ordered, and whom that freezes.
    pub(in crate::ledger) async fn orders(
        &self,
        ledger_wait: Duration,
    ) -> Result<Ordered, Unavailable> {
        let reading = async {
            let session = self.session().await?;
            let read = session.orders().await;
            if read.is_err() {
                session.broken.store(true, Ordering::Relaxed);
            }
            read.map_err(|failed| Unavailable::Failed(failed.to_string()))
        };
        timeout(ledger_wait, reading)
            .await
            .unwrap_or(Err(Unavailable::Slow(ledger_wait)))
    }

    async fn session(&self) -> Result<Arc<ReadSession>, Unavailable> {
        let mut current = self.current.lock().await;
        if let Some(session) = &*current
            && !session.broken.load(Ordering::Relaxed)
            && !session.connection.client.is_closed()
        {
            return Ok(Arc::clone(session));
        }
        *current = None;
        // Dropped, it aborts.
        let mut connecting = JoinSet::new();
        let (database, lease) = (self.database.clone(), Arc::clone(&self.lease));
        connecting.spawn_on(
            async move { ReadSession::open(&database, &lease).await },
            &self.runtime,
        );
        let session = match connecting.join_next().await {
            Some(Ok(opened)) => Arc::new(opened?),
            Some(Err(_)) | None => return Err(Unavailable::Stopped),
        };
        *current = Some(Arc::clone(&session));
        Ok(session)
    }
}

impl ReadSession {
    async fn open(database: &PostgresDatabase, lease: &Lease) -> Result<Self, Unavailable> {
        let unreachable = |error: String| Unavailable::Unreachable(error);
        let accept = |standing: &Standing| {
            let accepted = lease.accept(standing);
            accepted.map_err(|rejection| rejection.to_string())
        };
        let connecting = database.connect_where(&Accepted(&accept)).await;
        let (connection, _) = connecting.map_err(|error| unreachable(error.to_string()))?;
        let reads = Reads::prepare(&connection.client)
            .await
            .map_err(|error| unreachable(clause(&error)))?;
        Ok(Self {
            connection,
            reads,
            broken: AtomicBool::new(false),
        })
    }

    /// The orders first: whoever they freeze is frozen in what is read after them.
    async fn orders(&self) -> Result<Ordered, Failed> {
        let client = &self.connection.client;
        let Standing {
            orders, commits, ..
        } = standing::read(client).await?;
        let validators = standing::frozen(client).await?;
        let frozen = Frozen {
            all: orders.frozen_all,
            validators: validators.into_iter().collect(),
        };
        Ok(Ordered {
            orders,
            frozen,
            // Read later, so it is no lower than as of that commit.
            reach: standing::reach(client).await?,
            commits,
        })
    }

    async fn foresee(
        &self,
        questions: &[Question],
    ) -> Result<Vec<Result<Prospect, Refused>>, Failed> {
        let client = &self.connection.client;
        let validators = questions.iter().map(|question| &question.validator);
        let rows = self.reads.rows(client, validators).await?;
        let conflicting = batch::conflicting_now(questions, &rows);
        let past = match conflicting.is_empty() {
            true => Past::default(),
            false => self.reads.past(client, &conflicting).await?,
        };
        Ok(batch::foresee(questions, &rows, &past))
    }
}
