-- What applications write: one row per message, immutable, never updated.

-- Version 7, so that ids sort by time: an index over them grows at its right
-- end, and a receiver can tell from the id alone on which day it was made.
-- PostgreSQL 18 has its own; before it, 48 bits of milliseconds over a random
-- version 4 UUID, whose version nibble 0100 becomes 0111 by two bits.
DO $migration$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE FUNCTION outbox.uuidv7() RETURNS uuid
            LANGUAGE sql VOLATILE PARALLEL SAFE
            RETURN pg_catalog.uuidv7();
    ELSE
        CREATE FUNCTION outbox.uuidv7() RETURNS uuid
            LANGUAGE sql VOLATILE PARALLEL SAFE
            RETURN encode(
                set_bit(set_bit(
                    overlay(
                        uuid_send(gen_random_uuid())
                        PLACING substring(
                            int8send(floor(date_part('epoch', clock_timestamp()) * 1000)::bigint)
                            FROM 3
                        )
                        FROM 1 FOR 6
                    ), 52, 1), 53, 1),
                'hex')::uuid;
    END IF;
END
$migration$;
REVOKE ALL ON FUNCTION outbox.uuidv7() FROM PUBLIC;

-- Header names that every broker can carry and that are not the relay's own.
-- Collation "C" because lower() must fold ASCII alone, in every locale.
-- plpgsql, because the planner would try to inline an SQL function at every
-- INSERT: 15 us a statement, and 40 us more with headers, against 0 and 12.
CREATE FUNCTION outbox.header_names_allowed(headers jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN NOT EXISTS (
        SELECT FROM jsonb_object_keys(headers) AS header (name)
        WHERE octet_length(name) NOT BETWEEN 1 AND 255
           OR lower(name COLLATE "C") IN ('id', 'type')
           OR starts_with(lower(name COLLATE "C"), 'x-outbox-')
    );
END
$function$;
REVOKE ALL ON FUNCTION outbox.header_names_allowed(jsonb) FROM PUBLIC;

-- Fixed-width columns first: no padding between them and the rest.
-- CACHE 1, because a cached id is an id that commits long after its neighbours.
-- Keys are compared by their bytes: the same in every locale, and cheaper.
-- created_at is for people and decides nothing: clocks step back.
CREATE TABLE outbox.message (
    id         bigint      GENERATED ALWAYS AS IDENTITY (MAXVALUE 4611686018427387904 CACHE 1) PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    message_id uuid        NOT NULL DEFAULT outbox.uuidv7(),
    topic      text        NOT NULL,
    type       text,
    key        text        COLLATE "C",
    headers    jsonb,
    payload    bytea,

    -- Up to 2^62, so that "one past the last" never overflows.
    CONSTRAINT id_is_1_to_2_pow_62 CHECK (id BETWEEN 1 AND 4611686018427387904),
    -- A version 4 id would land on a random day of the receivers' inbox.
    CONSTRAINT message_id_is_a_version_7_uuid CHECK (
        get_byte(uuid_send(message_id), 6) >> 4 = 7 AND get_byte(uuid_send(message_id), 8) >> 6 = 2
    ),
    -- 255 bytes is what an AMQP short string holds.
    CONSTRAINT topic_is_1_to_255_bytes CHECK (octet_length(topic) BETWEEN 1 AND 255),
    CONSTRAINT type_is_at_most_255_bytes CHECK (octet_length(type) <= 255),
    -- The key is part of an index of outbox.retry, whose entries PostgreSQL
    -- limits to 2704 bytes: a longer key could be sent but never set aside.
    CONSTRAINT key_is_at_most_2048_bytes CHECK (octet_length(key) <= 2048),
    CONSTRAINT headers_is_an_object CHECK (jsonb_typeof(headers) = 'object'),
    -- AMQP carries all properties of a message in one frame, 128 kB by default.
    CONSTRAINT headers_is_at_most_16384_bytes CHECK (octet_length(headers::text) <= 16384),
    CONSTRAINT header_names_are_1_to_255_bytes_and_not_id_type_x_outbox CHECK (
        -- jsonb_object_keys fails on anything but an object; the check above names that mistake.
        CASE WHEN jsonb_typeof(headers) = 'object' THEN outbox.header_names_allowed(headers) END
    )
) WITH (
    -- Rows come at the head and go at the tail: vacuum by count, not by a share
    -- of a table that may be anything between empty and a week long, and unthrottled.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 20000,
    toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE outbox.message IS
    'The outbox: insert here (or call outbox.publish) in the transaction of the change the message tells about.';
COMMENT ON COLUMN outbox.message.key IS
    'Ordering key: first deliveries of one key are in commit order, if its writers hold a common lock before they insert. NULL: no order.';
COMMENT ON COLUMN outbox.message.payload IS
    'Sent byte for byte. NULL: a tombstone on Kafka, an empty body marked x-outbox-null on AMQP.';

-- Where the outbox is: the cluster, the database and the table. A copy made by CREATE
-- DATABASE ... TEMPLATE, a restored dump and pg_upgrade show another place. A failover, a
-- crash, a recovery to a point in time and a rewrite of the table (VACUUM FULL) do not, and
-- neither does a copy of the files.
CREATE FUNCTION outbox.place() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT concat_ws('/', control.system_identifier, database.oid, 'outbox.message'::regclass::oid)
    FROM pg_control_system() AS control, pg_database AS database
    WHERE database.datname = current_database();
END;
REVOKE ALL ON FUNCTION outbox.place() FROM PUBLIC;
