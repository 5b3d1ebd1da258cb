//! What happens to one request: told by many, heard by its conductor.
//!
//! Nothing but a queue, because every request has one: a channel of tokio's begins with room for 32
//! events, which is ten kilobytes where a request has ten events in all, two at once.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use threshold::round::{Event, Peer};
use tokio::time::Instant;

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    /// To whom what was asked last was sent, and when.
    sent: Vec<(Peer, Instant)>,
    /// Who waits for the next.
    waits: Option<Waker>,
    /// Nobody will hear any more.
    is_deaf: bool,
}

/// Tells events. Clones tell the same conductor.
#[derive(Clone)]
pub(crate) struct Teller(Arc<Mutex<Queue>>);

/// Hears the events that were told, in their order.
pub(crate) struct Events(Arc<Mutex<Queue>>);

impl Teller {
    /// Nobody listens any more to a round that is done.
    pub(super) fn tell(&self, event: Event) {
        let mut queue = self.0.lock();
        if queue.is_deaf {
            return;
        }
        queue.events.push_back(event);
        let waits = queue.waits.take();
        drop(queue);
        if let Some(waits) = waits {
            waits.wake();
        }
    }

    /// What these members are asked from now on waits for its turn.
    pub(crate) fn asks(&self, peers: &[Peer]) {
        self.0.lock().sent.retain(|(to, _)| !peers.contains(to));
    }

    /// It was this member's turn. Nobody is woken.
    pub(super) fn sends(&self, peer: Peer, now: Instant) {
        self.0.lock().sent.push((peer, now));
    }

    pub(super) fn is_heard(&self) -> bool {
        !self.0.lock().is_deaf
    }
}

impl Events {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn teller(&self) -> Teller {
        Teller(Arc::clone(&self.0))
    }

    /// The next event, if there is one already.
    pub(crate) fn told(&mut self) -> Option<Event> {
        self.0.lock().events.pop_front()
    }

    /// When this member was sent what it was asked last; nothing while it waits for its turn.
    pub(crate) fn sent_at(&self, peer: Peer) -> Option<Instant> {
        let queue = self.0.lock();
        let sent = queue.sent.iter().find(|(to, _)| *to == peer);
        sent.map(|(_, at)| *at)
    }

    /// The next event, whenever it comes. Dropped, it leaves the event to the next call.
    pub(crate) async fn next(&mut self) -> Event {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &Context<'_>) -> Poll<Event> {
        let mut queue = self.0.lock();
        if let Some(event) = queue.events.pop_front() {
            return Poll::Ready(event);
        }
        match &mut queue.waits {
            Some(waits) => waits.clone_from(context.waker()),
            None => queue.waits = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_deaf = true;
        queue.waits = None;
        let unheard = std::mem::take(&mut queue.events);
        drop(queue);
        drop(unheard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_heard_in_the_order_in_which_they_were_told() {
        let mut events = Events::new();
        assert!(events.told().is_none());
        let teller = events.teller();
        for event in [Event::Retry, Event::Woken, Event::Combined] {
            teller.tell(event);
        }
        assert!(matches!(events.next().await, Event::Retry));
        assert!(matches!(events.next().await, Event::Woken));
        assert!(matches!(events.next().await, Event::Combined));
        assert!(events.told().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_whoever_tells() {
        let mut events = Events::new();
        let (first, second) = (events.teller(), events.teller());
        let hears = tokio::spawn(async move {
            let heard = [events.next().await, events.next().await];
            (heard, events)
        });
        tokio::task::yield_now().await;
        first.tell(Event::Retry);
        tokio::task::yield_now().await;
        second.clone().tell(Event::Woken);
        let (heard, events) = hears.await.unwrap();
        assert!(matches!(heard, [Event::Retry, Event::Woken]));
        assert!(first.is_heard());
        drop(events);
        assert!(!first.is_heard() && !second.is_heard());
        first.tell(Event::Retry);
        assert!(first.0.lock().events.is_empty());
    }
}
