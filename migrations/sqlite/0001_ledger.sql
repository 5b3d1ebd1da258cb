-- The ledger: which chain it is for, one ratchet per validator, and the history of its own decisions.
-- The same as postgres/0001_ledger.sql, which says why.

CREATE TABLE ledger (
    only_row                INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    genesis_validators_root BLOB    NOT NULL CHECK (length(genesis_validators_root) = 32)
) STRICT;

CREATE TABLE ratchets (
    validator        BLOB    NOT NULL PRIMARY KEY CHECK (length(validator) = 48),
    source_epoch     INTEGER CHECK (source_epoch >= 0),
    target_epoch     INTEGER CHECK (target_epoch >= source_epoch),
    attestation_root BLOB    CHECK (length(attestation_root) = 32),
    slot             INTEGER CHECK (slot >= 0),
    block_root       BLOB    CHECK (length(block_root) = 32),
    decisions        INTEGER NOT NULL DEFAULT 0 CHECK (decisions >= 0),
    disabled         INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    CHECK ((source_epoch IS NULL) = (target_epoch IS NULL)),
    CHECK (attestation_root IS NULL OR target_epoch IS NOT NULL),
    CHECK (block_root IS NULL OR slot IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE TABLE attestations (
    target_epoch INTEGER NOT NULL,
    validator    BLOB    NOT NULL CHECK (length(validator) = 48),
    source_epoch INTEGER NOT NULL CHECK (source_epoch BETWEEN 0 AND target_epoch),
    signing_root BLOB    NOT NULL CHECK (length(signing_root) = 32),
    decided_at   INTEGER NOT NULL DEFAULT (unixepoch()), -- seconds since 1970
    PRIMARY KEY (target_epoch, validator)
) STRICT, WITHOUT ROWID;

CREATE TABLE blocks (
    slot         INTEGER NOT NULL CHECK (slot >= 0),
    validator    BLOB    NOT NULL CHECK (length(validator) = 48),
    signing_root BLOB    NOT NULL CHECK (length(signing_root) = 32),
    decided_at   INTEGER NOT NULL DEFAULT (unixepoch()), -- seconds since 1970
    PRIMARY KEY (slot, validator)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ratchets_only_rise BEFORE UPDATE ON ratchets FOR EACH ROW BEGIN
    SELECT RAISE(ABORT, 'a ratchet keeps its validator')
        WHERE NEW.validator <> OLD.validator;
    SELECT RAISE(ABORT, 'a ratchet''s attestation must not fall')
        WHERE OLD.target_epoch IS NOT NULL
          AND (NEW.target_epoch IS NULL
               OR NEW.source_epoch < OLD.source_epoch
               OR NEW.target_epoch < OLD.target_epoch);
    SELECT RAISE(ABORT, 'a ratchet''s target must not be signed twice')
        WHERE NEW.target_epoch = OLD.target_epoch
          AND NEW.attestation_root IS NOT NULL
          AND (NEW.attestation_root IS NOT OLD.attestation_root
               OR NEW.source_epoch <> OLD.source_epoch);
    SELECT RAISE(ABORT, 'a ratchet''s slot must not fall')
        WHERE OLD.slot IS NOT NULL AND (NEW.slot IS NULL OR NEW.slot < OLD.slot);
    SELECT RAISE(ABORT, 'a ratchet''s slot must not be signed twice')
        WHERE NEW.slot = OLD.slot
          AND NEW.block_root IS NOT NULL
          AND NEW.block_root IS NOT OLD.block_root;
    SELECT RAISE(ABORT, 'a ratchet''s count of decisions must not fall')
        WHERE NEW.decisions < OLD.decisions;
END;

CREATE TRIGGER ledger_is_kept BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'UPDATE of ledger is never allowed'); END;
CREATE TRIGGER ledger_stays BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'DELETE of ledger is never allowed'); END;
CREATE TRIGGER ratchets_stay BEFORE DELETE ON ratchets
    BEGIN SELECT RAISE(ABORT, 'DELETE of ratchets is never allowed'); END;
CREATE TRIGGER attestations_are_kept BEFORE UPDATE ON attestations
    BEGIN SELECT RAISE(ABORT, 'UPDATE of attestations is never allowed'); END;
CREATE TRIGGER blocks_are_kept BEFORE UPDATE ON blocks
    BEGIN SELECT RAISE(ABORT, 'UPDATE of blocks is never allowed'); END;
