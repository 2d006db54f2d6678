-- Failed attempts, and what was parked: a message that cannot be processed must
-- neither be lost nor tried for ever. The counter is the inbox's own: Kafka has
-- none, and RabbitMQ's depends on its version and on the verb of the refusal.

CREATE TABLE outbox.inbox_failure (
    consumer        text COLLATE "C" NOT NULL CHECK (octet_length(consumer) BETWEEN 1 AND 100),
    message_id      text COLLATE "C" NOT NULL CHECK (octet_length(message_id) BETWEEN 1 AND 200),
    attempts        int              NOT NULL CHECK (attempts >= 0),
    first_failed_at timestamptz      NOT NULL DEFAULT now(),
    last_failed_at  timestamptz      NOT NULL DEFAULT now(),
    -- The kind of failure, from a small set: it becomes a metric's label.
    class           text             NOT NULL CHECK (octet_length(class) BETWEEN 1 AND 100),
    error           text             CHECK (octet_length(error) <= 2000),
    -- Set: it is given up, and waits for a person.
    parked_at       timestamptz,
    -- Set by a person: the consumer may take it from here once more.
    replay_at       timestamptz CHECK (replay_at IS NULL OR parked_at IS NOT NULL),
    -- What is needed to process it from here, if its consumer keeps that.
    headers         jsonb,
    payload         bytea,
    PRIMARY KEY (consumer, message_id)
);
CREATE INDEX inbox_failure_parked ON outbox.inbox_failure (consumer, parked_at) WHERE parked_at IS NOT NULL;
COMMENT ON TABLE outbox.inbox_failure IS
    'Messages whose last attempt failed, and parked ones. A successful attempt removes its row in its own transaction.';

-- A claim that counts: fresh with the number of this attempt (1 = the first), whose
-- failure row it takes away. If the handler fails, the rollback brings that back, and
-- inbox_fail counts one more.
CREATE FUNCTION outbox.inbox_begin(
    consumer text, message_id text, fingerprint bytea DEFAULT NULL, OUT verdict text, OUT attempt int
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    verdict := outbox.inbox_claim(inbox_begin.consumer, inbox_begin.message_id, inbox_begin.fingerprint);
    IF verdict = 'fresh' THEN
        DELETE FROM outbox.inbox_failure AS f
        WHERE f.consumer = inbox_begin.consumer AND f.message_id = inbox_begin.message_id
        RETURNING f.attempts + 1 INTO attempt;
        attempt := coalesce(attempt, 1);
    END IF;
END
$function$;

-- Records a failed attempt, in a transaction of its own after the handler's was rolled
-- back. Parked once attempts_max are reached; with 0 at once. A message that was
-- parked stays so.
CREATE FUNCTION outbox.inbox_fail(
    consumer text, message_id text, class text, error text, attempts_max int,
    headers jsonb DEFAULT NULL, payload bytea DEFAULT NULL, OUT attempts int, OUT parked boolean
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    INSERT INTO outbox.inbox_failure AS f (consumer, message_id, attempts, class, error, parked_at, headers, payload)
    -- Cut by characters to what never exceeds the bytes.
    VALUES (
        inbox_fail.consumer, inbox_fail.message_id, 1, inbox_fail.class, left(inbox_fail.error, 500),
        CASE WHEN inbox_fail.attempts_max <= 1 THEN now() END, inbox_fail.headers, inbox_fail.payload
    )
    ON CONFLICT (consumer, message_id) DO UPDATE SET
        attempts = f.attempts + 1,
        last_failed_at = now(),
        class = excluded.class,
        error = excluded.error,
        parked_at = coalesce(f.parked_at, CASE WHEN f.attempts + 1 >= inbox_fail.attempts_max THEN now() END),
        replay_at = NULL,
        headers = coalesce(excluded.headers, f.headers),
        payload = coalesce(excluded.payload, f.payload)
    RETURNING f.attempts, f.parked_at IS NOT NULL INTO attempts, parked;
END
$function$;

-- Lets the consumer take a parked message once more; false if there is none such.
CREATE FUNCTION outbox.inbox_replay(consumer text, message_id text, reason text, actor text DEFAULT session_user)
    RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    -- From the table it can come only if it is there.
    UPDATE outbox.inbox_failure SET replay_at = now(), attempts = 0
    WHERE consumer = inbox_replay.consumer AND message_id = inbox_replay.message_id
        AND parked_at IS NOT NULL AND headers IS NOT NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO outbox.inbox_audit (actor, action, consumer, message_id, reason)
    VALUES (inbox_replay.actor, 'replay', inbox_replay.consumer, inbox_replay.message_id, inbox_replay.reason);
    RETURN true;
END
$function$;

-- Gives a failed message up for good; false if there is none such.
CREATE FUNCTION outbox.inbox_discard(consumer text, message_id text, reason text, actor text DEFAULT session_user)
    RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    DELETE FROM outbox.inbox_failure
    WHERE consumer = inbox_discard.consumer AND message_id = inbox_discard.message_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO outbox.inbox_audit (actor, action, consumer, message_id, reason)
    VALUES (inbox_discard.actor, 'discard', inbox_discard.consumer, inbox_discard.message_id, inbox_discard.reason);
    RETURN true;
END
$function$;
