-- The identity of this outbox, and the record of its migrations.
--
-- Conventions of this folder: a shipped file is never edited (its checksum is
-- stored), nothing in it destroys data, and every object is written as
-- "outbox." plus its name: the runner puts the configured schema there.
-- Functions either have a body that is parsed when they are created (names are
-- bound then, so no search_path can redirect them) or a pinned search_path.

CREATE TABLE outbox.migration (
    version    int         PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE outbox.migration IS
    'Applied migrations; the checksum is the SHA-256 of the file as it was shipped.';

CREATE TABLE outbox.meta (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    outbox_id uuid    NOT NULL DEFAULT gen_random_uuid(),
    -- outbox.place() of the outbox that has this id: a copy has the same id in another
    -- place, and must not lead. NULL: not noted yet.
    place     text,
    -- Every message with id < floor has been deleted, or stands in kept.
    floor     bigint  NOT NULL DEFAULT 1 CHECK (floor BETWEEN 1 AND 4611686018427387905),
    -- How many retry rows of class late the keeper ever made: the rows themselves go when delivered.
    late_rows bigint  NOT NULL DEFAULT 0 CHECK (late_rows >= 0),
    -- What was last asked of install_doorbell; every later `migrate` asks the same.
    doorbell  text    NOT NULL DEFAULT 'auto' CHECK (doorbell IN ('auto', 'on', 'off'))
);
COMMENT ON TABLE outbox.meta IS
    'One row: the identity from which lock keys and broker fences derive, and the floor of retention.';
INSERT INTO outbox.meta DEFAULT VALUES;

-- Advisory lock keys, two int4 each. The names in use:
--   a target    the pipeline's session lock
--   @bell       held exclusively by the relay process that is asleep (doorbell)
--   @keeper     session lock of the elected keeper
--   @floor      transaction lock of everything that relies on the floor standing
--               still: retention, sweep, target creation, replay, requeue, rebuild
-- No target can be called like that, since target names begin with a letter.
-- SHA-256 and not md5, which a FIPS build of PostgreSQL refuses to compute.
-- Without the row of outbox.meta there is no key: an error, since NULL would be a lock
-- that is never held.
CREATE FUNCTION outbox.lock_key(name text, OUT k1 int, OUT k2 int)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    id  uuid := (SELECT outbox_id FROM outbox.meta);
    hex text := encode(sha256(convert_to(id::text || '/' || lock_key.name, 'UTF8')), 'hex');
BEGIN
    IF hex IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'the table meta of the outbox is empty: it was restored without its data',
            HINT = 'Run `outbox-relay migrate`.';
    END IF;
    k1 := ('x' || substr(hex, 1, 8))::bit(32)::int;
    k2 := ('x' || substr(hex, 9, 8))::bit(32)::int;
END
$function$;
REVOKE ALL ON FUNCTION outbox.lock_key(text) FROM PUBLIC;
