//! A cosigner, or the database's process that it talks to, is killed, stopped or failed at every
//! step of one decision that something outside of the process can see; then the same messages and
//! conflicting ones are asked for.
//!
//! Each decision is a batch of five validators' claims. What must hold, whatever the step: of a
//! message and one that conflicts with it at most one is ever signed, and every partial that
//! arrived has a row. And it goes on: exactly one of the two is signed in the end.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tests::{
    cluster::{Options, Prepared, Storage, test_keys},
    lone::{Database, Lone, connect},
    strace::{Fault, Injection, Strace, When, calls, has_struck, syncs_before_it_tells, threads},
    trials::{Case, First, cases, conclude},
};
use tokio::{sync::Mutex, time::sleep};

/// Longer than a promise may be signed under, and than the ledger may take.
const FREEZE: Duration = Duration::from_millis(1_300);
/// Tries of what a busy machine can make fail.
const TRIES_MAX: usize = 10;
/// Tries of one step beyond the last that a recorded decision had.
const BEYOND_MAX: usize = 40;

/// Whose steps are disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Cosigner,
    /// The server's processes for the cosigner's connections.
    Backend,
}

/// The `nth` call of one kind that one part of the victim makes during a decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    part: String,
    call: String,
    nth: usize,
}

/// What came of one disturbed decision.
struct Outcome {
    struck: bool,
    /// Partials that arrived, and rows that were there when it was over.
    partials: usize,
    rows: usize,
}

/// A cosigner with a database of its own, for one trial after the other.
struct Lane {
    lone: Lone,
    trial: u64,
    trace: PathBuf,
    /// By the process that it is a thread of.
    task_thread: Option<(u32, u32)>,
    /// Whether each decision is one that makes SQLite move its log into the database.
    checkpoints: bool,
    // Ends after what is connected to it.
    server: Option<Arc<throwaway::Cluster>>,
}

fn options(storage: Storage, server: Option<Arc<throwaway::Cluster>>) -> Options {
    Options {
        committee: "1-of-1",
        storage,
        server,
        ..Options::new(test_keys(5))
    }
}

impl Lane {
    async fn new(storage: Storage, victim: Victim) -> Self {
        let server = match victim {
            // Killed, a backend takes all others of its server with it.
            Victim::Backend => Some(Arc::new(throwaway::Cluster::start().await)),
            Victim::Cosigner => None,
        };
        let prepared = Prepared::new(options(storage, server.clone())).await;
        Self::of(prepared, server).await
    }

    async fn of(prepared: Prepared, server: Option<Arc<throwaway::Cluster>>) -> Self {
        let trace = prepared.dir().join("trace");
        Self {
            lone: Lone::start(prepared).await,
            trial: 0,
            trace,
            task_thread: None,
            checkpoints: false,
            server,
        }
    }

    /// As many as are asked for, made at once.
    async fn several(count: usize, storage: Storage, victim: Victim) -> Vec<Self> {
        let made = (0..count).map(|_| tokio::spawn(Self::new(storage, victim)));
        let made = join_all(made.collect::<Vec<_>>()).await;
        made.into_iter().map(Result::unwrap).collect()
    }

    /// Fills SQLite's log, so that the next commit is followed by a checkpoint.
    fn fill_log(&self) {
        let Database::Sqlite(path) = self.lone.database() else {
            panic!("no file")
        };
        // As long as the cosigner has the file open, closing this makes no checkpoint.
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        for (pragma, value) in [("synchronous", 0), ("wal_autocheckpoint", 0)] {
            connection.pragma_update(None, pragma, value).unwrap();
        }
        for _ in 0..WAL_FRAMES {
            assert_eq!(connection.execute(TOUCH_RATCHET, []).unwrap(), 1);
        }
    }

    fn next_cases(&mut self) -> Vec<Case> {
        self.trial += 1;
        cases(self.lone.prepared().validators(), self.trial)
    }

