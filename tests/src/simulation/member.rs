//! The cosigners: the production's service on a simulated store, and liars.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use cosigner::{
    clock::{ChainTime, Clock},
    metrics::Metrics,
    service::{Parts, Service, Signers},
    vault::{Listing, NotHeld, Reloaded, Shares, VaultError},
};
use daemon::bulk::Bulk;
use duty::{Permit, PublicKey, SigningRoot};
use keyshare::Withheld;
use slashing::{
    Ledger, LedgerLimits, Origin,
    simulation::{Deciding, Fate, Outcome, Step, Weather, Whole},
};
use threshold::PartialSignature;
use tokio::time::sleep;
use tonic::{Request, Response, Status};
use wire::proto::{self, cosigner_server::Cosigner};

use super::{
    liar,
    life::Life,
    plan::{CHAIN, Fault, SLOTS_PER_EPOCH, Tempo},
    world::{GENESIS_S, SLOT, World},
};

/// How long a member's ledger may take.
const LEDGER_WAIT: Duration = Duration::from_millis(500);

/// What a member is asked.
#[derive(Clone)]
pub(super) enum Asked {
    Promise(proto::PromiseRequest),
    Sign(proto::SignRequest),
    Lead(proto::LeadRequest),
    Status,
}

/// What it answers.
pub(super) enum Answer {
    Promised(proto::PromiseReply),
    Signed(proto::SignReply),
    Led(proto::LeadReply),
    Status(proto::StatusReply),
}

/// Who answers at a member's address.
#[derive(Clone)]
pub(super) enum Endpoint {
    Honest {
        service: Arc<Service>,
        ledger: Box<Ledger>,
        clock: Clock,
    },
    Liar,
}

