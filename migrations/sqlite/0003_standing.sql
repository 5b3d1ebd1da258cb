-- What is true of the ledger as a whole: which one it is, who holds it, what an operator has decided.
-- The same as postgres/0003_standing.sql, which says why.

CREATE TABLE standing (
    only_row          INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    ledger_id         BLOB    NOT NULL CHECK (length(ledger_id) = 16),
    holder            BLOB    CHECK (length(holder) = 16),
    holder_name       TEXT    NOT NULL DEFAULT '',
    renewed_at        INTEGER, -- milliseconds since 1970
    commits           INTEGER NOT NULL DEFAULT 0 CHECK (commits >= 0),
    quarantined_until INTEGER CHECK (quarantined_until >= 0),
    floor_source      INTEGER CHECK (floor_source >= 0),
    floor_target      INTEGER CHECK (floor_target >= floor_source),
    floor_slot        INTEGER CHECK (floor_slot >= 0),
    stop_epoch        INTEGER CHECK (stop_epoch >= 0),
    stop_slot         INTEGER CHECK (stop_slot >= 0),
    frozen_all        INTEGER NOT NULL DEFAULT 0 CHECK (frozen_all IN (0, 1)),
    orders            INTEGER NOT NULL DEFAULT 0 CHECK (orders >= 0)
) STRICT;

INSERT INTO standing (ledger_id) VALUES (randomblob(16));

CREATE TRIGGER standing_only_rises BEFORE UPDATE ON standing FOR EACH ROW BEGIN
    SELECT RAISE(ABORT, 'a ledger keeps its identity') WHERE NEW.ledger_id <> OLD.ledger_id;
    SELECT RAISE(ABORT, 'a ledger''s count of commits must not fall')
        WHERE NEW.commits < OLD.commits;
END;
CREATE TRIGGER standing_stays BEFORE DELETE ON standing
    BEGIN SELECT RAISE(ABORT, 'DELETE of standing is never allowed'); END;

CREATE TRIGGER ratchets_start_at_the_floor AFTER INSERT ON ratchets
    WHEN (SELECT floor_target FROM standing) IS NOT NULL
BEGIN
    UPDATE ratchets SET
        attestation_root =
            CASE WHEN NEW.source_epoch >= lowest.floor_source
                  AND NEW.target_epoch >= lowest.floor_target THEN NEW.attestation_root END,
        source_epoch = max(coalesce(NEW.source_epoch, 0), lowest.floor_source),
        target_epoch = max(coalesce(NEW.target_epoch, 0), lowest.floor_target),
        block_root = CASE WHEN NEW.slot >= lowest.floor_slot THEN NEW.block_root END,
        slot = max(coalesce(NEW.slot, 0), lowest.floor_slot)
    FROM (SELECT floor_source, floor_target, floor_slot FROM standing) AS lowest
    WHERE validator = NEW.validator;
END;
