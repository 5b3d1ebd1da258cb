-- The ledger: which chain it is for, one ratchet per validator, and the history of its own decisions.
-- Numbers are bigint: epochs and slots above 2^63 - 1 are refused by the rule before they get here.

-- One row: a ledger serves one chain, and refuses to be opened for another.
CREATE TABLE ledger (
    only_row                boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    genesis_validators_root bytea   NOT NULL CHECK (octet_length(genesis_validators_root) = 32)
);

-- The highest that each validator has signed. Every decision locks and writes its validator's row.
-- A root is NULL where an import set the height: such a height can not be repeated.
-- Half of each page is left free, so that a decision's update stays on its page and in no index.
CREATE TABLE ratchets (
    validator        bytea   PRIMARY KEY CHECK (octet_length(validator) = 48),
    source_epoch     bigint  CHECK (source_epoch >= 0),
    target_epoch     bigint  CHECK (target_epoch >= source_epoch),
    attestation_root bytea   CHECK (octet_length(attestation_root) = 32),
    slot             bigint  CHECK (slot >= 0),
    block_root       bytea   CHECK (octet_length(block_root) = 32),
    decisions        bigint  NOT NULL DEFAULT 0 CHECK (decisions >= 0),
    disabled         boolean NOT NULL DEFAULT false,
    CHECK ((source_epoch IS NULL) = (target_epoch IS NULL)),
    CHECK (attestation_root IS NULL OR target_epoch IS NOT NULL),
    CHECK (block_root IS NULL OR slot IS NOT NULL)
) WITH (fillfactor = 50);

-- Own decisions only, one per validator and target: the key refuses a double vote. It begins with
-- the epoch, so that appends go to one end of the index and pruning takes from the other.
CREATE TABLE attestations (
    target_epoch bigint      NOT NULL,
    validator    bytea       NOT NULL CHECK (octet_length(validator) = 48),
    source_epoch bigint      NOT NULL CHECK (source_epoch BETWEEN 0 AND target_epoch),
    signing_root bytea       NOT NULL CHECK (octet_length(signing_root) = 32),
    decided_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_epoch, validator)
);

-- Own decisions only, one per validator and slot: the key refuses a second block.
CREATE TABLE blocks (
    slot         bigint      NOT NULL CHECK (slot >= 0),
    validator    bytea       NOT NULL CHECK (octet_length(validator) = 48),
    signing_root bytea       NOT NULL CHECK (octet_length(signing_root) = 32),
    decided_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (slot, validator)
);

-- What the code never does, whoever writes it, the schema refuses as well.
CREATE FUNCTION ratchets_only_rise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.validator <> OLD.validator THEN
        RAISE EXCEPTION 'a ratchet keeps its validator';
    END IF;
    IF OLD.target_epoch IS NOT NULL
        AND (NEW.target_epoch IS NULL
             OR NEW.source_epoch < OLD.source_epoch
             OR NEW.target_epoch < OLD.target_epoch) THEN
        RAISE EXCEPTION 'a ratchet''s attestation must not fall';
    END IF;
    IF NEW.target_epoch = OLD.target_epoch
        AND NEW.attestation_root IS NOT NULL
        AND (NEW.attestation_root IS DISTINCT FROM OLD.attestation_root
             OR NEW.source_epoch <> OLD.source_epoch) THEN
        RAISE EXCEPTION 'a ratchet''s target must not be signed twice';
    END IF;
    IF OLD.slot IS NOT NULL AND (NEW.slot IS NULL OR NEW.slot < OLD.slot) THEN
        RAISE EXCEPTION 'a ratchet''s slot must not fall';
    END IF;
    IF NEW.slot = OLD.slot
        AND NEW.block_root IS NOT NULL
        AND NEW.block_root IS DISTINCT FROM OLD.block_root THEN
        RAISE EXCEPTION 'a ratchet''s slot must not be signed twice';
    END IF;
    IF NEW.decisions < OLD.decisions THEN
        RAISE EXCEPTION 'a ratchet''s count of decisions must not fall';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER ratchets_only_rise BEFORE UPDATE ON ratchets
    FOR EACH ROW EXECUTE FUNCTION ratchets_only_rise();

CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is never allowed', TG_OP, TG_TABLE_NAME;
END
$$;

CREATE TRIGGER ledger_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION never();
CREATE TRIGGER ratchets_are_kept BEFORE DELETE OR TRUNCATE ON ratchets
    FOR EACH STATEMENT EXECUTE FUNCTION never();
-- History is pruned from its old end, but what it says is never changed.
CREATE TRIGGER attestations_are_kept BEFORE UPDATE OR TRUNCATE ON attestations
    FOR EACH STATEMENT EXECUTE FUNCTION never();
CREATE TRIGGER blocks_are_kept BEFORE UPDATE OR TRUNCATE ON blocks
    FOR EACH STATEMENT EXECUTE FUNCTION never();
