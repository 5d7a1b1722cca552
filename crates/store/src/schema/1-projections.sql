-- What derives from the log. Written with it, in the same transaction, and never otherwise.

-- Policies in force that came through the API.
CREATE TABLE policies (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL            -- the policy, JSON
) STRICT, WITHOUT ROWID;

-- Keys that are not revoked; never the keys themselves.
CREATE TABLE keys (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL            -- the record with the key's hash, JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
    seq         INTEGER PRIMARY KEY,   -- the entry that asked for it
    id          TEXT NOT NULL UNIQUE,
    check_id    TEXT NOT NULL,
    agent       TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state       TEXT NOT NULL,
    open        INTEGER NOT NULL,      -- 1 while something can still come of it
    expires_at  INTEGER NOT NULL,      -- microseconds since 1970-01-01 UTC
    body        TEXT NOT NULL          -- the whole approval, JSON
) STRICT;
CREATE INDEX approvals_due ON approvals (expires_at) WHERE open = 1;
CREATE INDEX approvals_open ON approvals (fingerprint) WHERE open = 1;

-- Which check used which idempotency key. Keys that grow with time (UUID version 7) keep this fast.
CREATE TABLE idempotency (
    key_id TEXT NOT NULL,
    key    TEXT NOT NULL,
    seq    INTEGER NOT NULL,           -- the check's entry
    PRIMARY KEY (key_id, key)
) STRICT, WITHOUT ROWID;