const fn is_partial(outcome: &proto::SignOutcome) -> bool {
    use proto::sign_outcome::Outcome;
    matches!(
        outcome.outcome,
        Some(Outcome::Partial(_) | Outcome::Scaled(_))
    )
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Status>> + Send>>;

impl Endpoint {
    pub(super) fn ask(
        self,
        world: Arc<World>,
        member: usize,
        api: usize,
        asked: Asked,
    ) -> Answering {
        match self {
            Self::Liar => Box::pin(async move { liar::answer(&world, member, api, asked).await }),
            Self::Honest { service, .. } => Box::pin(async move {
                match asked {
                    Asked::Promise(request) => {
                        let replied = Cosigner::promise(&*service, Request::new(request)).await;
                        replied.map(Response::into_inner).map(Answer::Promised)
                    }
                    Asked::Sign(request) => {
                        let led: Vec<bool> = request.items.iter().map(|it| it.lead > 0).collect();
                        let replied = Cosigner::sign(&*service, Request::new(request)).await;
                        let replied = replied.map(Response::into_inner);
                        if let Ok(reply) = &replied {
                            let given = reply.outcomes.iter().zip(led);
                            let given = given.filter(|(outcome, led)| *led && is_partial(outcome));
                            world.counts.lock().led += u64::try_from(given.count()).unwrap();
                        }
                        replied.map(Answer::Signed)
                    }
                    Asked::Lead(request) => {
                        let replied = Cosigner::lead(&*service, Request::new(request)).await;
                        replied.map(Response::into_inner).map(Answer::Led)
                    }
                    Asked::Status => {
                        let request = Request::new(proto::StatusRequest {});
                        let replied = Cosigner::status(&*service, request).await;
                        replied.map(Response::into_inner).map(Answer::Status)
                    }
                }
            }),
        }
    }
}

impl World {
    /// Starts a member's process after a pause, and again until it stands.
    pub(super) async fn start_member(self: Arc<Self>, member: usize, pause: Duration) {
        sleep(pause).await;
        let life = Arc::new(Life::default());
        // Who ended twice is started twice; there is one process at a time, as its anchor's lock sees to.
        self.replace_life(member, Some(&life));
        if self.is_liar(member) {
            self.seats[member].lock().endpoint = Some(Endpoint::Liar);
            return;
        }
        loop {
            let opened = self.open_ledger(member, &life).await;
            match opened {
                Some(ledger) => return self.serve(member, &life, ledger),
                None => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn open_ledger(self: &Arc<Self>, member: usize, life: &Arc<Life>) -> Option<Ledger> {
        let store = self.seats[member].lock().store.clone();
        let weather = Sky {
            world: Arc::downgrade(self),
            member,
            life: Arc::clone(life),
        };
        let limits = LedgerLimits {
            ledger_wait: LEDGER_WAIT,
            stale_wait: Duration::from_secs(1),
            ..LedgerLimits::default()
        };
        let world = Arc::downgrade(self);
        let time = Arc::new(move || {
            let now = world.upgrade()?.clock(member);
            clock().position(now)
        });
        let opened = store.open(Arc::new(weather), limits, time, Origin::AsLeft);
        opened.await.ok()
    }

    fn serve(self: &Arc<Self>, member: usize, life: &Arc<Life>, ledger: Ledger) {
        if life.has_ended() {
            return;
        }
        self.note("starts", member);
        let time = {
            let world = Arc::downgrade(self);
            move || world.upgrade().map_or(Duration::ZERO, |w| w.clock(member))
        };
        let shares = Book {
            world: Arc::downgrade(self),
            member,
            life: Arc::clone(life),
        };
        let service = Service::new(Parts {
            vault: Arc::new(shares),
            signers: Signers::inline(),
            bulk: Bulk::inline(),
            time: Box::new(time),
            ledger: ledger.clone(),
            clock: clock(),
            promises_max: match (self.may(Fault::FewPromises), self.plan.tempo) {
                (false, _) => 1_000,
                (true, Tempo::Crowd) => 1,
                (true, _) => 2,
            },
            genesis_validators_root: CHAIN,
            slots_per_epoch: SLOTS_PER_EPOCH,
            allow_voluntary_exits: false,
            allow_deposits: false,
            metrics: Arc::new(Metrics::default()),
            ledger_wait: LEDGER_WAIT,
        });
        self.seats[member].lock().endpoint = Some(Endpoint::Honest {
            service,
            ledger: Box::new(ledger),
            clock: clock(),
        });
    }

    /// Puts an older state of a member's disk back, if there is one.
    pub(super) fn put_back(&self, member: usize, whole: Whole) {
        self.collect(member);
        let seat = self.seats[member].lock();
        let Some(at) = seat
            .snapshots
            .len()
            .checked_sub(1)
            .filter(|_| !seat.importing)
        else {
            return;
        };
        seat.store
            .put_back(&seat.snapshots[self.chance.index(at + 1)], whole);
        drop(seat);
        self.counts.lock().put_back += 1;
        self.note("is put back", member);
        let mut witness = self.witness.lock();
        witness.put_back(member);
        if whole == Whole::DatabaseAndAnchor {
            witness.faulty(member);
        }
    }
}

fn clock() -> Clock {
    Clock::Checked(ChainTime {
        genesis_s: GENESIS_S,
        slot: SLOT,
        slots_per_epoch: SLOTS_PER_EPOCH,
    })
}

/// What becomes of what a process does with its disk.
struct Sky {
    world: Weak<World>,
    member: usize,
    life: Arc<Life>,
}

impl Weather for Sky {
    fn step(&self, step: Step) -> Deciding {
        let (world, member, life) = (self.world.clone(), self.member, Arc::clone(&self.life));
        Box::pin(async move {
            life.goes_on().await;
            let Some(world) = world.upgrade() else {
                return std::future::pending().await;
            };
            let slow = world.happens(Fault::Ambiguity, 10) || world.happens(Fault::LedgersFail, 10);
            let most = match step {
                Step::Commit if slow => 400,
                Step::Connect | Step::Read | Step::Decide if slow => 50,
                Step::Commit => world.plan.commit_ms,
                Step::Anchor => 2,
                Step::Connect
                | Step::Read
                | Step::Take
                | Step::Renew
                | Step::Decide
                | Step::Answer
                | Step::Settle => 0,
            };
            if most > 0 {
                sleep(world.chance.ms(0, most)).await;
            }
            life.goes_on().await;
            let fate = world.fate(step);
            if fate != Fate::Goes {
                world.counts.lock().troubles += 1;
                world
                    .witness
                    .lock()
                    .note("disk", member, || format!("{step:?} {fate:?}"));
            }
            fate
        })
    }

    fn clock_ahead(&self) -> Duration {
        let world = self.world.upgrade();
        world.map_or(Duration::ZERO, |world| world.clock_ahead(self.member))
    }
}

impl World {
    fn fate(&self, step: Step) -> Fate {
        if step == Step::Commit && self.happens(Fault::Ambiguity, 20) {
            let after = self.chance.ms(0, 600);
            return Fate::Unknown(match self.chance.percent(50) {
                true => Outcome::Happens(after),
                false => Outcome::Never(after),
            });
        }
        if step == Step::Answer && self.happens(Fault::Ambiguity, 4) {
            return Fate::Fails;
        }
        if step != Step::Anchor && self.happens(Fault::LedgersFail, 6) {
            return self.chance.pick(&[Fate::Fails, Fate::Rejected, Fate::Busy]);
        }
        Fate::Goes
    }
}

/// The shares of one process; the witness sees whatever they sign.
struct Book {
    world: Weak<World>,
    member: usize,
    life: Arc<Life>,
}

#[tonic::async_trait]
impl Shares for Book {
    fn holds(&self, validator: &PublicKey) -> bool {
        let world = self.world.upgrade();
        world.is_some_and(|w| w.plan.families.iter().any(|f| f.key() == *validator))
    }

    fn listing(&self) -> Arc<Listing> {
        Arc::default()
    }

    fn prepare(&self, expected: &[(PublicKey, SigningRoot)]) -> Vec<Option<Withheld>> {
        let prepare = |(validator, root): &(PublicKey, SigningRoot)| {
            let world = self.world.upgrade()?;
            let mut families = world.plan.families.iter();
            let family = families.find(|family| family.key() == *validator)?;
            match family.partial(self.member, *root) {
                PartialSignature::Scaled { point, scale } => {
                    Some(Withheld::known(*validator, *root, point, scale))
                }
                PartialSignature::Plain(_) => None,
            }
        };
        expected.iter().map(prepare).collect()
    }

    fn release(&self, withheld: Withheld, permit: Permit) -> Result<PartialSignature, Permit> {
        match self.sign_one(&permit) {
            Ok(_) => withheld.release(permit),
            Err(NotHeld(_)) => Err(permit),
        }
    }

    fn sign(&self, permits: Vec<Permit>, _scaled: bool) -> Vec<Result<PartialSignature, NotHeld>> {
        permits.iter().map(|permit| self.sign_one(permit)).collect()
    }

    async fn reload(&self) -> Result<Reloaded, VaultError> {
        Ok(Reloaded {
            validators: 0,
            added: 0,
        })
    }
}

impl Book {
    fn sign_one(&self, permit: &Permit) -> Result<PartialSignature, NotHeld> {
        let (validator, root) = (permit.validator(), permit.root());
        let world = self.world.upgrade().ok_or(NotHeld(validator))?;
        // A process that has ended signs nothing.
        if self.life.has_ended() {
            return Err(NotHeld(validator));
        }
        world.collect(self.member);
        if let Some(claim) = world.plan.claim(&validator, root) {
            let store = world.seats[self.member].lock().store.clone();
            let has_row = store.has_row(&validator, &claim, root);
            world
                .witness
                .lock()
                .signed(self.member, validator, root, claim, has_row);
        }
        let mut families = world.plan.families.iter();
        let family = families.find(|family| family.key() == validator);
        let family = family.ok_or(NotHeld(validator))?;
        Ok(family.partial(self.member, root))
    }
}
