//! Splitting from keystore files to package files, as an operator does it.

use std::{fs, os::unix::fs::PermissionsExt};

use clap::Parser;
use cosigner::{package, sealing::Passphrase};
use duty::{Duty, ForkVersion, Root, SigningOrder, SigningRoot};
use keyshare::SecretKey;
use threshold::{Commitments, Committee, PartialSignature, verify};

use super::*;
use crate::keystore::{Kdf, Password, encrypt};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: SplitArgs,
}

/// A place with keystores of `validators` keys and one password for all.
struct Place {
    root: tempfile::TempDir,
}

/// A file that only its owner reads: others are not taken as passphrase files.
fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn secret(number: u8) -> [u8; 32] {
    let mut secret = [0; 32];
    (secret[0], secret[31]) = (0x2a, number);
    secret
}

impl Place {
    fn new(validators: u8) -> Self {
        let place = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.path("keys")).unwrap();
        fs::write(place.path("password"), "all\n").unwrap();
        for number in 1..=validators {
            let kdf = Kdf::scrypt(2, 1, 1).unwrap();
            let mut entropy = |slice: &mut [u8]| getrandom::fill(slice).unwrap();
            let json = encrypt(&secret(number), &Password::new("all"), kdf, &mut entropy);
            fs::write(place.path(&format!("keys/{number}.json")), json.unwrap()).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Splits with `more` arguments; the report, or the error as it is shown.
    fn split(&self, more: &[&str]) -> Result<String, String> {
        let path = |name| self.path(name).display().to_string();
        let (keys, password, out) = (path("keys"), path("password"), path("out"));
        let fixed = [
            "split",
            "--keystores",
            &keys,
            "--passwords",
            &password,
            "--out",
            &out,
        ];
        let arguments = fixed.iter().chain(more);
        let args = Cli::try_parse_from(arguments)
            .map_err(|error| error.to_string())?
            .args;
        let mut report = Vec::new();
        split_into_packages(&args, &mut report).map_err(|error| format!("{error:#}"))?;
        Ok(String::from_utf8(report).unwrap())
    }

    fn written(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("out"))
            .map(|entries| {
                let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
                entries.map(|entry| name(entry.unwrap())).collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }

    fn open(&self, index: u64, passphrase: &Path) -> package::Package {
        let file = fs::read(self.path(&format!("out/cosigner-{index}.package"))).unwrap();
        package::open(&file, &Passphrase::read(passphrase).unwrap()).unwrap()
    }
}

/// The shares in `packages` sign for each of `validators` as the whole keys did.
fn check_packages(packages: &[package::Package], threshold: usize, validators: u8) {
    for position in 0..usize::from(validators) {
        let key = SecretKey::from_be_bytes(&secret(u8::try_from(position + 1).unwrap())).unwrap();
        let order = SigningOrder {
            validator: key.public_key(),
            fork_version: ForkVersion([6, 0, 0, 0]),
            genesis_validators_root: Root([1; 32]),
            duty: Duty::AggregateAndProof(Root([2; 32])),
        };
        let root: SigningRoot = order.signing_root();
        let commitments = packages[0].shares[position].commitments.clone();
        let committee = Committee::new(
            Commitments::new(commitments).unwrap(),
            packages[0].members.iter().copied().collect(),
        )
        .unwrap();
        assert_eq!(committee.group_key(), order.validator);
        assert_eq!(committee.threshold(), threshold);
        let partials: Vec<(ShareIndex, PartialSignature)> = packages
            .iter()
            .map(|package| {
                let share = &package.shares[position].share;
                (
                    package.index,
                    share.sign(order.permit_without_claim().unwrap()),
                )
            })
            .rev()
            .collect();
        let signature = committee.combine(root, &partials).unwrap();
        assert_eq!(verify(&order.validator, root, &signature), Ok(()));
    }
}

#[test]
fn packages_and_passphrases_for_a_committee_are_written_for_their_owner_alone() {
    let place = Place::new(3);
    let report = place.split(&[]).unwrap();
    let expected: Vec<String> = (1..=4)
        .flat_map(|i| {
            [
                format!("cosigner-{i}.package"),
                format!("cosigner-{i}.passphrase"),
            ]
        })
        .collect();
    assert_eq!(place.written(), expected);
    for name in &expected {
        let path = place.path(&format!("out/{name}"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        assert!(report.contains(&path.display().to_string()), "{report}");
    }
    let mode = fs::metadata(place.path("out"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let passphrases: BTreeSet<Vec<u8>> = (1..=4)
        .map(|i| fs::read(place.path(&format!("out/cosigner-{i}.passphrase"))).unwrap())
        .collect();
    assert_eq!(passphrases.len(), 4);

    for line in [
        "Split 3 validator keys for a committee of 3-of-4.",
        "by another channel than its package",
        "THE SINGLE KEYS MUST NOT BE USED ANY MORE.",
        "they still lie at",
        &place.path("keys").display().to_string(),
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }

    let packages: Vec<_> = (1..=4)
        .map(|i| place.open(i, &place.path(&format!("out/cosigner-{i}.passphrase"))))
        .collect();
    check_packages(&packages, 3, 3);
}

#[test]
fn indices_and_passphrases_may_be_ones_own() {
    let place = Place::new(1);
    let indices = [7, 1 << 40, u64::MAX];
    let mut arguments = vec!["--committee".to_owned(), "2-of-3".to_owned()];
    // Given in another order: passphrases belong to indices in ascending order.
    arguments.push(format!(
        "--indices={},{},{}",
        indices[1], indices[2], indices[0]
    ));
    for index in indices {
        let file = place.path(&format!("{index}.txt"));
        write_private(&file, &format!("passphrase of {index}\n"));
        arguments.extend(["--passphrase-file".to_owned(), file.display().to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = place.split(&arguments).unwrap();
    assert!(report.starts_with("Split 1 validator key for a committee of 2-of-3."));
    assert!(!report.contains("made for you"), "{report}");
    assert_eq!(place.written().len(), 3);
    let packages: Vec<_> = indices
        .iter()
        .map(|index| place.open(*index, &place.path(&format!("{index}.txt"))))
        .collect();
    check_packages(&packages, 2, 1);
}

#[test]
fn what_is_there_already_is_not_replaced() {
    let place = Place::new(1);
    fs::create_dir(place.path("out")).unwrap();
    for name in ["cosigner-4.package", "cosigner-2.passphrase"] {
        let path = place.path(&format!("out/{name}"));
        fs::write(&path, "precious").unwrap();
        let error = place.split(&[]).unwrap_err();
        assert!(
            error.contains(&format!("{name} is there already")),
            "{error}"
        );
        assert_eq!(place.written(), [name]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let place = Place::new(2);
    fs::write(place.path("keys/2.json"), "{}").unwrap();
    let error = place.split(&[]).unwrap_err();
    assert!(
        error.contains("2.json: the file: missing field `version`"),
        "{error}"
    );
    assert_eq!(place.written(), [""; 0]);

    // In the midst of writing: the third package's name is taken once preparing is over.
    let place = Place::new(1);
    let members: BTreeSet<ShareIndex> = (1..=3).map(|i| ShareIndex::new(i).unwrap()).collect();
    let mut output = Output::prepare(&place.path("out"), &members, &[]).unwrap();
    let key = SecretKey::from_be_bytes(&secret(1)).unwrap();
    let size = "2-of-3".parse().unwrap();
    let mut made = packages(vec![key], size, &members, &mut |_| {})
        .unwrap()
        .into_iter();
    output.write(made.next().unwrap()).unwrap();
    fs::write(place.path("out/cosigner-2.package"), "precious").unwrap();
    assert!(output.write(made.next().unwrap()).is_err());
    drop(output);
    assert_eq!(place.written(), ["cosigner-2.package"]);
}

#[test]
fn bad_arguments_say_what_to_change() {
    let place = Place::new(1);
    let file = |name: &str, text| {
        write_private(&place.path(name), text);
        place.path(name).display().to_string()
    };
    let (one, empty) = (file("one.txt", "one"), file("empty.txt", "\n"));
    let public = file("public.txt", "public");
    fs::set_permissions(&public, fs::Permissions::from_mode(0o644)).unwrap();
    for (arguments, message) in [
        (
            vec!["--committee", "2-of-4"],
            "lets two conflicting messages be signed",
        ),
        (
            vec!["--committee", "4-of-3"],
            "a threshold of 4 with only 3 members",
        ),
        (
            vec!["--committee", "three"],
            "expected something like 3-of-4",
        ),
        (
            vec!["--indices", "1,2,3"],
            "--indices names 3 cosigners, --committee 3-of-4 has 4",
        ),
        (
            vec!["--indices", "1,2,3,3"],
            "--indices names a cosigner twice",
        ),
        (vec!["--indices", "0,1,2,3"], "a share index of 0"),
        (vec!["--indices", "1,2,3,x"], "invalid digit"),
        (
            vec!["--passphrase-file", &one],
            "is given 1 times, for 4 cosigners",
        ),
        (
            vec!["--committee=1-of-1", "--passphrase-file", &empty],
            "empty.txt is empty",
        ),
        (
            vec!["--committee=1-of-1", "--passphrase-file", &public],
            "public.txt holds a secret and others than its owner have rights",
        ),
        (
            vec![
                "--committee=2-of-2",
                "--passphrase-file",
                &one,
                "--passphrase-file",
                &one,
            ],
            "names one file twice",
        ),
    ] {
        let error = place.split(&arguments).unwrap_err();
        assert!(error.contains(message), "{arguments:?}: {error}");
        assert_eq!(place.written(), [""; 0], "{arguments:?}");
    }
}
