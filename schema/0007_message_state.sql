-- For people: every message, once per target, with its state there.
-- The open holes are gathered once a target, not once a message. What stands in
-- retry, dead and unrouted is looked up by key: as joins they were hashed, and
-- spilled every message to disk together with all ranges of its target.
CREATE VIEW outbox.message_state AS
SELECT
    message.id,
    message.message_id,
    ledger.target,
    CASE
        WHEN NOT ledger.settled @> message.id OR coalesce(open.ranges @> message.id, false) THEN 'pending'
        ELSE coalesce(
            (
                SELECT CASE retry.class WHEN 'held' THEN 'held' WHEN 'poison' THEN 'dead' ELSE 'retrying' END
                FROM outbox.retry
                WHERE retry.target = ledger.target AND retry.id = message.id
            ),
            (
                SELECT 'dead'
                FROM outbox.dead
                WHERE dead.target = ledger.target AND dead.id = message.id
                    -- After the identity went back it may be the copy of another message.
                    AND dead.message_id = message.message_id
            ),
            (
                SELECT 'unrouted'
                FROM outbox.unrouted
                WHERE unrouted.target = ledger.target AND unrouted.topic = message.topic
                    AND unrouted.type IS NOT DISTINCT FROM message.type
                    AND unrouted.ids @> message.id
                LIMIT 1
            ),
            (
                SELECT 'unrouted'
                FROM outbox.unrouted
                WHERE unrouted.target = ledger.target AND unrouted.topic IS NULL
                    AND unrouted.ids @> message.id
                    AND NOT EXISTS (
                        SELECT FROM jsonb_to_recordset(unrouted.taken) AS taken (topic text, type text)
                        WHERE message.topic LIKE taken.topic
                            AND (taken.type IS NULL OR message.type LIKE taken.type)
                    )
                LIMIT 1
            ),
            'sent'
        )
    END AS state
FROM outbox.ledger
LEFT JOIN (
    -- range_agg takes multiranges only from PostgreSQL 15 on.
    SELECT hole.target, range_agg(piece.piece) AS ranges
    FROM outbox.hole, unnest(hole.ranges) AS piece (piece)
    WHERE hole.dead_at IS NULL
    GROUP BY hole.target
) AS open ON open.target = ledger.target
CROSS JOIN outbox.message;
COMMENT ON VIEW outbox.message_state IS
    'pending | retrying | held | dead | unrouted | sent, per message and target; unrouted: settled unsent, no route of the target took it.';
