//! The ledger on a simulated store: the steps are those of the databases, and the weather decides
//! what becomes of each.

use std::{collections::BTreeSet, time::Duration};

use duty::PublicKey;
use tokio::time::{Instant, sleep_until};

use super::{
    Prospect, Question, Refused, Unavailable,
    batch::Committed,
    lease::take::Taking,
    session::{Authority, Commit, Decided, Failure, NOT_HELD, Ordered, Renewal, Renewed},
    standing::Standing,
};
use crate::{
    database::DatabaseError,
    simulation::{Fate, Outcome, Process, Step},
};

pub(crate) use tables::Tables;

mod tables;

/// How long taking the ledger waits for transactions that hold rows of it, as on PostgreSQL.
const TAKE_WAIT: Duration = Duration::from_secs(60);

/// The worker's connection.
pub(super) struct Session(Process);

/// What becomes of a step before which nothing was done.
fn before(fate: Fate) -> Result<(), Failure> {
    match fate {
        Fate::Goes => Ok(()),
        Fate::Fails | Fate::Unknown(_) => Err(Failure::Lost(LOST.to_owned())),
        Fate::Rejected => Err(Failure::Rejected("the database refused".to_owned())),
        Fate::Busy => Err(Failure::Busy),
    }
}

/// What becomes of an answer that nothing depends on.
fn answered(fate: Fate) -> Result<(), Failure> {
    match fate {
        Fate::Goes => Ok(()),
        Fate::Fails | Fate::Rejected | Fate::Busy | Fate::Unknown(_) => {
            Err(Failure::Lost(LOST.to_owned()))
        }
    }
}

const LOST: &str = "the connection was lost";

fn in_doubt() -> Failure {
    Failure::InDoubt(LOST.to_owned())
}

impl Session {
    pub(super) async fn connect(process: Process) -> Result<(Self, Standing), DatabaseError> {
        let unavailable = |_| DatabaseError::Unavailable("there is no connection".to_owned());
        before(process.step(Step::Connect).await).map_err(unavailable)?;
        let standing = process.store.with(|tables, now| tables.standing(now));
        answered(process.step(Step::Answer).await).map_err(unavailable)?;
        Ok((Self(process), standing))
    }

    /// Whoever takes the ledger waits for the transactions that hold rows of it.
    pub(super) async fn take(&mut self, taking: &Taking) -> Result<bool, Failure> {
        let fate = self.0.step(Step::Take).await;
        let is_lost = matches!(fate, Fate::Unknown(Outcome::Happens(_)));
        if !is_lost {
            before(fate)?;
        }
        let deadline = Instant::now() + TAKE_WAIT;
        while let Some(wait) = self.0.store.with(|tables, now| tables.next_end(now)) {
            let end = Instant::now() + wait;
            sleep_until(end.min(deadline)).await;
            if end > deadline {
                return Err(in_doubt());
            }
        }
        let taken = self.0.store.with(|tables, now| tables.take(taking, now));
        if is_lost || self.0.step(Step::Answer).await != Fate::Goes {
            return Err(in_doubt());
        }
        Ok(taken)
    }

    pub(super) async fn renew(&mut self, renewal: Renewal) -> Result<Option<Renewed>, Failure> {
        before(self.0.step(Step::Renew).await)?;
        let renewed = self.0.store.with(|tables, now| tables.renew(&renewal, now));
        answered(self.0.step(Step::Answer).await)?;
        Ok(renewed)
    }

    /// The transaction takes no time between its BEGIN and its COMMIT, except when its end is in
    /// doubt: only then does it hold rows while others look.
    pub(super) async fn decide(
        &mut self,
        batch: &[Question],
        authority: Authority,
    ) -> Result<Decided, Failure> {
        before(self.0.step(Step::Decide).await)?;
        if self.writes_nothing(batch, authority)? {
            let decided = self.commit(batch, authority)?;
            answered(self.0.step(Step::Answer).await)?;
            return Ok(decided);
        }
        let fate = self.0.step(Step::Commit).await;
        if let Fate::Unknown(outcome) = fate {
            self.leave(batch, authority, outcome)?;
            return Err(in_doubt());
        }
        before(fate)?;
        let decided = self.commit(batch, authority)?;
        let answer = answered(self.0.step(Step::Answer).await);
        answer.map(|()| decided).map_err(|_| in_doubt())
    }

