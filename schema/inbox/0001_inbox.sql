-- The message inbox: what a consumer has done, one row a message, claimed in the
-- transaction of the effect. It lives in the consumer's own database, beside an
-- outbox or without one.
--
-- The conventions of schema/0001_meta.sql hold here too: a shipped file is never
-- edited, nothing in it destroys data, every object is written as "outbox." plus
-- its name, and functions have a pinned search_path.

CREATE TABLE outbox.inbox_migration (
    version    int         PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE outbox.inbox_migration IS
    'Applied migrations of the inbox; the checksum is the SHA-256 of the file as it was shipped.';

-- The partition of an id: its own UTC day if it is a UUID of version 7, else
-- -infinity ("undated"). A unique key on a partitioned table holds within one
-- partition only, so the partition must be a function of the id and of nothing
-- else: with the day of arrival, the duplicate of yesterday's message is fresh.
--
-- Upper case is refused and not folded: a consumer that stored the id as it came
-- and one that folds it must not both be right.
-- plpgsql, since an SQL body in a CHECK is planned anew for every statement
-- (+70 us a claim). No pinned search_path, which would cost as much as the rest:
-- the operators are pg_catalog's for these types whatever the path holds.
CREATE FUNCTION outbox.inbox_bucket(message_id text) RETURNS date
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $function$
BEGIN
    IF message_id COLLATE "C" ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' THEN
        -- The first 48 bits are milliseconds since 1970.
        RETURN DATE '1970-01-01'
            + (('x0000' || left(message_id, 8) || substr(message_id, 10, 4))::bit(64)::bigint / 86400000)::int;
    END IF;
    IF message_id COLLATE "C" ~ '^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$'
        AND message_id COLLATE "C" ~ '[A-F]'
    THEN
        RAISE EXCEPTION 'message id % is a UUID in upper case', message_id
            USING ERRCODE = 'invalid_parameter_value', HINT = 'write it in lower case, always';
    END IF;
    RETURN DATE '-infinity';
END
$function$;

CREATE TABLE outbox.inbox (
    bucket       date             NOT NULL,
    -- The logical handler, not the process: two handlers of one message are two consumers.
    consumer     text COLLATE "C" NOT NULL,
    -- "C": an update of the operating system's collations lets a unique index admit duplicates.
    message_id   text COLLATE "C" NOT NULL,
    -- Of payload, key, topic and type; NULL = not compared.
    fingerprint  bytea,
    processed_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, message_id, bucket),
    CONSTRAINT inbox_consumer_length CHECK (octet_length(consumer) BETWEEN 1 AND 100),
    CONSTRAINT inbox_message_id_length CHECK (octet_length(message_id) BETWEEN 1 AND 200),
    CONSTRAINT inbox_fingerprint_length CHECK (octet_length(fingerprint) BETWEEN 8 AND 64),
    -- An INSERT with a wrong bucket fails instead of duplicating.
    CONSTRAINT inbox_bucket_of_id CHECK (bucket = outbox.inbox_bucket(message_id))
) PARTITION BY RANGE (bucket);
-- Never a DEFAULT partition: it would take ids of days that have none (an id from
-- the future, or maintenance that stopped), and no partition could be detached concurrently.
COMMENT ON TABLE outbox.inbox IS
    'What each consumer has processed, in partitions of the day in the message id. Never add a DEFAULT partition.';

CREATE TABLE outbox.inbox_undated PARTITION OF outbox.inbox
    FOR VALUES FROM (MINVALUE) TO ('1970-01-01');
CREATE INDEX inbox_undated_processed_at ON outbox.inbox_undated USING brin (processed_at);
COMMENT ON TABLE outbox.inbox_undated IS
    'Ids that carry no day; expired by processed_at, row by row. Nothing here is ever stale.';

CREATE TABLE outbox.inbox_horizon (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Dated ids before it are refused as stale: what was known of them is, or will be, gone.
    kept_from     date NOT NULL,
    maintained_at timestamptz
);
COMMENT ON TABLE outbox.inbox_horizon IS
    'One row. kept_from only rises, one run of the maintenance before the partitions below it go.';
INSERT INTO outbox.inbox_horizon (kept_from) VALUES ((now() AT TIME ZONE 'UTC')::date - 14);

-- What was decided by hand: forgetting a claim means doing it again.
CREATE TABLE outbox.inbox_audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text NOT NULL CHECK (actor <> ''),
    action     text NOT NULL CHECK (action IN ('forget', 'replay', 'discard')),
    consumer   text NOT NULL,
    message_id text NOT NULL,
    reason     text NOT NULL CHECK (reason <> '')
);

-- Partitions of the days first_day to last_day that are absent and not below the horizon;
-- how many were made. LIKE and ATTACH take no exclusive lock on the parent, so no
-- claim waits; CREATE TABLE ... PARTITION OF would wait for every open handler, and
-- every claim behind it (measured: 77 ms against 4.5 s).
CREATE FUNCTION outbox.inbox_ensure(first_day date, last_day date) RETURNS int
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    schema text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'outbox.inbox'::regclass);
    first  date := (SELECT greatest(inbox_ensure.first_day, kept_from) FROM outbox.inbox_horizon);
    made   int  := 0;
    name   text;
