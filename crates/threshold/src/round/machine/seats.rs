//! Sets of a round's share indices. A round counts them after every event, so they are bits: nothing is
//! allocated.

use crate::{CommitteeSize, ShareIndex};

/// The place of a share index among those of a round: two claimants of one index have one seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat(u64);

/// Gives indices their seats, in the order in which they come.
#[derive(Default)]
pub(super) struct Seating(Vec<ShareIndex>);

impl Seating {
    /// `None` for more indices than any committee has.
    pub(super) fn seat(&mut self, index: ShareIndex) -> Option<Seat> {
        let taken = self.0.iter().position(|known| *known == index);
        let place = taken.unwrap_or(self.0.len());
        if place >= CommitteeSize::MEMBERS_MAX {
            return None;
        }
        if taken.is_none() {
            self.0.push(index);
        }
        Some(Seat(1 << place))
    }
}

/// Distinct share indices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seats(u64);

impl Seats {
    /// Whether it was not there.
    pub(super) const fn insert(&mut self, seat: Seat) -> bool {
        let is_new = !self.contains(seat);
        self.0 |= seat.0;
        is_new
    }

    pub(super) const fn contains(self, seat: Seat) -> bool {
        self.0 & seat.0 != 0
    }

    pub(super) const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(super) const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(super) fn count(self) -> usize {
        // At most 64.
        usize::try_from(self.0.count_ones()).unwrap_or(usize::MAX)
    }
}

impl FromIterator<Seat> for Seats {
    fn from_iter<I: IntoIterator<Item = Seat>>(seats: I) -> Self {
        Self(seats.into_iter().fold(0, |all, seat| all | seat.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_has_one_seat_and_as_many_are_seated_as_a_committee_may_have() {
        let mut seating = Seating::default();
        let index = |value: usize| ShareIndex::new(u64::try_from(value).unwrap()).unwrap();
        let mut all = Seats::default();
        for value in 1..=CommitteeSize::MEMBERS_MAX {
            let seat = seating.seat(index(value)).unwrap();
            assert!(all.insert(seat), "{value}");
            assert_eq!(seating.seat(index(value)), Some(seat));
            assert!(!all.insert(seat) && all.contains(seat));
            assert_eq!(all.count(), value);
        }
        assert_eq!(seating.seat(index(1_000)), None);
        let one: Seats = seating.seat(index(7)).into_iter().collect();
        assert_eq!(all.without(one).count(), all.count() - 1);
        assert_eq!(all.without(one).and(one), all);
    }
}
