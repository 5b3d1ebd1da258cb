//! How much is taken on at once. More is answered, not absorbed.
//!
//! Two kinds of places: a few that only proposals get, so that they never wait for one behind
//! attestations, and the others, whose number follows what gets done ([`limit`]). All queues behind
//! are bounded by them: a request keeps its place until the work on it is done.

mod bodies;
mod limit;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cpu::Urgency;
use bodies::Bodies;
pub(crate) use bodies::{Admitted, BODY_BYTES_MAX, discard};
use limit::Limit;

/// One place of so many is a proposal's.
const PROPOSALS_PART: usize = 16;
/// From so many requests on, besides proposals, those that come are a burst's.
const CROWD: usize = 8;
/// A deadline so late that the number of places follows nothing.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Why a request was not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too many requests, or bodies, at once.
    Overloaded,
    /// The body is longer than [`BODY_BYTES_MAX`].
    TooLarge,
    /// The body did not arrive, or not in time.
    Broken,
}

/// Bounds over all requests.
pub(crate) struct Admission {
    proposals: Arc<Semaphore>,
    others: Arc<Others>,
    bodies: Bodies,
}

/// The places that no proposal is needed for.
struct Others {
    began: Instant,
    state: Mutex<State>,
}

struct State {
    under_way: usize,
    limit: Limit,
}

/// A request's place, kept until it is done.
pub(crate) struct Place(Kept);

enum Kept {
    Proposals { _permit: OwnedSemaphorePermit },
    Others(Usual),
}

/// One of the others' places.
struct Usual {
    others: Arc<Others>,
    in_crowd: bool,
    entered: Instant,
    unanswered: bool,
}

impl Admission {
    /// At most `requests_max` at once, whatever gets done.
    pub(crate) fn new(requests_max: usize, body_memory_bytes: usize) -> Self {
        let proposals = (requests_max / PROPOSALS_PART).max(1);
        let others = requests_max.saturating_sub(proposals).max(1);
        Self {
            proposals: bounded(proposals),
            others: Arc::new(Others {
                began: Instant::now(),
                state: Mutex::new(State {
                    under_way: 0,
                    limit: Limit::new(others, NO_DEADLINE),
                }),
            }),
            bodies: Bodies::new(body_memory_bytes),
        }
    }

    /// No more at once than are thought to be answered within `deadline`.
    pub(crate) fn within(self, deadline: Duration) -> Self {
        self.follow(deadline);
        self
    }

    /// As [`Admission::within`], from now on.
    pub(crate) fn follow(&self, deadline: Duration) {
        self.others.state.lock().limit.follow(deadline);
    }

    /// A place among the requests.
    pub(crate) fn enter(&self) -> Result<Place, Turned> {
        self.enter_as(Urgency::Usual, 0)
    }

    /// A place among those of its urgency. When proposals have none of theirs left, they get one
    /// like any other request. There are so many `validators`.
    pub(crate) fn enter_as(&self, urgency: Urgency, validators: usize) -> Result<Place, Turned> {
        if urgency == Urgency::Prompt
            && let Ok(_permit) = Arc::clone(&self.proposals).try_acquire_owned()
        {
            return Ok(Place(Kept::Proposals { _permit }));
        }
        let now = self.others.began.elapsed();
        let mut state = self.others.state.lock();
        let under_way = state.under_way;
        state.limit.expect(validators);
        if !state.limit.admits(now, under_way) {
            return Err(Turned::Overloaded);
        }
        state.under_way = under_way.saturating_add(1);
        drop(state);
        let in_crowd = urgency == Urgency::Usual && under_way >= CROWD;
        Ok(Place(Kept::Others(Usual {
            others: Arc::clone(&self.others),
            in_crowd,
            entered: Instant::now(),
            unanswered: in_crowd,
        })))
    }

    /// Reads a body, taking memory for it as it arrives.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Admitted, Turned> {
        self.bodies.read(headers, body).await
    }

    /// How many requests may be under way at this moment, but for proposals.
    pub(crate) fn places(&self) -> u64 {
        self.others.state.lock().limit.places()
    }
}