BEGIN
    -- Two runs at once would both find a day absent.
    PERFORM pg_advisory_xact_lock(hashtextextended('outbox-inbox ensure ' || schema, 0));
    FOR day IN 0 .. inbox_ensure.last_day - first LOOP
        name := 'inbox_' || to_char(first + day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(format('%s.%I', schema, name)) IS NOT NULL;
        EXECUTE format('CREATE TABLE %s.%I (LIKE outbox.inbox INCLUDING ALL)', schema, name);
        EXECUTE format('ALTER TABLE outbox.inbox ATTACH PARTITION %s.%I FOR VALUES FROM (%L) TO (%L)',
            schema, name, first + day, first + day + 1);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$function$;

SELECT outbox.inbox_ensure('-infinity'::date, (now() AT TIME ZONE 'UTC')::date + 7);

-- Why the inbox cannot take a message under this id; NULL: it can. The id comes again with every
-- delivery of its message, so this is a verdict about the message, and no error:
--   missing     NULL, or empty
--   too_long    more than 200 bytes
--   upper_case  a UUID in upper case; every consumer must write it in lower case
--   future      a UUID of version 7 of a day after tomorrow, which has no partition
-- A day up to tomorrow that has no partition is another matter: the maintenance has stopped, no
-- message can be claimed, and that is an error. (Tomorrow counts, since clocks differ.)
-- No pinned search_path, as in inbox_bucket.
CREATE FUNCTION outbox.inbox_unusable(message_id text) RETURNS text
    LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    its_bucket date;
BEGIN
    IF message_id IS NULL OR message_id = '' THEN
        RETURN 'missing';
    ELSIF octet_length(message_id) > 200 THEN
        RETURN 'too_long';
    ELSIF message_id COLLATE "C" ~ '[A-F]'
        AND message_id COLLATE "C" ~ '^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$'
    THEN
        RETURN 'upper_case';
    END IF;
    its_bucket := outbox.inbox_bucket(message_id);
    IF its_bucket > (now() AT TIME ZONE 'UTC')::date + 1
        AND to_regclass('outbox.inbox_' || to_char(its_bucket, 'YYYYMMDD')) IS NULL
    THEN
        RETURN 'future';
    END IF;
    RETURN NULL;
END
$function$;

-- Call it first in the handler's transaction, with a lock_timeout:
--   fresh      the message is this transaction's to process
--   duplicate  it was processed: acknowledge, and do nothing
--   mismatch   another message under an id that was processed: park it, look for its producer
--   stale      older than what is remembered: nobody knows whether it was processed
--   unusable   its id cannot be stored or placed: park it; inbox_unusable has the reason
-- Under READ COMMITTED a claim waits for another transaction's claim of the same
-- id and is a duplicate once that commits, fresh once it has rolled back or its
-- backend is gone; under REPEATABLE READ it then fails with 40001: run it again.
-- If the maintenance has stopped, so that today has no partition, a claim is an error:
-- nothing is ever processed unprotected.
-- A duplicate writes nothing.
CREATE FUNCTION outbox.inbox_claim(consumer text, message_id text, fingerprint bytea DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    its_bucket date;
    stored     bytea;
BEGIN
    IF outbox.inbox_unusable(inbox_claim.message_id) IS NOT NULL THEN
        RETURN 'unusable';
    END IF;
    its_bucket := outbox.inbox_bucket(inbox_claim.message_id);
    PERFORM FROM outbox.inbox_horizon WHERE its_bucket > '-infinity' AND its_bucket < kept_from;
    IF FOUND THEN
        RETURN 'stale';
    END IF;
    INSERT INTO outbox.inbox (bucket, consumer, message_id, fingerprint)
    VALUES (its_bucket, inbox_claim.consumer, inbox_claim.message_id, inbox_claim.fingerprint)
    ON CONFLICT (consumer, message_id, bucket) DO NOTHING;
    IF FOUND THEN
        RETURN 'fresh';
    END IF;
    IF inbox_claim.fingerprint IS NOT NULL THEN
        SELECT fingerprint INTO stored FROM outbox.inbox
        WHERE bucket = its_bucket AND consumer = inbox_claim.consumer AND message_id = inbox_claim.message_id;
        IF stored <> inbox_claim.fingerprint THEN
            RETURN 'mismatch';
        END IF;
    END IF;
    RETURN 'duplicate';
END
$function$;

-- The same for many messages, at most once in a transaction: within a call ids are
-- claimed in one order whatever order they came in, so two batches never wait for
-- each other in a circle (measured: 24 deadlocks without, none with); two calls
-- would undo that. An id that stands twice in it is fresh at its first place.
CREATE FUNCTION outbox.inbox_claim_batch(consumer text, message_ids text[], fingerprints bytea[] DEFAULT NULL)
    RETURNS TABLE (ord int, message_id text, verdict text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    horizon date;
    claimed text[];
BEGIN
    IF inbox_claim_batch.consumer IS NULL OR inbox_claim_batch.message_ids IS NULL THEN
        RAISE EXCEPTION 'a claim needs a consumer and messages' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF cardinality(inbox_claim_batch.fingerprints) <> cardinality(inbox_claim_batch.message_ids) THEN
        RAISE EXCEPTION '% fingerprints for % messages',
            cardinality(inbox_claim_batch.fingerprints), cardinality(inbox_claim_batch.message_ids)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT kept_from INTO STRICT horizon FROM outbox.inbox_horizon;
    WITH item AS MATERIALIZED (
        SELECT DISTINCT ON (i.id) i.id, i.fingerprint, outbox.inbox_bucket(i.id) AS bucket
        FROM unnest(inbox_claim_batch.message_ids, inbox_claim_batch.fingerprints)
            WITH ORDINALITY AS i (id, fingerprint, n)
        WHERE outbox.inbox_unusable(i.id) IS NULL
        ORDER BY i.id, i.n
    ), made AS (
        INSERT INTO outbox.inbox (bucket, consumer, message_id, fingerprint)
        SELECT item.bucket, inbox_claim_batch.consumer, item.id, item.fingerprint
        FROM item
        WHERE item.bucket = '-infinity' OR item.bucket >= horizon
        ORDER BY item.id COLLATE "C"
        ON CONFLICT (consumer, message_id, bucket) DO NOTHING
        RETURNING inbox.message_id
    )
    SELECT array_agg(made.message_id) INTO claimed FROM made;
    -- A statement of its own, whose snapshot has the rows that the first one waited for.
    RETURN QUERY
    SELECT i.n::int, i.id,
        CASE
            -- First of all: a NULL is in no array, and would be a duplicate below.
            WHEN i.unusable THEN 'unusable'
            WHEN i.bucket > '-infinity' AND i.bucket < horizon THEN 'stale'
            WHEN i.nth = 1 AND c.id IS NOT NULL THEN 'fresh'
            -- The subquery runs for what was there already, and reads one row of one partition.
            WHEN i.fingerprint <> (
                SELECT known.fingerprint FROM outbox.inbox AS known
                WHERE known.bucket = i.bucket
                    AND known.consumer = inbox_claim_batch.consumer AND known.message_id = i.id
            ) THEN 'mismatch'
            ELSE 'duplicate'
        END
    FROM (
        SELECT u.n, u.id, u.fingerprint, u.unusable,
            -- inbox_bucket refuses an id in upper case.
            CASE WHEN NOT u.unusable THEN outbox.inbox_bucket(u.id) END AS bucket,
            row_number() OVER (PARTITION BY u.id ORDER BY u.n) AS nth
        FROM (
            SELECT e.id, e.fingerprint, e.n, outbox.inbox_unusable(e.id) IS NOT NULL AS unusable
            FROM unnest(inbox_claim_batch.message_ids, inbox_claim_batch.fingerprints)
                WITH ORDINALITY AS e (id, fingerprint, n)
        ) AS u
    ) AS i
    LEFT JOIN unnest(claimed) AS c (id) ON c.id = i.id
    ORDER BY i.n;
END
$function$;

-- What a claim would say, for nobody's account: nothing is claimed, nothing waits.
CREATE FUNCTION outbox.inbox_check(consumer text, message_id text, fingerprint bytea DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    its_bucket date;
    stored     bytea;
BEGIN
    IF outbox.inbox_unusable(inbox_check.message_id) IS NOT NULL THEN
        RETURN 'unusable';
    END IF;
    its_bucket := outbox.inbox_bucket(inbox_check.message_id);
    PERFORM FROM outbox.inbox_horizon WHERE its_bucket > '-infinity' AND its_bucket < kept_from;
    IF FOUND THEN
        RETURN 'stale';
    END IF;
    SELECT fingerprint INTO stored FROM outbox.inbox
    WHERE bucket = its_bucket AND consumer = inbox_check.consumer AND message_id = inbox_check.message_id;
    IF NOT FOUND THEN
        RETURN 'fresh';
    END IF;
    RETURN CASE WHEN stored <> inbox_check.fingerprint THEN 'mismatch' ELSE 'duplicate' END;
END
$function$;

-- Forgets that a message was processed, so that its next delivery is processed again; false if there
-- was nothing to forget. Who and why stays in inbox_audit. An id below the horizon stays stale.
CREATE FUNCTION outbox.inbox_forget(consumer text, message_id text, reason text, actor text DEFAULT session_user)
    RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    IF outbox.inbox_unusable(inbox_forget.message_id) IS NOT NULL THEN
        -- Nothing was ever claimed under it.
        RETURN false;
    END IF;
    DELETE FROM outbox.inbox
    WHERE bucket = outbox.inbox_bucket(inbox_forget.message_id)
        AND consumer = inbox_forget.consumer AND message_id = inbox_forget.message_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO outbox.inbox_audit (actor, action, consumer, message_id, reason)
    VALUES (inbox_forget.actor, 'forget', inbox_forget.consumer, inbox_forget.message_id, inbox_forget.reason);
    RETURN true;
END
$function$;
