//! What is combined together, what is anticipated, and that nobody is forgotten.

use std::{collections::BTreeSet, sync::mpsc, time::Duration};

use duty::SigningRoot;
use futures_util::future::join_all;
use keyshare::{SecretKey, split};
use threshold::Committee;
use tokio::time::timeout;

use super::*;
use crate::testing::eventually;

const PATIENCE: Duration = Duration::from_secs(10);
const ROOT: SigningRoot = SigningRoot([7; 32]);

/// Signs nothing, and notes what it was asked.
#[derive(Default)]
struct Noted {
    anticipations: AtomicUsize,
    /// Of each job, whether it was anticipated.
    jobs: Mutex<Vec<bool>>,
    /// Until something comes, or the other side goes, it does not finish to anticipate.
    gate: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Arithmetic for Noted {
    fn anticipate(&self, committee: &Committee, root: SigningRoot) -> Anticipated {
        self.anticipations.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = self.gate.lock().take() {
            let _ = gate.recv();
        }
        Anticipated::new(committee, root)
    }

    fn combine(&self, jobs: &[Combination<'_>], answer: &mut dyn FnMut(usize, Combined)) {
        for (position, job) in jobs.iter().enumerate() {
            self.jobs.lock().push(job.anticipated.is_some());
            answer(position, Err(CombineError::Unexplained));
        }
    }
}

struct Setting {
    noted: Arc<Noted>,
    cpu: Cpu,
    combiner: Combiner,
    validator: Arc<Validator>,
}

impl Setting {
    fn new() -> Self {
        let noted = Arc::new(Noted::default());
        let arithmetic: Arc<dyn Arithmetic> = Arc::<Noted>::clone(&noted);
        let cpu = Cpu::start().unwrap();
        let indices: BTreeSet<ShareIndex> = [1, 2, 3].map(|i| ShareIndex::new(i).unwrap()).into();
        let key = SecretKey::from_entropy(&[3; 32]);
        let dealt = split(key, 2, &indices, &mut |bytes| bytes.fill(5)).unwrap();
        Self {
            combiner: Combiner::new(cpu.clone(), arithmetic),
            noted,
            cpu,
            validator: Arc::new(Validator {
                committee: dealt.committee,
                members: Vec::new(),
            }),
        }
    }

    fn expect(&self) -> Expected {
        let validator = Arc::clone(&self.validator);
        self.combiner.expect(Urgency::Usual, validator, ROOT)
    }

    /// A request that anticipates at a moment when all threads are idle.
    fn anticipating(&self) -> Expected {
        let mut expected = self.expect();
        self.cpu.rest();
        expected.anticipate();
        expected
    }

    fn anticipations(&self) -> usize {
        self.noted.anticipations.load(Ordering::SeqCst)
    }

    /// Waits until so many were begun.
    async fn begun(&self, anticipations: usize) {
        eventually("it is anticipated", || {
            self.anticipations() == anticipations
        })
        .await;
    }

    fn jobs(&self) -> Vec<bool> {
        std::mem::take(&mut *self.noted.jobs.lock())
    }
}

#[tokio::test]
async fn a_request_that_is_alone_is_anticipated_once_and_that_serves_each_of_its_combinations() {
    let setting = Setting::new();
    let mut alone = setting.anticipating();
    setting.begun(1).await;
    setting.cpu.rest();
    for _ in 0..3 {
        alone.combine(Vec::new()).await.unwrap().unwrap_err();
        setting.cpu.rest();
        alone.anticipate();
    }
    assert_eq!(setting.jobs(), [true; 3]);
    assert_eq!(setting.anticipations(), 1);
}

#[tokio::test]
async fn of_many_at_once_none_is_anticipated() {
    let setting = Setting::new();
    let mut burst: Vec<Expected> = (0..100).map(|_| setting.expect()).collect();
    for expected in &mut burst {
        setting.cpu.rest();
        expected.anticipate();
    }
    let combined = burst.iter().map(|expected| expected.combine(Vec::new()));
    assert!(join_all(combined).await.iter().all(Option::is_some));
    assert_eq!(setting.jobs(), [false; 100]);
    assert_eq!(setting.anticipations(), 0);
    drop(burst);
    let _alone = setting.anticipating();
    setting.begun(1).await;
}

#[tokio::test]
async fn busy_threads_anticipate_nothing() {
    let setting = Setting::new();
    let (release, released) = mpsc::channel::<()>();
    let mut expected = setting.expect();
    setting.cpu.rest();
    setting.cpu.submit(Urgency::Usual, move || {
        let _ = released.recv();
    });
    expected.anticipate();
    drop(release);
    setting.cpu.rest();
    assert_eq!(setting.anticipations(), 0);
}

#[tokio::test]
async fn one_that_does_not_come_to_its_end_is_not_waited_for() {
    let setting = Setting::new();
    let (release, gate) = mpsc::channel();
    *setting.noted.gate.lock() = Some(gate);
    let expected = setting.anticipating();
    setting.begun(1).await;
    // On a machine with one processor, its one thread is the one that stands at the gate.
    let combined = tokio::spawn(async move { expected.combine(Vec::new()).await });
    if std::thread::available_parallelism().is_ok_and(|threads| threads.get() > 1) {
        assert!(combined.await.unwrap().is_some());
        assert_eq!(setting.jobs(), [false]);
    }
    drop(release);
}

#[test]
fn what_was_not_begun_when_it_is_needed_or_the_request_is_over_is_not_done() {
    let anticipate = || panic!("nobody wants it");
    let combined = Anticipation::new();
    assert!(combined.outcome(Duration::ZERO).is_none());
    combined.compute(anticipate);
    let setting = Setting::new();
    let expected = setting.expect();
    let over = Arc::clone(&expected.anticipation);
    drop(expected);
    over.compute(anticipate);
}

#[tokio::test]
async fn who_stands_behind_a_full_batch_whose_own_jobs_never_come_is_answered() {
    let setting = Setting::new();
    for urgency in [Urgency::Prompt, Urgency::Usual] {
        let mut answers = Vec::new();
        for _ in 0..3 * BATCH_MAX {
            let (answer, combined) = oneshot::channel();
            answers.push(combined);
            let waiting = Waiting {
                validator: Arc::clone(&setting.validator),
                root: ROOT,
                partials: Vec::new(),
                anticipation: Arc::new(Anticipation::new()),
                answer,
            };
            let queues = &setting.combiner.0.queues;
            queues.of(urgency).lock().push_back(waiting);
        }
        let validator = Arc::clone(&setting.validator);
        let last = setting.combiner.expect(urgency, validator, ROOT);
        let all = async { (last.combine(Vec::new()).await, join_all(answers).await) };
        let (last, others) = timeout(PATIENCE, all).await.expect("all are answered");
        assert!(last.is_some() && others.iter().all(Result::is_ok));
    }
}
