//! The parser: an interchange file, streamed into the spool entry by entry.
//!
//! Members may come in any order, metadata after data and a key after its entries; unknown ones are
//! ignored; a known one that is missing or comes twice is an error.

use std::{
    fmt,
    io::{BufReader, Read},
};

use duty::{Epoch, PublicKey, Root, SigningRoot, Slot};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    ImportError, Progress, Step,
    bounded::Bounded,
    rows::{Block, Vote},
    spool::Spool,
};
use crate::rules::HEIGHT_MAX;
use numbers::{Digits, Hex};
use objects::Object;

mod numbers;

mod objects;

/// The one version of the format that is read and written.
pub(super) const VERSION: &str = "5";
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Entries between two reports of progress.
const REPORT_EVERY: u64 = 4096;

/// A place in an interchange file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// The position in `data`, from 0.
    pub section: Option<u64>,
    /// The validator, if its key was read by then.
    pub validator: Option<PublicKey>,
    /// The kind of the entry and its position among those of its kind, from 0.
    pub entry: Option<(Kind, u64)>,
}

/// The two kinds of entries, named as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `signed_blocks`
    Block,
    /// `signed_attestations`
    Attestation,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(section) = self.section else {
            return f.write_str("the file");
        };
        write!(f, "data[{section}]")?;
        match self.validator {
            Some(validator) => write!(f, " (validator {validator})")?,
            None => f.write_str(" (whose pubkey was not read by then)")?,
        }
        match self.entry {
            Some((Kind::Block, position)) => write!(f, " signed_blocks[{position}]"),
            Some((Kind::Attestation, position)) => write!(f, " signed_attestations[{position}]"),
            None => Ok(()),
        }
    }
}

/// Reads a file into the spool. Returns its genesis validators root, which must be the expected
/// one, if there is one.
pub(super) fn read(
    reader: impl Read,
    expected: Option<Root>,
    spool: &mut Spool,
    progress: &impl Fn(Progress),
) -> Result<Root, ImportError> {
    let mut reading = Reading {
        spool,
        expected,
        progress,
        at: At::default(),
        entries: 0,
        failed: None,
    };
    // The parser reads byte by byte.
    let reader = BufReader::with_capacity(BUFFER_BYTES, Bounded::new(reader));
    let mut json = serde_json::Deserializer::from_reader(reader);
    let root = File(&mut reading)
        .deserialize(&mut json)
        .and_then(|root| json.end().map(|()| root));
    let (failed, at) = (reading.failed.take(), reading.at);
    root.map_err(|error| match failed {
        Some(failed) => failed,
        None if error.is_io() => ImportError::Read(error.to_string()),
        None => ImportError::Malformed {
            at: Box::new(at),
            reason: error.to_string(),
        },
    })
}

struct Reading<'a, P> {
    spool: &'a mut Spool,
    expected: Option<Root>,
    progress: &'a P,
    at: At,
    entries: u64,
    /// What made the parser stop, if it was not the parser.
    failed: Option<ImportError>,
}

