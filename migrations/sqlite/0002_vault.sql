-- The vault: one data key, wrapped under a passphrase, and the shares that are sealed under it.
-- The same as postgres/0002_vault.sql, which says why.

CREATE TABLE vault (
    only_row       INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    identity       BLOB    NOT NULL CHECK (length(identity) = 16),
    kdf_memory_kib INTEGER NOT NULL CHECK (kdf_memory_kib > 0),
    kdf_passes     INTEGER NOT NULL CHECK (kdf_passes > 0),
    kdf_lanes      INTEGER NOT NULL CHECK (kdf_lanes > 0),
    kdf_salt       BLOB    NOT NULL CHECK (length(kdf_salt) = 16),
    kdf_check      BLOB    NOT NULL CHECK (length(kdf_check) = 32),
    wrapped_key    BLOB    NOT NULL,
    generation     INTEGER NOT NULL DEFAULT 0 CHECK (generation >= 0)
) STRICT;

CREATE TABLE shares (
    validator   BLOB    NOT NULL PRIMARY KEY REFERENCES ratchets (validator),
    share_index BLOB    NOT NULL CHECK (length(share_index) = 8),
    members     BLOB    NOT NULL CHECK (length(members) > 0 AND length(members) % 8 = 0),
    commitments BLOB    NOT NULL CHECK (length(commitments) > 0 AND length(commitments) % 48 = 0),
    sealed      BLOB    NOT NULL,
    generation  INTEGER NOT NULL CHECK (generation > 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX shares_by_generation ON shares (generation);
