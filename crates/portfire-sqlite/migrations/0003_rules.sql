-- Recurring jobs, limits and their lines, notes of running jobs, locks. Programs without them must stay
-- away: they would neither count slots nor find the jobs that stand in a line.

CREATE TABLE portfire_recurring (
    recurring INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    app TEXT NOT NULL,
    declared INTEGER NOT NULL,
    definition TEXT NOT NULL,       -- JSON of what was asked for, without the args
    args TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER,                 -- when whoever schedules has to look at it
    next_at INTEGER,
    paused INTEGER NOT NULL,
    paused_until INTEGER,
    fault TEXT,                     -- why it fires no more, or what went wrong last
    faults INTEGER NOT NULL,        -- how often in a row
    fault_retry_at INTEGER,
    last_planned_at INTEGER,
    last_job BLOB,
    runs INTEGER NOT NULL           -- how many are remembered
) STRICT;
CREATE INDEX portfire_recurring_due ON portfire_recurring (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX portfire_recurring_app ON portfire_recurring (app, id);

-- The runs that are remembered, longer than their jobs.
CREATE TABLE portfire_run (
    recurring INTEGER NOT NULL,
    run INTEGER NOT NULL,           -- rises; the seq of its job, if it has one
    planned_at INTEGER NOT NULL,
    fired_at INTEGER NOT NULL,
    job BLOB,
    skipped TEXT,
    outcome INTEGER,
    ended_at INTEGER,
    triggered INTEGER NOT NULL,
    PRIMARY KEY (recurring, run)
) STRICT, WITHOUT ROWID;

-- The rules of limits.
CREATE TABLE portfire_limit (
    target INTEGER NOT NULL,        -- 0 those who name it, 1 a queue, 2 a kind
    name TEXT NOT NULL,
    by_hand TEXT,                   -- JSON of the rule that someone has set
    declared TEXT,                  -- JSON of the rule that code declared last
    PRIMARY KEY (target, name)
) STRICT, WITHOUT ROWID;

-- What the keys of limits are at: a row while jobs of the key run or wait, or its rate has to be known.
-- Those of whole kinds and queues are named "kind NAME" and "queue NAME"; their running jobs are counted
-- with the kind and the queue.
CREATE TABLE portfire_key (
    name TEXT PRIMARY KEY,
    key INTEGER,                    -- under which its line is found, once it has had one
    running INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    starts TEXT,                    -- JSON of how many started when; NULL when none count
    wake_at INTEGER,                -- when the first of its line may move; NULL when the end of a job decides
    forget_at INTEGER               -- when none of its starts will count any more
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX portfire_key_number ON portfire_key (key) WHERE key IS NOT NULL;
CREATE INDEX portfire_key_wake ON portfire_key (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX portfire_key_forget ON portfire_key (forget_at) WHERE forget_at IS NOT NULL;

-- Enqueued, and in the line of a key. The columns are those of portfire_ready.
CREATE TABLE portfire_line (
    key INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    enqueued_at INTEGER,
    revision INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    written INTEGER NOT NULL,
    PRIMARY KEY (key, rank, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX portfire_line_seq ON portfire_line (queue, seq);

-- 1 when it came from a line: its place is younger than its wait.
ALTER TABLE portfire_ready ADD COLUMN woken INTEGER;
CREATE INDEX portfire_ready_woken ON portfire_ready (queue, place) WHERE woken = 1;

-- What running jobs say: a row for each piece, with its log lines if it has any.
CREATE TABLE portfire_log (
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    piece INTEGER NOT NULL,
    bytes INTEGER NOT NULL,         -- of text that the attempt has used, in the row of its last piece
    lines TEXT NOT NULL,            -- JSON, an array of [instant, level, text]
    PRIMARY KEY (seq, attempt, piece)
) STRICT, WITHOUT ROWID;

-- What a job says besides lines.
CREATE TABLE portfire_note (
    seq INTEGER PRIMARY KEY,
    bars TEXT,                      -- JSON, an array of [name, done, total]
    tags TEXT                       -- JSON, an array
) STRICT;
CREATE TABLE portfire_metadata (
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (seq, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE portfire_lock (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    fence INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX portfire_lock_until ON portfire_lock (until);

-- The fence of the last grant of any lock.
CREATE TABLE portfire_fence (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    fence INTEGER NOT NULL
) STRICT;
INSERT INTO portfire_fence VALUES (1, 0);

-- Crashes of servers that held the job. Suspects (two or more) stand in portfire_ready under the negated number of
-- their queue, with rank 0, and with the negated number that was drawn as their place: the last comes first.
ALTER TABLE portfire_job ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;

-- The suspects that are held, each with the instant from which it is no longer on trial. Under seq 0 the server that
-- is being emptied for a suspect, and until when it need not be heard of.
CREATE TABLE portfire_trial (
    seq INTEGER PRIMARY KEY,
    server INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;

-- How many jobs it held when it crashed; NULL when it has not.
ALTER TABLE portfire_server ADD COLUMN crashed_with INTEGER;

-- Of an entry that stands for several that said the same: how many they are, and when the first was made.
ALTER TABLE portfire_history ADD COLUMN count INTEGER;
ALTER TABLE portfire_history ADD COLUMN since INTEGER;

-- Where jobs stand aside that a claim has met whose server has no handler of their kind: in portfire_ready under the
-- negated number of kind * 2^32 + queue, with their rank and place as they were. A shelf is forgotten by the first
-- rescue that finds it empty.
CREATE TABLE portfire_shelf (
    queue INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    missing_since INTEGER,          -- since when no live server has the kind, as it was at the last look; NULL when one had
    grace INTEGER,                  -- of the last rescue, in microseconds
    PRIMARY KEY (queue, kind)
) STRICT, WITHOUT ROWID;

INSERT INTO portfire_schema VALUES (3, 'rules', 3, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
