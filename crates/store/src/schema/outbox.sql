-- What is on its way out. Not in the log: what was sent is no action of an agent, and could not be known from it.

-- How far signals were routed (`routed`), from where on they are kept (`kept`), and what is known of each sink.
CREATE TABLE outbox (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL                 -- JSON
) STRICT, WITHOUT ROWID;
INSERT INTO outbox (name, body) SELECT 'kept', seq FROM chain WHERE mark = 'head';

-- Signals of one condition at one sink, while there may be more to say.
CREATE TABLE signal_groups (
    condition TEXT NOT NULL,
    sink      TEXT NOT NULL,
    body      TEXT NOT NULL,           -- JSON
    PRIMARY KEY (condition, sink)
) STRICT, WITHOUT ROWID;

-- Messages to sinks: those that wait, and the last of those that were delivered or given up.
CREATE TABLE deliveries (
    no        INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    sink      TEXT NOT NULL,
    standing  TEXT NOT NULL,           -- queued, delivered, dead
    first_seq INTEGER NOT NULL,        -- entries of its group's first and last signal
    last_seq  INTEGER NOT NULL,
    condition TEXT NOT NULL,           -- of its group
    body      TEXT NOT NULL            -- JSON
) STRICT;
CREATE INDEX deliveries_standing ON deliveries (standing, no);
CREATE INDEX deliveries_condition ON deliveries (condition, standing, last_seq, first_seq);
