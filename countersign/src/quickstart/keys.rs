//! The validators of a new quickstart: made or decrypted, split, and imported by every cosigner.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, ensure};
use cosigner::{
    package::{self, Package},
    sealing::Passphrase,
};
use duty::{Epoch, PublicKey, Slot};
use indicatif::{ProgressBar, ProgressStyle};
use keyshare::SecretKey;
use threshold::{CommitteeSize, ShareIndex};
use zeroize::Zeroizing;

use super::{
    QuickstartArgs,
    configs::{numbers, random_passphrase, secret_file},
    plan::Layout,
    processes,
};
use crate::{keys as split, keystore};

/// What an imported validator may have signed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// Nothing: the key was made here, or nothing about its chain is known.
    NeverSigned,
    /// Anything up to these, source and target epoch and block slot.
    UpTo {
        source: Epoch,
        target: Epoch,
        slot: Slot,
    },
}

/// Makes or decrypts the keys that `args` ask for, splits them, and returns one package per cosigner.
pub(super) fn packages(args: &QuickstartArgs, size: CommitteeSize) -> anyhow::Result<Vec<Package>> {
    let keys = match (&args.keystore, &args.password_file) {
        (Some(keystore), Some(password)) => vec![keystore::decrypt_file(keystore, password)?],
        _ => (0..args.validators.unwrap_or(1))
            .map(|_| new_key())
            .collect::<Result<_, _>>()?,
    };
    let members: BTreeSet<ShareIndex> = numbers(size)
        .map(ShareIndex::new)
        .collect::<Result<_, _>>()?;
    let bar = ProgressBar::new(u64::try_from(keys.len())?).with_style(
        ProgressStyle::with_template("  {bar:40} {pos}/{len} keys split {eta}")?,
    );
    let packages = split::packages(keys, size, &members, &mut |done| {
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    })?;
    bar.finish_and_clear();
    Ok(packages)
}

/// Gives every cosigner its package, as an operator would, and removes the files afterwards.
pub(super) async fn import(
    layout: &Layout<'_>,
    packages: Vec<Package>,
    history: History,
) -> anyhow::Result<Vec<PublicKey>> {
    let validators = packages
        .first()
        .map(|package| {
            package
                .shares
                .iter()
                .filter_map(|share| share.commitments.first())
        })
        .map(|keys| keys.map(|key| PublicKey(*key)).collect())
        .unwrap_or_default();
    let mut failed = false;
    for package in packages {
        let home = layout.cosigner(package.index.value());
        let passphrase = random_passphrase()?;
        let sealing = Passphrase::new(passphrase.as_bytes().to_vec())?;
        let sealed = package::seal(&package, &sealing, &mut |bytes| fill(bytes, &mut failed))?;
        ensure!(!failed, "the system gives no random bytes");
        let (file, passphrase_file) =
            (home.join("shares.package"), home.join("package.passphrase"));
        fs::write(&file, sealed)?;
        secret_file(&passphrase_file, &passphrase)?;
        drop(package);
        import_one(&home, &file, &passphrase_file, history).await?;
        fs::remove_file(&file)?;
        fs::remove_file(&passphrase_file)?;
    }
    Ok(validators)
}

async fn import_one(
    home: &Path,
    package: &Path,
    passphrase: &Path,
    history: History,
) -> anyhow::Result<()> {
    let mut arguments: Vec<std::ffi::OsString> = vec!["cosigner".into(), "import".into()];
    for (flag, path) in [
        ("--config", home.join("cosigner.toml").as_path()),
        ("--package", package),
        ("--passphrase-file", passphrase),
    ] {
        arguments.extend([flag.into(), path.into()]);
    }
    match history {
        History::NeverSigned => arguments.push("--never-signed".into()),
        History::UpTo {
            source,
            target,
            slot,
        } => {
            for (flag, value) in [
                ("--watermark-source", source.0),
                ("--watermark-target", target.0),
                ("--watermark-slot", slot.0),
            ] {
                arguments.extend([flag.into(), value.to_string().into()]);
            }
        }
    }
    processes::run_to_end(&arguments)
        .await
        .with_context(|| format!("{} could not import its shares", home.display()))
}

fn new_key() -> anyhow::Result<SecretKey> {
    let mut entropy = Zeroizing::new([0; 32]);
    getrandom::fill(entropy.as_mut_slice())?;
    Ok(SecretKey::from_entropy(&entropy))
}

/// Fills `bytes` with randomness, or says that there was none.
fn fill(bytes: &mut [u8], failed: &mut bool) {
    *failed |= getrandom::fill(bytes).is_err();
}
