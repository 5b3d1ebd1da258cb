//! Passphrases, and what is sealed under them: Argon2id (RFC 9106) and XChaCha20-Poly1305.
//!
//! Argon2id yields 64 bytes: a key, and a check that is stored in clear. The check tells a wrong
//! passphrase from a damaged ciphertext, and commits a ciphertext to one key, which
//! XChaCha20-Poly1305 by itself does not.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, AeadInOut, KeyInit, Payload},
};
use daemon::config::{ConfigError, secret_from_file};
use zeroize::Zeroizing;

/// Fills a slice with random bytes that nobody can predict.
pub type Entropy<'a> = &'a mut dyn FnMut(&mut [u8]);

/// Bytes that a passphrase has at most.
pub const PASSPHRASE_BYTES_MAX: usize = 4096;

const KIB_PER_MIB: u32 = 1024;

/// A passphrase: 1 to [`PASSPHRASE_BYTES_MAX`] bytes, wiped when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Nothing, or too much, was given as a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a passphrase has 1 to {PASSPHRASE_BYTES_MAX} bytes, this one has {0}")]
pub struct InvalidPassphrase(pub usize);

impl Passphrase {
    /// Takes the bytes as they are.
    ///
    /// # Errors
    /// [`InvalidPassphrase`] for none or too many.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidPassphrase> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            1..=PASSPHRASE_BYTES_MAX => Ok(Self(bytes)),
            length => Err(InvalidPassphrase(length)),
        }
    }

    /// Reads a file that nobody but its owner may read; one line break at its end does not belong
    /// to the passphrase.
    ///
    /// # Errors
    /// [`ConfigError`], one sentence that names the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = secret_from_file(path)?;
        Self::new(text.as_bytes().to_vec())
            .map_err(|error| ConfigError::new(format!("{}: {error}", path.display())))
    }
}

/// What Argon2id costs; stored beside what it protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfCost {
    /// RFC 9106, section 4, the second recommended option: 64 MiB, 3 passes, 4 lanes.
    pub const RECOMMENDED: Self = Self {
        memory_kib: 64 * KIB_PER_MIB,
        passes: 3,
        lanes: 4,
    };

    /// What a file or a database may ask of this process: beyond it, opening is refused.
    const MAX: Self = Self {
        memory_kib: 256 * KIB_PER_MIB,
        passes: 16,
        lanes: 16,
    };

    fn params(self) -> Result<Params, Unopened> {
        let bounded = self.memory_kib <= Self::MAX.memory_kib
            && self.passes <= Self::MAX.passes
            && self.lanes <= Self::MAX.lanes;
        if !bounded {
            return Err(Unopened::Cost(self));
        }
        Params::new(
            self.memory_kib,
            self.passes,
            self.lanes,
            Some(DERIVED_BYTES),
        )
        .map_err(|_| Unopened::Cost(self))
    }
}

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// Bytes of a nonce of XChaCha20-Poly1305.
pub const NONCE_BYTES: usize = 24;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of the check that is stored in clear.
pub const CHECK_BYTES: usize = 32;
/// Bytes by which sealing makes a text longer.
pub const TAG_BYTES: usize = 16;
const DERIVED_BYTES: usize = KEY_BYTES + CHECK_BYTES;

/// Why something sealed was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// The stored cost is no Argon2id cost, or beyond what this program pays.
    #[error("its Argon2id cost ({} KiB, {} passes, {} lanes) is not acceptable", .0.memory_kib, .0.passes, .0.lanes)]
    Cost(KdfCost),
    /// The passphrase is another one.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The key is right, the contents are not what was sealed, or not where they were sealed.
    #[error("the contents are damaged or were moved here from elsewhere")]
    Damaged,
}

/// A symmetric key, wiped when dropped.
pub struct SealingKey(Zeroizing<[u8; KEY_BYTES]>);

/// Derives a key from a passphrase, and the check that belongs to it.
///
/// # Errors
/// [`Unopened::Cost`] if the cost is out of bounds.
pub fn derive(
    passphrase: &Passphrase,
    salt: &[u8; SALT_BYTES],
    cost: KdfCost,
) -> Result<(SealingKey, [u8; CHECK_BYTES]), Unopened> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.params()?);
    let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
    argon2
        .hash_password_into(&passphrase.0, salt, derived.as_mut_slice())
        .map_err(|_| Unopened::Cost(cost))?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let mut check = [0; CHECK_BYTES];
    let (left, right) = derived.split_at(KEY_BYTES);
    key.copy_from_slice(left);
    check.copy_from_slice(right);
    Ok((SealingKey(key), check))
}

/// Derives the key that belongs to a stored check.
///
/// # Errors
/// [`Unopened::Cost`], and [`Unopened::WrongPassphrase`] if the check is another one.
pub fn derive_checked(
    passphrase: &Passphrase,
    salt: &[u8; SALT_BYTES],
    cost: KdfCost,
    check: &[u8; CHECK_BYTES],
) -> Result<SealingKey, Unopened> {
    let (key, derived) = derive(passphrase, salt, cost)?;
    // The check is public, so comparing it need not take constant time.
    if derived == *check {
        Ok(key)
    } else {
        Err(Unopened::WrongPassphrase)
    }
}

