//! Tables of the messages that were signed last: a slot's votes come in many batches, and all are for
//! one message. They hold multiples of H(m) and nothing secret.

use std::sync::{Arc, Mutex, PoisonError};

use duty::SigningRoot;

use crate::bls::comb::Comb;

/// Messages that are remembered at most. Their tables take up to 120 KiB each.
const MESSAGES_MAX: usize = 32;

/// What the messages that were signed last are multiplied with. To be kept, and shared between
/// threads.
#[derive(Default)]
pub struct Tables {
    /// The one that was asked for last, last.
    recent: Mutex<Vec<Arc<Message>>>,
}

struct Message {
    root: SigningRoot,
    table: Mutex<Table>,
}

/// A table that grows wider as it is used more.
#[derive(Default)]
struct Table {
    /// Shares that have signed the message, and the table's width, if there is one.
    signed: usize,
    made: Option<(usize, Arc<Comb>)>,
}

impl Tables {
    /// The comb for H(`root`) that is best for so many shares, after all that it was asked for
    /// before; `None` where none pays. While one thread makes it, others that need it wait.
    pub(crate) fn comb(&self, root: SigningRoot, shares: usize) -> Option<Arc<Comb>> {
        let message = self.message(root);
        let mut table = locked(&message.table);
        table.signed = table.signed.saturating_add(shares);
        let wanted = window_bits(table.signed);
        if table.made.as_ref().map(|(bits, _)| *bits) < wanted {
            table.made = wanted.map(|bits| (bits, Arc::new(Comb::of_hash(root.as_bytes(), bits))));
        }
        table.made.as_ref().map(|(_, comb)| Arc::clone(comb))
    }

    /// What is known of a message. For a new one an old one is forgotten: one without a table, if
    /// there is one, so that many that are signed once do not displace one that many sign.
    fn message(&self, root: SigningRoot) -> Arc<Message> {
        let mut recent = locked(&self.recent);
        let found = recent.iter().position(|message| message.root == root);
        let message = match found {
            Some(position) => recent.remove(position),
            None => {
                if recent.len() >= MESSAGES_MAX {
                    let bare = |message: &Arc<Message>| {
                        let table = message.table.try_lock();
                        table.is_ok_and(|table| table.made.is_none())
                    };
                    let oldest = recent.iter().position(bare).unwrap_or_default();
                    recent.remove(oldest);
                }
                Arc::new(Message {
                    root,
                    table: Mutex::default(),
                })
            }
        };
        recent.push(Arc::clone(&message));
        message
    }
}

/// What it guards is whole at every moment.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many bits wide a comb's windows best are for so many shares (`benches/signing`); `None`
/// where no comb pays.
const fn window_bits(shares: usize) -> Option<usize> {
    match shares {
        0..2 => None,
        2..8 => Some(4),
        8..40 => Some(5),
        40..512 => Some(6),
        _ => Some(7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(number: u8) -> SigningRoot {
        SigningRoot([number; 32])
    }

    fn width(tables: &Tables, number: u8) -> Option<usize> {
        let recent = locked(&tables.recent);
        let message = recent.iter().find(|message| message.root == root(number))?;
        let table = locked(&message.table);
        table.made.as_ref().map(|(bits, _)| *bits)
    }

    #[test]
    fn a_table_is_made_once_and_wider_when_it_pays() {
        let tables = Tables::default();
        assert!(tables.comb(root(1), 1).is_none());
        let first = tables.comb(root(1), 1).unwrap();
        assert!(Arc::ptr_eq(&first, &tables.comb(root(1), 1).unwrap()));
        let wider = tables.comb(root(1), 60).unwrap();
        assert!(!Arc::ptr_eq(&first, &wider));
        assert!(Arc::ptr_eq(&wider, &tables.comb(root(1), 1).unwrap()));
        assert_eq!(width(&tables, 1), Some(6));
    }

    #[test]
    fn messages_that_are_signed_once_displace_no_table() {
        let tables = Tables::default();
        for number in 0..2 {
            tables.comb(root(number), 8);
        }
        for number in 2..=u8::MAX {
            assert!(tables.comb(root(number), 1).is_none());
        }
        assert_eq!(width(&tables, 0), Some(5));
        assert_eq!(width(&tables, 1), Some(5));
        assert_eq!(locked(&tables.recent).len(), MESSAGES_MAX);
        // Among tables, the one that was used last stays.
        tables.comb(root(0), 1);
        for number in 2..=33 {
            tables.comb(root(number), 2);
        }
        assert_eq!(locked(&tables.recent).len(), MESSAGES_MAX);
        assert_eq!((width(&tables, 1), width(&tables, 33)), (None, Some(4)));
    }
}
