-- Snapshots that were taken, those that are gone included until retention removes their entry.
CREATE TABLE snapshots (
    seq      INTEGER PRIMARY KEY,      -- the entry that says that it was taken
    id       TEXT NOT NULL UNIQUE,
    agent    TEXT NOT NULL,
    target   TEXT NOT NULL,
    check_id TEXT,
    live     INTEGER NOT NULL,         -- 1 while its files are there
    body     TEXT NOT NULL             -- where it stands, JSON
) STRICT;
CREATE INDEX snapshots_live ON snapshots (seq) WHERE live = 1;
CREATE INDEX snapshots_check ON snapshots (check_id) WHERE check_id IS NOT NULL;

-- Guarded executions that are on record and of which no outcome is.
CREATE TABLE executions (
    seq         INTEGER PRIMARY KEY,   -- the check's entry
    check_id    TEXT NOT NULL UNIQUE,
    target      TEXT NOT NULL,
    token       TEXT NOT NULL,         -- names the transaction for the target
    snapshot_id TEXT
) STRICT;

CREATE TABLE rollbacks (
    seq         INTEGER PRIMARY KEY,   -- the entry that says that it was begun
    id          TEXT NOT NULL UNIQUE,
    snapshot_id TEXT NOT NULL,
    open        INTEGER NOT NULL,      -- 1 until it is on record how it ended
    body        TEXT NOT NULL          -- where it stands, JSON
) STRICT;
CREATE INDEX rollbacks_open ON rollbacks (seq) WHERE open = 1;
CREATE INDEX rollbacks_snapshot ON rollbacks (snapshot_id, seq);
