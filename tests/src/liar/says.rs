//! What a liar says of itself and of its validators.

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use wire::proto;

use super::{
    Member,
    answers::Answer,
    lies::{FalseReport, FalseStatus},
};

/// So many validators that nobody else knows.
const STRANGERS: u8 = 100;

impl Member {
    /// What its listing is numbered: what the real one's is, and how often it was changed here.
    fn generation(&self, real: u64) -> u64 {
        real.wrapping_add(self.relisted.load(Ordering::Relaxed))
    }

    pub(super) fn say_status(
        &self,
        mut status: proto::StatusReply,
        lie: Option<FalseStatus>,
    ) -> Answer {
        static RESTLESS: AtomicU64 = AtomicU64::new(u64::MAX / 2);
        status.generation = self.generation(status.generation);
        let ledger = status.ledger.get_or_insert_default();
        match lie {
            None => {}
            Some(FalseStatus::NotReady) => status.ready = false,
            Some(FalseStatus::Quarantined) => ledger.quarantined_until_epoch = Some(u64::MAX),
            Some(FalseStatus::Stops(height)) => {
                ledger.stop_epoch = Some(height);
                ledger.stop_slot = Some(height);
            }
            Some(FalseStatus::Frozen) => {
                ledger.all_frozen = true;
                ledger.frozen = u64::MAX;
            }
            Some(FalseStatus::AtLength) => {
                status.ready = false;
                status.message = "\u{1b}[2J\r\n\0".repeat(150_000);
            }
            Some(FalseStatus::Restless) => {
                status.generation = RESTLESS.fetch_add(1, Ordering::Relaxed);
                status.validators = u64::MAX;
            }
            Some(FalseStatus::NoLedger) => status.ledger = None,
        }
        Answer::Messages(vec![status.encode_to_vec()])
    }

    pub(super) fn say_validators(
        &self,
        mut pages: Vec<proto::ValidatorsPage>,
        lie: Option<FalseReport>,
    ) -> Answer {
        for page in &mut pages {
            page.generation = self.generation(page.generation);
            if let Some(lie) = lie {
                page.validators
                    .iter_mut()
                    .for_each(|report| falsify(report, lie));
            }
        }
        let first = pages.first().cloned().unwrap_or_default();
        match lie {
            Some(FalseReport::Twice) => pages.push(first),
            Some(FalseReport::Strangers) => {
                for page in &mut pages {
                    let known = page.validators.first().cloned().unwrap();
                    page.validators.extend((1..=STRANGERS).map(|number| {
                        let mut stranger = known.clone();
                        stranger.pubkey[47] ^= number;
                        stranger.commitments[0] = stranger.pubkey.clone();
                        stranger
                    }));
                }
            }
            Some(FalseReport::Endless) => return Answer::Again(first.encode_to_vec()),
            Some(FalseReport::Changing) => pages.push(proto::ValidatorsPage {
                generation: first.generation.wrapping_add(1),
                ..first
            }),
            Some(FalseReport::Nothing) => pages.clear(),
            _ => {}
        }
        Answer::Messages(pages.iter().map(Message::encode_to_vec).collect())
    }
}

fn falsify(report: &mut proto::Validator, lie: FalseReport) {
    match lie {
        FalseReport::Index(index) => report.index = index,
        FalseReport::Commitments => {
            let last = report.commitments.len() - 1;
            report.commitments[last] = report.commitments[0].clone();
        }
        FalseReport::LowerThreshold => {
            report.commitments.pop();
        }
        FalseReport::Members => {
            report.members.remove(0);
        }
        FalseReport::NoPoints => report.commitments.fill(vec![0xff; 47]),
        FalseReport::Twice
        | FalseReport::Strangers
        | FalseReport::Endless
        | FalseReport::Changing
        | FalseReport::Nothing => {}
    }
}
