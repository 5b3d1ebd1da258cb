//! Every network is hurt in every way, before, within and after a decision: between a caller and a
//! signer-api, a signer-api and the cosigners, a cosigner and its Postgres.
//!
//! What must hold: no request hangs; with as many hurt as can be spared it is signed in time, with
//! one more it is answered with 500 in time; who does not answer is noticed; when the network is
//! well again, everything goes on by itself; and whatever was lost on its way, a message that was
//! signed is signed again with the same bytes, and one that conflicts never is.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Mutex,
    time::Duration,
};

use duty::PublicKey;
use futures_util::{
    StreamExt,
    future::{join_all, select_all},
    stream,
};
use serde_json::Value;
use tests::{
    cluster::{Cluster, Options, Prepared, Storage, test_keys},
    http::Answer,
    process::eventually,
    proxy::{Fault, Proxy, Trigger, Way},
    requests::attestation,
};
use tokio::time::{Instant, timeout};

/// Twice what it is if nothing is configured: the machine may be busy.
const DEADLINE: Duration = Duration::from_millis(2_500);
const DEADLINE_LINE: &str = "deadline_ms = 2500";
/// What a busy machine may add to a deadline.
const MARGIN: Duration = Duration::from_millis(1_500);
/// When a peer that does not answer must be known to be away: within 2 s, and what the question about
/// it and a busy machine add to the best of several times.
const NOTICED: Duration = Duration::from_millis(2_300);
/// What three of four such times may be.
const NOTICED_MOSTLY: Duration = Duration::from_secs(3);
/// What each of them may be.
const NOTICED_AT_LAST: Duration = Duration::from_secs(7);
/// When everything must have come back after a fault.
const RECOVERED: Duration = Duration::from_secs(30);
/// Within a decision, moments come at once.
const MOMENT: Duration = Duration::from_secs(5);
/// Pieces of encrypted streams with an order are longer, with anything else they are shorter.
const ORDER_BYTES: usize = 200;

/// The tests here measure times, one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long a caller waits for an answer.
const CALLER_WAIT: Duration = Duration::from_secs(4);
/// Signer-apis whose networks to the cosigners are hurt; one more serves hurt callers.
const LANES: usize = 4;

const FAULTS: [Fault; 7] = [
    Fault::Delay(Duration::from_millis(50)),
    Fault::Drop,
    Fault::Stall,
    Fault::HalfOpen,
    Fault::Trickle,
    Fault::Reset,
    Fault::Refuse,
];

fn is_deadly(fault: Fault) -> bool {
    !matches!(fault, Fault::Delay(_))
}

/// When a network is hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Before,
    /// Within a decision: its promise is given, and not heard of.
    Promise,
    /// The signature is given, and not heard of.
    Partial,
    /// COMMIT is sent, and does not arrive.
    Commit,
    /// It is done, and not heard of.
    Committed,
    /// It is signed and heard of, and asked for again.
    After,
}

impl Moment {
    /// Has a proxy hold bytes from this moment on; says of which direction.
    fn arm(self, proxy: &Proxy) -> Way {
        const COMMIT: &[u8] = b"/* commit */";
        let (trigger, held) = match self {
            Self::Promise => (Trigger::behind_large(ORDER_BYTES, 1), Way::Down),
            Self::Partial => (Trigger::behind_large(ORDER_BYTES, 2), Way::Down),
            Self::Commit => (Trigger::before(COMMIT), Way::Up),
            Self::Committed => (Trigger::behind(COMMIT), Way::Down),
            Self::Before | Self::After => panic!("{self:?} is not within a decision"),
        };
        proxy.when(Way::Up, trigger, &[(held, Fault::Hold)]);
        held
    }
}

#[derive(Clone, Copy)]
struct Case {
    fault: Fault,
    moment: Moment,
    validator: PublicKey,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.fault, self.moment)
    }
}

/// Every fault at every moment, with a validator each.
fn cases(moments: &[Moment], validators: &[PublicKey]) -> VecDeque<Case> {
    let all = FAULTS
        .iter()
        .flat_map(|fault| moments.iter().map(move |moment| (*fault, *moment)));
    let cases = all
        .zip(validators)
        .map(|((fault, moment), validator)| Case {
            fault,
            moment,
            validator: *validator,
        });
    let cases: VecDeque<_> = cases.collect();
    assert_eq!(cases.len(), FAULTS.len() * moments.len(), "validators");
    cases
}

