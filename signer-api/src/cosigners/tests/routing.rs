//! In which order cosigners are asked, and when another, of what was measured.

use threshold::{ShareIndex, round::Invited};

use super::*;
use crate::cosigners::{
    latency::{Ended, Work},
    probing::Called,
};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// All that it was asked for lately failed.
fn put_out(link: &Link) {
    let began = Instant::now();
    for work in [Work::Promise, Work::Commit, Work::Sign] {
        (0..3).for_each(|_| link.call_failed(Called { work, began }, "the test says so"));
    }
}

/// Four cosigners that are heard, and what they are said to have taken.
struct Setting {
    peers: Peers,
    cosigners: Cosigners,
}

impl Setting {
    async fn new() -> Self {
        let peers = Peers::start(3, 4, 1).await;
        let cosigners = Cosigners::open(&peers.config, &metrics().0).unwrap();
        for link in cosigners.links() {
            eventually("it is heard", || link.health().is_ready()).await;
        }
        Self { peers, cosigners }
    }

    /// What needs a promise, got one at once.
    fn measured(&self, position: usize, work: Work, milliseconds: u64) {
        self.took(position, work, milliseconds);
        if work == Work::Commit {
            self.took(position, Work::Promise, 1);
        }
    }

    fn took(&self, position: usize, work: Work, milliseconds: u64) {
        let latency = self.cosigners.links()[position].latency();
        for _ in 0..20 {
            let now = Instant::now();
            latency.began(work, now);
            latency.ended(work, now, Ended::Answered(ms(milliseconds)));
        }
    }

    fn invite(&self, mode: Mode) -> Vec<Invited> {
        let members = (0..self.peers.peers.len()).map(|position| {
            let index = u64::try_from(position).unwrap() + 1;
            (Peer(position), ShareIndex::new(index).unwrap())
        });
        self.cosigners
            .invite(&members.collect::<Vec<_>>(), 3, mode, &[])
            .1
    }

