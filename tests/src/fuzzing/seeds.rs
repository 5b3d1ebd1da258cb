//! Where hunting begins: inputs that get through, made of this repository's fixtures and of small
//! examples. `cargo run -p tests --example seeds` writes them to `fuzz/corpus/`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use countersign::keystore::{Kdf, Password, encrypt};
use duty::PublicKey;
use prost::Message;
use serde_json::{Value, json};
use wire::{
    order_to_proto,
    proto::{
        Ballot, HistoryChunk, LedgerState, PromiseItem, PromiseOutcome, PromiseReply,
        PromiseRequest, Promised, Refusal, ScaledPartial, SignItem, SignOutcome, SignReply,
        SignRequest, StatusReply, Validator, ValidatorsPage, promise_outcome, sign_outcome,
    },
};

use super::{
    body, interchange, keystore, orders,
    points::{self, given},
};
use crate::vectors;

/// A name, and the bytes.
pub type Seed = (String, Vec<u8>);

/// The seeds of every target, by its name.
#[must_use]
pub fn all() -> BTreeMap<&'static str, Vec<Seed>> {
    let bodies = bodies();
    BTreeMap::from([
        ("orders", messages(&bodies)),
        ("body", bodies),
        ("points", points()),
        ("interchange", files()),
        ("keystore", keystores()),
        ("rounds", rounds()),
    ])
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn bodies() -> Vec<Seed> {
    let fixtures = repository().join("tests/fixtures");
    let requests = vectors::signing_requests(&fixtures.join("signing-requests.jsonl"));
    let captured = vectors::captured(&fixtures.join("captured"));
    let seeds = requests.into_iter().chain(captured);
    seeds
        .map(|seed| (seed.name.replace('/', "-"), seed.body))
        .collect()
}

fn messages(bodies: &[Seed]) -> Vec<Seed> {
    let message = |kind: u8, message: Vec<u8>| [vec![kind], message].concat();
    let ballot = Ballot {
        round: 3,
        root: vec![9; 32],
    };
    let mut seeds = BTreeMap::new();
    for (name, body) in bodies {
        let Some(order) = body::order_of(body) else {
            continue;
        };
        let order = Some(order_to_proto(&order));
        let slashable = Some(ballot.clone());
        // One of each kind of duty: the forks differ in nothing that is seen here.
        let kind = name.split('-').nth(2).unwrap_or(name);
        let item = PromiseItem {
            order: order.clone(),
            ballot: slashable.clone(),
        };
        let promise = PromiseRequest {
            items: vec![item.clone(), item],
        };
        let item = SignItem {
            order,
            ballot: slashable,
            lead: 0,
        };
        let led = SignItem {
            lead: u64::MAX,
            ..item.clone()
        };
        let to_sign = |item| SignRequest {
            items: vec![item],
            scaled: false,
        };
        seeds.insert(
            format!("promise-{kind}"),
            message(0, promise.encode_to_vec()),
        );
        for (how, item) in [("sign", item), ("led", led)] {
            let sign = to_sign(item).encode_to_vec();
            seeds.insert(format!("{how}-{kind}"), message(1, sign));
        }
    }
    seeds.insert(
        "promised".to_owned(),
        message(2, promise_reply(&ballot).encode_to_vec()),
    );
    seeds.insert(
        "signed".to_owned(),
        message(3, sign_reply(&ballot).encode_to_vec()),
    );
    let page = ValidatorsPage {
        generation: 7,
        validators: points::reports()
            .into_iter()
            .map(|(members, commitments)| Validator {
                pubkey: commitments[0].to_vec(),
                index: members[0],
                members,
                commitments: commitments.iter().map(|point| point.to_vec()).collect(),
            })
            .collect(),
    };
    seeds.insert("validators".to_owned(), message(4, page.encode_to_vec()));
    // Cut in the middle.
    let middle = 255 / 2 / orders::MESSAGES * orders::MESSAGES;
    let status = StatusReply {
        ready: true,
        message: "the ledger does not answer".to_owned(),
        generation: u64::MAX,
        validators: 1,
        ledger: Some(LedgerState {
            stop_slot: Some(0),
            ..LedgerState::default()
        }),
        process: 0,
    };
    seeds.insert(
        "status".to_owned(),
        message(middle + 5, status.encode_to_vec()),
    );
    let chunk = HistoryChunk {
        json: vec![b'['; 40],
        validators_done: 1,
        validators_total: 2,
    };
    seeds.insert(
        "history".to_owned(),
        message(middle + 6, chunk.encode_to_vec()),
    );
    seeds.into_iter().collect()
}

fn refusals() -> impl Iterator<Item = Refusal> {
    (0..24).map(|reason| Refusal {
        reason,
        message: "why not".to_owned(),
    })
}

