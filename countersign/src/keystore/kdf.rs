//! The key derivation functions of EIP-2335, and what they may cost.

use sha2::Sha256;
use zeroize::Zeroizing;

use super::{KeystoreError, Password};

/// Bytes of scrypt's working memory at most: four times the usual.
const SCRYPT_MEMORY_BYTES_MAX: u64 = 1 << 30;
/// n·r·p at most, 32 times the usual: scrypt's time grows with it.
const SCRYPT_WORK_MAX: u64 = 1 << 26;
/// Rounds of PBKDF2 at most, 64 times the usual.
const PBKDF2_ROUNDS_MAX: u32 = 1 << 24;

/// A key derivation function and its cost, within what this program pays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kdf(Function);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    /// RFC 7914.
    Scrypt(scrypt::Params),
    /// RFC 2898 with HMAC-SHA-256, and how many rounds.
    Pbkdf2(u32),
}

/// A parameter of a key derivation function that is not acceptable: its name, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {reason}")]
pub struct UnacceptableCost {
    /// The parameter, as EIP-2335 names it.
    pub parameter: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

const fn unacceptable(parameter: &'static str, reason: String) -> UnacceptableCost {
    UnacceptableCost { parameter, reason }
}

impl Kdf {
    /// scrypt (RFC 7914). Usual, as in EIP-2335's example: `n` = 262144, `r` = 8, `p` = 1.
    ///
    /// # Errors
    /// [`UnacceptableCost`]: no scrypt parameters, more than 1 GiB of memory, or more than 32
    /// times the usual time.
    pub fn scrypt(n: u64, r: u32, p: u32) -> Result<Self, UnacceptableCost> {
        if !n.is_power_of_two() || n < 2 {
            let reason = format!("expected a power of two above 1, got {n}");
            return Err(unacceptable("n", reason));
        }
        for (parameter, value) in [("r", r), ("p", p)] {
            if value == 0 {
                return Err(unacceptable(
                    parameter,
                    "expected at least 1, got 0".to_owned(),
                ));
            }
        }
        let blocks = n.saturating_mul(u64::from(r));
        if blocks.saturating_mul(128) > SCRYPT_MEMORY_BYTES_MAX {
            let reason =
                format!("n·r·128 = {n}·{r}·128 is more than {SCRYPT_MEMORY_BYTES_MAX} bytes");
            return Err(unacceptable("n", reason));
        }
        if blocks.saturating_mul(u64::from(p)) > SCRYPT_WORK_MAX {
            let reason = format!("n·r·p = {n}·{r}·{p} is more than {SCRYPT_WORK_MAX}");
            return Err(unacceptable("p", reason));
        }
        u8::try_from(n.ilog2())
            .ok()
            .and_then(|log_n| scrypt::Params::new(log_n, r, p).ok())
            .map(|params| Self(Function::Scrypt(params)))
            .ok_or_else(|| unacceptable("n", "not accepted by scrypt".to_owned()))
    }

    /// PBKDF2 with HMAC-SHA-256 (RFC 2898). Usual, as in EIP-2335's example: `c` = 262144.
    ///
    /// # Errors
    /// [`UnacceptableCost`]: none, or more than 64 times the usual.
    pub fn pbkdf2(c: u32) -> Result<Self, UnacceptableCost> {
        if (1..=PBKDF2_ROUNDS_MAX).contains(&c) {
            Ok(Self(Function::Pbkdf2(c)))
        } else {
            let reason = format!("expected 1 to {PBKDF2_ROUNDS_MAX}, got {c}");
            Err(unacceptable("c", reason))
        }
    }

    pub(super) const fn function(self) -> Function {
        self.0
    }

    /// The memory that deriving takes, in bytes.
    pub(super) fn memory_bytes(self) -> u64 {
        match self.0 {
            Function::Scrypt(params) => params.n().saturating_mul(u64::from(params.r()) * 128),
            Function::Pbkdf2(_) => 0,
        }
    }

    /// The first 32 bytes of the derived key: with both functions they do not depend on how many
    /// follow.
    pub(super) fn derive(
        self,
        password: &Password,
        salt: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let mut derived = Zeroizing::new([0; 32]);
        let (password, out) = (password.as_bytes(), derived.as_mut_slice());
        match self.0 {
            Function::Pbkdf2(rounds) => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, out);
            }
            Function::Scrypt(params) => {
                scrypt::scrypt(password, salt, &params, out).map_err(|error| {
                    KeystoreError::Malformed {
                        member: "crypto.kdf".to_owned(),
                        reason: error.to_string(),
                    }
                })?;
            }
        }
        Ok(derived)
    }
}
