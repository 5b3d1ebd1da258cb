//! EIP-2335 keystores: decrypting one, decrypting many, and encrypting.
//!
//! What this promises: a key comes out only if the password's checksum holds and the key is the one
//! that the file states; a file cannot make this process pay an unreasonable price; of many
//! keystores all are decrypted or none. Passwords and keys are wiped when dropped.

mod format;
mod kdf;
mod many;
mod password;

use aes::Aes128;
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};
use duty::PublicKey;
use keyshare::SecretKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use kdf::{Kdf, UnacceptableCost};
pub use many::{FileError, Passwords, Progress, decrypt_all, decrypt_file};
pub use password::{InvalidPassword, Password};

/// A keystore that was read and found well-formed, its secret still encrypted.
pub struct Keystore {
    kdf: Kdf,
    salt: Vec<u8>,
    iv: [u8; 16],
    ciphertext: [u8; 32],
    checksum: [u8; 32],
    public_key: Option<PublicKey>,
}

/// Why a keystore gives no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// The file is no EIP-2335 keystore, or one that is not supported.
    #[error("{member}: {reason}")]
    Malformed {
        /// The JSON member, as `crypto.kdf.params.n`.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The checksum does not hold.
    #[error("the password is wrong")]
    WrongPassword,
    /// The password is right, and what it decrypts is no key.
    #[error("what it holds is not a BLS key")]
    NotAKey,
    /// The password is right, and what it decrypts is the key of another validator.
    #[error("it holds the key of {derived}, not of {stated} as it says")]
    OtherKey {
        /// The file's `pubkey`.
        stated: PublicKey,
        /// The public key of what was decrypted.
        derived: PublicKey,
    },
}

impl Keystore {
    /// Reads a keystore and checks everything that needs no password.
    ///
    /// # Errors
    /// [`KeystoreError::Malformed`] names the member: missing, of another type, an unsupported
    /// function, or a key derivation that costs too much.
    pub fn parse(json: &[u8]) -> Result<Self, KeystoreError> {
        format::read(json)
    }

    /// The public key that the file states. Not to be relied on before it was decrypted.
    #[must_use]
    pub const fn public_key(&self) -> Option<PublicKey> {
        self.public_key
    }

    /// How much memory decrypting takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.kdf.memory_bytes()
    }

    /// Decrypts the key. This is made to be slow: typically half a second and 256 MiB.
    ///
    /// # Errors
    /// [`KeystoreError`]: a wrong password, no key, or another key than the file states.
    pub fn decrypt(&self, password: &Password) -> Result<SecretKey, KeystoreError> {
        let derived = self.kdf.derive(password, &self.salt)?;
        let (cipher_key, checksum_key) = halves(&derived);
        // The checksum stands in the file, so comparing it need not take constant time.
        if checksum(checksum_key, &self.ciphertext) != self.checksum {
            return Err(KeystoreError::WrongPassword);
        }
        let mut secret = Zeroizing::new(self.ciphertext);
        apply_cipher(cipher_key, &self.iv, &mut secret);
        let key = SecretKey::from_be_bytes(&secret).map_err(|_| KeystoreError::NotAKey)?;
        let derived = key.public_key();
        match self.public_key {
            Some(stated) if stated != derived => Err(KeystoreError::OtherKey { stated, derived }),
            _ => Ok(key),
        }
    }
}

/// Encrypts a secret key of 32 bytes, the greatest first, as a keystore of its own. `entropy`
/// fills a slice with uniformly random bytes.
///
/// # Errors
/// [`KeystoreError::NotAKey`] if the bytes are no secret key.
pub fn encrypt(
    secret: &[u8; 32],
    password: &Password,
    kdf: Kdf,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<String, KeystoreError> {
    let key = SecretKey::from_be_bytes(secret).map_err(|_| KeystoreError::NotAKey)?;
    let (mut salt, mut iv, mut uuid) = (vec![0; 32], [0; 16], [0; 16]);
    entropy(&mut salt);
    entropy(&mut iv);
    entropy(&mut uuid);
    let derived = kdf.derive(password, &salt)?;
    let (cipher_key, checksum_key) = halves(&derived);
    let mut ciphertext = *secret;
    apply_cipher(cipher_key, &iv, &mut ciphertext);
    let keystore = Keystore {
        kdf,
        salt,
        iv,
        ciphertext,
        checksum: checksum(checksum_key, &ciphertext),
        public_key: Some(key.public_key()),
    };
    Ok(format::write(&keystore, uuid))
}

/// The cipher's key, and what goes into the checksum.
fn halves(derived: &[u8; 32]) -> (&[u8; 16], &[u8]) {
    let (cipher_key, checksum_key) = derived.split_at(16);
    (cipher_key.first_chunk().unwrap_or(&[0; 16]), checksum_key)
}

fn checksum(checksum_key: &[u8], ciphertext: &[u8; 32]) -> [u8; 32] {
    let digest = Sha256::new().chain_update(checksum_key);
    digest.chain_update(ciphertext).finalize().into()
}

fn apply_cipher(key: &[u8; 16], iv: &[u8; 16], text: &mut [u8; 32]) {
    Ctr128BE::<Aes128>::new(key.into(), iv.into()).apply_keystream(text);
}

#[cfg(test)]
mod tests;
