-- The truth: everything that happened, each entry bound to the one before it by its hash.
CREATE TABLE log (
    seq     INTEGER PRIMARY KEY,  -- 1, 2, 3, … without gaps
    at      INTEGER NOT NULL,     -- microseconds since 1970-01-01 UTC, never before the entry before
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,        -- the check, approval, key or policy that it is about
    agent   TEXT NOT NULL,
    body    TEXT NOT NULL,        -- JSON
    hash    BLOB NOT NULL         -- SHA-256, 32 bytes
) STRICT;

-- Checks are nearly all of the log, so they pay for one index only. The other kinds share two.
CREATE UNIQUE INDEX log_check ON log (subject) WHERE kind = 'check';
CREATE INDEX log_subject ON log (subject) WHERE kind <> 'check';
CREATE INDEX log_kind ON log (kind) WHERE kind <> 'check';

-- Where the log begins (`base`: the last entry removed by retention) and ends (`head`).
CREATE TABLE chain (
    mark TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO chain (mark, seq, hash) VALUES ('base', 0, zeroblob(32)), ('head', 0, zeroblob(32));

-- For people with `sqlite3`.
CREATE VIEW checks AS SELECT
    log.seq                                                           AS seq,
    strftime('%Y-%m-%dT%H:%M:%fZ', log.at / 1000000.0, 'unixepoch')   AS at,
    log.subject                                                       AS id,
    log.agent                                                         AS agent,
    log.body ->> '$.action.action'                                    AS action,
    log.body ->> '$.action.resource'                                  AS resource,
    log.body ->> '$.decision.category'                                AS category,
    log.body ->> '$.decision.environment'                             AS environment,
    log.body ->> '$.decision.verdict'                                 AS verdict,
    log.body ->> '$.decision.blast_radius.records'                    AS records,
    log.body ->> '$.decision.reason'                                  AS reason
FROM log WHERE log.kind = 'check';
