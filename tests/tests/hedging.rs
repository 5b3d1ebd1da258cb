//! A cosigner that has become slow costs requests less than a hedge would: who is known to be slow is
//! not asked first, so that nobody waits until the next is asked instead. Until that is known, some
//! requests wait for so long, and no longer.

use std::time::Duration;

use tests::{
    cluster::{Cluster, Options, Prepared, test_keys},
    proxy::{Fault, Proxy, Way},
    requests::attestation,
};
use tokio::time::Instant;

/// How much longer the slow cosigner takes for everything, at least.
const SLOW_MIN: Duration = Duration::from_millis(300);
/// How much longer it takes than a usual request does at most, so that on no machine is waiting for it
/// what waiting for a hedge is.
const SLOW_TIMES: u32 = 4;
/// A promise is hedged after what its cosigner usually takes, and never earlier than this: twice it
/// does not take it.
const HEDGE_MIN: Duration = Duration::from_millis(50);
/// So many requests in a row that waited for no hedge show that the slow one is known.
const SETTLED: usize = 60;
/// When it is to be known at the latest. Whoever ranks nobody comes to ask all at once when what was
/// measured before is 30 s old.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
const REQUESTS: usize = 200;
/// One calm moment of a busy machine is enough.
const ATTEMPTS: usize = 3;

/// What requests took, the fastest first.
struct Times(Vec<Duration>);

impl Times {
    fn of_100(&self, at: usize) -> Duration {
        self.0[self.0.len() * at / 100 - 1]
    }
}

/// Asks one after the other, each for a duty of its own.
struct Caller {
    cluster: Cluster,
    epoch: u64,
}

impl Caller {
    async fn ask(&mut self) -> Duration {
        self.epoch += 1;
        let validator = self.cluster.validators()[0];
        let request = attestation(self.epoch - 1, self.epoch, 1);
        let began = Instant::now();
        let answer = self.cluster.sign(0, &validator, &request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        began.elapsed()
    }

    /// Asks until nobody waits for a hedge any more; returns how long that took.
    async fn settle(&mut self) -> Duration {
        let began = Instant::now();
        let mut in_a_row = 0;
        while in_a_row < SETTLED && began.elapsed() < SETTLED_WITHIN {
            in_a_row = match self.ask().await < HEDGE_MIN {
                true => in_a_row + 1,
                false => 0,
            };
        }
        began.elapsed()
    }

    async fn times(&mut self) -> Times {
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            times.push(self.ask().await);
        }
        times.sort();
        Times(times)
    }

    /// Whether a slow cosigner behind this proxy costs less than the hedge.
    async fn spares(&mut self, slow: &Proxy) -> bool {
        self.settle().await;
        let usual = self.times().await;
        let slower = SLOW_MIN.max(usual.of_100(99) * SLOW_TIMES);
        slow.set_way(Way::Down, Fault::Delay(slower));
        let settled = self.settle().await;
        let with_slow = self.times().await;
        slow.heal();
        let hedge = usual.of_100(95).max(HEDGE_MIN);
        let [median, p99] = [50, 99].map(|at| (usual.of_100(at), with_slow.of_100(at)));
        println!(
            "one takes {slower:?} longer, known after {settled:?}: median {median:?}, p99 {p99:?}, \
             hedge {hedge:?}"
        );
        // Who waits for a hedge waits at least for the shortest, also at the median.
        p99.1 < p99.0 + hedge && median.1 < median.0 + HEDGE_MIN / 2
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_cosigner_of_four_costs_less_than_the_hedge_delay() {
    let mut prepared = Prepared::new(Options {
        signer_lines: "deadline_ms = 5000",
        ..Options::new(test_keys(1))
    })
    .await;
    let mut proxies = Vec::new();
    for number in 1..=4 {
        proxies.push(Proxy::start(prepared.address(number)).await);
    }
    prepared.detour(0, proxies.iter().map(Proxy::port).collect());
    let mut caller = Caller {
        cluster: prepared.start().await,
        epoch: 0,
    };
    // Whatever order is a fixed one, it has one of these among its first three.
    for slow in [&proxies[0], &proxies[3]] {
        let mut attempts = 0;
        while !caller.spares(slow).await {
            attempts += 1;
            assert!(attempts < ATTEMPTS, "a slow cosigner is waited for");
        }
    }
}