    /// COMMIT was sent, and nobody hears what comes of it.
    fn leave(
        &self,
        batch: &[Question],
        authority: Authority,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        self.0.store.with(|tables, now| {
            let held = tables.hold(&authority).ok_or_else(not_held)?;
            let plan = tables.plan(batch, authority.rule);
            tables.refuse(&plan)?;
            tables.leave(&plan, held.commits, outcome, now);
            Ok(())
        })
    }

    /// Whether the transaction would be rolled back: all is refused, or locked.
    fn writes_nothing(&self, batch: &[Question], authority: Authority) -> Result<bool, Failure> {
        self.0.store.with(|tables, _| {
            tables.hold(&authority).ok_or_else(not_held)?;
            let plan = tables.plan(batch, authority.rule);
            tables.refuse(&plan)?;
            Ok(plan.writes().is_empty())
        })
    }

    /// `BEGIN … COMMIT`.
    fn commit(&self, batch: &[Question], authority: Authority) -> Result<Decided, Failure> {
        self.0.store.with(|tables, now| {
            let held = tables.hold(&authority).ok_or_else(not_held)?;
            let plan = tables.plan(batch, authority.rule);
            tables.refuse(&plan)?;
            let writes = plan.writes();
            if writes.is_empty() {
                return Ok(Decided {
                    decisions: plan.conclude(&Committed::NOTHING),
                    commit: None,
                    orders: held.orders,
                });
            }
            let written: BTreeSet<_> = writes.iter().map(|write| write.validator).collect();
            tables.write(&plan, held.commits, now);
            Ok(Decided {
                decisions: plan.conclude(&Committed::after_commit(written)),
                commit: Some(Commit {
                    count: held.commits,
                    lsn: None,
                    counted: None,
                }),
                orders: held.orders,
            })
        })
    }

    pub(super) async fn settled(
        &mut self,
        validators: &BTreeSet<PublicKey>,
    ) -> Result<BTreeSet<PublicKey>, Failure> {
        before(self.0.step(Step::Settle).await)?;
        let settled = self.0.store.with(|tables, _| tables.unlocked(validators));
        answered(self.0.step(Step::Answer).await)?;
        Ok(settled)
    }
}

fn not_held() -> Failure {
    Failure::Lost(NOT_HELD.to_owned())
}

/// The connections that questions are answered over.
#[derive(Clone)]
pub(super) struct Reader(pub(super) Process);

impl Reader {
    pub(super) async fn foresee(
        &self,
        questions: &[Question],
    ) -> Result<Vec<Result<Prospect, Refused>>, Unavailable> {
        self.look(Step::Read).await?;
        let foreseen = self.0.store.with(|tables, _| tables.foresee(questions));
        self.look(Step::Answer).await?;
        Ok(foreseen)
    }

    pub(super) async fn orders(&self) -> Result<Ordered, Unavailable> {
        self.look(Step::Read).await?;
        let ordered = self.0.store.with(|tables, _| tables.ordered());
        self.look(Step::Answer).await?;
        Ok(ordered)
    }

    async fn look(&self, step: Step) -> Result<(), Unavailable> {
        match self.0.step(step).await {
            Fate::Goes => Ok(()),
            Fate::Rejected => Err(Unavailable::Failed("the database refused".to_owned())),
            Fate::Fails | Fate::Busy | Fate::Unknown(_) => {
                Err(Unavailable::Unreachable(LOST.to_owned()))
            }
        }
    }
}
