//! What stands in the vault's tables, sealed and unsealed. No database here.

use duty::PublicKey;
use keyshare::SecretShare;
use threshold::ShareIndex;
use wire::Report;

use super::VaultError;
use crate::sealing::{
    self, CHECK_BYTES, Entropy, KdfCost, Passphrase, SALT_BYTES, SealingKey, Unopened,
};

pub(super) const IDENTITY_BYTES: usize = 16;
const HEADER_CONTEXT: &[u8] = b"countersign vault, data key, 1";
const SHARE_CONTEXT: &[u8] = b"countersign vault, share, 1";

/// The row of the table `vault`.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) identity: [u8; IDENTITY_BYTES],
    pub(super) cost: KdfCost,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) check: [u8; CHECK_BYTES],
    pub(super) wrapped_key: Vec<u8>,
}

/// The key under which shares are sealed, and the vault it belongs to.
pub(super) struct DataKey {
    key: SealingKey,
    identity: [u8; IDENTITY_BYTES],
}

impl Header {
    /// A new vault under a passphrase.
    pub(super) fn make(passphrase: &Passphrase, entropy: Entropy<'_>) -> Result<Self, VaultError> {
        let mut header = Self {
            identity: [0; IDENTITY_BYTES],
            cost: KdfCost::RECOMMENDED,
            salt: [0; SALT_BYTES],
            check: [0; CHECK_BYTES],
            wrapped_key: Vec::new(),
        };
        entropy(&mut header.identity);
        entropy(&mut header.salt);
        let (wrapping, check) =
            sealing::derive(passphrase, &header.salt, header.cost).map_err(VaultError::Locked)?;
        header.check = check;
        let data_key = SealingKey::random(entropy);
        header.wrapped_key = wrapping
            .seal(data_key.as_bytes(), &header.context(), entropy)
            .map_err(VaultError::Locked)?;
        Ok(header)
    }

    /// The data key. Takes as long as the Argon2id cost says.
    pub(super) fn unlock(&self, passphrase: &Passphrase) -> Result<DataKey, VaultError> {
        sealing::derive_checked(passphrase, &self.salt, self.cost, &self.check)
            .and_then(|wrapping| wrapping.open(&self.wrapped_key, &self.context()))
            .and_then(|key| SealingKey::from_bytes(&key))
            .map(|key| DataKey {
                key,
                identity: self.identity,
            })
            .map_err(VaultError::Locked)
    }

    fn context(&self) -> Vec<u8> {
        [HEADER_CONTEXT, &self.identity, &self.salt].concat()
    }
}

/// A row of the table `shares`.
#[derive(Debug, Clone)]
pub(super) struct ShareRow {
    pub(super) validator: Vec<u8>,
    pub(super) share_index: Vec<u8>,
    pub(super) members: Vec<u8>,
    pub(super) commitments: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

impl ShareRow {
    pub(super) fn seal(
        report: &Report,
        share: &SecretShare,
        key: &DataKey,
        entropy: Entropy<'_>,
    ) -> Result<Self, VaultError> {
        let mut row = Self {
            validator: report.validator.0.to_vec(),
            share_index: report.index.value().to_be_bytes().to_vec(),
            members: report
                .members
                .iter()
                .flat_map(|member| member.to_be_bytes())
                .collect(),
            commitments: report.commitments.as_flattened().to_vec(),
            sealed: Vec::new(),
        };
        row.sealed = key
            .key
            .seal(share.to_be_bytes().as_slice(), &row.context(key), entropy)
            .map_err(|error| unusable(report.validator, error))?;
        Ok(row)
    }

    pub(super) fn unseal(&self, key: &DataKey) -> Result<(Report, SecretShare), VaultError> {
        let validator = PublicKey::try_from(self.validator.as_slice())
            .map_err(|_| VaultError::Header("a validator's key is not 48 bytes long"))?;
        let share = self
            .unseal_share(key)
            .map_err(|error| unusable(validator, error))?;
        let index = <[u8; 8]>::try_from(self.share_index.as_slice())
            .ok()
            .and_then(|index| ShareIndex::new(u64::from_be_bytes(index)).ok())
            .ok_or_else(|| unusable(validator, Unopened::Damaged))?;
        let members = self.members.as_chunks::<8>().0;
        let report = Report {
            validator,
            index,
            members: members
                .iter()
                .map(|member| u64::from_be_bytes(*member))
                .collect(),
            commitments: self.commitments.as_chunks::<48>().0.to_vec(),
        };
        Ok((report, share))
    }

    fn unseal_share(&self, key: &DataKey) -> Result<SecretShare, Unopened> {
        let plain = key.key.open(&self.sealed, &self.context(key))?;
        let bytes: &[u8; 32] = plain.as_slice().try_into().map_err(|_| Unopened::Damaged)?;
        SecretShare::from_be_bytes(bytes).map_err(|_| Unopened::Damaged)
    }

    /// What a sealed share is bound to. The members' length is written, so that no two rows have
    /// the same context.
    fn context(&self, key: &DataKey) -> Vec<u8> {
        let members = u64::try_from(self.members.len())
            .unwrap_or(u64::MAX)
            .to_be_bytes();
        [
            SHARE_CONTEXT,
            &key.identity,
            &self.validator,
            &self.share_index,
            &members,
            &self.members,
            &self.commitments,
        ]
        .concat()
    }
}

fn unusable(validator: PublicKey, error: Unopened) -> VaultError {
    VaultError::Share {
        validator,
        problem: error.to_string(),
    }
}
