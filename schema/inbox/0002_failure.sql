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

-- The three functions below run with their owner's rights, and a consumer's role has no other way to
-- write here: it can neither discard a failure nor let one through again, which are a person's
-- decisions and are recorded in inbox_audit.

-- A claim that counts: fresh with the number of this attempt (1 = the first), whose
-- failure row it takes away. If the handler fails, the rollback brings that back, and
-- inbox_fail counts one more. An unusable id comes with its reason (see inbox_unusable).
CREATE FUNCTION outbox.inbox_begin(
    consumer text, message_id text, fingerprint bytea DEFAULT NULL,
    OUT verdict text, OUT attempt int, OUT reason text
)
    LANGUAGE plpgsql SECURITY DEFINER
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
    ELSIF verdict = 'unusable' THEN
        reason := outbox.inbox_unusable(inbox_begin.message_id);
    END IF;
END
$function$;

-- Records a failed attempt, in a transaction of its own after the handler's was rolled
-- back. Parked once attempts_max are reached; with 0 (or NULL) at once. A message that was
-- parked stays so.
-- It takes any message_id, since what cannot be claimed must be parked: one of more than 200 bytes is
-- recorded as 'sha256:' and its digest, as the Rust crate writes it, and each delivery without an id
-- is parked at once under a name of its own. A class of more than 100 bytes is cut, none is 'unknown'.
CREATE FUNCTION outbox.inbox_fail(
    consumer text, message_id text, class text, error text, attempts_max int,
    headers jsonb DEFAULT NULL, payload bytea DEFAULT NULL, OUT attempts int, OUT parked boolean
)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    nameless boolean := coalesce(inbox_fail.message_id, '') = '';
    -- Without an id no count would ever reach the maximum.
    maximum  int  := CASE WHEN nameless THEN 0 ELSE coalesce(inbox_fail.attempts_max, 0) END;
    stored   text := CASE
        WHEN nameless THEN 'unidentified:' || gen_random_uuid()
        WHEN octet_length(inbox_fail.message_id) > 200 THEN
            'sha256:' || encode(sha256(convert_to(inbox_fail.message_id, getdatabaseencoding())), 'hex')
        ELSE inbox_fail.message_id
    END;
    kind     text := CASE
        WHEN octet_length(inbox_fail.class) > 100 THEN left(inbox_fail.class, 25)
        ELSE coalesce(nullif(inbox_fail.class, ''), 'unknown')
    END;
BEGIN
    INSERT INTO outbox.inbox_failure AS f (consumer, message_id, attempts, class, error, parked_at, headers, payload)
    -- Cut by characters to what never exceeds the bytes.
    VALUES (
        inbox_fail.consumer, stored, 1, kind, left(inbox_fail.error, 500),
        CASE WHEN maximum <= 1 THEN now() END, inbox_fail.headers, inbox_fail.payload
    )
    ON CONFLICT (consumer, message_id) DO UPDATE SET
        attempts = f.attempts + 1,
        last_failed_at = now(),
        class = excluded.class,
        error = excluded.error,
        parked_at = coalesce(f.parked_at, CASE WHEN f.attempts + 1 >= maximum THEN now() END),
        replay_at = NULL,
        headers = coalesce(excluded.headers, f.headers),
        payload = coalesce(excluded.payload, f.payload)
    RETURNING f.attempts, f.parked_at IS NOT NULL INTO attempts, parked;
END
$function$;

-- Takes away the failures of messages that are processed (the caller's own claims count), and says how
-- many attempts each had. A replay of any other message of these is called off: its row stays, parked.
CREATE FUNCTION outbox.inbox_settle(consumer text, message_ids text[])
    RETURNS TABLE (message_id text, attempts int)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    DELETE FROM outbox.inbox_failure AS f
    WHERE f.consumer = inbox_settle.consumer AND f.message_id = ANY (inbox_settle.message_ids)
        AND CASE WHEN outbox.inbox_unusable(f.message_id) IS NULL THEN EXISTS (
            SELECT FROM outbox.inbox AS i
            WHERE i.bucket = outbox.inbox_bucket(f.message_id)
                AND i.consumer = f.consumer AND i.message_id = f.message_id
        ) END
    RETURNING f.message_id, f.attempts;
    UPDATE outbox.inbox_failure AS f SET replay_at = NULL
    WHERE f.consumer = inbox_settle.consumer AND f.message_id = ANY (inbox_settle.message_ids)
        AND f.replay_at IS NOT NULL;
END
$function$;

REVOKE ALL ON FUNCTION outbox.inbox_begin(text, text, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.inbox_fail(text, text, text, text, int, jsonb, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.inbox_settle(text, text[]) FROM PUBLIC;

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