    /// A decision that nothing disturbs: all threads and connections are there after it.
    async fn warm(&mut self) {
        let cases = self.next_cases();
        for case in &cases {
            assert!(self.lone.asker().ask(&case.wanted).await.is_some());
        }
    }

    /// The cosigner's one thread that runs its tasks: the one that answers. After this all other
    /// threads are there, too.
    async fn task_thread(&mut self) -> u32 {
        let process = self.lone.process().id();
        match self.task_thread {
            Some((of, thread)) if of == process => {
                self.warm().await;
                thread
            }
            _ => {
                let strace = Strace::record(&[process], &self.trace).await;
                self.warm().await;
                let log = strace.detach().await;
                let mut sends = calls(&log).filter(|(_, call)| *call == "writev");
                let thread = sends.next_back().and_then(|(id, _)| id);
                let thread = thread.unwrap_or_else(|| panic!("nobody answers: {log}"));
                self.task_thread = Some((process, thread));
                thread
            }
        }
    }

    /// The threads or processes that make the victim's system calls, by what they are for.
    async fn parts(&mut self, victim: Victim) -> BTreeMap<String, Vec<u32>> {
        let mut parts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        match victim {
            Victim::Cosigner => {
                let tasks = self.task_thread().await;
                for (id, name) in threads(self.lone.process().id()) {
                    // The runtime's other threads run what blocks.
                    let part = match name.as_str() {
                        "tokio-rt-worker" if id == tasks => "tasks",
                        "tokio-rt-worker" => "blocking",
                        name => name,
                    };
                    parts.entry(part.to_owned()).or_default().push(id);
                }
            }
            Victim::Backend => {
                let Database::Postgres(url) = self.lone.database() else {
                    panic!("no backends")
                };
                while !parts.contains_key("deciding") {
                    self.warm().await;
                    let client = connect(&url).await;
                    let backends = client.query(READ_BACKENDS, &[]).await.unwrap();
                    parts.clear();
                    for row in backends {
                        let decides: bool = row.get(1);
                        let part = if decides { "deciding" } else { "reading" };
                        let id = u32::try_from(row.get::<_, i32>(0)).unwrap();
                        parts.entry(part.to_owned()).or_default().push(id);
                    }
                }
            }
        }
        parts
    }

    /// The steps of one decision, each kind's last one by its number, and the log of them.
    async fn record(&mut self, victim: Victim) -> (Vec<Step>, String) {
        let parts = self.parts(victim).await;
        let processes = match victim {
            Victim::Cosigner => vec![self.lone.process().id()],
            Victim::Backend => parts.values().flatten().copied().collect(),
        };
        if self.checkpoints {
            self.fill_log();
        }
        let mut tries = 0;
        let log = loop {
            let cases = self.next_cases();
            let strace = Strace::record(&processes, &self.trace).await;
            let wanted: Vec<_> = cases.iter().map(|case| &case.wanted).collect();
            let partials = self.lone.asker().ask_once(&wanted).await;
            let log = strace.detach().await;
            if partials.iter().all(Option::is_some) {
                break log;
            }
            // A busy machine can be too slow for the cosigner's bounds.
            tries += 1;
            assert!(tries < TRIES_MAX, "nothing is signed: {log}");
        };
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (id, call) in calls(&log) {
            let id = id.expect("all threads are watched");
            let part = parts.iter().find(|(_, ids)| ids.contains(&id));
            let part = part.map_or("blocking", |(part, _)| part);
            *counts.entry((part, call)).or_default() += 1;
        }
        let step = |((part, call), nth): (&(&str, &str), &usize)| Step {
            part: (*part).to_owned(),
            call: (*call).to_owned(),
            nth: *nth,
        };
        (counts.iter().map(step).collect(), log)
    }

