"""A consumer of PaymentRequested from RabbitMQ: every payment is made once, however often its message comes.

The claim of the message id and the payment are one transaction, and the acknowledgement follows its commit. So the
process may be killed anywhere: the message comes again, and is a duplicate if the commit had happened.
"""

import hashlib
import json
import logging
import os
import random
import signal
import sys
import uuid

import pika
import psycopg

CONSUMER = "billing-python"  # the logical handler: all its processes have this name
ATTEMPTS_MAX = 3
log = logging.getLogger("consumer")


class Failed(Exception):
    """The handler failed, not the database around it."""


def pay(db, body):
    payment = json.loads(body)
    db.execute("INSERT INTO payment (id, amount) VALUES (%s, %s)", (payment["payment_id"], payment["amount"]))


def message_id(properties):
    """The producer's id, never a hash of the payload. A UUID is written in lower case, always."""
    given = properties.message_id or (properties.headers or {}).get("id")
    try:
        return str(uuid.UUID(given)) if len(given) == 36 else given
    except (TypeError, ValueError):
        return given


def process(db, message, body):
    """Claims the message and pays, in one transaction; what the inbox says of the message."""
    with db.transaction():
        # Long enough for another process that is at the same message; then this one gives up.
        db.execute("SET LOCAL lock_timeout = '5s'")
        # outbox.inbox_claim, and with it the count of failed attempts goes. By the digest another message under a
        # known id is a mismatch.
        claim = "SELECT verdict FROM outbox.inbox_begin(%s, %s, %s)"
        verdict = db.execute(claim, (CONSUMER, message, hashlib.sha256(body).digest()[:16])).fetchone()[0]
        if verdict == "fresh":
            try:
                pay(db, body)
            except psycopg.OperationalError:
                raise  # nobody's fault here: the process ends, and the message comes again
            except Exception as error:
                raise Failed(type(error).__name__) from error
    return verdict


def fail(db, message, reason, attempts_max, body):
    """Counts a failed attempt: how many there are, and whether the message is parked now."""
    sql = "SELECT attempts, parked FROM outbox.inbox_fail(%s, %s, %s, %s, %s, payload => %s)"
    return db.execute(sql, (CONSUMER, message, reason, reason, attempts_max, body)).fetchone()


def receive(db, channel, method, properties, body):
    message = message_id(properties)
    tag, told = method.delivery_tag, f"message_id={message} correlation_id={properties.correlation_id}"
    try:
        verdict = process(db, message, body) if message else "missing_id"
    except Failed as error:
        attempts, parked = fail(db, message, str(error), ATTEMPTS_MAX, body)
        log.warning("%s %s attempt=%s reason=%s", "message parked" if parked else "attempt failed", told, attempts, error)
        if not parked:
            channel.connection.sleep(random.uniform(0, 0.1 * 2**attempts))
        return channel.basic_reject(tag, requeue=not parked)  # without requeue: to the dead letters
    if verdict in ("fresh", "duplicate"):
        log.info("%s %s decision=%s", "payment made" if verdict == "fresh" else "duplicate ignored", told, verdict)
        return channel.basic_ack(tag)
    # missing_id, mismatch, stale: no other attempt would end otherwise. The id itself may be another message's.
    fail(db, f"{verdict}:{uuid.uuid4()}", verdict, 0, body)
    log.warning("message parked %s reason=%s", told, verdict)
    channel.basic_reject(tag, requeue=False)


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("pika").setLevel(logging.WARNING)
    # autocommit: a transaction is what `with db.transaction()` says, and nothing else.
    with (
        psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db,
        pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as connection,
    ):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(os.environ["QUEUE"], lambda *delivery: receive(db, *delivery))
        signal.signal(signal.SIGTERM, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
        channel.start_consuming()


if __name__ == "__main__":
    main()
