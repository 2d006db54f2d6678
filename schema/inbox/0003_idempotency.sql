-- Idempotency keys: of HTTP requests, and of message handlers that call somebody outside the database.
--
-- Two ways to use a key, never both for one scope:
--   claim ... store            in the transaction of the effect: key and effect commit together, no lease
--   begin ... checkpoint ... finish   a lease, for effects that no transaction holds
-- Times are the server's clock_timestamp() alone: two hosts never compare their clocks.

CREATE TABLE outbox.idempotency_key (
    -- Whose key it is: 'POST /payments 1f8c...' (the principal as a hash), or 'consumer:billing'.
    scope          text COLLATE "C" NOT NULL CHECK (octet_length(scope) BETWEEN 1 AND 400),
    key            text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    -- What was asked for: the same key with another one is a mistake of the caller's.
    fingerprint    bytea       NOT NULL CHECK (octet_length(fingerprint) BETWEEN 1 AND 64),
    attempts       int         NOT NULL DEFAULT 1 CHECK (attempts > 0),
    -- The fencing token of whoever works on it. Each take-over makes a new one.
    lease_token    uuid,
    lease_until    timestamptz,
    -- How far the work is known to have come, and what is needed to go on from there.
    recovery_point text        NOT NULL DEFAULT 'started' CHECK (octet_length(recovery_point) BETWEEN 1 AND 100),
    -- What the steps returned. There is room for it: a call that was made must be recorded.
    checkpoint     jsonb       CONSTRAINT idempotency_key_checkpoint_length
                               CHECK (octet_length(checkpoint::text) <= 1048576),
    -- The attempt ended in order and without an answer to keep: the next one goes on at
    -- recovery_point.
    suspended      boolean     NOT NULL DEFAULT false,
    -- An HTTP status; 0 for a message, whose work has no answer.
    status         int         CHECK (status = 0 OR status BETWEEN 100 AND 599),
    -- Pairs, since a name may stand more than once: [["location", "/payments/7"]].
    headers        jsonb       CHECK (octet_length(headers::text) <= 32768),
    -- NULL in a finished row: the answer was not retained, and cannot be given again.
    body           bytea       CHECK (octet_length(body) <= 1048576),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at     timestamptz NOT NULL CHECK (isfinite(expires_at)),
    PRIMARY KEY (scope, key),
    -- In progress or finished, nothing between. A lease without an end would never be taken over, one that is NULL
    -- would be taken over at once, from a handler that still runs.
    CONSTRAINT idempotency_key_state CHECK (
        CASE WHEN status IS NULL
            THEN lease_token IS NOT NULL AND lease_until IS NOT NULL AND isfinite(lease_until)
            ELSE lease_token IS NULL AND lease_until IS NULL
        END
    )
) WITH (fillfactor = 80);
CREATE INDEX idempotency_key_expiry ON outbox.idempotency_key (expires_at);
COMMENT ON TABLE outbox.idempotency_key IS
    'Requests and external work, by scope and key: in progress under a lease, or finished with the answer.';

-- A key is forgotten when its time is over and nobody works on it.
CREATE FUNCTION outbox.idempotency_forgotten(expires_at timestamptz, lease_until timestamptz) RETURNS boolean
    LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN expires_at <= clock_timestamp() AND coalesce(lease_until <= clock_timestamp(), true);

-- Refuses what would hold a key for another caller, or what could be claimed and never stored. A
-- NULL fingerprint differs from none, so every request would get the answer to the first one.
CREATE FUNCTION outbox.idempotency_refuse(scope text, key text, fingerprint bytea) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF scope IS NULL OR key IS NULL OR fingerprint IS NULL THEN
        RAISE EXCEPTION 'an idempotency key needs a scope, a key and a fingerprint'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF octet_length(scope) NOT BETWEEN 1 AND 400 OR octet_length(key) NOT BETWEEN 1 AND 255
        OR octet_length(fingerprint) NOT BETWEEN 1 AND 64
    THEN
        RAISE EXCEPTION 'a scope has 1 to 400 bytes, a key 1 to 255, a fingerprint 1 to 64; not %, % and %',
            octet_length(scope), octet_length(key), octet_length(fingerprint)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$function$;

-- The functions of a handler run with their owner's rights, and its role has no other way to the
-- table: it can neither forget a key nor read the answer to a request without that request's scope,
-- key and fingerprint.

-- ---------------------------------------------------------------------------------------------------------------
-- Leased. Each call is a short transaction of its own, except checkpoint and finish, which may be part of the one
-- that holds the effect of the phase.
-- ---------------------------------------------------------------------------------------------------------------

