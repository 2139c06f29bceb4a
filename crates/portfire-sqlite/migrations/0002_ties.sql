-- What ties jobs to one another and to rules: continuations, batches, unique keys, and counts by kind.
-- A program that does not know of them would end parents without releasing what waits for them.

-- A plain job has NULL, NULL, 0 and 0 here, which take no room in its row.
ALTER TABLE portfire_job ADD COLUMN ties TEXT;          -- JSON of all ties but the batch; NULL when none
ALTER TABLE portfire_job ADD COLUMN batch INTEGER;      -- the batch it is a member of
ALTER TABLE portfire_job ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0;  -- 1 when it was created awaiting
ALTER TABLE portfire_job ADD COLUMN followed INTEGER NOT NULL DEFAULT 0; -- 1 once something waits for its end
CREATE INDEX portfire_member ON portfire_job (batch) WHERE batch IS NOT NULL;

-- Awaiting. A job is awaiting from its creation or never, so its standing is always the first.
CREATE TABLE portfire_awaiting (
    seq INTEGER PRIMARY KEY,
    pending INTEGER NOT NULL,       -- what it waits for still, the start of its batch included
    start INTEGER NOT NULL,         -- 1 when the start of its batch is one of them
    delay INTEGER,                  -- how long it waits after its release, in microseconds
    run_at INTEGER                  -- until when it waits at least
) STRICT;

-- Numbers of batches are drawn from those of jobs, so antecedent and follower may be either.
CREATE TABLE portfire_link (
    antecedent INTEGER NOT NULL,
    follower INTEGER NOT NULL,
    batch INTEGER NOT NULL,         -- 1 when the follower is a batch
    after INTEGER NOT NULL,         -- 0 success, 1 failure, 2 deletion, 3 any end
    pass INTEGER,                   -- its place among what the follower waits for, when its outcome is passed on
    open INTEGER NOT NULL,          -- 1 until an end of the antecedent has decided or the follower waits no more
    PRIMARY KEY (antecedent, follower)
) STRICT, WITHOUT ROWID;
-- About whom a failure decides: the others, who wait for success or deletion, may be many, and wait on.
CREATE INDEX portfire_link_failure ON portfire_link (antecedent, follower)
    WHERE open = 1 AND after IN (1, 3);

