//! Every cosigner asked at once, each in its own time: none waits for another.

use std::{error::Error, fmt, time::Duration};

use daemon::tls::{self, Connector};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use wire::proto::administration_client::AdministrationClient;

use super::{
    committee::{Committee, Target},
    meaning::{self, Purpose},
    screen::Screen,
};

/// How long connecting and shaking hands may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent cosigner is tried, so that a dead one is noticed before the time is over.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long it may take to show that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What a cosigner says is shown to so many characters.
const SAID_MAX: usize = 400;

/// A client of one cosigner.
pub(super) type Client = AdministrationClient<Channel>;

/// Why a cosigner did not confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unconfirmed {
    /// It said no, and why; nothing changed there.
    Refused(String),
    /// It failed, or was not heard in time: what was asked for may have been done.
    NoAnswer(String),
    /// Something on this side stood in the way.
    Here(String),
}

impl fmt::Display for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
            Self::Here(why) => write!(f, "not done: {why}"),
        }
    }
}

impl From<Status> for Unconfirmed {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is gRPC's")]
    fn from(status: Status) -> Self {
        // Only what failed on this side, or on the way, has a source.
        if let Some(source) = Error::source(&status) {
            return Self::NoAnswer(last_cause(source));
        }
        let said = clipped(status.message());
        match status.code() {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown => Self::NoAnswer(said),
            Code::Unimplemented => {
                Self::Refused(format!("it knows no such order, it may be older: {said}"))
            }
            _ => Self::Refused(said),
        }
    }
}

/// Opens a connector for each cosigner, so that a file that cannot be used is told before any is
/// asked.
fn connectors(committee: &Committee) -> anyhow::Result<Vec<(Target, Connector)>> {
    let connector = |target: &Target| {
        let connector = tls::mutual_client(&committee.tls, &target.san)?;
        Ok((target.clone(), connector))
    };
    committee.cosigners.iter().map(connector).collect()
}

/// Asks every cosigner with `call`, all at once, each for at most `patience`; shows a line as each
/// is heard, and says in the end what it means.
///
/// # Errors
/// If not all confirmed: the sentence that says what that means.
pub(super) async fn ask_all<F, C>(
    committee: &Committee,
    purpose: Purpose,
    patience: Duration,
    screen: &Screen,
    call: C,
) -> anyhow::Result<()>
where
    C: Fn(Target, Client) -> F,
    F: Future<Output = Result<String, Unconfirmed>>,
{
    let width = committee.cosigners.iter().map(|t| t.san.len()).max();
    let width = width.unwrap_or_default();
    let verb = match purpose {
        Purpose::Forbid | Purpose::Allow => "confirmed: ",
        Purpose::Collect | Purpose::Look => "",
    };
    let call = &call;
    let mut answers: FuturesUnordered<_> = connectors(committee)?
        .into_iter()
        .map(|(target, connector)| {
            let patience = committee.patience(patience);
            async move {
                let asked = async {
                    let client = connect(&target, connector).await?;
                    call(target.clone(), client).await
                };
                let answer = tokio::time::timeout(patience, asked).await;
                let late = || Unconfirmed::NoAnswer(format!("not within {} s", patience.as_secs()));
                (target.san, answer.unwrap_or_else(|_| Err(late())))
            }
        })
        .collect();
    let mut confirmed = 0_usize;
    while let Some((san, answer)) = answers.next().await {
        match answer {
            Ok(said) => {
                confirmed = confirmed.saturating_add(1);
                screen.say(&format!("{san:width$}  {verb}{said}"));
            }
            Err(unconfirmed) => screen.say(&format!("{san:width$}  {unconfirmed}")),
        }
    }
    let asked = committee.cosigners.len();
    let sentence = meaning::conclusion(purpose, confirmed, asked, committee.size);
    anyhow::ensure!(confirmed == asked, sentence);
    screen.say(&sentence);
    Ok(())
}

async fn connect(target: &Target, connector: Connector) -> Result<Client, Unconfirmed> {
    let endpoint = Endpoint::from_shared(format!("http://{}", target.address))
        .map_err(|error| Unconfirmed::Here(format!("{}: {error}", target.address)))?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            Unconfirmed::NoAnswer(format!("{}: {}", target.address, last_cause(&error)))
        })?;
    Ok(Client::new(channel))
}

/// The first cause of an error: what stands above it names layers, not reasons.
fn last_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    clipped(&cause.to_string())
}

/// What a peer said, bounded and on one line: it goes to a terminal.
fn clipped(said: &str) -> String {
    said.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SAID_MAX)
        .collect()
}
