//! What must hold whatever bytes arrive: one property for each place where bytes come from outside.
//!
//! The fuzz targets (`fuzz/`, nightly) hunt for bytes that break one; `tests/corpora.rs` replays what
//! they kept. A property panics when it does not hold, and says otherwise how far the bytes came.

pub mod body;
pub mod interchange;
pub mod keystore;
pub mod orders;
pub mod points;
pub mod rounds;
pub mod seeds;

mod framed;
mod oracle;

/// How far an input came. Corpora are asked for enough that came through, so that a property which no
/// longer looks at anything is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// The first look refused it.
    Refused,
    /// It was taken, and everything that is promised of what is taken was compared.
    Taken,
}

/// A property, as targets and tests call it.
pub type Property = fn(&[u8]) -> Reached;

/// Every target: its name in `fuzz/`, and its property.
pub const TARGETS: [(&str, Property); 6] = [
    ("body", body::property),
    ("orders", orders::property),
    ("points", points::property),
    ("interchange", interchange::property),
    ("keystore", keystore::property),
    ("rounds", rounds::property),
];

/// Bytes as numbers and choices; zeros once they are used up, so that every input means something.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    /// The next bytes, filled up with zeros.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        array[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
        array
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }
}
