//! Share packages: the file by which an operator's tool hands one cosigner its shares.
//!
//! Version 1, integers big-endian:
//!
//! ```text
//! magic "CSSHARES" | version u16 | Argon2id: memory_kib u32, passes u32, lanes u32 | salt 16 | check 32
//! | nonce 24 | XChaCha20-Poly1305 of the contents, bound to all that stands before the nonce
//!
//! contents: index u64 | member count u16 | members u64 … | share count u32
//!           | per share: t u16 | t commitments of 48 bytes | share 32
//! ```

use keyshare::SecretShare;
use threshold::{CommitteeSize, ShareIndex};
use zeroize::Zeroizing;

use crate::sealing::{
    self, CHECK_BYTES, Entropy, KdfCost, NONCE_BYTES, Passphrase, SALT_BYTES, TAG_BYTES, Unopened,
};

/// Members that a package's committee has at most.
pub const MEMBERS_MAX: usize = CommitteeSize::MEMBERS_MAX;
/// Shares that one package holds at most.
pub const SHARES_MAX: usize = 100_000;
/// Bytes that a package file has at most.
pub const PACKAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"CSSHARES";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 2 + 3 * 4 + SALT_BYTES + CHECK_BYTES;
const COMMITMENT_BYTES: usize = 48;
const SHARE_BYTES: usize = 32;

/// The shares of one cosigner, of validators that all have the same committee members.
///
/// What is in it was not checked: `cosigner import` verifies each share against its commitments.
pub struct Package {
    /// The share indices of the whole committee.
    pub members: Vec<ShareIndex>,
    /// The index of this cosigner.
    pub index: ShareIndex,
    /// One share per validator.
    pub shares: Vec<PackagedShare>,
}

/// A share and the public polynomial it belongs to.
pub struct PackagedShare {
    /// Feldman commitments, compressed G1 points, not checked; the first is the validator's key.
    pub commitments: Vec<[u8; 48]>,
    /// The share.
    pub share: SecretShare,
}

/// Why a package was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsealable {
    /// A bound of the format.
    #[error("a package holds at most {1} {0}")]
    TooMany(&'static str, usize),
    /// The cipher refused.
    #[error("sealing failed: {0}")]
    Sealing(#[from] Unopened),
}

/// Why a package was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Another kind of file.
    #[error("this is no share package of Countersign")]
    NotAPackage,
    /// A version that this program does not read.
    #[error("the package has format version {0}, this program reads version {VERSION}")]
    Version(u16),
    /// A bound of the format.
    #[error("the package is larger than {PACKAGE_BYTES_MAX} bytes")]
    TooLarge,
    /// Wrong passphrase, unacceptable cost, or damage.
    #[error("the package cannot be opened: {0}")]
    Unopened(#[from] Unopened),
    /// It was sealed with the right passphrase, but by a program that wrote nonsense.
    #[error("the package's contents are malformed: {0}")]
    Malformed(&'static str),
}

/// Seals a package under a passphrase.
///
/// # Errors
/// [`Unsealable`] if a bound of the format is exceeded.
pub fn seal(
    package: &Package,
    passphrase: &Passphrase,
    entropy: Entropy<'_>,
) -> Result<Vec<u8>, Unsealable> {
    seal_at_cost(package, passphrase, KdfCost::RECOMMENDED, entropy)
}

fn seal_at_cost(
    package: &Package,
    passphrase: &Passphrase,
    cost: KdfCost,
    entropy: Entropy<'_>,
) -> Result<Vec<u8>, Unsealable> {
    let contents = write_contents(package)?;
    let mut salt = [0; SALT_BYTES];
    entropy(&mut salt);
    let (key, check) = sealing::derive(passphrase, &salt, cost)?;
    let header = write_header(cost, &salt, &check);
    let sealed = key.seal(&contents, &header, entropy)?;
    Ok([header, sealed].concat())
}

/// Opens a package.
///
/// # Errors
/// [`PackageError`] says whether the passphrase is wrong, the file damaged, of another version, or
/// no package at all.
pub fn open(file: &[u8], passphrase: &Passphrase) -> Result<Package, PackageError> {
    if file.len() > PACKAGE_BYTES_MAX {
        return Err(PackageError::TooLarge);
    }
    let mut reader = Reader {
        rest: file,
        short: PackageError::Unopened(Unopened::Damaged),
    };
    if reader.take::<8>().is_ok_and(|magic| magic != *MAGIC) || file.len() < MAGIC.len() {
        return Err(PackageError::NotAPackage);
    }
    match reader.u16()? {
        VERSION => {}
        version => return Err(PackageError::Version(version)),
    }
    let cost = KdfCost {
        memory_kib: reader.u32()?,
        passes: reader.u32()?,
        lanes: reader.u32()?,
    };
    let salt = reader.take::<SALT_BYTES>()?;
    let check = reader.take::<CHECK_BYTES>()?;
    let sealed = reader.rest;
    if sealed.len() < NONCE_BYTES + TAG_BYTES {
        return Err(Unopened::Damaged.into());
    }
    let key = sealing::derive_checked(passphrase, &salt, cost, &check)?;
    let contents = key.open(sealed, &write_header(cost, &salt, &check))?;
    read_contents(&contents)
}

fn write_header(cost: KdfCost, salt: &[u8; SALT_BYTES], check: &[u8; CHECK_BYTES]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_be_bytes());
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        header.extend_from_slice(&number.to_be_bytes());
    }
    header.extend_from_slice(salt);
    header.extend_from_slice(check);
    header
}