    /// One decision with a fault at one step, and what is asked for after it.
    async fn disturb(&mut self, victim: Victim, step: &Step, fault: Fault) -> Outcome {
        let parts = self.parts(victim).await;
        if self.checkpoints {
            self.fill_log();
        }
        let injection = Injection {
            calls: &step.call,
            when: When::Nth(step.nth),
            fault,
        };
        let strace = Strace::inject(&parts[&step.part], &injection, &self.trace).await;
        let cases = self.next_cases();
        let wanted: Vec<_> = cases.iter().map(|case| &case.wanted).collect();
        let stopped = match victim {
            Victim::Cosigner => vec![self.lone.process().id()],
            Victim::Backend => parts[&step.part].clone(),
        };
        let partials = match fault {
            Fault::Kill | Fault::Error(_) => self.lone.asker().ask_once(&wanted).await,
            Fault::Stop => self.ask_while_stopped(&strace, &stopped, &cases).await,
        };
        let struck = has_struck(&strace.detach().await, step.nth);
        if fault == Fault::Stop {
            // It may have been stopped after it had answered.
            thaw(&stopped);
        }
        if struck && fault == Fault::Kill && victim == Victim::Cosigner {
            self.lone.restart().await;
        }
        let rows = conclude(&self.lone, &cases, &partials).await;
        Outcome {
            struck,
            partials: partials.iter().flatten().count(),
            rows,
        }
    }

    /// A decision during which certain calls of the cosigner always fail.
    async fn fail(&mut self, calls: &str, fault: Fault) {
        let parts = self.parts(Victim::Cosigner).await;
        let injection = Injection {
            calls,
            when: When::Always,
            fault,
        };
        let threads: Vec<u32> = parts.into_values().flatten().collect();
        for _ in 0..TRIES_MAX {
            let strace = Strace::inject(&threads, &injection, &self.trace).await;
            let cases = self.next_cases();
            let wanted: Vec<_> = cases.iter().map(|case| &case.wanted).collect();
            let partials = self.lone.asker().ask_once(&wanted).await;
            let log = strace.detach().await;
            let none = partials.iter().all(Option::is_none);
            assert!(none, "a partial without a row: {log}");
            conclude(&self.lone, &cases, &partials).await;
            if log.contains("(INJECTED)") {
                return;
            }
        }
        panic!("nothing failed");
    }

    /// Decisions during which the whole database server stands still.
    async fn freeze_server(&mut self) {
        for after_ms in [0, 2, 4, 8] {
            self.warm().await;
            let cases = self.next_cases();
            let wanted: Vec<_> = cases.iter().map(|case| &case.wanted).collect();
            let server = self.server.as_ref().expect("it has a server of its own");
            let freezing = async {
                sleep(Duration::from_millis(after_ms)).await;
                server.freeze();
                sleep(FREEZE).await;
                server.thaw();
            };
            let mut asker = self.lone.asker();
            let (partials, ()) = tokio::join!(asker.ask_once(&wanted), freezing);
            conclude(&self.lone, &cases, &partials).await;
        }
    }

