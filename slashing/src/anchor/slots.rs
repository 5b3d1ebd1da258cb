//! The file's format: two records of a fixed size, written in turn, so that one of them is whole
//! whenever the power goes. A record is a line: its checksum (SHA-256), then JSON, for people's
//! eyes too; the rest is blanks.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Found, Mark};

/// Bytes of one record.
const RECORD_BYTES: usize = 1024;
/// Bytes of a checksum in hexadecimal.
const CHECKSUM_CHARS: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<M> {
    sequence: u64,
    mark: M,
}

/// Gives the file its size, so that no later write needs room on the disk.
pub(super) fn allocate(file: &File) -> io::Result<()> {
    if file.metadata()?.size() == 0 {
        file.write_all_at(&[b' '; 2 * RECORD_BYTES], 0)?;
    }
    file.sync_all()
}

/// The last whole record, and its number.
pub(super) fn read(file: &File) -> io::Result<(Found, u64)> {
    let mut last: Option<Record<Mark>> = None;
    let mut damaged = false;
    for offset in [0, record_bytes()] {
        let mut bytes = Vec::new();
        bytes.resize(RECORD_BYTES, b' ');
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => {}
            // Somebody has cut the file.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => damaged = true,
            Err(error) => return Err(error),
        }
        if bytes.iter().all(|byte| *byte == b' ') {
            continue;
        }
        match parse(&bytes) {
            Some(record) => {
                if last
                    .as_ref()
                    .is_none_or(|other| other.sequence < record.sequence)
                {
                    last = Some(record);
                }
            }
            None => damaged = true,
        }
    }
    Ok(match (last, damaged) {
        // One that is not whole beside one that is: the write that a crash has cut short.
        (Some(record), _) => (Found::Mark(record.mark), record.sequence),
        (None, true) => (Found::Damaged, 0),
        (None, false) => (Found::Nothing, 0),
    })
}

/// Writes over the older record and returns when that is on disk.
pub(super) fn write(file: &File, sequence: u64, mark: &Mark) -> io::Result<()> {
    let json = serde_json::to_string(&Record { sequence, mark })?;
    let mut line = format!("{} {json}\n", checksum(json.as_bytes())).into_bytes();
    if line.len() > RECORD_BYTES {
        return Err(io::Error::other("a record is too long"));
    }
    line.resize(RECORD_BYTES, b' ');
    let offset = if sequence.is_multiple_of(2) {
        0
    } else {
        record_bytes()
    };
    file.write_all_at(&line, offset)?;
    file.sync_data()
}

fn parse(bytes: &[u8]) -> Option<Record<Mark>> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    let (sum, json) = text.split_at_checked(CHECKSUM_CHARS)?;
    let json = json.trim_start();
    if sum != checksum(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn checksum(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(CHECKSUM_CHARS);
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

const fn record_bytes() -> u64 {
    // A constant of a thousand fits.
    1024
}

/// Sixteen bytes as hexadecimal.
pub(super) mod hex16 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:032x}", u128::from_be_bytes(*bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16)
            .map(u128::to_be_bytes)
            .map_err(D::Error::custom)
    }
}
