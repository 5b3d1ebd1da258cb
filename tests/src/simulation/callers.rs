//! Who asks, and what they must be answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use duty::{Claim, Epoch, PublicKey, SigningRoot, Slot};
use parking_lot::Mutex;
use slashing::Question;
use threshold::{
    Signature,
    round::{Peer, Verdict},
};
use tokio::time::{Instant, sleep};

use super::{
    chaos::THAWED,
    plan::{Fault, Wish},
    witness::short,
    world::World,
};

/// What a request may take.
pub(super) const DEADLINE: Duration = Duration::from_millis(1_200);
/// The runtime's clock counts milliseconds.
const TICK: Duration = Duration::from_millis(3);
/// What a caller asks again at most.
const TRIES: usize = 2;

type Verified = BTreeMap<(PublicKey, SigningRoot, Signature), bool>;

static VERIFIED: LazyLock<Mutex<Verified>> = LazyLock::new(Mutex::default);

/// What can be signed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Contest {
    Target(PublicKey, Epoch),
    Slot(PublicKey, Slot),
}

fn question(wish: &Wish, claim: Claim) -> Question {
    Question {
        validator: wish.order.validator,
        claim,
        root: wish.root,
    }
}

impl World {
    /// One caller's script, to its end.
    pub(super) async fn call(self: Arc<Self>, caller: usize) {
        for (pause, wish, api) in self.plan.scripts[caller].clone() {
            sleep(pause).await;
            let wish = &self.plan.wishes[wish];
            for _ in 0..TRIES {
                match self.ask(api, wish).await {
                    Some(Ok(_) | Err(Verdict::Refused(_))) => break,
                    Some(Err(Verdict::Unavailable(_))) | None => {
                        sleep(self.chance.ms(1, 100)).await;
                    }
                }
            }
        }
    }

    /// One request; `None` if nobody answered it.
    async fn ask(&self, api: usize, wish: &Wish) -> Option<Result<Signature, Verdict>> {
        let (conductor, life) = {
            let api = self.apis[api].lock();
            (api.conductor.clone()?, Arc::clone(&api.life))
        };
        self.witness.lock().note("is asked", api, || {
            format!("{} {:?}", short(wish.root), wish.claim)
        });
        let began = Instant::now();
        let outcome = tokio::select! {
            biased;
            () = life.end_of_it() => return None,
            outcome = conductor.sign(wish.order.clone(), DEADLINE) => outcome?,
        };
        let took = began.elapsed();
        let doubted = conductor.doubted();
        drop(conductor);
        if took > DEADLINE + TICK {
            self.broken(format!("L1: a request took {took:?}"));
        }
        if let Some(honest) = doubted.iter().find(|peer| !self.is_liar(peer.0)) {
            self.broken(format!("L2: member {} is blamed, and honest", honest.0));
        }
        self.judge(api, wish, &outcome);
        life.goes_on().await;
        Some(outcome)
    }

    fn broken(&self, what: String) {
        self.witness.lock().broken(what);
    }

    fn judge(&self, api: usize, wish: &Wish, outcome: &Result<Signature, Verdict>) {
        self.witness.lock().note("answers", api, || {
            let what = match outcome {
                Ok(_) => "a signature".to_owned(),
                Err(verdict) => format!("{verdict:?}"),
            };
            format!("{} {what}", short(wish.root))
        });
        match outcome {
            Ok(signature) => {
                self.counts.lock().signed += 1;
                self.check_signature(wish, *signature);
            }
            Err(Verdict::Refused(_)) => {
                self.counts.lock().refused += 1;
                self.check_refusal(wish);
            }
            Err(Verdict::Unavailable(_)) => self.counts.lock().unavailable += 1,
        }
    }

    /// **S3**: what is returned is valid, and the same for the same message.
    fn check_signature(&self, wish: &Wish, signature: Signature) {
        let key = (wish.order.validator, wish.root, signature);
        let valid = *VERIFIED.lock().entry(key).or_insert_with(|| {
            threshold::verify(&wish.order.validator, wish.root, &signature).is_ok()
        });
        if !valid {
            self.broken(format!("S3: no signature of {}", short(wish.root)));
        }
        let key = (wish.order.validator, wish.root);
        let before = *self.answered.lock().entry(key).or_insert(signature);
        if before != signature {
            self.broken(format!("S3: two signatures of {}", short(wish.root)));
        }
    }

    /// **L2**: what at least t honest members would sign is not refused.
    fn check_refusal(&self, wish: &Wish) {
        let mut able = self.able(wish);
        // Its refusal may have been right when it was given.
        able.retain(|member| self.witness.lock().is_as_it_was(*member));
        if able.len() >= self.plan.t {
            let root = short(wish.root);
            self.broken(format!("L2: {root} is refused, and {able:?} would sign it"));
        }
    }

    /// The honest members who would sign this now.
    fn able(&self, wish: &Wish) -> Vec<usize> {
        let faulty = self.witness.lock().all_faulty().clone();
        let honest = (0..self.plan.n).filter(|member| !faulty.contains(member));
        let able = honest.filter(|member| match wish.claim {
            Some(claim) => self.would_sign(*member, &question(wish, claim)),
            None => self.seats[*member].lock().endpoint.is_some(),
        });
        able.collect()
    }