-- started      do it, and finish with the token
-- resumed      the one before was lost or suspended at recovery_point: go on from there with the token
-- replay       it is done: status, headers, body
-- in_progress  another attempt is at work on it: ask again later; lease_left says when its lease ends
-- unknown      somebody was lost doing it, and it cannot be resumed
-- mismatch     the key belongs to another request
--
-- resume_at names the recovery points from which the caller can go on, '*' is any of them; without it a lost one
-- is never resumed. A suspended one always is: how far it came is known. It reads first: a replay writes nothing.
CREATE FUNCTION outbox.idempotency_begin(
    scope text, key text, fingerprint bytea, lease interval DEFAULT '60 s', ttl interval DEFAULT '24 h',
    resume_at text[] DEFAULT NULL,
    OUT verdict text, OUT token uuid, OUT attempt int, OUT recovery_point text, OUT checkpoint jsonb,
    OUT status int, OUT headers jsonb, OUT body bytea, OUT lease_left interval
)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    found_row outbox.idempotency_key;
    forgotten boolean;
BEGIN
    PERFORM outbox.idempotency_refuse(scope, key, fingerprint);
    -- A pass is lost only to somebody who changed the row between the two statements of it.
    FOR pass IN 1..4 LOOP
        SELECT k.* INTO found_row FROM outbox.idempotency_key AS k
        WHERE k.scope = idempotency_begin.scope AND k.key = idempotency_begin.key;
        IF NOT FOUND THEN
            INSERT INTO outbox.idempotency_key AS k (scope, key, fingerprint, lease_token, lease_until, expires_at)
            VALUES (scope, key, fingerprint, gen_random_uuid(), clock_timestamp() + lease, clock_timestamp() + ttl)
            ON CONFLICT DO NOTHING
            RETURNING k.* INTO found_row;
            CONTINUE WHEN NOT FOUND;
            verdict := 'started';
        ELSE
            forgotten := outbox.idempotency_forgotten(found_row.expires_at, found_row.lease_until);
            IF NOT forgotten THEN
                attempt := found_row.attempts;
                IF found_row.fingerprint <> fingerprint THEN
                    verdict := 'mismatch';
                    RETURN;
                ELSIF found_row.status IS NOT NULL THEN
                    verdict := 'replay';
                    status := found_row.status;
                    headers := found_row.headers;
                    body := found_row.body;
                    RETURN;
                ELSIF found_row.lease_until > clock_timestamp() THEN
                    verdict := 'in_progress';
                    lease_left := found_row.lease_until - clock_timestamp();
                    RETURN;
                ELSIF NOT found_row.suspended AND (resume_at IS NULL
                    OR NOT ('*' = ANY (resume_at) OR found_row.recovery_point = ANY (resume_at || 'started'::text)))
                THEN
                    verdict := 'unknown';
                    recovery_point := found_row.recovery_point;
                    RETURN;
                END IF;
            END IF;
            -- Names the state that was seen: of two who take it over, one finds it changed.
            UPDATE outbox.idempotency_key AS k
            SET lease_token = gen_random_uuid(), lease_until = clock_timestamp() + lease,
                status = NULL, headers = NULL, body = NULL, suspended = false,
                fingerprint = idempotency_begin.fingerprint,
                attempts = CASE WHEN forgotten THEN 1 ELSE k.attempts + 1 END,
                recovery_point = CASE WHEN forgotten THEN 'started' ELSE k.recovery_point END,
                checkpoint = CASE WHEN forgotten THEN NULL ELSE k.checkpoint END,
                created_at = CASE WHEN forgotten THEN clock_timestamp() ELSE k.created_at END,
                -- A resumed key lives as long as a new one: its answer is about to be promised anew.
                expires_at = greatest(k.expires_at, clock_timestamp() + ttl)
            WHERE k.scope = idempotency_begin.scope AND k.key = idempotency_begin.key
                AND k.lease_token IS NOT DISTINCT FROM found_row.lease_token
                AND k.lease_until IS NOT DISTINCT FROM found_row.lease_until
                AND k.expires_at = found_row.expires_at
            RETURNING k.* INTO found_row;
            CONTINUE WHEN NOT FOUND;
            verdict := CASE WHEN forgotten THEN 'started' ELSE 'resumed' END;
        END IF;
        token := found_row.lease_token;
        attempt := found_row.attempts;
        recovery_point := found_row.recovery_point;
        checkpoint := found_row.checkpoint;
        RETURN;
    END LOOP;
    verdict := 'in_progress';
END
$function$;

-- Records a phase, and holds the lease on. False: the lease is somebody else's by now, so the caller must roll back.
CREATE FUNCTION outbox.idempotency_checkpoint(
    scope text, key text, token uuid, point text, data jsonb DEFAULT NULL, lease interval DEFAULT '60 s'
)
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE outbox.idempotency_key AS k
    SET recovery_point = point, checkpoint = data, lease_until = clock_timestamp() + lease
    WHERE k.scope = idempotency_checkpoint.scope AND k.key = idempotency_checkpoint.key AND k.lease_token = token;
    RETURN FOUND;
