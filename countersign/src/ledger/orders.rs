//! Orders that are one message and one answer: freeze, stop, raise, and asking how things stand.

use std::time::Duration;

use anyhow::{Context, ensure};
use cosigner::config::Settings;
use slashing::{
    Database, DatabaseConfig,
    administration::{self, Freezing, Standing, Stop, Whom},
    anchor::offline::{self, Expected},
    rules::Watermark,
};
use wire::proto;

use super::{
    committee::{Committee, Place},
    meaning::Purpose,
    online::{Client, Unconfirmed, ask_all},
    screen::{Lines, Screen},
    words,
};

/// How long a cosigner may take for an order, unless something else is asked for.
const PATIENCE: Duration = Duration::from_secs(15);

/// An order to a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Freeze validators, or let them go.
    Freeze(Whom, Freezing),
    /// Sign nothing at or above these heights; neither: lift it.
    StopAt(Stop),
    /// Raise ratchets at least to this.
    Raise(Whom, Watermark),
    /// Say how things stand.
    Status,
}

/// As messages have it: no key is every validator.
pub(super) fn keys_to_proto(whom: &Whom) -> Vec<Vec<u8>> {
    match whom {
        Whom::These(keys) => keys.iter().map(|key| key.0.to_vec()).collect(),
        Whom::Everyone => Vec::new(),
    }
}

impl Order {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Freeze(_, Freezing::Freeze) | Self::Raise(..) => Purpose::Forbid,
            Self::Freeze(_, Freezing::Release) => Purpose::Allow,
            Self::StopAt(stop) if *stop == Stop::default() => Purpose::Allow,
            Self::StopAt(_) => Purpose::Forbid,
            Self::Status => Purpose::Look,
        }
    }

    /// Gives the order and shows who confirmed it.
    ///
    /// # Errors
    /// If not all confirmed it, or the database did not take it.
    pub(super) async fn give(&self, place: &Place) -> anyhow::Result<()> {
        match place {
            Place::Online(committee) => self.give_to_all(committee).await,
            Place::Offline(settings) => {
                let said = self.write(settings).await?;
                Screen::new(Lines::Stdout).say(&said);
                Ok(())
            }
        }
    }

    async fn give_to_all(&self, committee: &Committee) -> anyhow::Result<()> {
        let screen = Screen::new(Lines::Stdout);
        ask_all(committee, self.purpose(), PATIENCE, &screen, |_, client| {
            Box::pin(self.ask(client))
        })
        .await
    }

    async fn ask(&self, mut client: Client) -> Result<String, Unconfirmed> {
        match self {
            Self::Freeze(whom, freezing) => {
                let request = proto::FreezeRequest {
                    validators: keys_to_proto(whom),
                    all: *whom == Whom::Everyone,
                    frozen: *freezing == Freezing::Freeze,
                };
                let reply = client.freeze(request).await?.into_inner();
                let state = present(reply.state)?;
                // A confirmation is one only of what was asked for.
                if *whom == Whom::Everyone && state.all_frozen != (*freezing == Freezing::Freeze) {
                    return Err(contradicted(&state));
                }
                Ok(words::frozen(*freezing, reply.changed, &state))
            }
            Self::StopAt(stop) => {
                let (epoch, slot) = heights(*stop);
                let request = proto::StopAtRequest { epoch, slot };
                let state = present(client.stop_at(request).await?.into_inner().state)?;
                if (state.stop_epoch, state.stop_slot) != (epoch, slot) {
                    return Err(contradicted(&state));
                }
                Ok(words::stop(epoch, slot))
            }
            Self::Raise(whom, watermark) => {
                let (source, target, slot) = watermark.heights();
                let request = proto::RaiseRequest {
                    validators: keys_to_proto(whom),
                    source_epoch: source.0,
                    target_epoch: target.0,
                    slot: slot.0,
                };
                let reply = client.raise(request).await?.into_inner();
                Ok(words::raised(reply.raised, reply.unchanged))
            }
            Self::Status => {
                let reply = client.ledger(proto::LedgerRequest {}).await?.into_inner();
                let state = present(reply.state)?;
                Ok(words::status(&reply, &state))
            }
        }
    }

    /// Carries the order out on a cosigner's database.
    async fn write(&self, settings: &Settings) -> anyhow::Result<String> {
        let (database, expected) = open(settings).await?;
        let changes = match self {
            Self::Freeze(whom, freezing) => {
                administration::freeze(&database, whom.clone(), *freezing).await?
            }
            Self::StopAt(stop) => {
                administration::stop_at(&database, *stop).await?;
                administration::Changes::default()
            }
            Self::Raise(whom, watermark) => {
                administration::raise(&database, whom.clone(), *watermark).await?
            }
            Self::Status => administration::Changes::default(),
        };
        if *self != Self::Status {
            count(expected, &database).await?;
        }
        let reply = as_reply(&administration::state(&database).await?);
        let state = reply.state.unwrap_or_default();
        Ok(match self {
            Self::Freeze(_, freezing) => words::frozen(*freezing, changes.changed, &state),
            Self::StopAt(_) => words::stop(state.stop_epoch, state.stop_slot),
            Self::Raise(..) => words::raised(changes.changed, changes.unchanged),
            Self::Status => words::status(&reply, &state),
        })
    }
}

/// The database of a cosigner's configuration, which must exist: a wrong path must not make one. It
/// holds all that its anchor counts.
pub(super) async fn open(settings: &Settings) -> anyhow::Result<(Database, Expected)> {
    let (config, root) = (&settings.config.database, settings.genesis_validators_root);
    if let DatabaseConfig::Sqlite(file) = config {
        ensure!(
            file.path.exists(),
            "there is no ledger at {}: correct `database.sqlite.path`, or make one with `cosigner \
             migrate`",
            file.path.display()
        );
    }
    let database = Database::open(config, root).await?;
    let expected = offline::expect(&settings.anchor, &database, settings.now()).await?;
    Ok((database, expected))
}

/// Counts a change in the anchor.
pub(super) async fn count(expected: Expected, database: &Database) -> anyhow::Result<()> {
    let counted = expected.count(database).await;
    counted.context("the change was made, but the anchor does not count it")
}

fn heights(stop: Stop) -> (Option<u64>, Option<u64>) {
    let (epoch, slot) = (stop.epoch, stop.slot);
    (epoch.map(|epoch| epoch.0), slot.map(|slot| slot.0))
}

/// What a database says, as a cosigner would.
fn as_reply(standing: &Standing) -> proto::LedgerReply {
    let (stop_epoch, stop_slot) = heights(standing.stop);
    proto::LedgerReply {
        state: Some(proto::LedgerState {
            quarantined_until_epoch: standing.quarantined_until.map(|epoch| epoch.0),
            stop_epoch,
            stop_slot,
            all_frozen: standing.all_frozen,
            frozen: standing.frozen,
        }),
        ledger_id: standing.ledger_id.to_vec(),
        commits: standing.commits,
        validators: standing.validators,
        // Only the process that found out knows why.
        quarantine: String::new(),
    }
}

fn present(state: Option<proto::LedgerState>) -> Result<proto::LedgerState, Unconfirmed> {
    let silent = || Unconfirmed::NoAnswer("it does not say what is in force".to_owned());
    state.ok_or_else(silent)
}

fn contradicted(state: &proto::LedgerState) -> Unconfirmed {
    Unconfirmed::NoAnswer(format!("it says that now {}", words::state(state, "")))
}
