-- History that came in interchange files: other signers' messages, or this ledger's own, come back.
-- It is kept to be exported again, and licenses nothing: the rule never reads it. What it says has
-- raised ratchets. As with own history, the keys begin with the height.

-- A root is empty where the file had none. Unlike own history, two messages for one target can be
-- here, of two files: what others did is written down as it was told.
CREATE TABLE imported_attestations (
    target_epoch bigint      NOT NULL,
    validator    bytea       NOT NULL CHECK (octet_length(validator) = 48),
    source_epoch bigint      NOT NULL CHECK (source_epoch BETWEEN 0 AND target_epoch),
    signing_root bytea       NOT NULL CHECK (octet_length(signing_root) IN (0, 32)),
    imported_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_epoch, validator, source_epoch, signing_root)
);

CREATE TABLE imported_blocks (
    slot         bigint      NOT NULL CHECK (slot >= 0),
    validator    bytea       NOT NULL CHECK (octet_length(validator) = 48),
    signing_root bytea       NOT NULL CHECK (octet_length(signing_root) IN (0, 32)),
    imported_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (slot, validator, signing_root)
);

-- Pruned from its old end, but never changed.
CREATE TRIGGER imported_attestations_are_kept BEFORE UPDATE OR TRUNCATE ON imported_attestations
    FOR EACH STATEMENT EXECUTE FUNCTION never();
CREATE TRIGGER imported_blocks_are_kept BEFORE UPDATE OR TRUNCATE ON imported_blocks
    FOR EACH STATEMENT EXECUTE FUNCTION never();