END
$function$;

-- Records the answer. False as above: what is recorded is the other's answer, and no caller may get this one.
CREATE FUNCTION outbox.idempotency_finish(
    scope text, key text, token uuid, status int DEFAULT 0, headers jsonb DEFAULT NULL, body bytea DEFAULT NULL
)
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE outbox.idempotency_key AS k
    SET status = idempotency_finish.status, headers = idempotency_finish.headers, body = idempotency_finish.body,
        recovery_point = 'finished', lease_token = NULL, lease_until = NULL
    WHERE k.scope = idempotency_finish.scope AND k.key = idempotency_finish.key AND k.lease_token = token;
    RETURN FOUND;
END
$function$;

-- Holds the lease on while its owner is at work. False as above.
CREATE FUNCTION outbox.idempotency_renew(scope text, key text, token uuid, lease interval DEFAULT '60 s')
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE outbox.idempotency_key AS k SET lease_until = clock_timestamp() + lease
    WHERE k.scope = idempotency_renew.scope AND k.key = idempotency_renew.key AND k.lease_token = token;
    RETURN FOUND;
END
$function$;

-- Ends the attempt without an answer to keep: the next request under the key is resumed at the
-- recovery point. The token is void from now on. False as above.
CREATE FUNCTION outbox.idempotency_suspend(scope text, key text, token uuid) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE outbox.idempotency_key AS k
    SET suspended = true, lease_token = gen_random_uuid(), lease_until = clock_timestamp()
    WHERE k.scope = idempotency_suspend.scope AND k.key = idempotency_suspend.key AND k.lease_token = token;
    RETURN FOUND;
END
$function$;

-- Gives a key back that nothing was done for. False: something was, or the lease is somebody else's.
CREATE FUNCTION outbox.idempotency_release(scope text, key text, token uuid) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    released bigint;
BEGIN
    WITH gone AS (
        DELETE FROM outbox.idempotency_key AS k
        WHERE k.scope = idempotency_release.scope AND k.key = idempotency_release.key AND k.lease_token = token
            AND k.recovery_point = 'started' AND k.attempts = 1
        RETURNING 1
    )
    SELECT count(*) INTO released FROM gone;
    RETURN released = 1;
END
$function$;

-- ---------------------------------------------------------------------------------------------------------------
-- In the transaction of the effect. READ COMMITTED: an older snapshot would not see what the lock waited for, and
-- ends in a serialization failure at the store.
-- ---------------------------------------------------------------------------------------------------------------

-- started: do it in this transaction, store the answer, commit. The other verdicts are those of begin.
-- It never waits. A replay takes no lock, so that two of them do not see each other.
CREATE FUNCTION outbox.idempotency_claim(
    scope text, key text, fingerprint bytea,
    OUT verdict text, OUT status int, OUT headers jsonb, OUT body bytea, OUT lease_left interval
)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    found_row outbox.idempotency_key;
    lock_key bigint := hashtextextended(scope || E'\x1f' || key, 7035);
BEGIN
    PERFORM outbox.idempotency_refuse(scope, key, fingerprint);
    FOR pass IN 1..2 LOOP
        SELECT k.* INTO found_row FROM outbox.idempotency_key AS k
        WHERE k.scope = idempotency_claim.scope AND k.key = idempotency_claim.key;
        IF FOUND AND NOT outbox.idempotency_forgotten(found_row.expires_at, found_row.lease_until) THEN
            IF found_row.fingerprint <> fingerprint THEN
                verdict := 'mismatch';
            ELSIF found_row.status IS NOT NULL THEN
                verdict := 'replay';
                status := found_row.status;
                headers := found_row.headers;
                body := found_row.body;
            ELSE
                lease_left := found_row.lease_until - clock_timestamp();
                verdict := CASE WHEN lease_left > interval '0' THEN 'in_progress' ELSE 'unknown' END;
            END IF;
            RETURN;
        END IF;
        EXIT WHEN pass = 2;
        -- Whoever held the lock has committed before it let go, so the second look sees the row.
        IF NOT pg_try_advisory_xact_lock(lock_key) THEN
            verdict := 'in_progress';
            RETURN;
        END IF;
    END LOOP;
    -- Ends with the transaction: store refuses a transaction that is not the one of the claim.
    PERFORM set_config('outbox_inbox.claim', lock_key::text, true);
    verdict := 'started';
END
$function$;

