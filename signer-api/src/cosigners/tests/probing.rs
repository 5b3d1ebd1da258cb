//! Who fails is probed, and comes back: with paused time, over a network of the test's.

use std::{collections::BTreeSet, future::pending, sync::atomic::AtomicUsize};

use duty::PublicKey;
use parking_lot::Mutex;
use threshold::ShareIndex;
use tonic::{Request, Status, Streaming};
use wire::{batches::Batch, proto};

use super::*;
use crate::cosigners::transport::{Call, Transport};

/// What a cosigner does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answers,
    Fails,
    /// Nothing, ever.
    Hangs,
}

/// What one of the cosigners does with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Habit {
    promises: Does,
    signs: Does,
}

const GOOD: Habit = Habit {
    promises: Does::Answers,
    signs: Does::Answers,
};
const FAILING: Habit = Habit {
    promises: Does::Fails,
    signs: Does::Fails,
};
const HUNG: Habit = Habit {
    promises: Does::Hangs,
    signs: Does::Hangs,
};
const WITHHOLDING: Habit = Habit {
    promises: Does::Answers,
    signs: Does::Fails,
};

/// What any answer takes.
const TAKES: Duration = Duration::from_millis(5);
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a request is waited for.
const DEADLINE: Duration = Duration::from_millis(1_200);
/// Who does not do as the others.
const ODD: usize = 0;

/// A cosigner.
struct Far {
    habit: Mutex<Habit>,
    /// What it does when it is asked how it is.
    says: Mutex<Does>,
    calls: AtomicUsize,
}

async fn does<A>(what: Does, answer: A) -> Result<A, Status> {
    tokio::time::sleep(TAKES).await;
    match what {
        Does::Answers => Ok(answer),
        Does::Fails => Err(Status::internal("the test says so")),
        Does::Hangs => pending().await,
    }
}

impl Transport for Far {
    fn promise(&self, request: Request<Batch>) -> Call<proto::PromiseReply> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let promised = proto::promise_outcome::Outcome::Promised(proto::Promised::default());
        let outcome = proto::PromiseOutcome {
            outcome: Some(promised),
        };
        let outcomes = vec![outcome; request.get_ref().items().len()];
        let promises = self.habit.lock().promises;
        Box::pin(does(promises, proto::PromiseReply { outcomes }))
    }

    fn sign(&self, request: Request<Batch>) -> Call<proto::SignReply> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let partial = proto::sign_outcome::Outcome::Partial(vec![7; 96]);
        let outcome = proto::SignOutcome {
            outcome: Some(partial),
        };
        let outcomes = vec![outcome; request.get_ref().items().len()];
        let signs = self.habit.lock().signs;
        Box::pin(does(signs, proto::SignReply { outcomes }))
    }

    fn lead(&self, _request: proto::LeadRequest) -> Call<proto::LeadReply> {
        Box::pin(pending())
    }

    fn status(&self) -> Call<proto::StatusReply> {
        let reply = proto::StatusReply {
            ready: true,
            ..proto::StatusReply::default()
        };
        Box::pin(does(*self.says.lock(), reply))
    }

    fn validators(&self) -> Call<Streaming<proto::ValidatorsPage>> {
        Box::pin(pending())
    }
}

/// A 2-of-3 whose first member is odd.
struct Setting {
    cosigners: Cosigners,
    odd: Arc<Far>,
    members: Vec<(Peer, ShareIndex)>,
    requests: u64,
}

impl Setting {
    /// All are heard, and known to be equally fast.
    async fn new(mode: Mode) -> Self {
        let far = || {
            Arc::new(Far {
                habit: Mutex::new(GOOD),
                says: Mutex::new(Does::Answers),
                calls: AtomicUsize::new(0),
            })
        };
        let all = [far(), far(), far()];
        let odd = Arc::clone(&all[ODD]);
        let networks = (1..).zip(all).map(|(number, far)| {
            let far: Arc<dyn Transport> = far;
            (format!("cosigner-{number}"), far)
        });
        let cosigners = Cosigners::over(networks.collect(), &metrics().0);
        let index = |value| ShareIndex::new(value).unwrap();
        let members = [1, 2, 3].map(index).into_iter().enumerate();
        let mut setting = Self {
            cosigners,
            odd,
            members: members.map(|(peer, index)| (Peer(peer), index)).collect(),
            requests: 0,
        };
        setting.go_on(mode, Duration::from_secs(3)).await;
        assert!(setting.relies_on_odd(mode), "it is as fast as the others");
        setting
    }

