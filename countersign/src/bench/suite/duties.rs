//! The requests of a burst, made before it, and the proof of every answer, after it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, bail, ensure};
use daemon::network::Network;
use duty::{BeaconBlockHeader, Duty, Epoch, PublicKey, Root, SigningOrder, SigningRoot, Slot};
use serde::Deserialize;
use serde_json::{Value, json};
use threshold::Signature;

use super::generator::Answer;
use crate::attestation::Attestation;

/// Far from anything that this machine's clock says.
const FIRST_EPOCH: u64 = 1_000_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Attestations with one vote.
    SameRoot,
    /// Attestations, each with a vote of its own.
    DistinctVotes,
    /// RANDAO reveals, each of an epoch of its own.
    Randao,
    /// Blocks.
    Blocks,
}

/// One request, as its bytes on the wire, and what its signature must cover.
pub(super) struct Asked {
    pub(super) bytes: Vec<u8>,
    key: PublicKey,
    root: SigningRoot,
}

/// Makes requests of which no two are for the same duty: epochs only rise.
pub(super) struct Duties {
    network: Network,
    chain: Root,
    epoch: u64,
}

impl Duties {
    pub(super) fn new(network: Network, chain: Root) -> Self {
        Self {
            network,
            chain,
            epoch: FIRST_EPOCH,
        }
    }

    /// The chain that the requests are for.
    pub(super) const fn chain(&self) -> (&Network, Root) {
        (&self.network, self.chain)
    }

    /// Leaves out so many epochs, for duties that are decided elsewhere; the first of them.
    pub(super) const fn leave_out(&mut self, epochs: u64) -> u64 {
        let first = self.epoch.saturating_add(1);
        self.epoch = self.epoch.saturating_add(epochs);
        first
    }

    /// One request of `kind` for each of `keys`, for a new epoch, to the signer at `host`.
    pub(super) fn make(&mut self, kind: Kind, keys: &[PublicKey], host: SocketAddr) -> Vec<Asked> {
        self.epoch = self.epoch.saturating_add(1);
        let first = self.epoch;
        let asked = (0..).zip(keys).map(|(position, key)| match kind {
            Kind::SameRoot => self.attestation(*key, 0, host),
            Kind::DistinctVotes => self.attestation(*key, position, host),
            Kind::Randao => self.randao(*key, Epoch(first.saturating_add(position)), host),
            Kind::Blocks => self.block(*key, position, host),
        });
        let asked: Vec<Asked> = asked.collect();
        if kind == Kind::Randao {
            // The next burst's epochs are others.
            let used = u64::try_from(keys.len()).unwrap_or(u64::MAX);
            self.epoch = self.epoch.saturating_add(used);
        }
        asked
    }

    fn attestation(&self, key: PublicKey, salt: u64, host: SocketAddr) -> Asked {
        let votes = (Epoch(self.epoch.saturating_sub(1)), Epoch(self.epoch));
        let attestation = Attestation::new(&self.network, self.chain, key, votes, salt);
        let body = attestation.request().to_string();
        Asked::new(host, key, attestation.signing_root(), &body)
    }

    fn randao(&self, key: PublicKey, epoch: Epoch, host: SocketAddr) -> Asked {
        let body = json!({
            "type": "RANDAO_REVEAL",
            "fork_info": self.fork_info(epoch),
            "randao_reveal": {"epoch": epoch.to_string()},
        });
        self.order(key, epoch, Duty::RandaoReveal(epoch), (host, &body))
    }

    /// A block in the present epoch's first slot.
    fn block(&self, key: PublicKey, proposer_index: u64, host: SocketAddr) -> Asked {
        let epoch = Epoch(self.epoch);
        let header = BeaconBlockHeader {
            slot: Slot(epoch.0.saturating_mul(self.network.slots_per_epoch())),
            proposer_index,
            parent_root: Root([0x2a; 32]),
            state_root: Root([0x2b; 32]),
            body_root: Root([0x2c; 32]),
        };
        let block = json!({"version": "DENEB", "block_header": {
            "slot": header.slot.to_string(),
            "proposer_index": header.proposer_index.to_string(),
            "parent_root": header.parent_root,
            "state_root": header.state_root,
            "body_root": header.body_root,
        }});
        let body = json!({
            "type": "BLOCK_V2",
            "fork_info": self.fork_info(epoch),
            "beacon_block": block,
        });
        self.order(key, epoch, Duty::Block(header), (host, &body))
    }

    fn fork_info(&self, epoch: Epoch) -> Value {
        let version = self.network.version_at(epoch);
        let fork = json!({"previous_version": version, "current_version": version, "epoch": "0"});
        json!({"fork": fork, "genesis_validators_root": self.chain})
    }

    fn order(
        &self,
        validator: PublicKey,
        epoch: Epoch,
        duty: Duty,
        (host, body): (SocketAddr, &Value),
    ) -> Asked {
        let order = SigningOrder {
            validator,
            fork_version: self.network.version_at(epoch),
            genesis_validators_root: self.chain,
            duty,
        };
        Asked::new(host, validator, order.signing_root(), &body.to_string())
    }
}

impl Asked {
    fn new(host: SocketAddr, key: PublicKey, root: SigningRoot, body: &str) -> Self {
        let bytes = format!(
            "POST /api/v1/eth2/sign/{key} HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            bytes: bytes.into_bytes(),
            key,
            root,
        }
    }
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
}

/// Verifies every answer on all cores.
///
/// # Errors
/// The first request that was not signed, or whose signature is not its validator's over its root.
pub(super) fn verify(asked: &[Asked], answers: &[Answer]) -> anyhow::Result<()> {
    ensure!(
        asked.len() == answers.len(),
        "{} answers to {} requests",
        answers.len(),
        asked.len()
    );
    let pairs: Vec<(&Asked, &Answer)> = asked.iter().zip(answers).collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let done = AtomicUsize::new(0);
    let work = || -> anyhow::Result<()> {
        while let Some((asked, answer)) = pairs.get(done.fetch_add(1, Ordering::Relaxed)) {
            verify_one(asked, answer)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(verified) => verified?,
                Err(_) => bail!("a verifying thread failed"),
            }
        }
        Ok(())
    })
}

fn verify_one(asked: &Asked, answer: &Answer) -> anyhow::Result<()> {
    if answer.status != 200 {
        bail!(
            "a request for {} was answered with {}: {}",
            asked.key,
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    let signed: Signed =
        serde_json::from_slice(&answer.body).context("an answer holds no signature")?;
    let signature: Signature = signed
        .signature
        .parse()
        .context("a signature is not 96 bytes of hexadecimal")?;
    threshold::verify(&asked.key, asked.root, &signature)
        .with_context(|| format!("a signature for {} is wrong", asked.key))
}
