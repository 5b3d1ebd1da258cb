//! Leading, towards cosigners that say what they are told to say.

use duty::{Epoch, Root, Slot};
use tonic::{Request, Status, Streaming};
use wire::{
    batches::Batch,
    proto::{self, LeadReply},
};

use super::*;
use crate::{
    cosigners::{Call, Transport},
    testing::metrics,
};

/// A cosigner.
struct Far {
    process: Mutex<u64>,
    /// The horizon that it tells; nothing if it does not let itself be led.
    says: Mutex<Option<u64>>,
    asked: Mutex<Vec<LeadRequest>>,
    /// Never answers.
    hangs: bool,
}

impl Transport for Far {
    fn promise(&self, _request: Request<Batch>) -> Call<proto::PromiseReply> {
        Box::pin(async { Err(Status::unimplemented("nobody promises here")) })
    }

    fn sign(&self, _request: Request<Batch>) -> Call<proto::SignReply> {
        Box::pin(async { Err(Status::unimplemented("nobody signs here")) })
    }

    fn lead(&self, request: LeadRequest) -> Call<LeadReply> {
        self.asked.lock().push(request);
        let horizon = *self.says.lock();
        let reply = LeadReply {
            led: horizon.is_some() && request.lead != request.replaces,
            epoch: horizon.unwrap_or_default(),
            slot: horizon.unwrap_or_default(),
        };
        let hangs = self.hangs;
        Box::pin(async move {
            match hangs {
                true => std::future::pending().await,
                false => Ok(reply),
            }
        })
    }

    fn status(&self) -> Call<proto::StatusReply> {
        let process = *self.process.lock();
        let reply = proto::StatusReply {
            ready: true,
            process,
            ..proto::StatusReply::default()
        };
        Box::pin(async move { Ok(reply) })
    }

    fn validators(&self) -> Call<Streaming<proto::ValidatorsPage>> {
        Box::pin(async { Err(Status::unimplemented("none are listed")) })
    }
}

/// Cosigners that tell these horizons.
struct Setting {
    far: Vec<Arc<Far>>,
    leading: Arc<Leading>,
}

const KEY: PublicKey = PublicKey([1; 48]);
/// Time for whatever is due at once.
const SOON: Duration = Duration::from_millis(900);

impl Setting {
    /// With which there is something to lead for.
    async fn start(horizons: &[Option<u64>]) -> Self {
        Self::start_beside(horizons, 0).await
    }

    /// The same, where so many more never answer.
    async fn start_beside(horizons: &[Option<u64>], hang: usize) -> Self {
        let far = horizons.iter().map(|horizon| {
            Arc::new(Far {
                process: Mutex::new(5),
                says: Mutex::new(*horizon),
                asked: Mutex::default(),
                hangs: false,
            })
        });
        let silent = || Far {
            process: Mutex::new(5),
            says: Mutex::new(Some(1)),
            asked: Mutex::default(),
            hangs: true,
        };
        let silent = std::iter::repeat_with(|| Arc::new(silent())).take(hang);
        let far: Vec<Arc<Far>> = far.chain(silent).collect();
        let networks = far.iter().enumerate().map(|(number, far)| {
            let transport: Arc<dyn Transport> = Arc::<Far>::clone(far);
            (format!("cosigner-{number}"), transport)
        });
        let (metrics, _) = metrics();
        let cosigners = Arc::new(Cosigners::over(networks.collect(), &metrics));
        let drawn = Mutex::new(0.0);
        let chance: Chance = Box::new(move || {
            let mut drawn = drawn.lock();
            *drawn = (*drawn + 0.37) % 1.0;
            *drawn
        });
        // Their health is heard first.
        tokio::time::sleep(SOON).await;
        let leading = Leading::start(cosigners, metrics, Arc::new(chance), 2);
        let setting = Self { far, leading };
        assert!(setting.of(&vote(0, 1), 0).is_none(), "nobody is led yet");
        tokio::time::sleep(SOON).await;
        setting
    }

    fn of(&self, claim: &Claim, root: u8) -> Option<Vec<usize>> {
        let led = self.leading.of(KEY, claim, SigningRoot([root; 32]))?;
        Some(led.peers.iter().map(|peer| peer.0).collect())
    }

    fn lead(&self) -> Option<Lead> {
        let state = self.leading.state.lock();
        Some(state.term.as_ref()?.lead)
    }

    fn last_asked(&self, number: usize) -> LeadRequest {
        *self.far[number].asked.lock().last().unwrap()
    }
}

fn vote(source: u64, target: u64) -> Claim {
    Claim::Attest {
        source: Epoch(source),
        target: Epoch(target),
    }
}

fn block(slot: u64) -> Claim {
    Claim::Propose { slot: Slot(slot) }
}