/// The times that were measured, by what was measured and of which fault.
#[derive(Default)]
struct Figures(Mutex<BTreeMap<String, Vec<Duration>>>);

/// What is measured of how long it takes until who is away is known to be.
const NOTICING: &str = "noticed";

impl Figures {
    fn add(&self, what: &str, fault: Fault, took: Duration) {
        let mut figures = self.0.lock().unwrap();
        let times = figures.entry(format!("{what} {fault:?}")).or_default();
        times.push(took);
        times.sort();
    }

    fn print(&self, of: &str) {
        for (what, times) in self.0.lock().unwrap().iter() {
            let [least, half, most] =
                [0, (times.len() - 1) / 2, times.len() - 1].map(|at| times[at].as_millis());
            println!("{of}: {what}: {least} to {most} ms, half of them within {half} ms");
        }
    }

    /// One attempt may be late where the machine is busy; the others of a fault are not.
    fn check_noticed(&self) {
        let figures = self.0.lock().unwrap();
        for fault in FAULTS.into_iter().filter(|fault| is_deadly(*fault)) {
            let times = &figures[&format!("{NOTICING} {fault:?}")];
            assert!(times.len() >= 4, "{fault:?}: {times:?}");
            assert!(times[0] <= NOTICED, "{fault:?}: {times:?}");
            let mostly = times[times.len() * 3 / 4 - 1];
            assert!(mostly <= NOTICED_MOSTLY, "{fault:?}: {times:?}");
        }
    }
}

/// A network that is hurt.
struct Hurt {
    at: usize,
    since: Instant,
    /// What was heard of the decision before.
    signed: Option<String>,
}

impl Hurt {
    fn check_signed(&self, case: &Case, again: &str) {
        let signed = self.signed.as_deref().unwrap_or(again);
        assert_eq!(again, signed, "{case:?}: another signature");
    }
}

/// What is asked for at an epoch, and what contradicts it.
fn duty(epoch: u64) -> [Value; 2] {
    [1, 2].map(|root| attestation(epoch, epoch + 1, root))
}

/// One signer-api, and proxies on its networks or on its cosigners' ones, the first first.
struct Lane<'c> {
    cluster: &'c Cluster,
    signer: usize,
    proxies: &'c [Proxy],
    figures: &'c Figures,
}

