-- What `PaymentRequested` leads to. A unique key on payment_id would be a good second line of defence; it is left
-- out here so that `./dev proof` shows what the inbox does alone.
CREATE TABLE payments (
    id         bigserial   PRIMARY KEY,
    -- The id of the message that asked for it.
    payment_id uuid        NOT NULL,
    account    text        NOT NULL,
    -- In cents.
    amount     bigint      NOT NULL CHECK (amount > 0),
    -- As the provider calls it.
    charge     text        NOT NULL,
    paid_at    timestamptz NOT NULL DEFAULT now()
);