fn promise_reply(ballot: &Ballot) -> PromiseReply {
    use promise_outcome::Outcome;
    let promised = [vec![], vec![1; 32]].map(|signed| Outcome::Promised(Promised { signed }));
    let known = refusals().filter(|it| it.reason() as i32 == it.reason);
    let outcomes = promised
        .into_iter()
        .chain([Outcome::Outbid(ballot.clone())])
        .chain(known.map(Outcome::Refused));
    PromiseReply {
        outcomes: outcomes
            .map(|outcome| PromiseOutcome {
                outcome: Some(outcome),
            })
            .collect(),
    }
}

fn sign_reply(ballot: &Ballot) -> SignReply {
    use sign_outcome::Outcome;
    let known = refusals().filter(|it| it.reason() as i32 == it.reason);
    let outcomes = [
        Outcome::Partial(vec![5; 96]),
        Outcome::Scaled(ScaledPartial {
            point: vec![5; 192],
            scale: 6,
        }),
        Outcome::Outbid(ballot.clone()),
    ];
    let outcomes = outcomes.into_iter().chain(known.map(Outcome::Refused));
    SignReply {
        outcomes: outcomes
            .map(|outcome| SignOutcome {
                outcome: Some(outcome),
            })
            .collect(),
    }
}

fn points() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (number, (members, commitments)) in points::reports().into_iter().enumerate() {
        let count = u8::try_from(members.len()).unwrap();
        let bytes = [vec![0, count, 0], commitments.concat()].concat();
        seeds.push((format!("commitments-{number}"), bytes));
        let key = commitments[0];
        let committee = u8::try_from(number).unwrap();
        seeds.push((
            format!("key-{number}"),
            [&[2, committee, 1][..], &key].concat(),
        ));
        seeds.push((format!("theirs-{number}"), vec![2, committee, 0]));
        let text = PublicKey(key).to_string();
        seeds.push((format!("digits-{number}"), [&[3], text.as_bytes()].concat()));
        // All honest, and one of every other kind among them, early or late, in each form.
        for form in 0..given::FORMS {
            let kind = |content: u8| form * given::CONTENTS + content;
            let scale: &[u8] = if form == 5 { &SCALE } else { &[] };
            let partial = |at, content| [&[at, kind(content)], scale].concat();
            let honest = |at| partial(at, 0);
            let partials = |all: Vec<Vec<u8>>| [vec![1, committee], all.concat()].concat();
            seeds.push((
                format!("honest-{form}-{number}"),
                partials((0..count).map(honest).collect()),
            ));
            // Everything of two committees in two forms.
            let is_told = |content: &u8| match *content {
                2 => true,
                9 => number < 2,
                _ => number < 2 && form < 2,
            };
            for content in (1..given::CONTENTS).filter(is_told) {
                let filling = filling(content);
                let lie = |at| [partial(at, content), filling.to_vec()].concat();
                let first = [lie(0)].into_iter().chain((1..count).map(honest));
                let name = format!("first-lies-{content}-{form}-{number}");
                seeds.push((name, partials(first.collect())));
            }
            let last = (0..count - 1).map(honest).chain([partial(count - 1, 2)]);
            let name = format!("last-lies-{form}-{number}");
            seeds.push((name, partials(last.collect())));
        }
        let mixed = (0..count).map(|at| vec![at, at % 5 * given::CONTENTS]);
        let mixed: Vec<u8> = mixed.flatten().collect();
        seeds.push((
            format!("mixed-{number}"),
            [vec![1, committee], mixed].concat(),
        ));
    }
    seeds.extend(batches());
    let all_digits = format!("0x{}", "aB".repeat(96));
    seeds.push((
        "digits-of-a-partial".to_owned(),
        [&[3], all_digits.as_bytes()].concat(),
    ));
    seeds
}

/// A scale that nobody else chooses.
const SCALE: [u8; 8] = [3, 0, 0, 0, 0, 0, 0, 1];

/// What follows a partial of that content.
fn filling(content: u8) -> &'static [u8] {
    match content {
        3 => &[0x85; 192],
        4 => &[95, 1],
        9 => &SCALE,
        _ => &[],
    }
}