-- Records the answer of a claim, in its transaction.
CREATE FUNCTION outbox.idempotency_store(
    scope text, key text, fingerprint bytea, status int, headers jsonb, body bytea, ttl interval DEFAULT '24 h'
)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
BEGIN
    IF current_setting('outbox_inbox.claim', true)
        IS DISTINCT FROM hashtextextended(scope || E'\x1f' || key, 7035)::text
    THEN
        RAISE EXCEPTION 'the key was not claimed in this transaction'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'The transaction that stores the answer must be the one that claimed the key.';
    END IF;
    INSERT INTO outbox.idempotency_key AS k
        (scope, key, fingerprint, recovery_point, status, headers, body, expires_at)
    VALUES (scope, key, fingerprint, 'finished', status, headers, body, clock_timestamp() + ttl)
    ON CONFLICT ON CONSTRAINT idempotency_key_pkey DO UPDATE
    SET fingerprint = EXCLUDED.fingerprint, attempts = 1, lease_token = NULL, lease_until = NULL, suspended = false,
        recovery_point = 'finished', checkpoint = NULL, status = EXCLUDED.status, headers = EXCLUDED.headers,
        body = EXCLUDED.body, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at
    WHERE outbox.idempotency_forgotten(k.expires_at, k.lease_until);
    IF NOT FOUND THEN
        -- Only a lease can have come between: no other claim had the lock.
        RAISE EXCEPTION 'the key was leased since it was claimed' USING ERRCODE = 'serialization_failure';
    END IF;
    PERFORM set_config('outbox_inbox.claim', '', true);
END
$function$;

-- ---------------------------------------------------------------------------------------------------------------
-- Upkeep
-- ---------------------------------------------------------------------------------------------------------------

-- Removes keys whose time is over, at most keys_max of them, and says how many. Call it until it says less.
CREATE FUNCTION outbox.idempotency_expire(keys_max int DEFAULT 5000) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    removed bigint;
BEGIN
    WITH due AS (
        -- A row that somebody takes over just now is theirs.
        SELECT k.scope, k.key FROM outbox.idempotency_key AS k
        WHERE k.expires_at <= clock_timestamp() AND outbox.idempotency_forgotten(k.expires_at, k.lease_until)
        ORDER BY k.expires_at
        LIMIT keys_max
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM outbox.idempotency_key AS k USING due WHERE k.scope = due.scope AND k.key = due.key RETURNING 1
    )
    SELECT count(*) INTO removed FROM gone;
    RETURN removed;
END
$function$;

-- What the gauges show. It reads the whole table: once a minute, not once a request.
CREATE VIEW outbox.idempotency_state AS
SELECT
    count(*) AS keys,
    count(*) FILTER (WHERE status IS NULL AND lease_until > clock_timestamp()) AS in_progress,
    -- An attempt was lost there, or stopped halfway: to be resumed, or for a person to look at. One
    -- that was suspended before anything was recorded has nothing to look at.
    count(*) FILTER (
        WHERE status IS NULL AND lease_until <= clock_timestamp() AND NOT (suspended AND recovery_point = 'started')
    ) AS expired_leases,
    count(*) FILTER (WHERE expires_at <= clock_timestamp()) AS expired_keys
FROM outbox.idempotency_key;

-- What a handler's role needs: the functions, and of the table no more than the counts need.
CREATE FUNCTION outbox.grant_idempotency(role regrole) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
    -- For counts, as `outbox-relay inbox stats` has them.
    EXECUTE format(
        'GRANT SELECT (attempts, lease_until, recovery_point, suspended, status, created_at, expires_at)'
        ' ON outbox.idempotency_key TO %s', role);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION outbox.idempotency_begin(text, text, bytea, interval, interval, text[]),'
        ' outbox.idempotency_checkpoint(text, text, uuid, text, jsonb, interval),'
        ' outbox.idempotency_finish(text, text, uuid, int, jsonb, bytea),'
        ' outbox.idempotency_renew(text, text, uuid, interval),'
        ' outbox.idempotency_suspend(text, text, uuid),'
        ' outbox.idempotency_release(text, text, uuid),'
        ' outbox.idempotency_claim(text, text, bytea),'
        ' outbox.idempotency_store(text, text, bytea, int, jsonb, bytea, interval) TO %s', role);
END
$function$;

REVOKE ALL ON FUNCTION outbox.idempotency_forgotten(timestamptz, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_refuse(text, text, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_begin(text, text, bytea, interval, interval, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_checkpoint(text, text, uuid, text, jsonb, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_finish(text, text, uuid, int, jsonb, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_renew(text, text, uuid, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_suspend(text, text, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_release(text, text, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_claim(text, text, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_store(text, text, bytea, int, jsonb, bytea, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.idempotency_expire(int) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.grant_idempotency(regrole) FROM PUBLIC;
