//! How long importing and exporting 10,000 validators' histories takes, on SQLite and on a
//! throw-away Postgres, and how long decisions wait meanwhile:
//! `cargo run --release -p slashing --example interchange`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement is printed, and one that fails has failed"
)]

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use duty::{Claim, Epoch, PublicKey, Root, SigningRoot};
use slashing::{
    Ask, Ledger, LedgerLimits, Opening, Origin,
    database::{Database, DatabaseConfig, PostgresConfig, SqliteConfig},
    interchange::{export, import, merge},
};

const VALIDATORS: u32 = 10_000;
const BLOCKS: u32 = 5;
const ATTESTATIONS: u32 = 95;
/// Imported first, so that there is somebody to decide for.
const SIGNER: u32 = 1_000_000;
/// How long decisions are measured with nothing beside them.
const IDLE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("history.json");
    write_file(&file, 0..VALIDATORS);
    let bytes = fs::metadata(&file).unwrap().len();
    println!("the file has {} MB", bytes / 1_000_000);
    println!("peak RSS before: {} MB", peak_rss_mb());

    let path = directory.path().join("ledger.sqlite");
    let sqlite = DatabaseConfig::Sqlite(SqliteConfig { path });
    measure("SQLite", sqlite, directory.path(), &file).await;
    let config = PostgresConfig {
        url: throwaway::database().await,
        password_file: None,
        ca: None,
        synchronous_standbys_min: 0,
    };
    let postgres = DatabaseConfig::Postgres(config);
    measure("Postgres", postgres, directory.path(), &file).await;

    let started = Instant::now();
    let inputs = ["SQLite", "Postgres"].map(|name| {
        let exported = directory.path().join(format!("{name}.json"));
        BufReader::new(File::open(exported).unwrap())
    });
    let merged = File::create(directory.path().join("merged.json")).unwrap();
    let merged = merge(inputs.into(), merged).unwrap();
    println!(
        "merged    {} entries of 2 files in {:.1} s",
        merged.entries,
        started.elapsed().as_secs_f64()
    );
    println!("peak RSS after: {} MB", peak_rss_mb());
}

async fn measure(name: &str, config: DatabaseConfig, directory: &Path, file: &Path) {
    let database = Database::open(&config, Root::ZERO).await.unwrap();
    let small = directory.join("small.json");
    write_file(&small, SIGNER..SIGNER + 1);
    let small = File::open(small).unwrap();
    import(&database, Root::ZERO, small, |_| {}).await.unwrap();
    let opening = Opening {
        limits: LedgerLimits {
            ledger_wait: Duration::from_secs(60),
            ..LedgerLimits::default()
        },
        anchor: directory.join(format!("{name}.anchor")),
        time: Arc::new(|| None),
        origin: Origin::AsLeft,
    };
    let ledger = Ledger::open(database.clone(), opening).await.unwrap();

    let latencies = decide_for(&ledger, 1, async { tokio::time::sleep(IDLE).await }).await;
    report_latencies(name, "idle", latencies.0);

    let started = Instant::now();
    let input = File::open(file).unwrap();
    let importing = import(&database, Root::ZERO, input, |_| {});
    let (latencies, imported) = decide_for(&ledger, 1_000_000, importing).await;
    let imported = imported.unwrap();
    println!(
        "{name:<9} import: {} entries, {} ratchets rose, in {:.1} s",
        imported.entries,
        imported.raised,
        started.elapsed().as_secs_f64()
    );
    report_latencies(name, "during the import", latencies);

    let started = Instant::now();
    let out = File::create(directory.join(format!("{name}.json"))).unwrap();
    let exporting = export(&database, Root::ZERO, None, out, |_| {});
    let (latencies, exported) = decide_for(&ledger, 2_000_000, exporting).await;
    println!(
        "{name:<9} export: {} entries in {:.1} s",
        exported.unwrap().entries,
        started.elapsed().as_secs_f64()
    );
    report_latencies(name, "during the export", latencies);
    println!("peak RSS: {} MB", peak_rss_mb());
}

/// Decides for one validator, one claim after the other, from a target on, while something runs.
async fn decide_for<T>(
    ledger: &Ledger,
    from: u64,
    work: impl Future<Output = T>,
) -> (Vec<Duration>, T) {
    let mut latencies = Vec::new();
    let deciding = async {
        for target in from.. {
            let started = Instant::now();
            let ask = Ask {
                validator: validator(SIGNER),
                claim: Claim::Attest {
                    source: Epoch(target - 1 + u64::from(ATTESTATIONS)),
                    target: Epoch(target + u64::from(ATTESTATIONS)),
                },
                root: SigningRoot([1; 32]),
                fence: Box::new(()),
            };
            let _permit = ledger.decide(ask).await.unwrap();
            latencies.push(started.elapsed());
        }
    };
    let value = tokio::select! {
        () = deciding => None,
        value = work => Some(value),
    };
    (latencies, value.unwrap())
}

fn report_latencies(name: &str, when: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!(
        "{name:<9} {when}: {} decisions, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        latencies.len(),
        at(50),
        at(99),
        at(100)
    );
}

fn validator(number: u32) -> PublicKey {
    let mut key = [0; 48];
    key[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    PublicKey(key)
}

fn write_file(path: &Path, validators: std::ops::Range<u32>) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let (chain, root) = (Root::ZERO, SigningRoot([7; 32]));
    write!(
        out,
        "{{\"metadata\":{{\"interchange_format_version\":\"5\",\
         \"genesis_validators_root\":\"{chain}\"}},\"data\":["
    )
    .unwrap();
    for number in validators.clone() {
        let comma = if number == validators.start { "" } else { "," };
        let key = validator(number);
        let blocks: Vec<_> = (0..BLOCKS)
            .map(|slot| format!("{{\"slot\":\"{slot}\",\"signing_root\":\"{root}\"}}"))
            .collect();
        let votes: Vec<_> = (0..ATTESTATIONS)
            .map(|epoch| {
                format!(
                    "{{\"source_epoch\":\"{epoch}\",\"target_epoch\":\"{}\",\
                     \"signing_root\":\"{root}\"}}",
                    epoch + 1
                )
            })
            .collect();
        write!(
            out,
            "{comma}\n{{\"pubkey\":\"{key}\",\"signed_blocks\":[{}],\
             \"signed_attestations\":[{}]}}",
            blocks.join(","),
            votes.join(",")
        )
        .unwrap();
    }
    out.write_all(b"]}").unwrap();
    out.flush().unwrap();
}

/// The most memory that this process ever had, without the server's.
fn peak_rss_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let digits: String = line.unwrap().chars().filter(char::is_ascii_digit).collect();
    digits.parse::<u64>().unwrap() / 1024
}