fn write_contents(package: &Package) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
    let too_many = |what, max| move |_| Unsealable::TooMany(what, max);
    if package.members.len() > MEMBERS_MAX {
        return Err(Unsealable::TooMany("members", MEMBERS_MAX));
    }
    if package.shares.len() > SHARES_MAX {
        return Err(Unsealable::TooMany("shares", SHARES_MAX));
    }
    let shares_bytes: usize = package
        .shares
        .iter()
        .map(|share| 2 + share.commitments.len() * COMMITMENT_BYTES + SHARE_BYTES)
        .sum();
    let total = 8 + 2 + package.members.len() * 8 + 4 + shares_bytes;
    if total > PACKAGE_BYTES_MAX - HEADER_BYTES - NONCE_BYTES - TAG_BYTES {
        return Err(Unsealable::TooMany("bytes", PACKAGE_BYTES_MAX));
    }
    // One allocation, so that no copy of a share stays behind where a vector grew.
    let mut to = Zeroizing::new(Vec::with_capacity(total));
    to.extend_from_slice(&package.index.value().to_be_bytes());
    let members = u16::try_from(package.members.len()).map_err(too_many("members", MEMBERS_MAX))?;
    to.extend_from_slice(&members.to_be_bytes());
    for member in &package.members {
        to.extend_from_slice(&member.value().to_be_bytes());
    }
    let shares = u32::try_from(package.shares.len()).map_err(too_many("shares", SHARES_MAX))?;
    to.extend_from_slice(&shares.to_be_bytes());
    for PackagedShare { commitments, share } in &package.shares {
        if commitments.len() > MEMBERS_MAX {
            return Err(Unsealable::TooMany("commitments a share", MEMBERS_MAX));
        }
        let threshold = u16::try_from(commitments.len())
            .map_err(too_many("commitments a share", MEMBERS_MAX))?;
        to.extend_from_slice(&threshold.to_be_bytes());
        for commitment in commitments {
            to.extend_from_slice(commitment);
        }
        to.extend_from_slice(share.to_be_bytes().as_slice());
    }
    Ok(to)
}

fn read_contents(contents: &[u8]) -> Result<Package, PackageError> {
    let mut reader = Reader {
        rest: contents,
        short: PackageError::Malformed("it ends early"),
    };
    let index = reader.index()?;
    let count = usize::from(reader.u16()?);
    if count > MEMBERS_MAX {
        return Err(PackageError::Malformed("it has too many members"));
    }
    let members = (0..count)
        .map(|_| reader.index())
        .collect::<Result<Vec<_>, _>>()?;
    let count = usize::try_from(reader.u32()?)
        .ok()
        .filter(|count| *count <= SHARES_MAX)
        .ok_or(PackageError::Malformed("it has too many shares"))?;
    let shares = (0..count)
        .map(|_| reader.share())
        .collect::<Result<Vec<_>, _>>()?;
    if !reader.rest.is_empty() {
        return Err(PackageError::Malformed("something follows the last share"));
    }
    Ok(Package {
        members,
        index,
        shares,
    })
}

struct Reader<'a> {
    rest: &'a [u8],
    short: PackageError,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PackageError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.short)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, PackageError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, PackageError> {
        self.take().map(u32::from_be_bytes)
    }

    fn index(&mut self) -> Result<ShareIndex, PackageError> {
        let value = self.take().map(u64::from_be_bytes)?;
        ShareIndex::new(value).map_err(|_| PackageError::Malformed("a share index is 0"))
    }

    fn share(&mut self) -> Result<PackagedShare, PackageError> {
        let threshold = usize::from(self.u16()?);
        if threshold > MEMBERS_MAX {
            return Err(PackageError::Malformed("a share has too many commitments"));
        }
        let commitments = (0..threshold)
            .map(|_| self.take::<COMMITMENT_BYTES>())
            .collect::<Result<_, _>>()?;
        let share = Zeroizing::new(self.take::<SHARE_BYTES>()?);
        let share = SecretShare::from_be_bytes(&share)
            .map_err(|_| PackageError::Malformed("a share is no scalar of the curve"))?;
        Ok(PackagedShare { commitments, share })
    }
}

#[cfg(test)]
mod tests;