    /// Asks while a process is stopped, if it comes to that, also for what conflicts.
    async fn ask_while_stopped(
        &self,
        strace: &Strace,
        ids: &[u32],
        cases: &[Case],
    ) -> Vec<Option<Vec<u8>>> {
        let (first, second) = (self.lone.asker(), self.lone.asker());
        let wanted: Vec<_> = cases.iter().map(|case| &case.wanted).collect();
        let mut asking = std::pin::pin!(async move { first.clone().ask_once(&wanted).await });
        let stopping = async {
            while !strace.log().contains("stopped by SIGSTOP") {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            partials = &mut asking => partials,
            () = stopping => {
                let conflicting = cases.iter().filter(|case| case.first == First::Other);
                let conflicting = join_all(conflicting.map(|case| {
                    let mut asker = second.clone();
                    async move { asker.ask(&case.other).await }
                }));
                let thawing = async {
                    // Several of its threads may come to such a call, one after the other.
                    loop {
                        // Not a wait for anything: this is how long it is stopped.
                        sleep(FREEZE).await;
                        thaw(ids);
                    }
                };
                let both = async { tokio::join!(asking, conflicting).0 };
                let partials = tokio::select! {
                    partials = both => partials,
                    () = thawing => unreachable!("it never ends"),
                };
                partials
            }
        }
    }
}

fn thaw(ids: &[u32]) {
    for id in ids {
        let id = Pid::from_raw(i32::try_from(*id).unwrap()).unwrap();
        // A backend whose client went away has ended.
        let _gone = kill_process(id, Signal::CONT);
    }
}

/// After so many SQLite makes a checkpoint by itself.
const WAL_FRAMES: usize = 1_000;

const TOUCH_RATCHET: &str = "/* touch_ratchet */
UPDATE ratchets SET decisions = decisions + 1
WHERE validator = (SELECT min(validator) FROM ratchets)";

const READ_BACKENDS: &str = "/* read_backends */
SELECT pid, query LIKE '/* commit */%' FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
    AND pid <> pg_backend_pid()";

/// Which steps.
type Choice = fn(&Step) -> bool;

const ALL: Choice = |_| true;

/// Those that a full or broken disk fails.
const ON_DISK: Choice = |step| {
    let calls = ["pwrite64", "pwritev", "fsync", "fdatasync", "ftruncate"];
    calls.contains(&step.call.as_str())
};

/// The steps of a decision, the highest number of each kind; it must be seen to sync what it writes
/// before it tells.
async fn record(victim: Victim, lane: &mut Lane) -> Vec<Step> {
    let mut out_of_order = Ok(());
    // Another transaction may be under way at the same time, but not always.
    for _ in 0..3 {
        let (steps, log) = lane.record(victim).await;
        out_of_order = syncs_before_it_tells(&log, |file| match victim {
            Victim::Cosigner => !file.ends_with("/log"),
            Victim::Backend => file.contains("/pg_wal/"),
        });
        if out_of_order.is_ok() {
            return steps;
        }
    }
    panic!("{out_of_order:?}")
}

/// Every chosen step of a decision, one after the other, on several lanes at once.
async fn check(
    (victim, fault, choice): (Victim, Fault, Choice),
    mut lanes: Vec<Lane>,
) -> Vec<Lane> {
    let mut steps = record(victim, &mut lanes[0]).await;
    // SQLite's writer writes the anchor, too: what a blocking thread writes there is that the process
    // lives, every two seconds, which comes in a decision or does not.
    let has_writer = steps.iter().any(|step| step.part == "ledger-writer");
    let is_beat = |step: &Step| has_writer && step.part == "blocking" && ON_DISK(step);
    steps.retain(|step| choice(step) && !is_beat(step));
    let last: BTreeMap<(String, String), usize> = steps
        .iter()
        .map(|step| ((step.part.clone(), step.call.clone()), step.nth))
        .collect();
    let each = steps.iter().flat_map(|last| {
        // And one more, until there are no more.
        (1..=last.nth + 1).map(|nth| Step {
            nth,
            ..last.clone()
        })
    });
    let queue: Arc<Mutex<VecDeque<Step>>> = Arc::new(Mutex::new(each.collect()));
    let last = Arc::new(last);
    let working = lanes.into_iter().map(|mut lane| {
        let (queue, last) = (Arc::clone(&queue), Arc::clone(&last));
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            loop {
                let step = queue.lock().await.pop_front();
                let Some(step) = step else {
                    return (lane, outcomes);
                };
                let outcome = lane.disturb(victim, &step, fault).await;
                let known = last[&(step.part.clone(), step.call.clone())];
                if outcome.struck && step.nth > known {
                    assert!(step.nth < known + BEYOND_MAX, "{step:?} has no end");
                    let (nth, next) = (step.nth + 1, step.clone());
                    queue.lock().await.push_back(Step { nth, ..next });
                }
                outcomes.push((step, outcome));
            }
        })
    });
    let worked = join_all(working.collect::<Vec<_>>()).await;
    let (lanes, outcomes): (Vec<_>, Vec<_>) = worked.into_iter().map(Result::unwrap).unzip();
    report(
        victim,
        fault,
        &last,
        outcomes.into_iter().flatten().collect(),
    );
    lanes
}

