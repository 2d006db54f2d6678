-- Guards of outbox.message: its rows are written once and deleted by the keeper alone.
--
-- Statement triggers, so that a refused statement costs nothing on the way of
-- an INSERT and is refused even when it would have touched no row.
-- They guard against mistakes, not against the owner of the table.

CREATE FUNCTION outbox.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- Transaction-local, set by retention in the transaction that moves the floor.
    IF TG_OP = 'DELETE' AND current_setting('outbox_relay.keeper', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'restrict_violation',
            MESSAGE = format('%I.%I refuses UPDATE: its rows are immutable', TG_TABLE_SCHEMA, TG_TABLE_NAME),
            DETAIL = 'The relay may have published the row already: what was sent would differ from what is stored.',
            HINT = 'Insert another message; `outbox-relay prune` removes what every target has settled.';
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'restrict_violation',
        MESSAGE = format('%I.%I refuses %s: only the relay removes messages', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP),
        DETAIL = 'A row that is removed before every target has settled it is a message that is never sent.',
        HINT = 'Run `outbox-relay prune`, or shorten `keep` under [retention].';
END
$function$;
REVOKE ALL ON FUNCTION outbox.refuse_change() FROM PUBLIC;

CREATE TRIGGER refuse_update BEFORE UPDATE ON outbox.message
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_delete BEFORE DELETE ON outbox.message
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON outbox.message
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
