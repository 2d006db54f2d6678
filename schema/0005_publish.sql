-- Convenience for writers: SELECT outbox.publish('order.placed', 'order-7', '{"total": 9}').
--
-- Returns the message id. It is made first and then inserted, because INSERT ...
-- RETURNING would need the right to SELECT from the outbox.
-- Overloads by the payload's type: jsonb is sent as its UTF-8 text, text as
-- UTF-8, bytea as it is. A literal or parameter of no declared type is text,
-- that is: sent as written, and NULL is the tombstone in all three.

CREATE FUNCTION outbox.publish(
    topic text, key text, payload bytea, headers jsonb DEFAULT NULL, type text DEFAULT NULL
)
    RETURNS uuid
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    made uuid := outbox.uuidv7();
BEGIN
    INSERT INTO outbox.message (message_id, topic, key, type, headers, payload)
    VALUES (made, publish.topic, publish.key, publish.type, publish.headers, publish.payload);
    RETURN made;
END
$function$;

CREATE FUNCTION outbox.publish(
    topic text, key text, payload text, headers jsonb DEFAULT NULL, type text DEFAULT NULL
)
    RETURNS uuid
    LANGUAGE sql VOLATILE
    RETURN outbox.publish(topic, key, convert_to(payload, 'UTF8'), headers, type);

CREATE FUNCTION outbox.publish(
    topic text, key text, payload jsonb, headers jsonb DEFAULT NULL, type text DEFAULT NULL
)
    RETURNS uuid
    LANGUAGE sql VOLATILE
    RETURN outbox.publish(topic, key, convert_to(payload::text, 'UTF8'), headers, type);

REVOKE ALL ON FUNCTION outbox.publish(text, text, bytea, jsonb, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.publish(text, text, text, jsonb, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox.publish(text, text, jsonb, jsonb, text) FROM PUBLIC;
