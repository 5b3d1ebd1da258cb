//! Whom to ask first, and after how long another: by what was measured lately.

use std::{collections::BTreeSet, time::Duration};

use threshold::{
    ShareIndex,
    round::{Invited, Mode, Peer},
};
use tokio::time::Instant;

use super::{
    Cosigners,
    latency::{Usual, Work},
    link::Link,
};

/// What someone of whom too little is known is taken to need for 19 calls of 20.
const USUAL_DEFAULT: Duration = Duration::from_millis(50);
/// A signature is late after its cosigner's usual time, but not before and not after these.
const SIGN_WITHIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(300));
/// The same for a promise. To be late costs a ballot; and all spares are asked for one then, so that
/// what a burst lets promises wait shall not count as late.
const PROMISE_WITHIN: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(300));
/// Nobody is given more time than so many times what is usual of the slowest that is needed.
const OTHERS_FACTOR: u32 = 2;

/// What is known of one member.
struct Known<'a> {
    link: Option<&'a Link>,
    peer: Peer,
    index: ShareIndex,
    /// While promises are not asked for, nothing is known of them; they take no longer than signatures.
    promises: Option<Usual>,
    signs: Option<Usual>,
    /// What it is ranked by; nothing if too little is known to rely on it.
    median: Option<Duration>,
    /// Better not asked while the others are enough.
    reserve: bool,
    /// Needs not promise.
    led: bool,
}

impl Cosigners {
    /// How the members are asked, and who they are, the fastest first; those that are better not asked,
    /// last. `led` are those whom the caller leads in this duty.
    ///
    /// [`Mode::Led`] only if they are enough, of whom nobody is better not asked, and if no request
    /// shall tell now whether somebody promises again: it is [`Mode::Promised`] otherwise.
    pub(crate) fn invite(
        &self,
        members: &[(Peer, ShareIndex)],
        threshold: usize,
        mode: Mode,
        led: &[Peer],
    ) -> (Mode, Vec<Invited>) {
        if mode == Mode::Promised && led.len() >= threshold {
            let invited = self.invited(members, threshold, Mode::Led, led);
            let are_enough = invited
                .iter()
                .filter(|member| member.led && !member.reserve);
            let are_enough: BTreeSet<ShareIndex> = are_enough.map(|member| member.index).collect();
            let now = Instant::now();
            let mut links = members.iter().filter_map(|(peer, _)| self.link(*peer));
            if are_enough.len() >= threshold
                && !links.any(|link| link.is_to_be_probed(Mode::Led, now))
            {
                return (Mode::Led, invited);
            }
        }
        (mode, self.invited(members, threshold, mode, led))
    }

    fn invited(
        &self,
        members: &[(Peer, ShareIndex)],
        threshold: usize,
        mode: Mode,
        led: &[Peer],
    ) -> Vec<Invited> {
        let now = Instant::now();
        let work = match mode {
            Mode::Promised | Mode::Led => Work::Commit,
            Mode::Direct => Work::Sign,
        };
        let medians = self.medians(mode, now);
        let members = members.iter().map(|(peer, index)| {
            let link = self.link(*peer).map(|link| &**link);
            let usual = |work| link.and_then(|link| link.latency().usual(work, now));
            Known {
                link,
                peer: *peer,
                index: *index,
                promises: usual(Work::Promise),
                signs: usual(work),
                median: medians.get(peer.0).copied().flatten(),
                reserve: false,
                led: led.contains(peer),
            }
        });
        let mut members: Vec<Known<'_>> = members.collect();
        let promise_most = most(
            members.iter().map(|known| known.promises.or(known.signs)),
            threshold,
            PROMISE_WITHIN,
        );
        let sign_most = most(members.iter().map(|m| m.signs), threshold, SIGN_WITHIN);
        let is_slow = |usual: Option<Usual>, most| usual.is_some_and(|usual| usual.median > most);
        let silent = |link: &Link, work, most| link.latency().silent_for(work, now) > most;
        let may_promise = |known: &Known<'_>, link: &Link| match mode {
            Mode::Direct => true,
            Mode::Led => !link.is_unready(),
            Mode::Promised => {
                !(link.is_unready()
                    || is_slow(known.promises, promise_most)
                    || silent(link, Work::Promise, promise_most))
            }
        };
        let is_reserve = |known: &Known<'_>| {
            is_slow(known.signs, sign_most)
                || known.link.is_none_or(|link| {
                    !link.is_asked()
                        || link.is_doubted()
                        || silent(link, work, sign_most)
                        || !may_promise(known, link)
                })
        };
        for known in &mut members {
            known.reserve = is_reserve(known);
        }
        members.sort_by_key(|known| {
            let has_to_promise = mode == Mode::Led && !known.led;
            let is_unknown = known.median.is_none();
            (known.reserve, has_to_promise, is_unknown, known.median)
        });
        let first: BTreeSet<ShareIndex> = members
            .iter()
            .take(threshold)
            .filter(|known| !known.reserve && known.median.is_some())
            .map(|known| known.index)
            .collect();
        // Of whom too little is known, nobody may be as fast as the others; then all are asked.
        let are_enough = first.len() >= threshold;
        let beyond = || {
            members
                .iter()
                .skip(threshold)
                .filter(|known| mode != Mode::Led || known.led)
                .filter_map(|known| known.link)
        };
        // One at a time: a duty costs one call more at most. Who may come back comes before who may
        // have become fast.
        let sounded = beyond()
            .find(|link| link.is_to_be_probed(mode, now))
            .or_else(|| beyond().find(|link| link.is_to_be_sounded(work, now)));
        if let Some(link) = sounded
            && mode == Mode::Direct
        {
            // Where it has to promise first, that is the probe.
            link.probe(mode, now);
        }
        let sounded = sounded.map(Link::peer);
        let members = members.iter().enumerate();
        let invited = members.map(|(position, known)| {
            let is_first = position < threshold;
            let sounded = sounded == Some(known.peer);
            Invited {
                peer: known.peer,
                index: known.index,
                promise_within: p95(known.promises.or(known.signs))
                    .clamp(PROMISE_WITHIN.0, promise_most),
                sign_within: p95(known.signs).clamp(SIGN_WITHIN.0, sign_most),
                reserve: known.reserve,
                sounded,
                spare: are_enough && !is_first && !sounded,
                led: known.led,
            }
        });
        invited.collect()
    }
}

fn p95(usual: Option<Usual>) -> Duration {
    usual.and_then(|usual| usual.p95).unwrap_or(USUAL_DEFAULT)
}

/// The most that anybody is given: one that is always slow shall not be waited for as long as it
/// always takes.
fn most(
    usual: impl Iterator<Item = Option<Usual>>,
    threshold: usize,
    (least, most): (Duration, Duration),
) -> Duration {
    let mut all: Vec<Duration> = usual.map(p95).collect();
    all.sort_unstable();
    let needed = all.get(threshold.saturating_sub(1)).copied();
    let others = needed.unwrap_or(most).saturating_mul(OTHERS_FACTOR);
    others.clamp(least, most)
}