#[tokio::test(start_paused = true)]
async fn duties_above_a_members_horizon_need_no_promise_of_it() {
    let setting = Setting::start(&[Some(3), Some(7), Some(3), None]).await;
    for (claim, led) in [
        (vote(1, 3), None),
        (vote(2, 4), Some(vec![0, 2])),
        (vote(3, 8), Some(vec![0, 1, 2])),
        (block(3), None),
        (block(7), Some(vec![0, 2])),
    ] {
        assert_eq!(setting.of(&claim, 1), led, "{claim:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_keeps_nobody_from_leading_the_others() {
    let setting = Setting::start_beside(&[Some(1); 3], 1).await;
    tokio::time::sleep(LEAD_WINDOW).await;
    assert_eq!(setting.of(&vote(1, 2), 1), Some(vec![0, 1, 2]));
}

#[tokio::test(start_paused = true)]
async fn of_a_duty_one_message_is_asked_for_in_this_way() {
    let setting = Setting::start(&[Some(1); 3]).await;
    let everybody = Some(vec![0, 1, 2]);
    for (claim, root, led) in [
        (vote(3, 5), 1, everybody.clone()),
        (vote(3, 5), 1, everybody.clone()),
        (vote(3, 5), 2, None),
        (vote(3, 4), 1, None),
        (vote(3, 6), 2, everybody.clone()),
        // A vote with a lower source may be refused by some, and spend the others' votes.
        (vote(2, 7), 1, None),
        (vote(3, 7), 1, everybody.clone()),
        (block(9), 1, everybody.clone()),
        (block(9), 2, None),
        (block(8), 1, None),
    ] {
        assert_eq!(setting.of(&claim, root), led, "{claim:?} {root}");
    }
    let other = setting.leading.of(
        PublicKey([2; 48]),
        &vote(0, 2),
        SigningRoot(Root([9; 32]).0),
    );
    assert!(other.is_some(), "another validator's");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_lead_enough_lets_them_go_and_tries_again() {
    let setting = Setting::start(&[Some(1), Some(1), None, None]).await;
    assert_eq!(setting.lead(), None);
    let let_go = setting.last_asked(0);
    assert_eq!(let_go.lead, let_go.replaces);
    *setting.far[2].says.lock() = Some(1);
    tokio::time::sleep(RETRY.1).await;
    assert!(setting.lead().is_some());
    let begun = setting.far[2].asked.lock()[2];
    assert_eq!((begun.replaces, begun.process), (let_go.lead, 5));
    // From then on it goes on, and nothing begins.
    tokio::time::sleep(RENEW_EVERY * 3).await;
    let renewed = setting.last_asked(2);
    assert_eq!(
        (renewed.lead, renewed.process, renewed.replaces),
        (begun.lead, GOES_ON, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn who_was_lost_is_led_again_only_when_all_begin_anew() {
    for restarts in [false, true] {
        let setting = Setting::start(&[Some(1); 4]).await;
        let lead = setting.lead().unwrap();
        if restarts {
            *setting.far[3].process.lock() = 6;
        } else {
            setting.leading.lost(Peer(3), lead);
        }
        tokio::time::sleep(RENEW_EVERY * 3).await;
        assert_eq!(setting.lead(), Some(lead));
        assert_eq!(setting.of(&vote(1, 2), 1), Some(vec![0, 1, 2]));
        tokio::time::sleep(COMPLETED_AFTER.0).await;
        let next = setting.lead().unwrap();
        assert_ne!(next, lead, "restarts: {restarts}");
        assert_eq!(setting.of(&vote(1, 3), 1), Some(vec![0, 1, 2, 3]));
        // If somebody else was lost meanwhile, it was of the former lead.
        setting.leading.lost(Peer(0), lead);
        assert_eq!(setting.of(&vote(1, 4), 1), Some(vec![0, 1, 2, 3]));
    }
}

#[tokio::test(start_paused = true)]
async fn who_loses_most_begins_anew_at_once() {
    let setting = Setting::start(&[Some(1); 3]).await;
    let lead = setting.lead().unwrap();
    for peer in [0, 1] {
        setting.leading.lost(Peer(peer), lead);
    }
    assert_eq!(setting.lead(), None);
    tokio::time::sleep(SOON).await;
    assert!(setting.lead().is_some_and(|next| next != lead));
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_to_lead_for_lets_others_lead() {
    let setting = Setting::start(&[Some(1); 3]).await;
    tokio::time::sleep(LEADS_FOR - RENEW_EVERY * 3).await;
    assert!(setting.lead().is_some());
    tokio::time::sleep(RENEW_EVERY * 4).await;
    assert_eq!(setting.lead(), None);
    let asked = setting.far[0].asked.lock().len();
    tokio::time::sleep(LEADS_FOR).await;
    assert_eq!(setting.far[0].asked.lock().len(), asked);
    // And leads again when there is.
    assert!(setting.of(&vote(1, 2), 1).is_none());
    tokio::time::sleep(SOON).await;
    assert!(setting.lead().is_some());
}