    fn link(&self) -> &Arc<Link> {
        &self.cosigners.links()[ODD]
    }

    fn behave(&self, habit: Habit) {
        *self.odd.habit.lock() = habit;
    }

    fn calls(&self) -> usize {
        self.odd.calls.load(Ordering::Relaxed)
    }

    /// Whether the odd one would be among the first.
    fn relies_on_odd(&self, mode: Mode) -> bool {
        let invited = self.cosigners.invite(&self.members, 2, mode, &[]).1;
        invited[..2].iter().any(|member| member.peer == Peer(ODD))
    }

    /// Begins one request, as a round would: whether it relies on the odd one.
    fn request(&mut self, mode: Mode) -> bool {
        self.requests += 1;
        let invited = self.cosigners.invite(&self.members, 2, mode, &[]).1;
        let to = invited.iter().filter(|member| !member.spare);
        let to: Vec<Peer> = to.map(|member| member.peer).collect();
        let passed_over = match mode {
            Mode::Promised => self.cosigners.passed_over(&to, &self.members, 2),
            Mode::Direct | Mode::Led => BTreeSet::new(),
        };
        for (position, member) in invited.iter().enumerate() {
            let is_asked = position < 2 || member.sounded;
            if is_asked && !passed_over.contains(&member.peer) {
                let link = self.cosigners.link(member.peer).unwrap();
                let (link, slot) = (Arc::clone(link), self.requests);
                tokio::spawn(async move { signed(&link, mode, slot).await });
            }
        }
        invited[..2].iter().any(|member| member.peer == Peer(ODD))
    }

    /// Goes on with requests for so long: how many relied on the odd one.
    async fn go_on(&mut self, mode: Mode, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut relied = 0;
        while Instant::now() < end {
            relied += usize::from(self.request(mode));
            tokio::time::sleep(PAUSE).await;
        }
        relied
    }

    /// Goes on with requests until the odd one is asked, or is not: how long that took.
    async fn until(&mut self, mode: Mode, is_asked: bool) -> Duration {
        let began = Instant::now();
        while self.link().is_asked() != is_asked {
            assert!(began.elapsed() < Duration::from_secs(60), "in vain");
            self.request(mode);
            tokio::time::sleep(PAUSE).await;
        }
        began.elapsed()
    }
}