    fn order(&self, mode: Mode) -> Vec<usize> {
        self.invite(mode).iter().map(|m| m.peer.0).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fastest_come_first_and_each_is_late_after_a_time_of_its_own() {
    // What each takes, who comes in which order, and when each is late.
    let rows = [
        ([40, 20, 30, 60], [1, 2, 0, 3], [20, 30, 40, 60], 0),
        // Nobody is given less than what a busy machine needs at least, nor more than a limit.
        ([1, 2, 3, 4], [0, 1, 2, 3], [10, 10, 10, 10], 0),
        ([900, 800, 700, 600], [3, 2, 1, 0], [300, 300, 300, 300], 4),
        // Nor more than twice what the third takes: the fourth would be waited for in vain.
        ([20, 500, 30, 25], [0, 3, 2, 1], [20, 25, 30, 60], 1),
    ];
    for (mode, work) in [(Mode::Direct, Work::Sign), (Mode::Promised, Work::Commit)] {
        for (took, order, late, reserves) in rows {
            let setting = Setting::new().await;
            for (position, took) in took.into_iter().enumerate() {
                setting.measured(position, work, took);
            }
            let invited = setting.invite(mode);
            let ordered: Vec<usize> = invited.iter().map(|m| m.peer.0).collect();
            assert_eq!(ordered, order, "{took:?}");
            let within: Vec<Duration> = invited.iter().map(|m| m.sign_within).collect();
            assert_eq!(within, late.map(ms), "{took:?}");
            let reserve = invited.iter().filter(|m| m.reserve).count();
            assert_eq!(reserve, reserves, "{took:?}");
            assert!(invited.iter().all(|m| !m.sounded), "{took:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_work_has_its_own_order() {
    let setting = Setting::new().await;
    for (position, sign, commit) in [(0, 9, 1), (1, 8, 2), (2, 7, 3), (3, 6, 4)] {
        setting.took(position, Work::Sign, sign);
        setting.took(position, Work::Commit, commit);
        setting.took(position, Work::Promise, 100);
    }
    assert_eq!(setting.order(Mode::Direct), [3, 2, 1, 0]);
    assert_eq!(setting.order(Mode::Promised), [0, 1, 2, 3]);
    let invited = setting.invite(Mode::Promised);
    assert!(invited.iter().all(|m| m.promise_within == ms(100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_known_is_asked_last_and_sounded_by_one_request_in_a_while() {
    let setting = Setting::new().await;
    for position in [0, 2, 3] {
        setting.measured(position, Work::Sign, 20);
    }
    let sounded = |invited: Vec<Invited>| {
        let sounded = invited.into_iter().filter(|m| m.sounded);
        sounded.map(|m| m.peer.0).collect::<Vec<_>>()
    };
    let first = setting.invite(Mode::Direct);
    assert_eq!(first[3].peer, Peer(1));
    assert!(!first[3].reserve, "nothing is known against it");
    assert_eq!(sounded(first), [1]);
    assert!(sounded(setting.invite(Mode::Direct)).is_empty());
    tokio::time::timeout(LONG, async {
        while sounded(setting.invite(Mode::Direct)) != [1] {
            tokio::time::sleep(ms(20)).await;
        }
    })
    .await
    .unwrap();
    // It turns out to be fast.
    setting.measured(1, Work::Sign, 5);
    eventually("it comes first", || setting.order(Mode::Direct)[0] == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_burst_measures_of_itself_changes_the_order_of_the_next() {
    let setting = Setting::new().await;
    for (position, took) in [20, 21, 22, 23].into_iter().enumerate() {
        setting.measured(position, Work::Commit, took);
    }
    assert_eq!(setting.order(Mode::Promised), [0, 1, 2, 3]);
    let began = Instant::now();
    // More than half of what is remembered, and not so slow that they come last for it.
    for (position, took) in [35, 34, 33].into_iter().enumerate() {
        (0..3).for_each(|_| setting.measured(position, Work::Commit, took));
    }
    let order = setting.order(Mode::Promised);
    // A busy machine may have let the second pass.
    assert!(order == [0, 1, 2, 3] || began.elapsed() >= Duration::from_secs(1));
    let turned = || setting.order(Mode::Promised) == [3, 2, 1, 0];
    eventually("the order is another", turned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_to_promise_comes_after_those_that_are_slower_to_sign() {
    for (promise, is_reserve) in [(40, false), (200, true)] {
        let setting = Setting::new().await;
        for (position, took) in [2, 20, 21, 22].into_iter().enumerate() {
            setting.measured(position, Work::Commit, took);
        }
        (0..3).for_each(|_| setting.took(0, Work::Promise, promise));
        let invited = setting.invite(Mode::Promised);
        let last = &invited[3];
        assert_eq!((last.peer, last.reserve), (Peer(0), is_reserve));
        assert!(last.spare);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_well_has_spares_behind_it() {
    let setting = Setting::new().await;
    let all_are_asked = |invited: Vec<Invited>| invited.iter().all(|m| !m.spare);
    assert!(
        all_are_asked(setting.invite(Mode::Promised)),
        "nothing is known"
    );
    let setting = Setting::new().await;
    for position in 0..4 {
        setting.measured(position, Work::Commit, 20);
    }
    let spares = |mode| {
        let invited = setting.invite(mode).into_iter();
        invited.map(|m| m.spare).collect::<Vec<_>>()
    };
    assert_eq!(spares(Mode::Promised), [false, false, false, true]);
    let fail = |position: usize| put_out(&setting.cosigners.links()[position]);
    fail(1);
    assert_eq!(spares(Mode::Promised), [false, false, false, true]);
    fail(2);
    assert_eq!(spares(Mode::Promised), [false; 4], "two of three are left");

    let setting = Setting::new().await;
    for position in 0..4 {
        setting.measured(position, Work::Commit, 20);
    }
    let index = |value| ShareIndex::new(value).unwrap();
    let claims = [1, 1, 3, 4].map(index).into_iter().enumerate();
    let claims: Vec<_> = claims.map(|(peer, index)| (Peer(peer), index)).collect();
    let invited = setting.cosigners.invite(&claims, 3, Mode::Promised, &[]).1;
    assert!(
        all_are_asked(invited),
        "two claim one index: the first three are two"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_doubted_failing_or_silent_comes_last() {
    let reasons: [fn(&Link); 3] = [
        |link| link.blame(Misdeed::Partial, "the test says so"),
        put_out,
        |link| link.latency().began(Work::Sign, Instant::now() - ms(400)),
    ];
    for (number, reason) in reasons.into_iter().enumerate() {
        let setting = Setting::new().await;
        for position in 0..4 {
            setting.measured(position, Work::Sign, 20);
        }
        let link = &setting.cosigners.links()[0];
        reason(link);
        let invited = setting.invite(Mode::Direct);
        let last = &invited[3];
        assert_eq!((last.peer, last.reserve), (Peer(0), true), "{number}");
        assert!(invited[..3].iter().all(|m| !m.reserve), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_is_passed_over_only_where_the_others_claim_enough_indices() {
    let setting = Setting::new().await;
    let indices = |claims: [u64; 4]| {
        let members = claims.into_iter().enumerate();
        let members = members.map(|(peer, index)| (Peer(peer), ShareIndex::new(index).unwrap()));
        members.collect::<Vec<_>>()
    };
    let link = &setting.cosigners.links()[0];
    put_out(link);
    // One has probed it, and another may not for a long time.
    assert!(link.probe(Mode::Promised, Instant::now() + LONG));
    let all = [0, 1, 2, 3].map(Peer);
    for (to, claims, passed_over) in [
        (&all[..], [1, 2, 3, 4], true),
        // Of the others one claims another's index: they are two.
        (&all[..], [1, 2, 3, 3], false),
        // One of the others has nothing to be asked any more.
        (&all[..3], [1, 2, 3, 4], false),
    ] {
        let found = setting.cosigners.passed_over(to, &indices(claims), 3);
        assert_eq!(found.contains(&Peer(0)), passed_over, "{to:?} {claims:?}");
        assert_eq!(found.len(), usize::from(passed_over));
    }
}
