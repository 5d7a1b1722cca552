-- Where each breaker stands that ever left `closed`.
CREATE TABLE breakers (
    scope    TEXT PRIMARY KEY,          -- agent:NAME, group:NAME, all
    revision INTEGER NOT NULL,          -- counts its changes
    state    TEXT NOT NULL,             -- closed, open, half_open
    body     TEXT NOT NULL              -- its last change and all of its state, JSON
) STRICT, WITHOUT ROWID;
