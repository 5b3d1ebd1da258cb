-- What is true of the ledger as a whole: which one it is, who holds it, what an operator has decided.
-- One row. Every batch of decisions writes it, so that a second holder, an order to stop and a batch
-- never pass one another unseen. Room is left on its page, so that an update stays on it.
CREATE TABLE standing (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- A copy of the ledger has the same: it is the same ledger, and one of the two is too many.
    ledger_id         bytea   NOT NULL CHECK (octet_length(ledger_id) = 16),
    -- One run of one cosigner; NULL before the first.
    holder            bytea   CHECK (octet_length(holder) = 16),
    holder_name       text    NOT NULL DEFAULT '',
    renewed_at        timestamptz,
    -- Rises with every transaction that decided something, and leaps when the ledger is taken. The
    -- anchor beside the process knows the same number.
    commits           bigint  NOT NULL DEFAULT 0 CHECK (commits >= 0),
    -- Slashable duties wait for this epoch; NULL if they need not.
    quarantined_until bigint  CHECK (quarantined_until >= 0),
    -- How high a quarantine has raised every ratchet: one that comes later starts there as well.
    floor_source      bigint  CHECK (floor_source >= 0),
    floor_target      bigint  CHECK (floor_target >= floor_source),
    floor_slot        bigint  CHECK (floor_slot >= 0),
    -- Nothing at or above is signed; NULL if there is no such order.
    stop_epoch        bigint  CHECK (stop_epoch >= 0),
    stop_slot         bigint  CHECK (stop_slot >= 0),
    -- Nothing is signed for any validator. (ratchets.disabled: for one.)
    frozen_all        boolean NOT NULL DEFAULT false,
    -- Raised with each such order, so that whoever keeps a copy sees that it is old.
    orders            bigint  NOT NULL DEFAULT 0 CHECK (orders >= 0)
) WITH (fillfactor = 10);

INSERT INTO standing (ledger_id) VALUES (decode(replace(gen_random_uuid()::text, '-', ''), 'hex'));

CREATE FUNCTION standing_only_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ledger_id <> OLD.ledger_id THEN
        RAISE EXCEPTION 'a ledger keeps its identity';
    END IF;
    IF NEW.commits < OLD.commits THEN
        RAISE EXCEPTION 'a ledger''s count of commits must not fall';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER standing_only_rises BEFORE UPDATE ON standing
    FOR EACH ROW EXECUTE FUNCTION standing_only_rises();
CREATE TRIGGER standing_is_kept BEFORE DELETE OR TRUNCATE ON standing
    FOR EACH STATEMENT EXECUTE FUNCTION never();

CREATE FUNCTION ratchets_start_at_the_floor() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lowest standing%ROWTYPE;
BEGIN
    SELECT * INTO lowest FROM standing;
    IF lowest.floor_target IS NOT NULL THEN
        IF (NEW.source_epoch >= lowest.floor_source AND NEW.target_epoch >= lowest.floor_target)
            IS NOT TRUE THEN
            NEW.attestation_root := NULL;
        END IF;
        IF (NEW.slot >= lowest.floor_slot) IS NOT TRUE THEN
            NEW.block_root := NULL;
        END IF;
        NEW.source_epoch := greatest(NEW.source_epoch, lowest.floor_source);
        NEW.target_epoch := greatest(NEW.target_epoch, lowest.floor_target);
        NEW.slot := greatest(NEW.slot, lowest.floor_slot);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER ratchets_start_at_the_floor BEFORE INSERT ON ratchets
    FOR EACH ROW EXECUTE FUNCTION ratchets_start_at_the_floor();
