-- The steps that were done. Programs that know only versions below the highest compatible_from stay away.
CREATE TABLE portfire_schema (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    compatible_from INTEGER NOT NULL,
    applied_at TEXT NOT NULL
) STRICT;
INSERT INTO portfire_schema VALUES (1, 'initial', 1, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));

-- A job's state is the narrow table it stands in; moving on is a delete and an insert. The body in
-- portfire_job is written once. What waits for another job will stand in a table of its own beside
-- these (portfire_awaiting: parent, seq), with its links written by the same create.

-- Jobs by state: a row for each queue, one for each kind under its negated number, and row 0 for all.
-- Row 0 is written by every commit that changes anything, so it also holds what has to be known across
-- processes; those columns are NULL elsewhere.
CREATE TABLE portfire_tally (
    queue INTEGER PRIMARY KEY,
    scheduled INTEGER NOT NULL DEFAULT 0,
    awaiting INTEGER NOT NULL DEFAULT 0,
    enqueued INTEGER NOT NULL DEFAULT 0,
    processing INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    next INTEGER,                   -- the next number for a job or for a place at the end of a queue
    high_water INTEGER,             -- storage time, in microseconds since 1970; never falls
    work INTEGER,                   -- rises when jobs may have become claimable
    control INTEGER,                -- rises when held jobs were taken, a queue was paused, a server died
    names INTEGER,                  -- rises when a queue or kind is added, or a queue is paused
    created_total INTEGER,
    succeeded_total INTEGER,
    failed_total INTEGER,
    deleted_total INTEGER,
    retried_total INTEGER,
    recovered_total INTEGER,
    cleaned_total INTEGER
) STRICT;
INSERT INTO portfire_tally VALUES (0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE portfire_queue (
    queue INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE portfire_kind (
    kind INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The bodies. The number (seq) is the order of creation; other tables and claims name the job by it.
CREATE TABLE portfire_job (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    run_at INTEGER,                 -- set when it was created scheduled
    options TEXT,                   -- JSON of what the call said; NULL when nothing
    args TEXT NOT NULL
) STRICT;

-- In every narrow table: revision, attempt, failures and recoveries are the job's standing; `written`
-- is the last revision that has a row in portfire_history. Later ones are derived from the instants
-- here: created, promoted, claimed, succeeded. enqueued_at is NULL when it equals created_at.

-- Enqueued, in the order of claims. place is the seq, unless the job came back to the end.
CREATE TABLE portfire_ready (
    queue INTEGER NOT NULL,
    rank INTEGER NOT NULL,          -- the negated priority
    place INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    enqueued_at INTEGER,
    revision INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    written INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, place)
) STRICT, WITHOUT ROWID;
-- Finds the few that do not stand at their seq.
CREATE INDEX portfire_ready_moved ON portfire_ready (seq) WHERE place <> seq;

CREATE TABLE portfire_scheduled (
    run_at INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    cause INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    written INTEGER NOT NULL,
    PRIMARY KEY (run_at, seq)
) STRICT, WITHOUT ROWID;
-- Finds those that wait for another instant than they were created with.
CREATE INDEX portfire_scheduled_moved ON portfire_scheduled (seq) WHERE written > 0;

-- Processing. The table is as small as what the servers hold.
CREATE TABLE portfire_running (
    seq INTEGER PRIMARY KEY,
    server INTEGER NOT NULL,
    cycle INTEGER NOT NULL,         -- the key of the cycle that claimed it
    claimed_at INTEGER NOT NULL,
    place INTEGER NOT NULL,         -- where it goes when it is given back
    enqueued_at INTEGER,
    revision INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT;

-- The final states. What is looked up or listed is found by the seq, what is to be cleaned by its expiry.
CREATE TABLE portfire_succeeded (
    seq INTEGER PRIMARY KEY,
    finished_at INTEGER NOT NULL,
    expires_at INTEGER,
    revision INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    written INTEGER NOT NULL,
    server INTEGER NOT NULL,        -- who ran it, and from when
    claimed_at INTEGER NOT NULL,
    enqueued_at INTEGER,
    duration INTEGER NOT NULL       -- how long the handler ran, in microseconds
) STRICT;

-- Errors and reasons are in the history.
CREATE TABLE portfire_failed (
    seq INTEGER PRIMARY KEY,
    finished_at INTEGER NOT NULL,
    expires_at INTEGER,
    revision INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT;

CREATE TABLE portfire_deleted (
    seq INTEGER PRIMARY KEY,
    finished_at INTEGER NOT NULL,
    expires_at INTEGER,
    revision INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT;

-- Which final jobs expire when: those with numbers from first to last, as far as they still stand in
-- the table of this state (4 succeeded, 5 failed, 6 deleted) and still expire at this instant. A commit
-- that ends hundreds of jobs writes a row or two here, where an index would take a row for each.
CREATE TABLE portfire_expiry (
    expires_at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (expires_at, state, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE portfire_result (
    seq INTEGER PRIMARY KEY,
    result TEXT NOT NULL
) STRICT;

CREATE TABLE portfire_history (
    seq INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    state INTEGER NOT NULL,
    at INTEGER NOT NULL,
    cause INTEGER NOT NULL,
    server INTEGER,
    attempt INTEGER,
    run_at INTEGER,
    error_class TEXT,
    error_message TEXT,
    reason TEXT,
    PRIMARY KEY (seq, revision)
) STRICT, WITHOUT ROWID;

-- Every server id that ever was: a dead one is refused for ever, and histories name it.
CREATE TABLE portfire_server_id (
    server INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE portfire_server (
    server INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    queues TEXT NOT NULL,           -- a JSON array of names
    workers INTEGER NOT NULL,
    lease INTEGER NOT NULL,         -- in microseconds
    started_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    died_at INTEGER,                -- NULL while it is alive
    processing INTEGER NOT NULL,    -- jobs it holds
    process TEXT                    -- names the lock file of its process
) STRICT;

CREATE TABLE portfire_statistics (
    bucket INTEGER NOT NULL,        -- its width in seconds
    start INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (bucket, start)
) STRICT, WITHOUT ROWID;
