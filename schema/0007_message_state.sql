-- For people: every message, once per target, with its state there.
-- The open holes are gathered once, not once per message.
CREATE VIEW outbox.message_state AS
SELECT
    message.id,
    message.message_id,
    ledger.target,
    CASE
        WHEN NOT ledger.settled @> message.id OR coalesce(open.ranges @> message.id, false) THEN 'pending'
        WHEN retry.class = 'held' THEN 'held'
        WHEN retry.class IS NOT NULL THEN 'retrying'
        WHEN dead.id IS NOT NULL THEN 'dead'
        ELSE 'sent'
    END AS state
FROM outbox.message
CROSS JOIN outbox.ledger
LEFT JOIN (
    -- range_agg takes multiranges only from PostgreSQL 15 on.
    SELECT hole.target, range_agg(piece.piece) AS ranges
    FROM outbox.hole, unnest(hole.ranges) AS piece (piece)
    WHERE hole.dead_at IS NULL
    GROUP BY hole.target
) AS open ON open.target = ledger.target
LEFT JOIN outbox.retry ON retry.target = ledger.target AND retry.id = message.id
LEFT JOIN outbox.dead ON dead.target = ledger.target AND dead.id = message.id;
COMMENT ON VIEW outbox.message_state IS
    'pending | retrying | held | dead | sent, per message and target; sent includes what no route of the target takes.';