/// Asks one to promise, if that is needed, and to sign.
async fn signed(link: &Link, mode: Mode, slot: u64) {
    let duty = match mode {
        Mode::Promised | Mode::Led => Duty::Block(BeaconBlockHeader {
            slot: Slot(slot),
            proposer_index: 1,
            parent_root: Root([4; 32]),
            state_root: Root([5; 32]),
            body_root: Root([6; 32]),
        }),
        Mode::Direct => Duty::RandaoReveal(Epoch(slot)),
    };
    let order = SigningOrder {
        validator: PublicKey([7; 48]),
        fork_version: ForkVersion([6, 0, 0, 0]),
        genesis_validators_root: Root([7; 32]),
        duty,
    };
    let root = order.signing_root();
    let ballot = (mode == Mode::Promised).then_some(Ballot { round: 0, root });
    let (ask, mut answers) = ask(&order, DEADLINE);
    let ask = Arc::new(Ask {
        item: Item::new(&order, ballot.as_ref(), None),
        ballot,
        ..ask
    });
    if ballot.is_some() {
        link.promise(Arc::clone(&ask));
        if !matches!(answers.next().await, Event::Promised { .. }) {
            return;
        }
    }
    link.sign(ask);
    answers.next().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_out_is_back_with_its_first_good_answer_and_until_then_nothing_relies_on_it() {
    // What it does, how long it has been out, and how long it then takes at most to come back: until
    // the next probe, and what is still under way fails.
    let soon = Duration::from_millis(300);
    let later = Duration::from_millis(1_100);
    let rows = [
        (Mode::Promised, FAILING, 100, soon),
        (Mode::Promised, FAILING, 20_000, later),
        (Mode::Promised, WITHHOLDING, 100, soon),
        (Mode::Promised, WITHHOLDING, 20_000, later),
        (Mode::Promised, HUNG, 20_000, later + DEADLINE),
        (Mode::Direct, FAILING, 100, soon),
        (Mode::Direct, FAILING, 20_000, later),
        (Mode::Direct, HUNG, 20_000, later + DEADLINE),
    ];
    for (mode, habit, milliseconds, most) in rows {
        let what = format!("{mode:?} {habit:?} for {milliseconds} ms");
        let mut setting = Setting::new(mode).await;
        setting.behave(habit);
        setting.until(mode, false).await;
        let time = Duration::from_millis(milliseconds);
        let calls = setting.calls();
        assert_eq!(setting.go_on(mode, time).await, 0, "{what}");
        assert!(!setting.link().is_asked(), "{what}");
        // Two sooner, and one each second; each may be a promise and a signature.
        let probes = setting.calls() - calls;
        let seconds = usize::try_from(time.as_secs()).unwrap();
        assert!(probes <= 2 * (seconds + 2), "{probes}: {what}");

        setting.behave(GOOD);
        let calls = setting.calls();
        let took = setting.until(mode, true).await;
        assert!(took <= most, "{took:?}: {what}");
        let answers = setting.calls() - calls;
        assert!(habit == HUNG || answers <= 2, "{answers}: {what}");
        if habit != HUNG {
            assert!(setting.relies_on_odd(mode), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_answers_probes_and_fails_what_it_is_asked_is_asked_less_and_less() {
    for (mode, habit) in [
        (Mode::Promised, FAILING),
        (Mode::Promised, WITHHOLDING),
        (Mode::Direct, FAILING),
    ] {
        let mut setting = Setting::new(mode).await;
        let end = Instant::now() + Duration::from_secs(60);
        let mut relied = 0;
        while Instant::now() < end {
            let is_asked = setting.link().is_asked();
            setting.behave(if is_asked { habit } else { GOOD });
            relied += usize::from(setting.request(mode));
            tokio::time::sleep(PAUSE).await;
        }
        // Of 3,000, some three each of about twenty times that it is back.
        assert!((20..100).contains(&relied), "{relied} {mode:?} {habit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_lost_what_it_was_asked_is_found_again_as_soon_as_it_answers_anything() {
    for milliseconds in [2_000, 2_700, 3_100, 4_900, 20_300] {
        let setting = Setting::new(Mode::Direct).await;
        *setting.odd.says.lock() = Does::Hangs;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        assert!(!setting.link().is_asked());
        *setting.odd.says.lock() = Does::Answers;
        let began = Instant::now();
        while !setting.link().is_asked() {
            tokio::time::sleep(TAKES).await;
        }
        let took = began.elapsed();
        assert!(took <= Duration::from_millis(800), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_forgotten_where_nobody_asks() {
    let mut setting = Setting::new(Mode::Direct).await;
    setting.behave(FAILING);
    setting.until(Mode::Direct, false).await;
    let began = Instant::now();
    while !setting.link().is_asked() {
        tokio::time::sleep(PAUSE).await;
    }
    let took = began.elapsed();
    assert!((3_000..4_000).contains(&took.as_millis()), "{took:?}");
}

/// **Invariant:** a cosigner that falls silent at any moment is absent within two seconds.
#[tokio::test(start_paused = true)]
async fn who_is_silent_is_absent_within_two_seconds() {
    for milliseconds in (0..600).step_by(50) {
        let setting = Setting::new(Mode::Direct).await;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        assert!(setting.link().is_asked());
        *setting.odd.says.lock() = Does::Hangs;
        let began = Instant::now();
        while setting.link().is_asked() {
            tokio::time::sleep(TAKES).await;
        }
        let took = began.elapsed();
        // Not for being late, either.
        assert!((1_000..=2_000).contains(&took.as_millis()), "{took:?}");
    }
}
