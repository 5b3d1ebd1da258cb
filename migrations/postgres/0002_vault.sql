-- The vault: one data key, wrapped under a passphrase, and the shares that are sealed under it.

-- One row, made at the first start or import.
CREATE TABLE vault (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Binds every sealed share to this vault and its ledger.
    identity       bytea   NOT NULL CHECK (octet_length(identity) = 16),
    -- Argon2id, of which the second half is stored to tell a wrong passphrase from damage.
    kdf_memory_kib bigint  NOT NULL CHECK (kdf_memory_kib > 0),
    kdf_passes     bigint  NOT NULL CHECK (kdf_passes > 0),
    kdf_lanes      bigint  NOT NULL CHECK (kdf_lanes > 0),
    kdf_salt       bytea   NOT NULL CHECK (octet_length(kdf_salt) = 16),
    kdf_check      bytea   NOT NULL CHECK (octet_length(kdf_check) = 32),
    wrapped_key    bytea   NOT NULL,
    -- Rises with every import, so that running cosigners see that there is something new.
    generation     bigint  NOT NULL DEFAULT 0 CHECK (generation >= 0)
);

-- A share and its validator's ratchet come in one transaction.
CREATE TABLE shares (
    validator   bytea  PRIMARY KEY REFERENCES ratchets (validator),
    -- Share indices are 64-bit and unsigned: 8 bytes each, big-endian.
    share_index bytea  NOT NULL CHECK (octet_length(share_index) = 8),
    members     bytea  NOT NULL CHECK (octet_length(members) > 0 AND octet_length(members) % 8 = 0),
    commitments bytea  NOT NULL CHECK (octet_length(commitments) > 0 AND octet_length(commitments) % 48 = 0),
    sealed      bytea  NOT NULL,
    -- The import that brought it.
    generation  bigint NOT NULL CHECK (generation > 0)
);

CREATE INDEX shares_by_generation ON shares (generation);