-- How those ended that a job waited for, as far as it asked.
CREATE TABLE portfire_parent (
    seq INTEGER NOT NULL,
    place INTEGER NOT NULL,         -- among what the job waited for
    state INTEGER NOT NULL,
    result TEXT,
    error_class TEXT,
    error_message TEXT,
    passed INTEGER,                 -- where the result and the error stand when they are long
    PRIMARY KEY (seq, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX portfire_parent_passed ON portfire_parent (passed) WHERE passed IS NOT NULL;

-- What a job returned or failed with, when it is long: once for all jobs that are told of it.
CREATE TABLE portfire_passed (
    passed INTEGER PRIMARY KEY,
    antecedent INTEGER NOT NULL,
    revision INTEGER NOT NULL,      -- in which it was ended so
    result TEXT,
    error_class TEXT,
    error_message TEXT
) STRICT;
CREATE UNIQUE INDEX portfire_passed_antecedent ON portfire_passed (antecedent, revision);

-- What one commit was too small for: links of what has ended, members of what has started.
CREATE TABLE portfire_outbox (
    turn INTEGER PRIMARY KEY,
    what INTEGER NOT NULL,          -- 0 a job has ended, 1 a batch has ended, 2 a batch has started, 3 a batch ran empty,
                                    -- 4 a batch has failed for good
    number INTEGER NOT NULL,
    state INTEGER,                  -- how it ended
    position INTEGER NOT NULL       -- the last follower or member that was seen to
) STRICT;
CREATE INDEX portfire_outbox_number ON portfire_outbox (number);

CREATE TABLE portfire_batch (
    batch INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    parent INTEGER,
    depth INTEGER NOT NULL,         -- 1 without a parent
    description TEXT NOT NULL,
    after TEXT,                     -- JSON of what it waits for; NULL when nothing
    retention INTEGER NOT NULL,     -- in microseconds
    created_at INTEGER NOT NULL,
    state INTEGER NOT NULL,         -- the place in the list of states
    waits INTEGER NOT NULL,         -- what it waits for still before it starts, its parent's start included
    start INTEGER NOT NULL,         -- 1 when the start of its parent is one of them
    followed INTEGER NOT NULL,      -- 1 once something waits for its end
    for_good INTEGER NOT NULL DEFAULT 0,  -- 1 when it has failed and a member was deleted: it succeeds no more
    total INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    ended_at INTEGER,
    expires_at INTEGER,
    clean_at INTEGER,               -- expires_at, but NULL from a vain look until its last member is cleaned
    reason TEXT                     -- why it was cancelled
) STRICT;
CREATE INDEX portfire_batch_nested ON portfire_batch (parent) WHERE parent IS NOT NULL;
CREATE INDEX portfire_batch_expiry ON portfire_batch (clean_at) WHERE clean_at IS NOT NULL;
CREATE INDEX portfire_batch_state ON portfire_batch (state);

-- Cancelled batches whose members are still to be deleted.
CREATE TABLE portfire_cancelled (
    turn INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    position INTEGER NOT NULL       -- the last member that was seen to
) STRICT;

CREATE TABLE portfire_unique (
    key TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    until INTEGER                   -- NULL when the job's end frees it
) STRICT, WITHOUT ROWID;
CREATE INDEX portfire_unique_until ON portfire_unique (until) WHERE until IS NOT NULL;

-- Jobs by state, for each kind: in the table that every commit writes to anyway.
INSERT INTO portfire_tally (queue) SELECT -kind FROM portfire_kind;
UPDATE portfire_tally SET scheduled = c.jobs FROM (SELECT j.kind, count(*) AS jobs
    FROM portfire_scheduled s CROSS JOIN portfire_job j ON j.seq = s.seq GROUP BY j.kind) AS c
    WHERE portfire_tally.queue = -c.kind;
UPDATE portfire_tally SET enqueued = c.jobs FROM (SELECT j.kind, count(*) AS jobs
    FROM portfire_ready s CROSS JOIN portfire_job j ON j.seq = s.seq GROUP BY j.kind) AS c
    WHERE portfire_tally.queue = -c.kind;
UPDATE portfire_tally SET processing = c.jobs FROM (SELECT j.kind, count(*) AS jobs
    FROM portfire_running s CROSS JOIN portfire_job j ON j.seq = s.seq GROUP BY j.kind) AS c
    WHERE portfire_tally.queue = -c.kind;
UPDATE portfire_tally SET succeeded = c.jobs FROM (SELECT j.kind, count(*) AS jobs
    FROM portfire_succeeded s CROSS JOIN portfire_job j ON j.seq = s.seq GROUP BY j.kind) AS c
    WHERE portfire_tally.queue = -c.kind;
UPDATE portfire_tally SET failed = c.jobs FROM (SELECT j.kind, count(*) AS jobs
    FROM portfire_failed s CROSS JOIN portfire_job j ON j.seq = s.seq GROUP BY j.kind) AS c
    WHERE portfire_tally.queue = -c.kind;
UPDATE portfire_tally SET deleted = c.jobs FROM (SELECT j.kind, count(*) AS jobs
    FROM portfire_deleted s CROSS JOIN portfire_job j ON j.seq = s.seq GROUP BY j.kind) AS c
    WHERE portfire_tally.queue = -c.kind;

-- The kinds that a server has handlers of, as a JSON array; empty when it does not say.
ALTER TABLE portfire_server ADD COLUMN kinds TEXT NOT NULL DEFAULT '[]';

INSERT INTO portfire_schema VALUES (2, 'ties', 2, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