    /// When everything is well: **L3**, no raced duty is spoiled; **L1**, whatever can be signed is,
    /// though as many members as can be spared lie, are down or stand still.
    pub(super) async fn at_last(&self) {
        (0..self.plan.n).for_each(|member| self.collect(member));
        self.check_raced();
        self.warm_up().await;
        let spared = self.plan.n - self.plan.t;
        let mut bad: BTreeSet<usize> = self.plan.liars.keys().copied().collect();
        while bad.len() < spared && self.chance.percent(70) {
            let member = self.chance.index(self.plan.n);
            if bad.insert(member) {
                match self.chance.percent(25) {
                    true => self.end_member(member),
                    false => self.seats[member].lock().life.freeze(THAWED * 30),
                }
            }
        }
        if bad.len() > spared {
            return;
        }
        let mut wishes: Vec<&Wish> = self.plan.wishes.iter().collect();
        while !wishes.is_empty() && !self.witness.lock().is_broken() {
            // While nobody has noticed who is bad: what cannot be slashed is asked without a promise.
            let first = wishes.iter().position(|wish| wish.claim.is_none());
            let next = match first {
                Some(first) if self.chance.percent(50) => first,
                Some(_) | None => self.chance.index(wishes.len()),
            };
            let wish = wishes.swap_remove(next);
            let able = self.able_beside(wish, &bad);
            if able.len() < self.plan.t || (wish.claim.is_some() && !self.has_room()) {
                continue;
            }
            self.sign_at_last(wish, &bad).await;
        }
    }

    /// **L2**: whose partial a signer-api has found to be false is blamed.
    pub(super) fn check_blame(&self, api: usize) {
        let (conductor, exposed) = {
            let api = self.apis[api].lock();
            (api.conductor.clone(), api.arithmetic.exposed())
        };
        let Some(conductor) = conductor else { return };
        let blamed = conductor.blamed();
        let family = &self.plan.families[0];
        for index in exposed {
            let mut claimants = (0..self.plan.n)
                .filter(|member| family.indices[self.claimed_place(*member)] == index);
            self.counts.lock().exposed += 1;
            if !claimants.any(|member| blamed.contains(&Peer(member))) {
                self.broken(format!(
                    "L2: a false partial of index {} is nobody's fault",
                    index.value()
                ));
            }
        }
    }

    /// What cannot be slashed is signed by whoever is well, so that it is known how long each takes.
    async fn warm_up(&self) {
        let harmless = self.plan.wishes.iter().filter(|wish| wish.claim.is_none());
        for wish in harmless {
            for api in 0..self.plan.apis {
                let _whatever_comes = self.ask(api, wish).await;
            }
        }
    }

    /// The honest members who would sign this now and are well.
    fn able_beside(&self, wish: &Wish, bad: &BTreeSet<usize>) -> Vec<usize> {
        let able = self.able(wish).into_iter();
        able.filter(|member| !bad.contains(member)).collect()
    }

    async fn sign_at_last(&self, wish: &Wish, bad: &BTreeSet<usize>) {
        let api = self.chance.index(self.plan.apis);
        // Once: the first request has its answer by the deadline, not the second.
        let outcome = self.ask(api, wish).await;
        if let Some(Ok(_)) = outcome {
            self.counts.lock().signed_at_last += 1;
            return;
        }
        // A spare of the duty before may have committed that in the meantime, above this one.
        let able = self.able_beside(wish, bad);
        if able.len() < self.plan.t {
            return;
        }
        let (root, claim) = (short(wish.root), wish.claim);
        self.broken(format!(
            "L1: {root} {claim:?} is not signed, though {able:?} would, and only {bad:?} are bad: \
             {outcome:?}"
        ));
    }

    fn check_raced(&self) {
        let spoilers = [
            Fault::Liars,
            Fault::Rollbacks,
            Fault::Restores,
            Fault::Imports,
        ];
        if spoilers.iter().any(|fault| self.plan.has(*fault)) {
            return;
        }
        let mut contests: BTreeMap<Contest, Vec<(&Wish, Claim)>> = BTreeMap::new();
        for wish in &self.plan.wishes {
            let key = wish.order.validator;
            let contest = match wish.claim {
                None => continue,
                Some(Claim::Attest { target, .. }) => Contest::Target(key, target),
                Some(Claim::Propose { slot }) => Contest::Slot(key, slot),
            };
            let claim = wish.claim.unwrap();
            contests.entry(contest).or_default().push((wish, claim));
        }
        for (contest, wishes) in contests {
            if let Some(votes) = self.spoiled(&wishes) {
                self.broken(format!(
                    "L3: {contest:?} can not be signed any more: {votes:?}"
                ));
            }
        }
    }

    /// The votes for each message, if none of them can reach t any more, and no other duty is to
    /// blame for that.
    fn spoiled(&self, wishes: &[(&Wish, Claim)]) -> Option<Vec<usize>> {
        let votes = |(wish, claim): &(&Wish, Claim)| {
            let voted = |member: &usize| {
                let seat = self.seats[*member].lock();
                seat.store.has_row(&wish.order.validator, claim, wish.root)
            };
            (0..self.plan.n).filter(voted).count()
        };
        let votes: Vec<usize> = wishes.iter().map(votes).collect();
        let (wish, claim) = wishes[0];
        let untouched = Question {
            root: SigningRoot([0xff; 32]),
            ..question(wish, claim)
        };
        let free = |member: &usize| self.seats[*member].lock().store.would_permit(&untouched);
        let free = (0..self.plan.n).filter(free).count();
        if free + votes.iter().sum::<usize>() < self.plan.n {
            return None;
        }
        self.counts.lock().raced += 1;
        let most = votes.iter().max().copied().unwrap_or_default();
        (most + free < self.plan.t).then_some(votes)
    }
}
