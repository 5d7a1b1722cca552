-- What a team must know, as the log says it. Kept for a while: the outbox says from where on.
CREATE TABLE signals (
    seq       INTEGER NOT NULL,        -- the entry that caused it
    n         INTEGER NOT NULL,        -- 0, 1, … among those of that entry
    kind      TEXT NOT NULL,
    severity  INTEGER NOT NULL,        -- 0 info, 1 notice, 2 warning, 3 critical
    agent     TEXT,
    body      TEXT NOT NULL,           -- the whole signal, JSON
    PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;

-- Silences that nobody ended; those whose time is over included, until retention removes their entry.
CREATE TABLE silences (
    seq   INTEGER PRIMARY KEY,         -- the entry that says that it was made
    id    TEXT NOT NULL UNIQUE,
    until INTEGER NOT NULL,            -- microseconds since 1970-01-01 UTC
    body  TEXT NOT NULL                -- JSON
) STRICT;