impl SealingKey {
    /// A random key.
    pub fn random(entropy: Entropy<'_>) -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        entropy(key.as_mut_slice());
        Self(key)
    }

    /// The key that `bytes` are.
    ///
    /// # Errors
    /// [`Unopened::Damaged`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unopened> {
        let bytes: &[u8; KEY_BYTES] = bytes.try_into().map_err(|_| Unopened::Damaged)?;
        Ok(Self(Zeroizing::new(*bytes)))
    }

    /// The key's bytes, to seal them under another key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Seals `plain`, bound to `context`: a random nonce, then the ciphertext and its tag.
    ///
    /// # Errors
    /// [`Unopened::Damaged`] if `plain` is longer than the cipher allows (256 GiB).
    pub fn seal(
        &self,
        plain: &[u8],
        context: &[u8],
        entropy: Entropy<'_>,
    ) -> Result<Vec<u8>, Unopened> {
        let mut nonce = [0; NONCE_BYTES];
        entropy(&mut nonce);
        let payload = Payload {
            msg: plain,
            aad: context,
        };
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Unopened::Damaged)?;
        Ok([nonce.as_slice(), &ciphertext].concat())
    }

    /// Opens what [`SealingKey::seal`] made under the same `context`.
    ///
    /// # Errors
    /// [`Unopened::Damaged`] if anything in it, the key or the context differs.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (nonce, ciphertext) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(Unopened::Damaged)?;
        // In place: the only copy of the plain text is the one that is wiped.
        let mut text = Zeroizing::new(ciphertext.to_vec());
        self.cipher()
            .decrypt_in_place(&XNonce::from(*nonce), context, &mut *text)
            .map_err(|_| Unopened::Damaged)?;
        Ok(text)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    pub(crate) const CHEAP: KdfCost = KdfCost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };

    pub(crate) fn entropy(bytes: &mut [u8]) {
        getrandom::fill(bytes).unwrap();
    }

    pub(crate) fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_passphrase_is_read_from_a_file_of_its_owner_without_the_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passphrase");
        for (text, mode, taken) in [
            ("secret\n".to_owned(), 0o600, Some("secret")),
            (" se cret\r\n".to_owned(), 0o400, Some(" se cret")),
            ("secret".to_owned(), 0o644, None),
            ("\n".to_owned(), 0o600, None),
            ("x".repeat(PASSPHRASE_BYTES_MAX + 1), 0o600, None),
        ] {
            let _absent = fs::remove_file(&path);
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = Passphrase::read(&path).ok();
            let read = read.as_ref().map(|read| read.0.as_slice());
            assert_eq!(read, taken.map(str::as_bytes), "{mode:o}");
        }
        assert!(Passphrase::new(vec![]).is_err());
    }

    #[test]
    fn costs_out_of_bounds_are_refused_before_they_are_paid() {
        for cost in [
            KdfCost {
                memory_kib: u32::MAX,
                ..CHEAP
            },
            KdfCost {
                passes: u32::MAX,
                ..CHEAP
            },
            KdfCost {
                lanes: u32::MAX,
                ..CHEAP
            },
            KdfCost { passes: 0, ..CHEAP },
            KdfCost {
                memory_kib: 0,
                ..CHEAP
            },
        ] {
            let refused = derive(&passphrase("p"), &[0; SALT_BYTES], cost).err();
            assert_eq!(refused, Some(Unopened::Cost(cost)));
        }
    }

    #[test]
    fn another_passphrase_salt_or_cost_is_told_from_damage() {
        let salt = [1; SALT_BYTES];
        let (_, check) = derive(&passphrase("p"), &salt, CHEAP).unwrap();
        assert!(derive_checked(&passphrase("p"), &salt, CHEAP, &check).is_ok());
        for (phrase, salt, cost) in [
            ("q", salt, CHEAP),
            ("p", [2; SALT_BYTES], CHEAP),
            ("p", salt, KdfCost { passes: 2, ..CHEAP }),
        ] {
            let error = derive_checked(&passphrase(phrase), &salt, cost, &check).err();
            assert_eq!(error, Some(Unopened::WrongPassphrase));
        }
    }

    #[test]
    fn every_flipped_bit_and_another_context_is_noticed() {
        let key = SealingKey::random(&mut entropy);
        let sealed = key.seal(b"a share", b"here", &mut entropy).unwrap();
        assert_eq!(key.open(&sealed, b"here").unwrap().as_slice(), b"a share");
        assert_eq!(key.open(&sealed, b"there").err(), Some(Unopened::Damaged));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                key.open(&damaged, b"here").err(),
                Some(Unopened::Damaged),
                "bit {bit}"
            );
        }
        for length in 0..sealed.len() {
            assert_eq!(
                key.open(&sealed[..length], b"here").err(),
                Some(Unopened::Damaged)
            );
        }
    }
}