/// Says what was struck, and that it was not too little.
fn report(
    victim: Victim,
    fault: Fault,
    last: &BTreeMap<(String, String), usize>,
    mut outcomes: Vec<(Step, Outcome)>,
) {
    outcomes.sort_by(|(one, _), (other, _)| one.cmp(other));
    let what = format!("{victim:?} {fault:?}");
    for (step, outcome) in &outcomes {
        let Step { part, call, nth } = step;
        let (partials, rows) = (outcome.partials, outcome.rows);
        let struck = if outcome.struck {
            ""
        } else {
            " (did not come)"
        };
        println!("{what} at {part} {call} {nth}{struck}: {partials} partials, {rows} rows");
        let is_early = *nth == 1 && outcome.struck && ON_DISK(step);
        if is_early && (victim, fault) == (Victim::Cosigner, Fault::Kill) {
            assert_eq!(partials, 0, "before the disk had all that must be there");
        }
    }
    let known: usize = last.values().sum();
    let struck = |part: &str, call: &str| {
        let these = outcomes.iter().filter(|(step, outcome)| {
            outcome.struck
                && part.is_empty() | (step.part == part)
                && call.is_empty() | (step.call == call)
        });
        these.count()
    };
    let all = struck("", "");
    println!("{what}: {all} steps, of {known} in a recorded decision");
    for ((part, call), count) in last {
        // How often threads wake each other differs.
        let is_wake = victim == Victim::Cosigner && call == "write";
        let struck = struck(part, call);
        assert!(
            is_wake || struck * 2 >= *count,
            "{what}: {part} {call}: {struck} of {count}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_killed_or_stopped_at_any_step_contradicts_nothing_on_sqlite() {
    let lanes = Lane::several(6, Storage::Sqlite, Victim::Cosigner).await;
    let lanes = check((Victim::Cosigner, Fault::Kill, ALL), lanes).await;
    check((Victim::Cosigner, Fault::Stop, ALL), lanes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_killed_or_stopped_at_any_step_contradicts_nothing_on_postgres() {
    let lanes = Lane::several(6, Storage::Postgres, Victim::Cosigner).await;
    let lanes = check((Victim::Cosigner, Fault::Kill, ALL), lanes).await;
    check((Victim::Cosigner, Fault::Stop, ALL), lanes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed_stopped_or_failed_at_any_step_contradicts_nothing() {
    let mut lanes = Lane::several(2, Storage::Postgres, Victim::Backend).await;
    for (fault, choice) in [
        (Fault::Kill, ALL),
        (Fault::Stop, ALL),
        (Fault::Error("EIO"), ON_DISK),
        (Fault::Error("ENOSPC"), ON_DISK),
    ] {
        lanes = check((Victim::Backend, fault, choice), lanes).await;
    }
    join_all(lanes.iter_mut().map(Lane::freeze_server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigner_killed_within_a_checkpoint_contradicts_nothing() {
    let mut lanes = Lane::several(6, Storage::Sqlite, Victim::Cosigner).await;
    for lane in &mut lanes {
        lane.checkpoints = true;
    }
    check((Victim::Cosigner, Fault::Kill, ON_DISK), lanes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_partial_leaves_a_cosigner_whose_disk_fails_and_it_recovers() {
    let mut lanes = Lane::several(2, Storage::Sqlite, Victim::Cosigner).await;
    for error in ["EIO", "ENOSPC"] {
        for lane in &mut lanes {
            for calls in ["fsync,fdatasync", "pwrite64,pwritev"] {
                lane.fail(calls, Fault::Error(error)).await;
            }
        }
        lanes = check((Victim::Cosigner, Fault::Error(error), ON_DISK), lanes).await;
    }
}
