-- Progress: which ids each target has settled, and what was set aside on the way.
--
-- No foreign keys, on purpose. To outbox.message they would cost a row lock and
-- a dirtied page for every message set aside, and forbid what must be possible:
-- a message deleted while its dead copy is requeued. To outbox.ledger they would
-- lock the one row that every mark updates. The mark is one statement over all
-- of these tables, so they cannot disagree; CHECKs carry the state of each row.

-- The mark finds its row by ctid: by primary key it would walk all the versions
-- that somebody's snapshot pins. A ledger is a page or two, which the planner
-- rather scans: the lease session sets enable_seqscan = off and gets a Tid Scan.
CREATE TABLE outbox.ledger (
    target     text           PRIMARY KEY,
    -- Changes when somebody else than the pipeline rewrote the ledger (rebuild).
    epoch      uuid           NOT NULL DEFAULT gen_random_uuid(),
    settled    int8multirange NOT NULL DEFAULT '{}',
    marked_at  timestamptz    NOT NULL DEFAULT now(),
    created_at timestamptz    NOT NULL DEFAULT now(),
    -- Where the identity of outbox.message was when this was written: once it was
    -- restarted, settled ids mean other messages. NULL: to be noted.
    identity   text,
    -- When the present life of the pipeline began, and how many before it ended
    -- early: a message that ends the process is looked for after several.
    began_at   timestamptz    NOT NULL DEFAULT now(),
    crashes    int            NOT NULL DEFAULT 0,
    -- While it is looked for: the message that was sent last, and the one that was
    -- when a life ended, with the number of such ends in a row.
    started_id bigint,
    suspect_id bigint,
    suspected  int            NOT NULL DEFAULT 0,

    CONSTRAINT target_is_an_identifier CHECK (
        target COLLATE "C" ~ '^[a-z][a-z0-9_]*$' AND octet_length(target) <= 63
    ),
    CONSTRAINT settled_holds_message_ids CHECK (settled <@ int8range(1, 4611686018427387905))
) WITH (
    -- A row is updated thousands of times a second: an almost empty page keeps
    -- its versions together (HOT), and pruning frees them without a vacuum.
    fillfactor = 10,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE outbox.ledger IS
    'Per target, the ids that are settled: an id that is missing here, or stands in an open hole, is pending.';

-- The routes of the last run of each target, for the keeper, which compares what no
-- target takes. In a table of their own: the ledger's row is written again by every
-- mark, and with some kilobytes of routes in it a mark would cost several times as
-- much. A target without a row here has not run since it was made: its routes are
-- unknown, and the keeper draws no conclusion.
CREATE TABLE outbox.route (
    target text        PRIMARY KEY,
    since  timestamptz NOT NULL DEFAULT now(),
    -- A run with these routes has tried again what waited for other routes.
    tried  boolean     NOT NULL DEFAULT false,
    -- SHA-256 of all that decides where a row goes.
    hash   text        NOT NULL,
    -- Patterns and destinations, in order, without the values of headers.
    routes jsonb       NOT NULL,
    -- The patterns alone, for LIKE: [{"topic": "order.%", "type": null}]. A type of
    -- null takes every row, also one without a type.
    taken  jsonb       NOT NULL
);

-- What was settled unsent because no route took it: one row for each topic and type
-- of a target under the same routes, written with the first such message. As long as
-- these routes hold, ids has no end, so further messages of the topic write nothing;
-- the first run with other routes ends it. What is sent after all (a hole that came
-- late, a gap, a replay) is taken out of ids in the transaction that knows of it.
CREATE TABLE outbox.unrouted (
    unrouted_id bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The first message, and a later one that the keeper has found: a topic of which
    -- no message is left troubles nobody.
    first_id  bigint         NOT NULL,
    seen_id   bigint,
    noted_at  timestamptz    NOT NULL DEFAULT now(),
    closed_at timestamptz,
    target    text           NOT NULL,
    hash      text           NOT NULL,
    -- NULL: all topics that have no row of their own. A target has at most a
    -- thousand that have one.
    topic     text,
    type      text,
    ids       int8multirange NOT NULL,
    -- With a topic of NULL: what the routes took. See outbox.route.
    taken     jsonb,

    CONSTRAINT taken_is_of_all_others CHECK ((topic IS NULL) = (taken IS NOT NULL)),
    CONSTRAINT ids_holds_message_ids CHECK (ids <@ int8range(1, 4611686018427387905))
);
CREATE UNIQUE INDEX unrouted_once ON outbox.unrouted
    (target, hash, coalesce(topic, ''), coalesce(type, ''), (type IS NULL));
CREATE INDEX unrouted_by_topic ON outbox.unrouted (target, topic);

-- Ids that were settled without having been seen. Open (dead_at IS NULL): read
-- past while a transaction may still commit them, hence still pending. Dead:
-- proved rolled back, remembered until the floor passes them so that a row which
-- was wrongly given up is found and sent. Dead rows hold many ranges each.
CREATE TABLE outbox.hole (
    hole_id bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target  text           NOT NULL,
    ranges  int8multirange NOT NULL,
    dead_at timestamptz,

    CONSTRAINT ranges_is_not_empty CHECK (NOT isempty(ranges)),
    CONSTRAINT ranges_holds_message_ids CHECK (ranges <@ int8range(1, 4611686018427387905))
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX hole_open ON outbox.hole (target) WHERE dead_at IS NULL;
CREATE INDEX hole_dead ON outbox.hole (target) WHERE dead_at IS NOT NULL;

-- Settled in the ledger, and yet to be delivered. holds: later rows of the same
-- key wait for this one. next_at stands on the head of a key only; infinity: until
-- its destination works again (parked), or until a person releases it (poison: it
-- is dead and holds its key).
CREATE TABLE outbox.retry (
    id         bigint      NOT NULL,
    next_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    replay_id  uuid,
    attempts   int         NOT NULL,
    holds      boolean     NOT NULL,
    -- It may have reached the broker before: sent again, it says so (x-outbox-resent).
    sent       boolean     NOT NULL DEFAULT false,
    target     text        NOT NULL,
    class      text        NOT NULL,
    key        text        COLLATE "C",
    reason     text,
    -- What a parked row waits for, as the relay names it.
    destination text,

    PRIMARY KEY (target, id),
    CONSTRAINT attempts_is_not_negative CHECK (attempts >= 0),
    CONSTRAINT class_is_known CHECK (
        class IN ('refused', 'parked', 'held', 'straggler', 'poison', 'late', 'requeued', 'replayed')
    )
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX retry_by_key ON outbox.retry (target, key, id) WHERE holds;
-- Rows that wait for a destination: one of them tries it, and all are released at once.
CREATE INDEX retry_parked ON outbox.retry (target, destination, id)
WHERE next_at = 'infinity' AND destination IS NOT NULL;
CREATE INDEX retry_due ON outbox.retry (target, next_at) WHERE next_at IS NOT NULL;

-- Given up for one target: a full copy, since retention does not wait for it.
CREATE TABLE outbox.dead (
    id         bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    died_at    timestamptz NOT NULL DEFAULT now(),
    message_id uuid        NOT NULL,
    attempts   int         NOT NULL,
    target     text        NOT NULL,
    class      text        NOT NULL,
    reason     text        NOT NULL,
    topic      text        NOT NULL,
    type       text,
    key        text        COLLATE "C",
    headers    jsonb,
    payload    bytea,

    PRIMARY KEY (target, id),
    CONSTRAINT attempts_is_not_negative CHECK (attempts >= 0)
);
-- What died last is listed first, and what died long ago may be removed by the keeper.
CREATE INDEX dead_by_age ON outbox.dead (died_at);

-- The audit: what a person decided about messages (requeue, discard, replay, release, prune), and what
-- the keeper removed because the configuration says so. One row a transaction, written in it; a
-- command that works in pieces writes several with one command_id.
CREATE TABLE outbox.decision (
    decision_id bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decided_at  timestamptz    NOT NULL DEFAULT clock_timestamp(),
    rows        bigint         NOT NULL,
    -- That of a replay stands in retry.replay_id and in the header x-outbox-replay.
    command_id  uuid           NOT NULL,
    command     text           NOT NULL,
    -- NULL: all of them.
    target      text,
    decided_by  text           NOT NULL DEFAULT session_user,
    reason      text,
    -- What was asked for, and which ids that was.
    filter      jsonb          NOT NULL,
    ids         int8multirange NOT NULL,
    -- Of messages that are gone with this decision: nothing else knows them any more.
    message_ids uuid[],

    CONSTRAINT decided_by_is_a_name CHECK (decided_by <> ''),
    CONSTRAINT rows_is_not_negative CHECK (rows >= 0)
);

-- A dead message whose id was drawn again (the identity went back) by one that died
-- as well: nobody decided that it is not sent, so its content is kept.
CREATE TABLE outbox.displaced (
    target       text        NOT NULL,
    id           bigint      NOT NULL,
    message_id   uuid        NOT NULL,
    displaced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    displaced_by uuid        NOT NULL,
    -- The row of outbox.dead without its payload.
    copy         jsonb       NOT NULL,
    payload      bytea,

    PRIMARY KEY (target, id, displaced_at)
);

-- Messages below the floor that a retry row still needs.
CREATE TABLE outbox.kept (
    id bigint PRIMARY KEY
);

-- Everything below id was settled for target at this time: age counts from settling.
CREATE TABLE outbox.watermark (
    target text        NOT NULL,
    id     bigint      NOT NULL,
    at     timestamptz NOT NULL,

    PRIMARY KEY (target, id)
);
