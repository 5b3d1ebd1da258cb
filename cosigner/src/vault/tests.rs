//! The vault on both databases.

use std::{collections::BTreeSet, time::Instant};

use duty::{Duty, Epoch, ForkVersion, Root, SigningOrder, Slot};
use keyshare::{SecretKey, split};
use slashing::{DatabaseConfig, PostgresConfig, SqliteConfig};
use tempfile::TempDir;
use threshold::{Committee, ShareIndex};

use super::{rows::Header, *};

const CHAIN: Root = Root([7; 32]);

fn entropy(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec()).unwrap()
}

/// A database, opened twice: as by a cosigner, and by an import that runs beside it.
struct Two {
    _directory: TempDir,
    cosigner: Database,
    importer: Database,
}

impl Two {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        Self::open(directory, &DatabaseConfig::Sqlite(SqliteConfig { path })).await
    }

    async fn postgres() -> Self {
        daemon::install_crypto_provider();
        let url = throwaway::database().await;
        let config = PostgresConfig {
            url,
            password_file: None,
            ca: None,
            synchronous_standbys_min: 0,
        };
        Self::open(
            tempfile::tempdir().unwrap(),
            &DatabaseConfig::Postgres(config),
        )
        .await
    }

    async fn open(directory: TempDir, config: &DatabaseConfig) -> Self {
        Self {
            _directory: directory,
            cosigner: Database::open(config, CHAIN).await.unwrap(),
            importer: Database::open(config, CHAIN).await.unwrap(),
        }
    }

    async fn vault(&self, phrase: &str) -> Result<Vault, VaultError> {
        Vault::open(self.cosigner.clone(), passphrase(phrase), &mut entropy).await
    }

    async fn import(&self, newcomers: Vec<Newcomer>) -> Result<(), VaultError> {
        let history = Past::Stated(InitialHistory::NeverSigned);
        import(
            &self.importer,
            passphrase("p"),
            newcomers,
            history,
            &mut entropy,
        )
        .await
        .map(|_| ())
    }
}

fn newcomer() -> (Newcomer, Committee) {
    let members: BTreeSet<ShareIndex> = [1, 5, u64::MAX]
        .map(|index| ShareIndex::new(index).unwrap())
        .into();
    let index = ShareIndex::new(u64::MAX).unwrap();
    let mut seed = [0; 32];
    entropy(&mut seed);
    let mut split = split(SecretKey::from_entropy(&seed), 2, &members, &mut entropy).unwrap();
    let report = Report {
        validator: split.committee.group_key(),
        index,
        members: members.iter().map(|member| member.value()).collect(),
        commitments: split.committee.commitments().as_slice().to_vec(),
    };
    (
        Newcomer {
            report,
            share: split.shares.remove(&index).unwrap(),
        },
        split.committee,
    )
}

fn order(validator: PublicKey) -> SigningOrder {
    SigningOrder {
        validator,
        fork_version: ForkVersion([0; 4]),
        genesis_validators_root: CHAIN,
        duty: Duty::RandaoReveal(Epoch(3)),
    }
}

async fn check_life(two: Two) {
    let vault = two.vault("p").await.unwrap();
    assert_eq!(*vault.listing(), Listing::default());
    assert_eq!(
        vault.reload().await.unwrap(),
        Reloaded {
            validators: 0,
            added: 0
        }
    );

    let (one, committee) = newcomer();
    let (report, order) = (one.report.clone(), order(one.report.validator));
    let permits = || vec![order.permit_without_claim().unwrap()];
    for scaled in [false, true] {
        assert!(matches!(vault.sign(permits(), scaled).as_slice(), [Err(_)]));
    }
    two.import(vec![one]).await.unwrap();
    assert!(!vault.holds(&report.validator));
    assert_eq!(
        vault.reload().await.unwrap(),
        Reloaded {
            validators: 1,
            added: 1
        }
    );
    assert_eq!(
        vault.reload().await.unwrap(),
        Reloaded {
            validators: 1,
            added: 0
        }
    );
    assert!(vault.holds(&report.validator));
    for scaled in [false, true] {
        let permits = (0..3).map(|_| order.permit_without_claim().unwrap());
        let partials = vault.sign(permits.collect(), scaled);
        assert_eq!(partials.len(), 3);
        for partial in partials {
            let partial = partial.unwrap();
            assert_eq!(
                matches!(partial, PartialSignature::Scaled { .. }),
                scaled,
                "{partial}"
            );
            committee
                .verify_partial(report.index, order.signing_root(), &partial)
                .unwrap();
        }
    }

    let state = || slashing::administration::state(&two.cosigner);
    let commits = state().await.unwrap().commits;
    let first = vault.listing().generation;
    two.import(vec![newcomer().0, newcomer().0]).await.unwrap();
    assert_eq!(
        vault.reload().await.unwrap(),
        Reloaded {
            validators: 3,
            added: 2
        }
    );
    // Once for both: an import is one change of the ledger.
    assert_eq!(state().await.unwrap().commits, commits + (1 << 20));
    let listing = vault.listing();
    assert!(listing.generation > first && listing.reports[0] == report);
    drop(vault);
    assert_eq!(
        two.vault("p").await.unwrap().listing(),
        listing,
        "over a restart"
    );
    assert!(matches!(
        two.vault("q").await,
        Err(VaultError::Locked(Unopened::WrongPassphrase))
    ));
}

