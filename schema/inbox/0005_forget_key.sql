-- What a person decides about an idempotency key: an attempt that was lost at a third party is looked at there, and
-- then the operation may be asked for anew.

-- Forgets a key whose attempt was lost, so that its next request or message begins anew. False: there is none, somebody
-- is at work on it, or it has been answered: then the client gets that answer, and nothing is done twice.
-- Who and why stays in inbox_audit, with the scope as its consumer and the key as its message.
CREATE FUNCTION outbox.idempotency_forget(scope text, key text, reason text, actor text DEFAULT session_user)
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    DELETE FROM outbox.idempotency_key AS k
    WHERE k.scope = idempotency_forget.scope AND k.key = idempotency_forget.key
        -- Looked at again when a finishing attempt was waited for.
        AND k.status IS NULL AND k.lease_until <= clock_timestamp();
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO outbox.inbox_audit (actor, action, consumer, message_id, reason)
    VALUES (idempotency_forget.actor, 'forget', idempotency_forget.scope, idempotency_forget.key,
        idempotency_forget.reason);
    RETURN true;
END
$function$;

REVOKE ALL ON FUNCTION outbox.idempotency_forget(text, text, text, text) FROM PUBLIC;
