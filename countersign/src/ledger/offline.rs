//! Histories to and from one cosigner's database, and files made of files.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use cosigner::config::Settings;
use indicatif::ProgressBar;
use slashing::{
    administration::Whom,
    interchange::{self, ImportError, MergeError, Progress, Step},
};

use super::{
    files::{Destination, Existing, Output},
    history::length_of,
    orders::{count, open},
    screen::{Screen, Unit},
    words,
};

/// Writes the history of a cosigner's database.
///
/// # Errors
/// If it cannot be read, or the file cannot be written; then there is no file.
pub(super) async fn export(
    settings: &Settings,
    whom: &Whom,
    out: &Path,
    existing: Existing,
) -> anyhow::Result<()> {
    let place = Destination::at(out);
    let output = Shared::new(place.open(existing)?);
    let _waiting = GiveUp::of(Some(output.clone()));
    let (database, _unchanged) = open(settings).await?;
    let root = settings.genesis_validators_root;
    let validators = match whom {
        Whom::Everyone => None,
        Whom::These(keys) => Some(keys.iter().copied().collect()),
    };
    let screen = Screen::new(place.lines());
    let bar = screen.bar("writing", Unit::Validators);
    let progress = shown_by(bar.clone(), bar.clone());
    let exported = interchange::export(&database, root, validators, output.clone(), progress).await;
    bar.finish_and_clear();
    let exported = exported?;
    output.keep()?;
    let said = words::exported(exported.validators, exported.entries);
    screen.say(&place.with_name(&said));
    if exported.left_out > 0 {
        screen.say(&words::left_out(exported.left_out));
    }
    Ok(())
}

/// Takes an interchange file into a cosigner's database.
///
/// # Errors
/// If the file cannot be read or taken, which says what was changed.
pub(super) async fn import(settings: &Settings, file: &Path) -> anyhow::Result<()> {
    let length = length_of(file)?;
    let (database, expected) = open(settings).await?;
    let screen = Screen::new(Destination::at(file).lines());
    let (reading, keeping) = (
        screen.bar("reading", Unit::Bytes),
        screen.bar("keeping", Unit::Entries),
    );
    reading.set_length(length);
    let waiting = GiveUp::of(None);
    let reader = BufReader::new(waiting.reader(reading.wrap_read(open_file(file)?)));
    let progress = shown_by(reading.clone(), keeping.clone());
    let root = settings.genesis_validators_root;
    let imported = interchange::import(&database, root, reader, progress).await;
    reading.finish_and_clear();
    keeping.finish_and_clear();
    let imported = match imported {
        // Ratchets were raised: that is not to be lost unnoticed either.
        Err(error @ ImportError::Incomplete(_)) => {
            count(expected, &database).await?;
            return Err(error.into());
        }
        imported => imported?,
    };
    count(expected, &database).await?;
    let minified: Vec<String> = imported.minified.iter().map(ToString::to_string).collect();
    let (validators, entries) = (imported.validators, imported.entries);
    screen.say(&words::imported_of(
        validators,
        entries,
        imported.raised,
        &minified,
    ));
    Ok(())
}

/// Makes one interchange file of several.
///
/// # Errors
/// If one of them cannot be read or taken, or the file cannot be written; then there is no file.
pub(super) async fn merge(
    files: Vec<PathBuf>,
    out: &Path,
    existing: Existing,
) -> anyhow::Result<()> {
    let place = Destination::at(out);
    let screen = Screen::new(place.lines());
    let output = Shared::new(place.open(existing)?);
    let waiting = GiveUp::of(Some(output.clone()));
    let bar = screen.bar("reading", Unit::Bytes);
    let mut readers = Vec::with_capacity(files.len());
    for file in &files {
        let reader = waiting.reader(bar.wrap_read(open_file(file)?));
        readers.push(BufReader::new(reader));
        bar.inc_length(length_of(file)?);
    }
    let writer = output.clone();
    let merging = tokio::task::spawn_blocking(move || interchange::merge(readers, writer));
    let merged = merging.await;
    bar.finish_and_clear();
    let merged = merged?.map_err(|error| named(error, &files))?;
    output.keep()?;
    let said = words::exported(merged.validators, merged.entries);
    screen.say(&place.with_name(&said));
    if !merged.minified.is_empty() {
        let keys: Vec<String> = merged.minified.iter().map(ToString::to_string).collect();
        screen.say(&words::minified(&keys));
    }
    Ok(())
}

fn open_file(file: &Path) -> anyhow::Result<File> {
    File::open(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// The error with the file's name instead of its position.
fn named(error: MergeError, files: &[PathBuf]) -> anyhow::Error {
    match error {
        MergeError::File { position, error } => {
            let name = files.get(position).map(|file| file.display().to_string());
            anyhow::Error::new(error).context(name.unwrap_or_default())
        }
        MergeError::NoFiles | MergeError::Staging(_) | MergeError::Write(_) => error.into(),
    }
}

/// Shows progress: reading is seen at the reader, what follows on `bar`.
fn shown_by(reading: ProgressBar, bar: ProgressBar) -> impl Fn(Progress) + Send + 'static {
    move |progress| match progress.step {
        Step::Reading => {}
        Step::Keeping | Step::Writing => {
            if !reading.is_finished() && progress.step == Step::Keeping {
                reading.finish_and_clear();
            }
            if let Some(total) = progress.total {
                bar.set_length(total);
            }
            bar.set_position(progress.done);
        }
    }
}

/// An output that comes back when whoever writes it is done. Dropping a [`GiveUp`] of it takes it
/// away from them: what reads and writes on another thread ends with its next piece.
#[derive(Clone)]
struct Shared(Arc<Mutex<Option<Output>>>);

impl Shared {
    fn new(output: Output) -> Self {
        Self(Arc::new(Mutex::new(Some(output))))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Option<Output>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self) -> anyhow::Result<()> {
        self.with(Option::take).ok_or_else(given_up)?.keep()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|output| match output {
            Some(output) => output.write(bytes),
            None => Err(given_up()),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(|output| output.as_mut().map_or(Err(given_up()), Write::flush))
    }
}

/// A file that is read on another thread, until whoever waits for that is gone.
struct Until<R> {
    inner: R,
    gone: Arc<AtomicBool>,
}

impl<R: Read> Read for Until<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(given_up());
        }
        self.inner.read(buffer)
    }
}

/// Says, when it is dropped, that nobody waits any more.
struct GiveUp {
    gone: Arc<AtomicBool>,
    output: Option<Shared>,
}

impl GiveUp {
    fn of(output: Option<Shared>) -> Self {
        let gone = Arc::default();
        Self { gone, output }
    }

    fn reader<R: Read>(&self, inner: R) -> Until<R> {
        let gone = Arc::clone(&self.gone);
        Until { inner, gone }
    }
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        if let Some(output) = &self.output {
            // A file that has no name yet goes with it.
            drop(output.with(Option::take));
        }
    }
}

fn given_up() -> io::Error {
    io::Error::other("it was given up")
}