/// Jobs over one root and over several, good ones and bad ones beside them; see `points::batches` for
/// what the bytes mean.
fn batches() -> Vec<Seed> {
    let batch = |jobs: &[Vec<u8>]| [vec![4, 9, 2], jobs.concat()].concat();
    let mut seeds = Vec::new();
    for (name, what) in [("plain", 0), ("deferred", 0x20), ("misplaced", 0x30)] {
        let honest = |job: u8| vec![what + (job % 4), 0x20, 0x11 * (job % 5)];
        let good: Vec<Vec<u8>> = (0..6).map(honest).collect();
        seeds.push((format!("batch-{name}"), batch(&good)));
        let several = (0..6).map(|job| vec![what + ((job % 3) << 2) + (job % 4), 0x20, 0x11]);
        let several: Vec<Vec<u8>> = several.collect();
        seeds.push((format!("batch-{name}-several-roots"), batch(&several)));
        for content in 1..given::CONTENTS {
            let mut jobs = if content % 2 == 0 {
                good.clone()
            } else {
                several.clone()
            };
            let place = usize::from(content) % jobs.len();
            // One of the first two of the committee lies, in one form or the other.
            jobs[place][1] |= 1;
            let lie = [content % 2, content / 2 % 2 * given::CONTENTS + content];
            jobs[place].extend([&lie[..], filling(content)].concat());
            seeds.push((format!("batch-{name}-lie-{content}"), batch(&jobs)));
        }
    }
    for anticipated in 0..4_u8 {
        let job = |root: u8| vec![anticipated << 6 | root << 2 | 1, 0, 0];
        let bad = |root: u8| vec![anticipated << 6 | root << 2 | 1, 1, 0, 1, 2];
        let name = format!("batch-anticipated-{anticipated}");
        seeds.push((name.clone(), batch(&[job(0), job(1), job(2)])));
        seeds.push((format!("{name}-lies"), batch(&[job(0), bad(1), job(2)])));
        // Alone, once.
        seeds.push((format!("{name}-alone"), [vec![4, 9, 0], job(0)].concat()));
    }
    // Errors that cancel in the sum of the two.
    let opposed = [vec![3, 1, 0x11, 0, 0x1c], vec![3, 1, 0x11, 0, 0x1d]];
    seeds.push(("batch-opposed".to_owned(), batch(&opposed)));
    // A scale that cannot be: not taken, and one too few.
    let none = [vec![0, 1, 0x11, 0, 0x19], vec![0; 8], vec![0, 0, 0]];
    seeds.push(("batch-scale-of-0".to_owned(), batch(&none)));
    seeds
}

fn files() -> Vec<Seed> {
    let directory = repository().join("slashing/fixtures/eip-3076");
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut seeds = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (step, it) in file["steps"].as_array().unwrap().iter().enumerate() {
            let text = it["interchange"].to_string();
            seeds.push((format!("{name}-{step}"), text.into_bytes()));
        }
    }
    let chain = interchange::CHAIN.to_string();
    let file = |data: Value| {
        let metadata =
            json!({ "interchange_format_version": "5", "genesis_validators_root": chain });
        json!({ "data": data, "metadata": metadata })
            .to_string()
            .into_bytes()
    };
    let key = interchange::VALIDATOR;
    let vote = |source: u64, target: u64| json!({ "source_epoch": source, "target_epoch": target });
    let section = |blocks: Value, votes: Value| json!([{ "pubkey": key, "signed_blocks": blocks, "signed_attestations": votes }]);
    for (name, data) in [
        ("empty", json!([])),
        ("nothing-signed", section(json!([]), json!([]))),
        (
            "below",
            section(json!([{ "slot": 8 }]), json!([vote(2, 4)])),
        ),
        (
            "partly-above",
            section(json!([{ "slot": 10 }]), json!([vote(2, 9)])),
        ),
        (
            "highest",
            section(
                json!([{ "slot": i64::MAX }]),
                json!([vote(1, u64::MAX >> 1)]),
            ),
        ),
        (
            "too-high",
            section(json!([{ "slot": u64::MAX }]), json!([])),
        ),
        // Once taken, member by position.
        (
            "regression-entry-as-array",
            section(json!([["5", null, null, null]]), json!([])),
        ),
    ] {
        seeds.push((name.to_owned(), file(data)));
    }
    seeds
}

