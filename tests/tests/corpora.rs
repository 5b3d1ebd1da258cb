//! What the fuzz targets kept, replayed on the stable toolchain, and mutated a little further.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tests::fuzzing::{Property, Reached, TARGETS, seeds};

/// The same draws every time, whoever runs them.
const SEED: u64 = 0x0c05_19e5;

/// The resident memory that all replays of a target may reach, in KiB: what they hold is a few MiB.
const RESIDENT_KIB_MAX: u64 = 1024 * 1024;

/// The fuzz targets' directory.
fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// A target's inputs, by their names.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = fuzz().join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|_| panic!("{}", directory.display()));
    let read = |entry: Result<fs::DirEntry, std::io::Error>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    };
    entries.map(read).collect()
}

/// Runs a property; says which input it was if it does not hold.
fn reached(property: Property, name: &str, input: &[u8]) -> Reached {
    let shown = input.escape_ascii();
    std::panic::catch_unwind(|| property(input))
        .unwrap_or_else(|_| panic!("the property does not hold for {name}: {shown}"))
}

/// Numbers that look random (xorshift64*), from a fixed seed.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap();
        usize::try_from((self.next() >> 16) % limit).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn place(&mut self, input: &[u8]) -> (usize, usize) {
        let from = self.below(input.len() + 1);
        (from, from + self.below((input.len() - from).min(40) + 1))
    }

    /// One to three changes: bytes, digits, pieces of this input and of another.
    fn mutated(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut input = input.to_vec();
        for _ in 0..=self.below(3) {
            let (from, to) = self.place(&input);
            match self.below(7) {
                0 if from < input.len() => input[from] ^= 1 << self.below(8),
                1 if from < input.len() => input[from] = self.byte(),
                2 => {
                    input.drain(from..to);
                }
                3 => {
                    let piece = input[from..to].to_vec();
                    input.splice(from..from, piece);
                }
                4 => {
                    let (begin, end) = self.place(other);
                    input.splice(from..to, other[begin..end].iter().copied());
                }
                // What is text stays text of the same shape.
                5 | 6 => {
                    let digits = |byte: &u8| byte.is_ascii_digit();
                    let after = input.iter().skip(from).position(digits);
                    if let Some(at) = after {
                        input[from + at] = b'0' + self.byte() % 10;
                    }
                }
                _ => input.truncate(to),
            }
        }
        input
    }
}

/// The most memory that this process has had resident, in KiB.
fn resident_peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let mut words = line.unwrap().split_whitespace();
    words.nth(1).unwrap().parse().unwrap()
}

/// How many times as many mutations shall be made as the ordinary run makes: `CORPORA_TIMES`.
fn times() -> usize {
    std::env::var("CORPORA_TIMES").map_or(1, |times| times.parse().unwrap())
}

/// Replays a corpus, and `mutations` of what comes through of it: most that a long run learned does
/// not, and what is refused is seldom taken after a change. At least `taken` of the inputs come
/// through, and of the mutations at least `still_taken`: a property that looks at nothing would pass
/// otherwise.
fn check(target: &str, taken: usize, mutations: usize, still_taken: usize) {
    let (_, property) = TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let corpus = corpus(target);
    let came_through = corpus
        .iter()
        .filter(|(name, input)| reached(property, name, input) == Reached::Taken);
    let came_through: Vec<&Vec<u8>> = came_through.map(|(_, input)| input).collect();
    assert!(
        came_through.len() >= taken,
        "only {} of {} are taken",
        came_through.len(),
        corpus.len()
    );
    let inputs: Vec<&Vec<u8>> = corpus.values().collect();
    let mutations = mutations * times();
    let mut draws = Draws(SEED);
    let mut still = 0;
    for number in 0..mutations {
        let input = came_through[draws.below(came_through.len())];
        let other = inputs[draws.below(inputs.len())];
        let mutated = draws.mutated(input, other);
        let name = format!("mutation {number}");
        still += usize::from(reached(property, &name, &mutated) == Reached::Taken);
    }
    assert!(
        still >= still_taken,
        "only {still} of {mutations} mutations are taken"
    );
    let peak = resident_peak_kib();
    assert!(peak < RESIDENT_KIB_MAX, "{peak} KiB were resident");
}

#[test]
fn every_body_that_is_taken_is_one_order_with_one_root() {
    check("body", 100, 1_500, 50);
}

#[test]
fn every_message_between_peers_is_understood_whole_or_not_at_all() {
    check("orders", 60, 3_000, 600);
}

#[test]
fn whatever_combines_is_the_groups_signature_and_whoever_is_blamed_did_it() {
    check("points", 200, 300, 100);
}

#[test]
fn an_interchange_file_is_taken_whole_or_not_at_all_and_never_lowers_anything() {
    check("interchange", 40, 200, 15);
}

#[test]
fn a_keystore_costs_what_is_acceptable_and_holds_the_key_it_states() {
    check("keystore", 12, 1_000, 100);
}

#[test]
fn a_round_asks_only_what_it_may_and_ends_once() {
    check("rounds", 200, 2_000, 400);
}

#[test]
fn the_seeds_that_the_fixtures_give_are_in_the_corpora() {
    for (target, seeds) in seeds::all() {
        let corpus = corpus(target);
        for (name, bytes) in seeds {
            assert_eq!(
                corpus.get(&name),
                Some(&bytes),
                "{target}/{name}: see fuzz/README.md"
            );
        }
    }
}

#[test]
fn every_target_has_a_property_and_a_corpus_and_the_other_way_round() {
    let names = |directory: &str| {
        let entries = fs::read_dir(fuzz().join(directory)).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = entries.map(|entry| stem(entry.unwrap().path())).collect();
        names.sort();
        names
    };
    let mut expected = TARGETS.map(|(name, _)| name);
    expected.sort_unstable();
    assert_eq!(names("fuzz_targets"), expected);
    assert_eq!(names("corpus"), expected);
}