impl Place {
    /// Whether this is no proposal, and came when many others were under way. It then waits to be worked
    /// on elsewhere, and is given up unless it [begins](Place::begin).
    pub(crate) const fn in_crowd(&self) -> bool {
        match &self.0 {
            Kept::Proposals { .. } => false,
            Kept::Others(place) => place.in_crowd,
        }
    }

    /// The work on what is in a crowd begins.
    pub(crate) const fn begin(&mut self) {
        if let Kept::Others(place) = &mut self.0 {
            place.unanswered = false;
        }
    }

    /// Gives the place up without an answer that says anything of this machine's capacity.
    pub(crate) fn give_up(mut self) {
        match &mut self.0 {
            Kept::Proposals { .. } => {}
            Kept::Others(place) => place.unanswered = true,
        }
    }
}

impl Drop for Usual {
    fn drop(&mut self) {
        let now = self.others.began.elapsed();
        let mut state = self.others.state.lock();
        let under_way = state.under_way;
        if !self.unanswered {
            state.limit.ended(now, self.entered.elapsed(), under_way);
        }
        state.under_way = under_way.saturating_sub(1);
    }
}

fn bounded(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_more_than_there_are_is_overload() {
        let admission = Admission::new(3, 1);
        let (first, _second) = (admission.enter().unwrap(), admission.enter().unwrap());
        assert_eq!(admission.enter().err(), Some(Turned::Overloaded));
        drop(first);
        assert!(admission.enter().is_ok());
        assert_eq!(admission.places(), 2);
    }

    #[test]
    fn what_comes_when_many_are_under_way_is_in_a_crowd_but_for_proposals() {
        let admission = Admission::new(64, 1);
        let enter = |urgency| admission.enter_as(urgency, 0).unwrap();
        let places: Vec<Place> = (0..=CROWD).map(|_| enter(Urgency::Usual)).collect();
        let crowded: Vec<bool> = places.iter().map(Place::in_crowd).collect();
        let (last, first) = crowded.split_last().unwrap();
        assert!(*last && first.iter().all(|in_crowd| !in_crowd));
        // The proposals' own places, and then one among the others.
        let proposals: Vec<Place> = (0..=4).map(|_| enter(Urgency::Prompt)).collect();
        assert!(proposals.iter().all(|place| !place.in_crowd()));
    }

    #[test]
    fn what_is_in_a_crowd_and_never_begun_is_no_answer() {
        let admission = Admission::new(1_024, 1);
        let mut places: Vec<_> = (0..100).map(|_| admission.enter().unwrap()).collect();
        let unanswered = |place: &Place| match &place.0 {
            Kept::Proposals { .. } => panic!("a proposal's place"),
            Kept::Others(place) => place.unanswered,
        };
        assert!(!unanswered(&places[0]) && unanswered(&places[99]));
        places[99].begin();
        assert!(!unanswered(&places[99]));
    }

    #[test]
    fn proposals_have_places_of_their_own() {
        let admission = Admission::new(64, 1);
        let others: Vec<_> = (0..60).map(|_| admission.enter().unwrap()).collect();
        assert!(admission.enter().is_err());
        let propose = || admission.enter_as(Urgency::Prompt, 0);
        let proposals: Vec<_> = (0..4).map(|_| propose().unwrap()).collect();
        assert!(propose().is_err());
        drop(others);
        assert!(propose().is_ok(), "there is room among the others");
        drop(proposals);
    }

    #[test]
    fn what_took_longer_than_its_deadline_is_no_answer() {
        let admission = Admission::new(1_024, 1).within(Duration::from_millis(40));
        let stuck: Vec<_> = (0..100).map(|_| admission.enter().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(80));
        assert!(admission.enter().is_err(), "nothing ends, and many wait");
        stuck.into_iter().for_each(Place::give_up);
        assert!(admission.enter().is_ok());
    }
}
