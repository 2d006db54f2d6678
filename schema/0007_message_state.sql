-- For people: every message, once per target, with its state there.
-- The open holes are gathered once a target, not once a message. What stands in
-- retry and dead is looked up by key: as joins they were hashed, and spilled
-- every message to disk together with all ranges of its target.
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
    'pending | retrying | held | dead | sent, per message and target; sent includes what no route of the target takes.';
