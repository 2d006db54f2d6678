-- The record of the inbox's migrations. The conventions of schema/0001_meta.sql hold here too.

CREATE TABLE outbox.inbox_migration (
    version    int         PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE outbox.inbox_migration IS
    'Applied migrations of the inbox; the checksum is the SHA-256 of the file as it was shipped.';
