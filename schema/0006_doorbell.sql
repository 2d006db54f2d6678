-- The doorbell: a commit wakes the relay, but only a relay that is asleep.
--
-- NOTIFY in every transaction serialises all commits of the database (measured:
-- 12,480 down to 602 a second). So a writer first tries a shared advisory lock,
-- which only a sleeping relay denies it (it holds the key exclusively), and
-- notifies in that case alone. The lock lasts until the writer's rows are
-- visible: a relay that gets the exclusive lock and reads once more has missed nobody.
--
-- The channel is the schema's name followed by _bell.
-- A transaction that notified cannot be prepared: mode 'auto' therefore leaves
-- the bell out where max_prepared_transactions > 0, and the relay polls.
-- Returns whether the bell is in place. Run by every `outbox-relay migrate`;
-- it changes nothing, and locks nothing, when nothing is to change.
-- The mode is remembered: NULL is what was said last, 'auto' if nothing was.
CREATE FUNCTION outbox.install_doorbell(mode text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    k1      int;
    k2      int;
    body    text;
    state   "char" := (
        SELECT tgenabled FROM pg_trigger
        WHERE tgrelid = 'outbox.message'::regclass AND tgname = 'doorbell'
    );
    present boolean := coalesce(state <> 'D', false);
    wanted  boolean;
BEGIN
    mode := coalesce(mode, (SELECT meta.doorbell FROM outbox.meta));
    wanted := CASE mode
        WHEN 'on' THEN true
        WHEN 'off' THEN false
        WHEN 'auto' THEN current_setting('max_prepared_transactions')::int = 0
    END;
    IF wanted IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('unknown doorbell mode %L', mode),
            HINT = 'It is one of auto, on, off.';
    END IF;

    UPDATE outbox.meta SET doorbell = mode WHERE doorbell <> mode;

    IF wanted THEN
        -- The key stands in the body as literals: no table is read per INSERT,
        -- and a writer needs no right on outbox.meta.
        SELECT bell.k1, bell.k2 INTO k1, k2 FROM outbox.lock_key('@bell') AS bell;
        body := format($body$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(%s, %s) THEN
        PERFORM pg_notify(TG_TABLE_SCHEMA || '_bell', '');
    END IF;
    RETURN NULL;
END
$body$, k1, k2);
        IF NOT EXISTS (SELECT FROM pg_proc WHERE oid = to_regprocedure('outbox.ring()') AND prosrc = body) THEN
            EXECUTE format(
                'CREATE OR REPLACE FUNCTION outbox.ring() RETURNS trigger LANGUAGE plpgsql'
                ' SET search_path = pg_catalog, pg_temp AS %L', body);
            REVOKE ALL ON FUNCTION outbox.ring() FROM PUBLIC;
        END IF;
        IF state IS NULL THEN
            CREATE TRIGGER doorbell AFTER INSERT ON outbox.message
                FOR EACH STATEMENT EXECUTE FUNCTION outbox.ring();
        ELSIF NOT present THEN
            ALTER TABLE outbox.message ENABLE TRIGGER doorbell;
        END IF;
    ELSIF present THEN
        -- Disabled and not dropped: that takes a weaker lock.
        ALTER TABLE outbox.message DISABLE TRIGGER doorbell;
    END IF;
    RETURN wanted;
END
$function$;
REVOKE ALL ON FUNCTION outbox.install_doorbell(text) FROM PUBLIC;