fn keystores() -> Vec<Seed> {
    let mut secret = [0; 32];
    secret[31] = 5;
    let password = Password::new(keystore::PASSWORD);
    let mut seeds = Vec::new();
    for (name, kdf) in [
        ("pbkdf2", Kdf::pbkdf2(2)),
        ("scrypt", Kdf::scrypt(4, 1, 1)),
        ("scrypt-wide", Kdf::scrypt(16, 8, 2)),
    ] {
        let mut entropy = |bytes: &mut [u8]| bytes.fill(3);
        let text = encrypt(&secret, &password, kdf.unwrap(), &mut entropy).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        seeds.push((name.to_owned(), file.to_string().into_bytes()));
        let mut unnamed = file.clone();
        unnamed.as_object_mut().unwrap().remove("pubkey");
        seeds.push((format!("{name}-unnamed"), unnamed.to_string().into_bytes()));
        let mut other = file;
        other["pubkey"] = json!("aa".repeat(48));
        seeds.push((format!("{name}-of-another"), other.to_string().into_bytes()));
    }
    // Once taken, member by position.
    let file: Value = serde_json::from_slice(&seeds[0].1).unwrap();
    let crypto = &file["crypto"];
    let members = ["kdf", "checksum", "cipher"].map(|name| crypto[name].clone());
    let by_position = json!({ "version": 4, "crypto": members, "pubkey": file["pubkey"] });
    let name = "regression-crypto-as-array".to_owned();
    seeds.push((name, by_position.to_string().into_bytes()));
    // Not decrypted, for their price; the costs of EIP-2335's own examples, and beyond.
    for (name, n, c) in [
        ("usual", 262_144_u64, 262_144_u64),
        ("dear", 1 << 40, 1 << 30),
    ] {
        for (kind, cost, value) in [("scrypt", "n", n), ("pbkdf2", "c", c)] {
            let (_, seed) = seeds.iter().find(|(name, _)| name == kind).unwrap();
            let mut file: Value = serde_json::from_slice(seed).unwrap();
            file["crypto"]["kdf"]["params"][cost] = json!(value);
            seeds.push((format!("{kind}-{name}"), file.to_string().into_bytes()));
        }
    }
    for (name, text) in [
        ("plain", "a password"),
        ("marks", "ｔｅｓｔ\u{7f}\u{1d516}🔑"),
        ("none", ""),
    ] {
        let made = [&[7, 1][..], &secret, &[1], text.as_bytes()].concat();
        seeds.push((format!("made-scrypt-{name}"), made.clone()));
        let made = [&[1, 0][..], &made[2..]].concat();
        seeds.push((format!("made-pbkdf2-{name}"), made));
    }
    seeds
}

/// Honest, slow and lying members, told one after the other; see `rounds` for what the bytes mean.
fn rounds() -> Vec<Seed> {
    const PASSES: u8 = 0x80;
    let all = |size: u8, event: &dyn Fn(u8) -> Vec<u8>| (0..size).flat_map(event).collect();
    let mut seeds = Vec::new();
    for (size, threshold) in [(3, 0), (4, 0), (5, 0), (5, 1), (7, 1)] {
        let each = |event: &dyn Fn(u8) -> Vec<u8>| -> Vec<u8> { all(size, event) };
        let promised = each(&|peer| vec![0, peer, 0]);
        let signed = each(&|peer| vec![26, peer, 1]);
        let outbid = each(&|peer| vec![20, peer, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        let failed = each(&|peer| vec![44, peer, peer]);
        let refused = each(&|peer| vec![40, peer, 0]);
        let missing = each(&|peer| vec![40, peer, 6]);
        let voted = each(&|peer| vec![0, peer, 4 - peer % 2]);
        let (combined, blamed) = (vec![50, 0], vec![54, 0, 1, 0]);
        let (later, woken) = (vec![61 | PASSES, 90, 0], vec![58 | PASSES, 60, 0]);
        let first_fails = vec![44, 0, 8];
        let scripts: [(&str, Vec<&Vec<u8>>); 9] = [
            ("honest", vec![&promised, &signed, &combined]),
            (
                "blamed",
                vec![&promised, &signed, &blamed, &woken, &signed, &combined],
            ),
            (
                "outbid",
                vec![&outbid, &later, &promised, &signed, &combined],
            ),
            (
                "failed",
                vec![&failed, &later, &promised, &signed, &combined],
            ),
            ("slow", vec![&promised, &woken, &woken, &signed, &combined]),
            (
                "replaced",
                vec![&promised, &first_fails, &promised, &signed, &combined],
            ),
            ("refused", vec![&refused]),
            ("missing", vec![&missing]),
            (
                "voted",
                vec![&voted, &woken, &later, &promised, &signed, &combined],
            ),
        ];
        for (name, script) in scripts {
            for (shape, how) in [
                (0, "promised"),
                (8, "direct"),
                (4, "disputed"),
                (1, "absent"),
                (16, "spared"),
                (24, "direct-spared"),
            ] {
                let members = usize::from(size + (shape >> 2 & 1) - (shape & 1));
                let waits = [[50, 50]].repeat(members).concat();
                let terms = [&[size - 1, threshold, shape, 2, 4], &waits[..], &[200]].concat();
                let events: Vec<u8> = script.iter().copied().flatten().copied().collect();
                let name = format!("{name}-{size}-{threshold}-{how}");
                seeds.push((name, [terms, events].concat()));
            }
        }
    }
    seeds
}
