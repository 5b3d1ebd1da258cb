//! Every recorded request is answered with exactly the signature that another implementation made,
//! over HTTP, through real processes.

use std::{collections::BTreeMap, path::Path};

use futures_util::{StreamExt, stream};
use tests::{
    cluster::{Cluster, Options, Prepared},
    vectors::{self, NetworkLabel, Vector},
};

const COMMITTEES: [&str; 3] = ["2-of-3", "3-of-4", "5-of-7"];

/// How many requests are under way at once; in their order, for those of one validator.
const CONCURRENCY: usize = 16;

/// Posts every vector and returns a line for each that was not answered as expected.
async fn wrong_answers(cluster: &Cluster, vectors: &[Vector]) -> Vec<String> {
    let mut by_validator: BTreeMap<&str, Vec<&Vector>> = BTreeMap::new();
    for vector in vectors {
        by_validator.entry(&vector.path).or_default().push(vector);
    }
    let validators = by_validator.into_values().map(|vectors| async move {
        let mut wrong = Vec::new();
        for vector in vectors {
            let accept = vector.accept.as_deref();
            let answer = cluster
                .post(0, &vector.path, accept, vector.body.clone())
                .await;
            if answer.status != 200 || answer.signature() != vector.signature {
                wrong.push(format!(
                    "{}: {} {}",
                    vector.name, answer.status, answer.body
                ));
            }
        }
        wrong
    });
    stream::iter(validators)
        .buffer_unordered(CONCURRENCY)
        .concat()
        .await
}

fn keys(vectors: &[Vector]) -> Vec<[u8; 32]> {
    let mut keys: Vec<[u8; 32]> = vectors.iter().map(|vector| vector.secret_key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

async fn check_network(committee: &'static str, network: NetworkLabel, vectors: &[Vector]) {
    let options = Options {
        committee,
        network,
        ..Options::new(keys(vectors))
    };
    let cluster = Cluster::start(options).await;
    let wrong = wrong_answers(&cluster, vectors).await;
    assert!(wrong.is_empty(), "{committee} {network:?}: {wrong:#?}");
}

async fn check_signing_requests(file: &Path, committees: &[&'static str]) {
    let vectors = vectors::signing_requests(file);
    for &committee in committees {
        for network in [NetworkLabel::Mainnet, NetworkLabel::Minimal] {
            let vectors: Vec<Vector> = vectors
                .iter()
                .filter(|vector| vector.network == network)
                .cloned()
                .collect();
            check_network(committee, network, &vectors).await;
        }
    }
}

async fn check_wire_examples(file: &Path, committees: &[&'static str]) {
    let vectors = vectors::wire_examples(file);
    for &committee in committees {
        check_network(committee, NetworkLabel::Mainnet, &vectors).await;
    }
}

#[tokio::test]
async fn random_requests_of_every_type_and_fork() {
    let Some(shared) = vectors::shared_or_skip("random requests of every type and fork") else {
        return;
    };
    check_signing_requests(&shared.join("signing-requests.jsonl"), &COMMITTEES).await;
    check_wire_examples(&shared.join("web3signer-wire-examples.json"), &COMMITTEES).await;
}

#[tokio::test]
async fn requests_of_this_repository() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    check_signing_requests(&fixtures.join("signing-requests.jsonl"), &["3-of-4"]).await;
    check_wire_examples(&fixtures.join("web3signer-wire-examples.json"), &["3-of-4"]).await;
}

/// The clients ran one chain after another with the same keys, so every chain gets ledgers of its own:
/// copies of those that were just imported.
#[tokio::test]
async fn requests_that_real_clients_sent() {
    let Some(shared) = vectors::shared_or_skip("requests that real clients sent") else {
        return;
    };
    let vectors = vectors::captured(&shared.join("captured"));
    assert_eq!(vectors.len(), 283);
    let mut chains: BTreeMap<String, Vec<Vector>> = BTreeMap::new();
    for vector in &vectors {
        chains
            .entry(vector.group.clone())
            .or_default()
            .push(vector.clone());
    }
    for committee in COMMITTEES {
        let options = Options {
            committee,
            network: NetworkLabel::Local,
            ..Options::new(keys(&vectors))
        };
        let pristine = Prepared::new(options).await;
        let runs = chains.iter().map(|(chain, vectors)| {
            let prepared = pristine.fork();
            async move {
                let cluster = prepared.start().await;
                let wrong = wrong_answers(&cluster, vectors).await;
                assert!(wrong.is_empty(), "{committee} {chain}: {wrong:#?}");
            }
        });
        stream::iter(runs)
            .buffer_unordered(4)
            .collect::<Vec<()>>()
            .await;
    }
}
