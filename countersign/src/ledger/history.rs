//! Histories to and from running cosigners: interchange files in chunks, every cosigner at once.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::{Stream, stream};
use indicatif::ProgressBar;
use slashing::administration::Whom;
use tokio::{io::AsyncReadExt, sync::oneshot};
use wire::proto;

use super::{
    committee::{Committee, Target},
    files::{self, Destination, Existing},
    meaning::Purpose,
    online::{Client, Unconfirmed, ask_all},
    orders::keys_to_proto,
    screen::{Lines, Screen, Unit},
    words,
};

/// How long a cosigner may take for a whole history, unless something else is asked for.
const PATIENCE: Duration = Duration::from_secs(900);
/// Bytes of one piece of a file.
const CHUNK_BYTES: usize = 128 * 1024;

/// Writes every cosigner's history: one cosigner's to `out`, several to a file each, called after
/// its name, in the directory `out`.
///
/// # Errors
/// If a file is there already, or not every cosigner's history was written.
pub(super) async fn export(
    committee: &Committee,
    whom: &Whom,
    out: &Path,
    existing: Existing,
) -> anyhow::Result<()> {
    let single = committee.cosigners.len() == 1;
    if !single {
        files::directory_for_several(out)?;
    }
    let place = |target: &Target| match single {
        true => Destination::at(out),
        false => Destination::File(file_of(out, target)),
    };
    for target in &committee.cosigners {
        // Whatever stands in the way of writing is told before anything was asked for.
        place(target).open(existing)?;
    }
    let screen = Screen::new(Destination::at(out).lines());
    ask_all(
        committee,
        Purpose::Collect,
        PATIENCE,
        &screen,
        |target, client| {
            let request = proto::ExportHistoryRequest {
                validators: keys_to_proto(whom),
            };
            let bar = screen.bar(&target.san, Unit::Validators);
            let place = place(&target);
            Box::pin(async move {
                let exported = export_one(client, request, &place, existing, &bar).await;
                bar.finish_and_clear();
                exported
            })
        },
    )
    .await
}

/// A cosigner's name is one of a certificate, so no path; what might be one anyway is made none.
fn file_of(directory: &Path, target: &Target) -> PathBuf {
    let name: String = target
        .san
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-._".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    directory.join(format!("{name}.json"))
}

async fn export_one(
    mut client: Client,
    request: proto::ExportHistoryRequest,
    place: &Destination,
    existing: Existing,
    bar: &ProgressBar,
) -> Result<String, Unconfirmed> {
    let here = |error: anyhow::Error| Unconfirmed::Here(format!("{error:#}"));
    let mut output = place.open(existing).map_err(here)?;
    let mut chunks = client.export_history(request).await?.into_inner();
    let mut received = Received::default();
    while let Some(chunk) = chunks.message().await? {
        output
            .write_all(&chunk.json)
            .context("the file cannot be written")
            .map_err(here)?;
        received.add(&chunk);
        bar.set_length(received.validators_total);
        bar.set_position(received.validators_done);
    }
    received.check()?;
    output.keep().map_err(here)?;
    let validators = words::validators(received.validators_done);
    Ok(place.with_name(&format!("{validators}, {} bytes", received.bytes)))
}

/// What has arrived of an export.
#[derive(Default)]
struct Received {
    bytes: u64,
    last: Option<u8>,
    validators_done: u64,
    validators_total: u64,
}

