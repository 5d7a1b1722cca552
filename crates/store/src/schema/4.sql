-- Where each breaker stands that ever left `closed`.
CREATE TABLE breakers (
    scope    TEXT PRIMARY KEY,          -- agent:NAME, group:NAME, all
    revision INTEGER NOT NULL,          -- counts its changes
    state    TEXT NOT NULL,             -- closed, open, half_open
    body     TEXT NOT NULL              -- its last change and all of its state, JSON
) STRICT, WITHOUT ROWID;
-- Time-boxed grants: what a person said yes to beforehand.
CREATE TABLE grants (
    seq        INTEGER PRIMARY KEY,    -- the entry that gave it
    id         TEXT NOT NULL UNIQUE,
    agent      TEXT NOT NULL,
    open       INTEGER NOT NULL,       -- 1 while something can still come of it
    expires_at INTEGER NOT NULL,       -- microseconds since 1970-01-01 UTC
    body       TEXT NOT NULL           -- where it stands, JSON
) STRICT;
CREATE INDEX grants_due ON grants (expires_at) WHERE open = 1;
CREATE INDEX grants_open ON grants (agent) WHERE open = 1;
