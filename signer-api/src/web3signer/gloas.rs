//! Payload bids and payload envelopes of Gloas (sections 6.4 and 6.5; consensus specification,
//! gloas, "Containers"): progressive containers over progressive lists.

use duty::{Address, Root};
use tree_hash::{Hash256, TreeHash};
use tree_hash_derive::TreeHash;

use super::{
    object::object,
    progressive::{container_root, list_root},
    values::{ByteListRoot, Fixed, LenientRoot, ProgressiveBytesRoot, Signature, U64, U256},
};

object! {
    #[derive(Debug)]
    Bid {
        parent_block_hash: LenientRoot,
        parent_block_root: LenientRoot,
        block_hash: LenientRoot,
        prev_randao: LenientRoot,
        fee_recipient: Address,
        gas_limit: U64,
        builder_index: U64,
        slot: U64,
        value: U64,
        execution_payment: U64,
        blob_kzg_commitments: Vec<Fixed<48>>,
        execution_requests_root: LenientRoot,
    }
}

object! {
    #[derive(Debug)]
    Envelope {
        payload: Payload,
        execution_requests: Requests,
        builder_index: U64,
        beacon_block_root: LenientRoot,
        parent_beacon_block_root: LenientRoot,
    }
}

object! {
    #[derive(Debug)]
    Payload {
        parent_hash: LenientRoot,
        fee_recipient: Address,
        state_root: LenientRoot,
        receipts_root: LenientRoot,
        logs_bloom: Fixed<256>,
        prev_randao: LenientRoot,
        block_number: U64,
        gas_limit: U64,
        gas_used: U64,
        timestamp: U64,
        extra_data: ByteListRoot<32>,
        base_fee_per_gas: U256,
        block_hash: LenientRoot,
        transactions: Vec<ProgressiveBytesRoot>,
        withdrawals: Vec<Withdrawal>,
        blob_gas_used: U64,
        excess_blob_gas: U64,
        block_access_list: ProgressiveBytesRoot,
        slot_number: U64,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    Withdrawal {
        index: U64,
        validator_index: U64,
        address: Address,
        amount: U64,
    }
}

object! {
    #[derive(Debug)]
    Requests {
        deposits: Vec<DepositRequest>,
        withdrawals: Vec<WithdrawalRequest>,
        consolidations: Vec<ConsolidationRequest>,
        builder_deposits: Vec<BuilderDepositRequest>,
        builder_exits: Vec<BuilderExitRequest>,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    DepositRequest {
        pubkey: Fixed<48>,
        withdrawal_credentials: LenientRoot,
        amount: U64,
        signature: Signature,
        index: U64,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    WithdrawalRequest {
        source_address: Address,
        validator_pubkey: Fixed<48>,
        amount: U64,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    ConsolidationRequest {
        source_address: Address,
        source_pubkey: Fixed<48>,
        target_pubkey: Fixed<48>,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    BuilderDepositRequest {
        pubkey: Fixed<48>,
        withdrawal_credentials: LenientRoot,
        amount: U64,
        signature: Signature,
    }
}

object! {
    #[derive(Debug, TreeHash)]
    BuilderExitRequest {
        source_address: Address,
        pubkey: Fixed<48>,
    }
}

impl Bid {
    pub(super) fn root(&self) -> Root {
        let root = container_root([
            self.parent_block_hash.tree_hash_root(),
            self.parent_block_root.tree_hash_root(),
            self.block_hash.tree_hash_root(),
            self.prev_randao.tree_hash_root(),
            self.fee_recipient.tree_hash_root(),
            self.gas_limit.tree_hash_root(),
            self.builder_index.tree_hash_root(),
            self.slot.tree_hash_root(),
            self.value.tree_hash_root(),
            self.execution_payment.tree_hash_root(),
            list(&self.blob_kzg_commitments),
            self.execution_requests_root.tree_hash_root(),
        ]);
        Root(root.0)
    }
}

impl Envelope {
    pub(super) fn root(&self) -> Root {
        let root = container_root([
            self.payload.root(),
            self.execution_requests.root(),
            self.builder_index.tree_hash_root(),
            self.beacon_block_root.tree_hash_root(),
            self.parent_beacon_block_root.tree_hash_root(),
        ]);
        Root(root.0)
    }
}

impl Payload {
    fn root(&self) -> Hash256 {
        container_root([
            self.parent_hash.tree_hash_root(),
            self.fee_recipient.tree_hash_root(),
            self.state_root.tree_hash_root(),
            self.receipts_root.tree_hash_root(),
            self.logs_bloom.tree_hash_root(),
            self.prev_randao.tree_hash_root(),
            self.block_number.tree_hash_root(),
            self.gas_limit.tree_hash_root(),
            self.gas_used.tree_hash_root(),
            self.timestamp.tree_hash_root(),
            self.extra_data.0,
            self.base_fee_per_gas.root(),
            self.block_hash.tree_hash_root(),
            list_root(self.transactions.iter().map(|transaction| transaction.0)),
            list(&self.withdrawals),
            self.blob_gas_used.tree_hash_root(),
            self.excess_blob_gas.tree_hash_root(),
            self.block_access_list.0,
            self.slot_number.tree_hash_root(),
        ])
    }
}

impl Requests {
    fn root(&self) -> Hash256 {
        container_root([
            list(&self.deposits),
            list(&self.withdrawals),
            list(&self.consolidations),
            list(&self.builder_deposits),
            list(&self.builder_exits),
        ])
    }
}

/// The root of a progressive list of elements that each have a root of their own.
fn list<T: TreeHash>(elements: &[T]) -> Hash256 {
    list_root(elements.iter().map(TreeHash::tree_hash_root))
}
