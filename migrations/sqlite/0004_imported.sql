-- History that came in interchange files: other signers' messages, or this ledger's own, come back.
-- The same as postgres/0004_imported.sql, which says why.

CREATE TABLE imported_attestations (
    target_epoch INTEGER NOT NULL,
    validator    BLOB    NOT NULL CHECK (length(validator) = 48),
    source_epoch INTEGER NOT NULL CHECK (source_epoch BETWEEN 0 AND target_epoch),
    signing_root BLOB    NOT NULL CHECK (length(signing_root) IN (0, 32)),
    imported_at  INTEGER NOT NULL DEFAULT (unixepoch()), -- seconds since 1970
    PRIMARY KEY (target_epoch, validator, source_epoch, signing_root)
) STRICT, WITHOUT ROWID;

CREATE TABLE imported_blocks (
    slot         INTEGER NOT NULL CHECK (slot >= 0),
    validator    BLOB    NOT NULL CHECK (length(validator) = 48),
    signing_root BLOB    NOT NULL CHECK (length(signing_root) IN (0, 32)),
    imported_at  INTEGER NOT NULL DEFAULT (unixepoch()), -- seconds since 1970
    PRIMARY KEY (slot, validator, signing_root)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER imported_attestations_are_kept BEFORE UPDATE ON imported_attestations
    BEGIN SELECT RAISE(ABORT, 'UPDATE of imported_attestations is never allowed'); END;
CREATE TRIGGER imported_blocks_are_kept BEFORE UPDATE ON imported_blocks
    BEGIN SELECT RAISE(ABORT, 'UPDATE of imported_blocks is never allowed'); END;
