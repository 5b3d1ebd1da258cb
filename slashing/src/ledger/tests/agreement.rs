//! Both databases decide as the pure rule does, and repeat what they decided and nothing else.

use std::collections::BTreeMap;

use duty::{Claim, Epoch, PublicKey, SigningRoot, Slot};
use futures_util::future::{join, join_all};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    database::DatabaseConfig,
    ledger::{
        Ask, Denial, Ledger, LedgerLimits, Refused,
        columns::{Columns, to_height, to_root},
    },
    rules::{self, HEIGHT_MAX, Ratchet, Verdict, Watermark},
    testing::{Place, attest, connect, patient, propose, root},
};

/// Validators, each with a history of its own.
const HISTORIES: u32 = 100_000;
/// Claims of each.
const STEPS: usize = 4;
/// Claims that wait at once; one transaction takes as many.
const BATCH: usize = 2_000;
/// Every so manieth validator begins with [`watermark`]; the others have never signed.
const MARKED_EACH: u32 = 4;

fn watermark() -> Watermark {
    Watermark::new(Epoch(1), Epoch(2), Slot(1)).unwrap()
}

fn validator(number: u32) -> PublicKey {
    let mut key = [0; 48];
    key[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey(key)
}

fn number(validator: &[u8]) -> u32 {
    u32::from_be_bytes(validator[..4].try_into().unwrap())
}

/// Low, so that claims meet; now and then where 64 bits end, signed and unsigned.
fn height(random: &mut impl Rng) -> u64 {
    match random.random_range(0..50) {
        0 => HEIGHT_MAX,
        1 => [HEIGHT_MAX - 1, HEIGHT_MAX + 1, u64::MAX][random.random_range(0..3)],
        _ => random.random_range(0..5),
    }
}

fn message(random: &mut impl Rng) -> (Claim, SigningRoot) {
    let claim = match random.random_range(0..3) {
        0 => propose(height(random)),
        _ => attest(height(random), height(random)),
    };
    (claim, root(random.random_range(1..=2)))
}

/// What a ledger should hold of one validator.
struct Expected {
    ratchet: Ratchet,
    decided: Vec<(Claim, SigningRoot)>,
}

impl Expected {
    fn new(number: u32) -> Self {
        let new = Ratchet::default();
        Self {
            ratchet: match number.is_multiple_of(MARKED_EACH) {
                true => new.raised_to(&watermark()),
                false => new,
            },
            decided: Vec::new(),
        }
    }

    fn decide(&mut self, claim: Claim, root: SigningRoot) -> Result<(), Denial> {
        match rules::decide(&self.ratchet, &claim, root) {
            Verdict::Advance(next) => {
                self.ratchet = next;
                self.decided.push((claim, root));
                Ok(())
            }
            Verdict::Repeat => Ok(()),
            Verdict::Conflict(_) if self.decided.contains(&(claim, root)) => Ok(()),
            Verdict::Conflict(conflict) => Err(Refused::from(conflict).into()),
        }
    }
}

async fn register(place: &Place) {
    let insert = match &place.config {
        DatabaseConfig::Sqlite(_) => {
            "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {all})
            INSERT INTO ratchets (validator, source_epoch, target_epoch, slot)
            SELECT unhex(printf('%08x%088d', n, 0)),
                iif(n % {each} = 0, 1, NULL), iif(n % {each} = 0, 2, NULL),
                iif(n % {each} = 0, 1, NULL) FROM n"
        }
        DatabaseConfig::Postgres(_) => {
            "INSERT INTO ratchets (validator, source_epoch, target_epoch, slot)
            SELECT int4send(n) || decode(repeat('00', 44), 'hex'),
                CASE WHEN n % {each} = 0 THEN 1 END, CASE WHEN n % {each} = 0 THEN 2 END,
                CASE WHEN n % {each} = 0 THEN 1 END FROM generate_series(0, {all} - 1) AS n"
        }
    };
    let insert = insert
        .replace("{all}", &HISTORIES.to_string())
        .replace("{each}", &MARKED_EACH.to_string());
    place.execute(&insert).await.unwrap();
}

async fn outcome(
    ledger: &Ledger,
    number: u32,
    (claim, root): (Claim, SigningRoot),
) -> Result<(), Denial> {
    let validator = validator(number);
    let ask = Ask {
        validator,
        claim,
        root,
        fence: Box::new(()),
    };
    let permit = ledger.decide(ask).await?;
    assert_eq!((permit.validator(), permit.root()), (validator, root));
    Ok(())
}

#[tokio::test]
async fn both_databases_agree_with_the_pure_rule_on_100_000_random_histories() {
    let seed = rand::random();
    println!("seed {seed}");
    let [sqlite, postgres] = Place::each().await;
    join(agrees(&sqlite, seed), agrees(&postgres, seed)).await;
}

async fn agrees(place: &Place, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let limits = LedgerLimits {
        batch_max: BATCH,
        ..patient()
    };
    let ledger = place.ledger(limits).await;
    register(place).await;
    let numbers: Vec<u32> = (0..HISTORIES).collect();
    let mut expected: Vec<Expected> = (0..HISTORIES).map(Expected::new).collect();
    for step in 0..STEPS {
        for batch in numbers.chunks(BATCH) {
            let asked: Vec<_> = batch.iter().map(|_| message(&mut random)).collect();
            let asks = batch.iter().zip(&asked);
            let outcomes = join_all(asks.map(|(number, ask)| outcome(&ledger, *number, *ask)));
            let outcomes = outcomes.await;
            for ((number, (claim, root)), got) in batch.iter().zip(asked).zip(outcomes) {
                let of = &mut expected[usize::try_from(*number).unwrap()];
                let told = of.decide(claim, root);
                assert_eq!(
                    got, told,
                    "validator {number}, step {step}: {claim:?} {root}"
                );
            }
        }
    }
    let (ratchets, history) = stored(place).await;
    assert_eq!(ratchets.len(), expected.len());
    for (number, of) in numbers.iter().zip(&expected) {
        assert_eq!(ratchets[number], of.ratchet, "validator {number}");
        let kept = history.get(number).map_or(0, Vec::len);
        assert_eq!(kept, of.decided.len(), "validator {number}");
        for decided in &of.decided {
            assert!(
                history[number].contains(decided),
                "validator {number}: {decided:?}"
            );
        }
    }
}

type Stored = (
    BTreeMap<u32, Ratchet>,
    BTreeMap<u32, Vec<(Claim, SigningRoot)>>,
);

/// Everything the tables hold, read by other queries than the ledger's.
async fn stored(place: &Place) -> Stored {
    const RATCHETS: &str = "SELECT validator, source_epoch, target_epoch, attestation_root, slot, \
        block_root FROM ratchets";
    const HISTORY: &str = "SELECT validator, signing_root, source_epoch, target_epoch \
        FROM attestations UNION ALL SELECT validator, signing_root, NULL, slot FROM blocks";
    let mut stored = Stored::default();
    match &place.config {
        DatabaseConfig::Sqlite(config) => {
            let connection = rusqlite::Connection::open(&config.path).unwrap();
            let mut query = connection.prepare(RATCHETS).unwrap();
            let mut rows = query.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let columns = Columns {
                    source: row.get(1).unwrap(),
                    target: row.get(2).unwrap(),
                    attestation_root: row.get(3).unwrap(),
                    slot: row.get(4).unwrap(),
                    block_root: row.get(5).unwrap(),
                };
                add_ratchet(&mut stored, &row.get::<_, Vec<u8>>(0).unwrap(), columns);
            }
            let mut query = connection.prepare(HISTORY).unwrap();
            let mut rows = query.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let (key, root): (Vec<u8>, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
                add_decided(
                    &mut stored,
                    &key,
                    &root,
                    row.get(2).unwrap(),
                    row.get(3).unwrap(),
                );
            }
        }
        DatabaseConfig::Postgres(config) => {
            let client = connect(&config.url).await;
            for row in client.query(RATCHETS, &[]).await.unwrap() {
                let columns = Columns {
                    source: row.get(1),
                    target: row.get(2),
                    attestation_root: row.get(3),
                    slot: row.get(4),
                    block_root: row.get(5),
                };
                add_ratchet(&mut stored, row.get(0), columns);
            }
            for row in client.query(HISTORY, &[]).await.unwrap() {
                add_decided(&mut stored, row.get(0), row.get(1), row.get(2), row.get(3));
            }
        }
    }
    stored
}

fn add_ratchet(stored: &mut Stored, key: &[u8], columns: Columns) {
    stored.0.insert(number(key), columns.try_into().unwrap());
}

fn add_decided(stored: &mut Stored, key: &[u8], root: &[u8], source: Option<i64>, height: i64) {
    let height = to_height(height).unwrap();
    let claim = match source {
        Some(source) => attest(to_height(source).unwrap(), height),
        None => propose(height),
    };
    let decided = (claim, to_root(root).unwrap());
    stored.1.entry(number(key)).or_default().push(decided);
}