impl<P: Fn(Progress)> Reading<'_, P> {
    /// Makes the parser stop.
    fn stop<E: serde::de::Error>(&mut self, failed: ImportError) -> E {
        self.failed = Some(failed);
        E::custom("stopped")
    }

    fn add<E: serde::de::Error>(&mut self, kind: Kind, entry: Entry) -> Result<(), E> {
        let added = match entry.message(kind)? {
            Message::Block(block) => self.spool.add_block(block),
            Message::Vote(vote) => self.spool.add_vote(vote),
        };
        added.map_err(|failed| self.stop(failed))?;
        self.entries += 1;
        if self.entries.is_multiple_of(REPORT_EVERY) {
            (self.progress)(Progress {
                step: Step::Reading,
                done: self.entries,
                total: None,
            });
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Metadata {
    interchange_format_version: Digits,
    genesis_validators_root: Hex<Root>,
}

/// The file: an object of `metadata` and `data`.
struct File<'r, 'a, P>(&'r mut Reading<'a, P>);

impl<'de, P: Fn(Progress)> DeserializeSeed<'de> for File<'_, '_, P> {
    type Value = Root;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Root, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, P: Fn(Progress)> Visitor<'de> for File<'_, '_, P> {
    type Value = Root;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an interchange file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Root, A::Error> {
        let (mut root, mut data) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "metadata" => {
                    once(&root, "metadata")?;
                    let Object(metadata) = map.next_value()?;
                    root = Some(self.0.check(metadata)?);
                }
                "data" => {
                    once(&data, "data")?;
                    data = Some(map.next_value_seed(Data(self.0))?);
                    self.0.at = At::default();
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        data.ok_or_else(|| A::Error::missing_field("data"))?;
        root.ok_or_else(|| A::Error::missing_field("metadata"))
    }
}

/// Whether a member comes for the first time.
fn once<T, E: serde::de::Error>(value: &Option<T>, name: &'static str) -> Result<(), E> {
    match value {
        Some(_) => Err(E::duplicate_field(name)),
        None => Ok(()),
    }
}

impl<P: Fn(Progress)> Reading<'_, P> {
    fn check<E: serde::de::Error>(&mut self, metadata: Metadata) -> Result<Root, E> {
        let version = metadata.interchange_format_version.0;
        if version != VERSION {
            return Err(self.stop(ImportError::Version(version)));
        }
        let file = metadata.genesis_validators_root.0;
        match self.expected {
            Some(expected) if expected != file => {
                Err(self.stop(ImportError::Chain { file, expected }))
            }
            Some(_) | None => Ok(file),
        }
    }
}

/// `data`: an array of sections.
struct Data<'r, 'a, P>(&'r mut Reading<'a, P>);

impl<'de, P: Fn(Progress)> DeserializeSeed<'de> for Data<'_, '_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, P: Fn(Progress)> Visitor<'de> for Data<'_, '_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of validators")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sections: A) -> Result<(), A::Error> {
        for position in 0.. {
            self.0.at = At {
                section: Some(position),
                ..At::default()
            };
            if sections.next_element_seed(Section(self.0))?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// A section: an object of `pubkey`, `signed_blocks`, `signed_attestations`.
struct Section<'r, 'a, P>(&'r mut Reading<'a, P>);

impl<'de, P: Fn(Progress)> DeserializeSeed<'de> for Section<'_, '_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, P: Fn(Progress)> Visitor<'de> for Section<'_, '_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of pubkey, signed_blocks and signed_attestations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.spool.begin_section();
        let (mut validator, mut blocks, mut votes) = (None, None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "pubkey" => {
                    once(&validator, "pubkey")?;
                    let Hex(key) = map.next_value::<Hex<PublicKey>>()?;
                    validator = Some(key);
                    self.0.at.validator = validator;
                }
                "signed_blocks" => {
                    once(&blocks, "signed_blocks")?;
                    blocks = Some(map.next_value_seed(Entries(self.0, Kind::Block))?);
                }
                "signed_attestations" => {
                    once(&votes, "signed_attestations")?;
                    votes = Some(map.next_value_seed(Entries(self.0, Kind::Attestation))?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let validator = validator.ok_or_else(|| A::Error::missing_field("pubkey"))?;
        blocks.ok_or_else(|| A::Error::missing_field("signed_blocks"))?;
        votes.ok_or_else(|| A::Error::missing_field("signed_attestations"))?;
        let named = self.0.spool.name_section(validator);
        named.map_err(|failed| self.0.stop(failed))
    }
}

/// The entries of one kind.
struct Entries<'r, 'a, P>(&'r mut Reading<'a, P>, Kind);

impl<'de, P: Fn(Progress)> DeserializeSeed<'de> for Entries<'_, '_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, P: Fn(Progress)> Visitor<'de> for Entries<'_, '_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self(reading, kind) = self;
        for position in 0.. {
            reading.at.entry = Some((kind, position));
            let Some(Object(entry)) = entries.next_element::<Object<Entry>>()? else {
                break;
            };
            reading.add(kind, entry)?;
        }
        reading.at.entry = None;
        Ok(())
    }
}

/// An entry of either kind; which members it must have depends on the kind.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    slot: Option<Digits>,
    #[serde(default)]
    source_epoch: Option<Digits>,
    #[serde(default)]
    target_epoch: Option<Digits>,
    #[serde(default)]
    signing_root: Option<Hex<SigningRoot>>,
}

enum Message {
    Block(Block),
    Vote(Vote),
}

impl Entry {
    fn message<E: serde::de::Error>(self, kind: Kind) -> Result<Message, E> {
        let root = self.signing_root.map(|root| root.0);
        Ok(match kind {
            Kind::Block => Message::Block(Block {
                slot: Slot(height("slot", self.slot)?),
                root,
            }),
            // A source after its target can be taken: it is minified later.
            Kind::Attestation => Message::Vote(Vote {
                source: Epoch(height("source_epoch", self.source_epoch)?),
                target: Epoch(height("target_epoch", self.target_epoch)?),
                root,
            }),
        })
    }
}

fn height<E: serde::de::Error>(name: &'static str, digits: Option<Digits>) -> Result<u64, E> {
    let digits = digits.ok_or_else(|| E::missing_field(name))?.0;
    let height = digits.parse::<u64>().ok();
    height
        .filter(|height| *height <= HEIGHT_MAX)
        .ok_or_else(|| {
            E::custom(format!(
                "{name} {digits:.80} does not fit a signed 64-bit integer"
            ))
        })
}