#[tokio::test]
async fn imported_shares_sign_after_a_reload_and_after_a_restart_on_sqlite() {
    check_life(Two::sqlite().await).await;
}

#[tokio::test]
async fn imported_shares_sign_after_a_reload_and_after_a_restart_on_postgres() {
    check_life(Two::postgres().await).await;
}

async fn check_duplicates(two: Two) {
    let (one, _) = newcomer();
    let report = one.report.clone();
    two.import(vec![one]).await.unwrap();
    let (mut same, _) = newcomer();
    same.report.validator = report.validator;
    let refused = two.import(vec![newcomer().0, same, newcomer().0]).await;
    assert!(matches!(refused, Err(VaultError::AlreadyHeld(key)) if key == report.validator));
    let listing = two.vault("p").await.unwrap().listing();
    assert_eq!(
        listing.reports,
        [report],
        "nothing of a refused import stays"
    );
}

#[tokio::test]
async fn a_validator_that_is_held_refuses_the_whole_import_on_sqlite() {
    check_duplicates(Two::sqlite().await).await;
}

#[tokio::test]
async fn a_validator_that_is_held_refuses_the_whole_import_on_postgres() {
    check_duplicates(Two::postgres().await).await;
}

#[tokio::test]
async fn a_watermark_that_is_none_imports_nothing() {
    let two = Two::sqlite().await;
    let history = InitialHistory::Watermark {
        source: Epoch(5),
        target: Epoch(4),
        slot: Slot(0),
    };
    let newcomers = vec![newcomer().0];
    let refused = import(
        &two.importer,
        passphrase("p"),
        newcomers,
        Past::Stated(history),
        &mut entropy,
    )
    .await;
    assert!(matches!(refused, Err(VaultError::Register(_))));
    assert_eq!(two.vault("p").await.unwrap().listing().reports, []);
}

#[test]
fn a_row_that_was_changed_or_moved_does_not_open() {
    let header = Header::make(&passphrase("p"), &mut entropy).unwrap();
    let key = header.unlock(&passphrase("p")).unwrap();
    let one = newcomer().0;
    let row = ShareRow::seal(&one.report, &one.share, &key, &mut entropy).unwrap();
    assert!(row.unseal(&key).is_ok());
    let other = newcomer().0.report;
    let changes: [fn(&mut ShareRow, &Report); 6] = [
        |row, other| row.validator = other.validator.0.to_vec(),
        |row, _| row.share_index[7] ^= 1,
        |row, _| row.members.truncate(16),
        |row, _| row.members[7] ^= 1,
        |row, other| row.commitments = other.commitments.as_flattened().to_vec(),
        |row, _| row.sealed[40] ^= 1,
    ];
    for change in changes {
        let mut changed = row.clone();
        change(&mut changed, &other);
        assert!(matches!(
            changed.unseal(&key),
            Err(VaultError::Share { .. })
        ));
    }
    let elsewhere = Header::make(&passphrase("p"), &mut entropy).unwrap();
    assert!(
        row.unseal(&elsewhere.unlock(&passphrase("p")).unwrap())
            .is_err()
    );
    let moved = Header {
        identity: [0; rows::IDENTITY_BYTES],
        ..header
    };
    assert!(matches!(
        moved.unlock(&passphrase("p")),
        Err(VaultError::Locked(Unopened::Damaged))
    ));
}

#[tokio::test]
async fn ten_thousand_shares_are_ready_in_five_seconds() {
    let two = Two::sqlite().await;
    let (one, _) = newcomer();
    // One share under many names: what is measured is opening, which looks at no commitment.
    let newcomers = (0..10_000_u64).map(|number| {
        let mut report = one.report.clone();
        report.validator.0[..8].copy_from_slice(&number.to_be_bytes());
        let share = SecretShare::from_be_bytes(&one.share.to_be_bytes()).unwrap();
        Newcomer { report, share }
    });
    let newcomers = newcomers.collect();
    let started = Instant::now();
    two.import(newcomers).await.unwrap();
    println!("imported in {:?}", started.elapsed());
    let started = Instant::now();
    let vault = two.vault("p").await.unwrap();
    let took = started.elapsed();
    println!("ready in {took:?}");
    assert_eq!(vault.listing().reports.len(), 10_000);
    assert!(took.as_secs() < 5, "{took:?}");
}
