//! A round on a test bench: told of events, asked what it asked for.

use duty::SigningRoot;

use super::super::*;

pub(super) const MINE: SigningRoot = SigningRoot([1; 32]);
pub(super) const OTHER: SigningRoot = SigningRoot([9; 32]);
pub(super) const HEDGE: u64 = 100;
pub(super) const DEADLINE: u64 = 1_200;

/// A round, and everything it asked for since the last look.
pub(super) struct Bench {
    pub(super) round: Round,
    pub(super) effects: Vec<Effect>,
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) fn index(value: u64) -> ShareIndex {
    ShareIndex::new(value).unwrap()
}

pub(super) fn partial(peer: usize) -> PartialSignature {
    PartialSignature::Plain([u8::try_from(peer).unwrap(); 96])
}

/// Peer i claims the i-th of these indices.
pub(super) fn open_claims(mode: Mode, threshold: usize, size: usize, claims: &[u64]) -> Bench {
    open_doubting(mode, threshold, size, claims, &[])
}

pub(super) fn open_doubting(
    mode: Mode,
    threshold: usize,
    size: usize,
    claims: &[u64],
    doubted: &[usize],
) -> Bench {
    let members = claims.iter().enumerate().map(|(peer, claim)| Invited {
        index: index(*claim),
        reserve: doubted.contains(&peer),
        ..invited(peer)
    });
    open_inviting(mode, threshold, size, members.collect())
}

/// A member with an index of its own and the usual hedge.
pub(super) fn invited(peer: usize) -> Invited {
    Invited {
        peer: Peer(peer),
        index: index(u64::try_from(peer).unwrap() + 1),
        promise_within: ms(HEDGE),
        sign_within: ms(HEDGE),
        reserve: false,
        sounded: false,
        spare: false,
        led: false,
    }
}

pub(super) fn open_inviting(
    mode: Mode,
    threshold: usize,
    size: usize,
    members: Vec<Invited>,
) -> Bench {
    let terms = Terms {
        root: MINE,
        mode,
        threshold,
        size,
        members,
        deadline: ms(DEADLINE),
    };
    let (round, effects) = Round::open(terms, ms(0));
    Bench { round, effects }
}

pub(super) fn open(mode: Mode, threshold: usize, size: usize) -> Bench {
    let claims: Vec<u64> = (1..=u64::try_from(size).unwrap()).collect();
    open_claims(mode, threshold, size, &claims)
}

impl Bench {
    pub(super) fn tell(&mut self, at: u64, event: Event) {
        self.effects.extend(self.round.handle(ms(at), event));
    }

    pub(super) fn promise(
        &mut self,
        at: u64,
        peer: usize,
        round: u64,
        signed: Option<SigningRoot>,
    ) {
        self.tell(
            at,
            Event::Promised {
                peer: Peer(peer),
                round,
                signed,
            },
        );
    }

    pub(super) fn outbid(&mut self, at: u64, peer: usize, round: u64, held: u64) {
        let held = Ballot {
            round: held,
            root: OTHER,
        };
        self.tell(
            at,
            Event::Outbid {
                peer: Peer(peer),
                round,
                held,
            },
        );
    }

    pub(super) fn sign(&mut self, at: u64, peer: usize) {
        self.tell(
            at,
            Event::Signed {
                peer: Peer(peer),
                partial: partial(peer),
            },
        );
    }

    pub(super) fn refuse(&mut self, at: u64, peer: usize, reason: RefusalReason) {
        let refusal = Refusal {
            reason,
            message: "says no".to_owned(),
        };
        self.tell(
            at,
            Event::Refused {
                peer: Peer(peer),
                refusal,
            },
        );
    }

    pub(super) fn fail(&mut self, at: u64, peer: usize, round: u64, reason: FailureReason) {
        let failure = Failure {
            reason,
            message: "cannot".to_owned(),
        };
        self.tell(
            at,
            Event::Failed {
                peer: Peer(peer),
                round,
                failure,
            },
        );
    }

    pub(super) fn asked_to_promise(&mut self) -> Vec<(u64, usize)> {
        self.take(|effect| {
            let Effect::Promise { ballot, to, .. } = effect else {
                return None;
            };
            assert_eq!(ballot.root, MINE);
            Some(to.iter().map(|peer| (ballot.round, peer.0)).collect())
        })
    }

    pub(super) fn asked_to_sign(&mut self) -> Vec<usize> {
        self.take(|effect| {
            let Effect::Sign { to, .. } = effect else {
                return None;
            };
            Some(to.iter().map(|peer| peer.0).collect())
        })
    }

    pub(super) fn combined(&mut self) -> Vec<u64> {
        self.take(|effect| {
            let Effect::Combine(partials) = effect else {
                return None;
            };
            Some(partials.iter().map(|(index, _)| index.value()).collect())
        })
    }

    pub(super) fn retry(&mut self) -> Vec<(Duration, Duration)> {
        self.take(|effect| {
            let Effect::RetryBetween { earliest, latest } = effect else {
                return None;
            };
            Some(vec![(*earliest, *latest)])
        })
    }

    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        let verdicts = self.take(|effect| {
            let Effect::Finish(verdict) = effect else {
                return None;
            };
            Some(vec![verdict.clone()])
        });
        assert!(verdicts.len() < 2);
        assert_eq!(self.round.is_done(), !verdicts.is_empty());
        verdicts.into_iter().next()
    }

    pub(super) fn refused(&mut self) -> Option<RefusalReason> {
        match self.verdict()? {
            Verdict::Refused(refusal) => Some(refusal.reason),
            Verdict::Unavailable(failure) => panic!("{failure:?}"),
        }
    }

    pub(super) fn unavailable(&mut self) -> Option<FailureReason> {
        match self.verdict()? {
            Verdict::Unavailable(failure) => Some(failure.reason),
            Verdict::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    pub(super) fn take<T>(&mut self, wanted: impl Fn(&Effect) -> Option<Vec<T>>) -> Vec<T> {
        let found = self.effects.iter().filter_map(&wanted).flatten().collect();
        self.effects.retain(|effect| wanted(effect).is_none());
        found
    }
}
