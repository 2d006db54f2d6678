-- Rights. Roles belong to the whole cluster, so none is created here:
-- `outbox-relay migrate --grant-writer APP --grant-relay RELAY`, or these two
-- functions, give an existing role exactly what it needs.

-- A writer may insert, but neither choose id and created_at nor read anything.
CREATE FUNCTION outbox.grant_writer(role regrole) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- regrole prints itself as a quoted identifier.
    EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
    EXECUTE format('GRANT INSERT (message_id, topic, key, type, headers, payload) ON outbox.message TO %s', role);
    -- A default and a CHECK run with the rights of whoever inserts.
    EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.uuidv7(), outbox.header_names_allowed(jsonb) TO %s', role);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION outbox.publish(text, text, bytea, jsonb, text),'
        ' outbox.publish(text, text, text, jsonb, text), outbox.publish(text, text, jsonb, jsonb, text) TO %s', role);
END
$function$;
REVOKE ALL ON FUNCTION outbox.grant_writer(regrole) FROM PUBLIC;

-- The relay reads and removes messages and keeps the progress. It owns nothing,
-- inserts no message, and cannot rewrite the audit of what was decided.
-- With pg_read_all_stats (GRANT pg_read_all_stats TO …) it can also name the
-- application and query of a backend that keeps a hole open.
CREATE FUNCTION outbox.grant_relay(role regrole) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %s', role);
    EXECUTE format('GRANT SELECT, DELETE ON outbox.message TO %s', role);
    EXECUTE format('GRANT SELECT ON SEQUENCE %s TO %s', pg_get_serial_sequence('outbox.message', 'id'), role);
    EXECUTE format(
        'GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.ledger, outbox.hole, outbox.retry,'
        ' outbox.dead, outbox.kept, outbox.watermark, outbox.route,'
        ' outbox.unrouted TO %s', role);
    EXECUTE format('GRANT SELECT, INSERT ON outbox.decision, outbox.displaced TO %s', role);
    EXECUTE format('GRANT SELECT ON outbox.migration, outbox.meta, outbox.message_state TO %s', role);
    EXECUTE format('GRANT UPDATE (floor, late_rows) ON outbox.meta TO %s', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.lock_key(text), outbox.uuidv7() TO %s', role);
END
$function$;
REVOKE ALL ON FUNCTION outbox.grant_relay(regrole) FROM PUBLIC;
