-- Keeping the inbox small and ready: partitions ahead, a rising horizon, expired
-- rows. `outbox-relay inbox maintain` and the daemon run these parts and detach
-- partitions concurrently, which no function can; inbox_maintain is for those who
-- have nothing but SQL (pg_cron, a job with psql).

-- Raises the horizon to retention_days before today, and says where it stood:
-- partitions below that may go now. Those between the two go at the next run, when
-- no transaction is left that read the old horizon.
CREATE FUNCTION outbox.inbox_raise_horizon(retention_days int) RETURNS date
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    before date;
BEGIN
    IF coalesce(inbox_raise_horizon.retention_days, 0) < 1 THEN
        RAISE EXCEPTION 'a retention of % days', inbox_raise_horizon.retention_days
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT kept_from INTO STRICT before FROM outbox.inbox_horizon FOR UPDATE;
    UPDATE outbox.inbox_horizon SET
        kept_from = greatest(kept_from, (now() AT TIME ZONE 'UTC')::date - inbox_raise_horizon.retention_days),
        maintained_at = now();
    RETURN before;
END
$function$;

-- The partitions of the days before that one, oldest first, and how far an ended run came with them.
CREATE FUNCTION outbox.inbox_expired(before date, OUT name text, OUT state text) RETURNS SETOF record
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT t.relname::text,
        CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END
    FROM pg_class AS t
    LEFT JOIN pg_inherits AS i ON i.inhrelid = t.oid AND i.inhparent = 'outbox.inbox'::regclass
    WHERE t.relnamespace = (SELECT p.relnamespace FROM pg_class AS p WHERE p.oid = 'outbox.inbox'::regclass)
        AND t.relkind = 'r'
        AND t.relname ~ '^inbox_[0-9]{8}$'
        AND t.relname < 'inbox_' || to_char(inbox_expired.before, 'YYYYMMDD')
    ORDER BY t.relname
$function$;

-- Deletes at most rows_max expired rows of each kind, and says how many of each it
-- found: undated ids, failures that nobody tried again, idempotency keys. Parked
-- messages wait for a person, however long.
CREATE FUNCTION outbox.inbox_expire(
    retention_days int, rows_max int DEFAULT 5000, OUT undated int, OUT failures int, OUT idempotency_keys int
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    oldest timestamptz := now() - make_interval(days => inbox_expire.retention_days);
BEGIN
    -- SKIP LOCKED: what somebody is at is not expired to them.
    DELETE FROM outbox.inbox_undated WHERE ctid = ANY (ARRAY(
        SELECT u.ctid FROM outbox.inbox_undated AS u WHERE u.processed_at < oldest
        LIMIT inbox_expire.rows_max FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS undated = ROW_COUNT;
    DELETE FROM outbox.inbox_failure WHERE ctid = ANY (ARRAY(
        SELECT f.ctid FROM outbox.inbox_failure AS f WHERE f.parked_at IS NULL AND f.last_failed_at < oldest
        LIMIT inbox_expire.rows_max FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS failures = ROW_COUNT;
    idempotency_keys := outbox.idempotency_expire(inbox_expire.rows_max);
END
$function$;

-- Everything, for those who have only SQL: call it once an hour. A partition goes by a
-- plain DROP, which needs every handler out of the inbox and every claim to wait
-- meanwhile: hence the 200 ms, and another try in an hour.
CREATE FUNCTION outbox.inbox_maintain(
    retention_days int DEFAULT 14, ahead_days int DEFAULT 7,
    OUT made int, OUT dropped int, OUT blocked int, OUT expired_rows int
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '200ms'
AS $function$
#variable_conflict use_column
DECLARE
    today  date := (now() AT TIME ZONE 'UTC')::date;
    schema text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'outbox.inbox'::regclass);
    before date;
    name   text;
BEGIN
    made := outbox.inbox_ensure(today - inbox_maintain.retention_days, today + inbox_maintain.ahead_days);
    before := outbox.inbox_raise_horizon(inbox_maintain.retention_days);
    SELECT e.undated + e.failures + e.idempotency_keys INTO expired_rows
    FROM outbox.inbox_expire(inbox_maintain.retention_days) AS e;
    dropped := 0;
    blocked := 0;
    FOR name IN SELECT e.name FROM outbox.inbox_expired(before) AS e LOOP
        BEGIN
            EXECUTE format('DROP TABLE %s.%I', schema, name);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            blocked := blocked + 1;
            -- One long handler blocks them all, and every try holds the claims up for 200 ms.
            EXIT;
        END;
    END LOOP;
END
$function$;

-- Gives a role what a consumer, or a handler of requests, needs, and no more: it cannot
-- forget, discard, replay, or change the horizon. It writes failures and keys by functions alone.
-- What it can do is to claim: a consumer's role that claims and does nothing has lost the message.
CREATE FUNCTION outbox.grant_inbox(role regrole) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
    EXECUTE format('GRANT SELECT, INSERT ON outbox.inbox TO %s', role);
    EXECUTE format('GRANT SELECT ON outbox.inbox_horizon, outbox.inbox_migration, outbox.inbox_failure TO %s', role);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION outbox.inbox_begin(text, text, bytea),'
        ' outbox.inbox_fail(text, text, text, text, int, jsonb, bytea),'
        ' outbox.inbox_settle(text, text[]) TO %s', role);
    PERFORM outbox.grant_idempotency(role);
END
$function$;
REVOKE ALL ON FUNCTION outbox.grant_inbox(regrole) FROM PUBLIC;