impl Lane<'_> {
    /// Asks, and is answered in time.
    async fn ask(&self, case: &Case, request: &Value) -> Answer {
        let asking = self.cluster.sign(self.signer, &case.validator, request);
        let began = Instant::now();
        let answer = timeout(DEADLINE + MARGIN, asking).await;
        self.figures.add("an answer", case.fault, began.elapsed());
        answer.unwrap_or_else(|_| panic!("{case:?}: a request hangs"))
    }

    /// Asks until the answer is another than 500.
    async fn ask_on(&self, case: &Case, request: &Value) -> Answer {
        let deadline = Instant::now() + RECOVERED;
        loop {
            let answer = self.ask(case, request).await;
            if answer.status != 500 {
                return answer;
            }
            assert!(Instant::now() < deadline, "{case:?}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Hurts one of the networks that are well, at its moment of a decision, and returns it with
    /// the moment and the answer to what was asked then.
    async fn hurt(&self, case: &Case, well: &[usize], request: &Value) -> (Hurt, Answer) {
        match case.moment {
            Moment::Before => {
                let hurt = self.strike(case, well[0]);
                (hurt, self.ask(case, request).await)
            }
            Moment::After => {
                let signed = self.ask(case, request).await.signature();
                let mut hurt = self.strike(case, well[0]);
                hurt.signed = Some(signed);
                (hurt, self.ask(case, request).await)
            }
            Moment::Promise | Moment::Partial | Moment::Commit | Moment::Committed => {
                let first = self.hurt_within(case, well);
                let (hurt, answer) = tokio::join!(first, self.ask(case, request));
                (hurt, answer)
            }
        }
    }

    fn strike(&self, case: &Case, at: usize) -> Hurt {
        self.proxies[at].set(case.fault);
        let since = Instant::now();
        Hurt {
            at,
            since,
            signed: None,
        }
    }

    /// The first whose moment comes is hurt, the others go on.
    async fn hurt_within(&self, case: &Case, well: &[usize]) -> Hurt {
        let held = well.iter().map(|at| {
            let proxy = &self.proxies[*at];
            let way = case.moment.arm(proxy);
            Box::pin(
                async move { proxy.has_struck(MOMENT).await && proxy.holds(way, MOMENT).await },
            )
        });
        let (is_held, first, _) = select_all(held.collect::<Vec<_>>()).await;
        assert!(is_held, "{case:?}: the moment does not come");
        let hurt = self.strike(case, well[first]);
        for other in well.iter().filter(|other| **other != well[first]) {
            self.proxies[*other].heal();
        }
        hurt
    }

    /// Whether the health check says so of a cosigner.
    async fn health(&self, at: usize, status: &str) -> bool {
        let health = self.cluster.get(self.signer, "/healthcheck").await.json();
        let name = format!("cosigner-{}", at + 1);
        let mut checks = health["checks"].as_array().into_iter().flatten();
        checks.any(|check| {
            check["id"].as_str().is_some_and(|id| id.ends_with(&name)) && check["status"] == status
        })
    }

    async fn noticed(&self, case: &Case, hurt: &Hurt) {
        let at = hurt.at;
        let what = format!("{case:?}: cosigner-{} is noticed to be away", at + 1);
        eventually(&what, NOTICED_AT_LAST, || self.health(at, "DOWN")).await;
        self.figures.add(NOTICING, case.fault, hurt.since.elapsed());
    }

    async fn recovered(&self, case: &Case) {
        for at in 0..self.proxies.len() {
            let what = format!("{case:?}: cosigner-{} is back", at + 1);
            eventually(&what, RECOVERED, || self.health(at, "UP")).await;
        }
    }

    /// As many networks are hurt as can be spared, which is one; and then one more.
    async fn run(&self, case: &Case) {
        self.recovered(case).await;
        let duties = [1, 2, 3, 4].map(duty);
        let [early, spared, late, lost] = duties.each_ref().map(|[asked, _]| asked);
        let mut well: Vec<usize> = (0..self.proxies.len()).collect();
        // What was signed before must not be contradicted either.
        let signed_early = self.ask(case, early).await.signature();

        let (first, answer) = self.hurt(case, &well, spared).await;
        assert_eq!(
            answer.status, 200,
            "{case:?}: one can be spared: {answer:?}"
        );
        let signed_spared = answer.signature();
        first.check_signed(case, &signed_spared);
        well.retain(|at| *at != first.at);
        if is_deadly(case.fault) {
            self.noticed(case, &first).await;
        }
        let answer = self.ask(case, late).await;
        assert_eq!(answer.status, 200, "{case:?}: one is away: {answer:?}");
        let signed_late = answer.signature();
        // Whoever is left has signed, and knows.
        let other = self.ask(case, &duties[1][1]).await;
        assert_eq!(other.status, 412, "{case:?}: a conflict: {other:?}");

        let (second, answer) = self.hurt(case, &well, lost).await;
        let expected = if is_deadly(case.fault) { 500 } else { 200 };
        assert_eq!(
            answer.status, expected,
            "{case:?}: one too many: {answer:?}"
        );
        if second.signed.is_some() {
            let other = self.ask(case, &duties[3][1]).await;
            assert!([412, 500].contains(&other.status), "{case:?}: {other:?}");
        }

        self.proxies.iter().for_each(Proxy::heal);
        let began = Instant::now();
        let signed_lost = self.ask_on(case, lost).await.signature();
        second.check_signed(case, &signed_lost);
        self.figures
            .add("signed again", case.fault, began.elapsed());
        self.recovered(case).await;
        self.figures.add("all back", case.fault, began.elapsed());
        let signed = [signed_early, signed_spared, signed_late, signed_lost];
        for ([request, other], signature) in duties.iter().zip(signed) {
            let other = self.ask_on(case, other).await;
            assert_eq!(other.status, 412, "{case:?}: a conflict: {other:?}");
            let again = self.ask_on(case, request).await;
            assert_eq!(again.signature(), signature, "{case:?}: another signature");
        }
    }
}

/// Runs cases in lanes that do not disturb each other.
async fn run_in_lanes(lanes: &[Lane<'_>], cases: VecDeque<Case>) {
    let cases = Mutex::new(cases);
    join_all(lanes.iter().map(|lane| async {
        loop {
            let next = cases.lock().unwrap().pop_front();
            let Some(case) = next else { return };
            lane.run(&case).await;
        }
    }))
    .await;
}

async fn proxies(targets: impl Iterator<Item = std::net::SocketAddr>) -> Vec<Proxy> {
    join_all(targets.map(Proxy::start)).await
}

fn ports(proxies: &[Proxy]) -> Vec<u16> {
    proxies.iter().map(Proxy::port).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_between_a_signer_api_and_cosigners_hangs_loses_or_contradicts_anything() {
    const MOMENTS: [Moment; 4] = [
        Moment::Before,
        Moment::Promise,
        Moment::Partial,
        Moment::After,
    ];
    let _alone = ALONE.lock().await;
    let mut prepared = Prepared::new(Options {
        signers: LANES + 1,
        signer_lines: DEADLINE_LINE,
        // One for each case, also of callers.
        ..Options::new(test_keys(28 + 28))
    })
    .await;
    let mut between = Vec::new();
    for signer in 0..LANES {
        let proxies = proxies((1..=4).map(|number| prepared.address(number))).await;
        prepared.detour(signer, ports(&proxies));
        between.push(proxies);
    }
    let cluster = prepared.start().await;
    let figures = Figures::default();
    let lanes = (0..).zip(&between).map(|(signer, proxies)| Lane {
        cluster: &cluster,
        signer,
        proxies,
        figures: &figures,
    });
    let lanes: Vec<_> = lanes.collect();
    let cases = cases(&MOMENTS, cluster.validators());
    tokio::join!(run_in_lanes(&lanes, cases), no_caller_is_lost(&cluster));
    figures.print("signer-api to cosigner");
    figures.check_noticed();
}

/// Connections that only look for new shares do not stay dead either.
async fn shares_are_still_found(mut cluster: Cluster) {
    let key = test_keys(29)[28];
    let validator = cluster.import_while_running(key).await;
    let what = "a share that was imported after all that is signed with";
    eventually(what, RECOVERED, || async {
        let answer = cluster.sign(0, &validator, &attestation(1, 2, 1)).await;
        answer.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_between_a_cosigner_and_its_postgres_hangs_loses_or_contradicts_anything() {
    const COMMITTEES: usize = 3;
    const MOMENTS: [Moment; 4] = [
        Moment::Before,
        Moment::Commit,
        Moment::Committed,
        Moment::After,
    ];
    let _alone = ALONE.lock().await;
    let committees = join_all((0..COMMITTEES).map(|_| async {
        let prepared = Prepared::new(Options {
            committee: "2-of-3",
            storage: Storage::Postgres,
            signer_lines: DEADLINE_LINE,
            ..Options::new(test_keys(28))
        })
        .await;
        let proxies = proxies((1..=3).map(|number| prepared.database_address(number))).await;
        for (number, proxy) in (1..).zip(&proxies) {
            prepared.detour_database(number, proxy.port());
        }
        (prepared.start().await, proxies)
    }))
    .await;
    let figures = Figures::default();
    let lanes = committees.iter().map(|(cluster, proxies)| Lane {
        cluster,
        signer: 0,
        proxies,
        figures: &figures,
    });
    let lanes: Vec<_> = lanes.collect();
    // The same keys in all lanes, each of which has ledgers of its own.
    run_in_lanes(&lanes, cases(&MOMENTS, committees[0].0.validators())).await;
    figures.print("cosigner to Postgres");
    figures.check_noticed();
    let found = committees.into_iter().map(|(cluster, proxies)| async move {
        shares_are_still_found(cluster).await;
        drop(proxies);
    });
    join_all(found).await;
}

/// What comes between a caller and its signer-api, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    /// Within the request.
    Request,
    /// The answer is on its way.
    Answer,
    After,
}

/// A caller with a connection that it keeps, over a proxy.
struct Caller<'c> {
    cluster: &'c Cluster,
    proxy: Proxy,
    http: reqwest::Client,
    validator: PublicKey,
}

impl Caller<'_> {
    /// The signature, or why the caller has none.
    async fn ask(&self, request: &Value) -> Result<Answer, String> {
        let (port, validator) = (self.proxy.port(), &self.validator);
        let url = format!("http://127.0.0.1:{port}/api/v1/eth2/sign/{validator}");
        let asking = async {
            let asked = self.http.post(url).header("accept", "text/plain");
            let sent = asked.body(request.to_string()).send().await;
            match sent {
                // A body that breaks off is a failure as well.
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = response.text().await.map_err(|error| error.to_string())?;
                    Ok((status, body))
                }
                Err(error) => Err(error.to_string()),
            }
        };
        let answered = timeout(CALLER_WAIT, asking).await;
        let (status, body) = answered.map_err(|_| "no answer".to_owned())??;
        Ok(Answer {
            status,
            content_type: String::new(),
            headers: reqwest::header::HeaderMap::new(),
            body,
        })
    }

    /// What another caller gets.
    async fn ask_beside(&self, request: &Value) -> Answer {
        let asking = self.cluster.sign(LANES, &self.validator, request);
        let answer = timeout(DEADLINE + MARGIN, asking).await;
        answer.expect("a request of another caller hangs")
    }

    async fn ask_on(&self, request: &Value) -> Answer {
        let deadline = Instant::now() + RECOVERED;
        loop {
            match self.ask(request).await {
                Ok(answer) if answer.status != 500 => return answer,
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
        }
    }

    /// Hurts the network at this part of a request, and returns what came of that.
    async fn hurt(&self, fault: Fault, part: Part, request: &Value) -> Result<Answer, String> {
        let (trigger, held) = match part {
            Part::Before | Part::After => {
                self.proxy.set(fault);
                return self.ask(request).await;
            }
            Part::Request => (Trigger::after(100), Way::Up),
            Part::Answer => (Trigger::behind(b"ATTESTATION"), Way::Down),
        };
        self.proxy.when(Way::Up, trigger, &[(held, Fault::Hold)]);
        let hurting = async {
            assert!(self.proxy.holds(held, MOMENT).await, "{fault:?} {part:?}");
            self.proxy.set(fault);
        };
        tokio::join!(self.ask(request), hurting).0
    }

    async fn run(&self, fault: Fault, part: Part) {
        let [early, hurt, beside] = [1, 2, 3].map(|at| attestation(at, at + 1, 1));
        let signed_early = self.ask_on(&early).await.body;
        if part == Part::After {
            assert_eq!(self.ask_on(&hurt).await.status, 200);
        }
        let answer = self.hurt(fault, part, &hurt).await;
        let is_signed = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        assert_eq!(
            is_signed,
            !is_deadly(fault),
            "{fault:?} {part:?}: {answer:?}"
        );
        // Whoever is not hurt is served, also with what was cut off.
        let signed_hurt = self.ask_beside(&hurt).await.signature();
        let signed_beside = self.ask_beside(&beside).await.signature();
        self.proxy.heal();
        let signed = [signed_early, signed_hurt, signed_beside];
        for (at, signature) in (1..).zip(signed) {
            let again = self.ask_on(&attestation(at, at + 1, 1)).await;
            assert_eq!(again.body, signature, "{fault:?} {part:?}");
            let other = self.ask_on(&attestation(at, at + 1, 2)).await;
            assert_eq!(other.status, 412, "{fault:?} {part:?}: {other:?}");
        }
    }
}

async fn no_caller_is_lost(cluster: &Cluster) {
    let target = cluster.url(LANES).replace("http://", "").parse().unwrap();
    let parts = [Part::Before, Part::Request, Part::Answer, Part::After];
    let cases = FAULTS
        .iter()
        .flat_map(|fault| parts.iter().map(move |part| (*fault, *part)));
    // Validators with no case between signer-api and cosigners.
    let validators = cluster.validators().iter().rev();
    let callers = cases
        .zip(validators)
        .map(|((fault, part), validator)| async move {
            let caller = Caller {
                cluster,
                proxy: Proxy::start(target).await,
                http: reqwest::Client::new(),
                validator: *validator,
            };
            caller.run(fault, part).await;
        });
    stream::iter(callers)
        .buffer_unordered(7)
        .collect::<()>()
        .await;
}