impl Received {
    fn add(&mut self, chunk: &proto::HistoryChunk) {
        let length = u64::try_from(chunk.json.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        let printed = chunk
            .json
            .iter()
            .rev()
            .find(|byte| !byte.is_ascii_whitespace());
        self.last = printed.copied().or(self.last);
        self.validators_done = chunk.validators_done;
        self.validators_total = chunk.validators_total;
    }

    /// A stream may end in order and still be short, where something between cuts it off.
    fn check(&self) -> Result<(), Unconfirmed> {
        let whole = self.last == Some(b'}') && self.validators_done == self.validators_total;
        if whole {
            return Ok(());
        }
        Err(Unconfirmed::NoAnswer(format!(
            "the history broke off after {} of {} validators",
            self.validators_done, self.validators_total
        )))
    }
}

/// Gives the interchange file to every cosigner.
///
/// # Errors
/// If it cannot be read, or not every cosigner took it.
pub(super) async fn import(committee: &Committee, file: &Path) -> anyhow::Result<()> {
    let length = length_of(file)?;
    let screen = Screen::new(Lines::Stdout);
    ask_all(
        committee,
        Purpose::Forbid,
        PATIENCE,
        &screen,
        |target, client| {
            let bar = screen.bar(&target.san, Unit::Bytes);
            bar.set_length(length);
            Box::pin(async move {
                let imported = import_one(client, file, &bar).await;
                bar.finish_and_clear();
                imported
            })
        },
    )
    .await
}

/// Bytes of a file that can be read more than once.
pub(super) fn length_of(file: &Path) -> anyhow::Result<u64> {
    let unreadable = || format!("{} cannot be read", file.display());
    let metadata = File::open(file)
        .and_then(|file| file.metadata())
        .with_context(unreadable)?;
    ensure!(
        metadata.is_file(),
        "{} is not a regular file: every cosigner reads it from its beginning",
        file.display()
    );
    Ok(metadata.len())
}

async fn import_one(
    mut client: Client,
    file: &Path,
    bar: &ProgressBar,
) -> Result<String, Unconfirmed> {
    let unreadable =
        |error| Unconfirmed::Here(format!("{} cannot be read: {error}", file.display()));
    let file = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let (failed, failure) = oneshot::channel();
    let chunks = chunks(file, bar.clone(), failed);
    // A file that cannot be read to its end must not end the call in order: it is given up instead,
    // and the cosigner takes nothing of it.
    let reply = tokio::select! {
        biased;
        Ok(error) = failure => return Err(unreadable(error)),
        reply = client.import_history(chunks) => reply?.into_inner(),
    };
    Ok(words::imported(&reply))
}

/// The file's pieces. One that cannot be read goes to `failed`, and the stream then never ends.
fn chunks(
    file: tokio::fs::File,
    bar: ProgressBar,
    failed: oneshot::Sender<std::io::Error>,
) -> impl Stream<Item = proto::HistoryChunk> + Send + 'static {
    stream::unfold((file, bar, failed), |(mut file, bar, failed)| async move {
        let mut json = Vec::with_capacity(CHUNK_BYTES);
        let limit = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
        match (&mut file).take(limit).read_to_end(&mut json).await {
            Ok(0) => {
                bar.set_message("waiting until it is committed");
                None
            }
            Ok(_) => {
                bar.inc(u64::try_from(json.len()).unwrap_or(0));
                let chunk = proto::HistoryChunk {
                    json,
                    ..proto::HistoryChunk::default()
                };
                Some((chunk, (file, bar, failed)))
            }
            Err(error) => {
                // Whoever made the call listens as long as it lasts.
                let _ = failed.send(error);
                std::future::pending().await
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_broke_off_is_not_taken_for_a_whole_one() {
        for (pieces, whole) in [
            (&[("{\"data\":[", 0, 2), ("]}\n", 2, 2)][..], true),
            (&[("{\"data\":[", 0, 2), ("]}", 2, 2), ("\n", 2, 2)], true),
            (&[("{\"data\":[", 0, 2), ("{}", 1, 2)], false),
            (&[("{\"data\":[", 2, 2)], false),
            (&[], false),
        ] {
            let mut received = Received::default();
            for (json, validators_done, validators_total) in pieces {
                received.add(&proto::HistoryChunk {
                    json: json.as_bytes().to_vec(),
                    validators_done: *validators_done,
                    validators_total: *validators_total,
                });
            }
            assert_eq!(received.check().is_ok(), whole, "{pieces:?}");
        }
    }

    #[test]
    fn a_cosigners_name_makes_no_path() {
        for (san, file) in [
            ("cosigner-1", "out/cosigner-1.json"),
            ("a.example.org", "out/a.example.org.json"),
            ("../../etc/x", "out/.._.._etc_x.json"),
        ] {
            let target: Target = format!("h:1={san}").parse().unwrap();
            assert_eq!(file_of(Path::new("out"), &target), Path::new(file));
        }
    }
}
