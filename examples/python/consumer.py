"""A consumer of PaymentRequested from RabbitMQ: every payment is made once, however often its message comes.

The claim of the message id and the payment are one transaction, and the acknowledgement follows its commit. So the
process may be killed anywhere: the message comes again, and is a duplicate if the commit had happened.
"""

import hashlib
import json
import logging
import os
import random
import re
import signal
import sys
import uuid

import pika
import psycopg
from psycopg import errors

CONSUMER = "billing-python"  # the logical handler: all its processes have this name
ATTEMPTS_MAX = 8  # as the Rust crate: with the pauses below, a minute on average
PAUSE_MAX = 300  # seconds
KEEP_BYTES_MAX = 256 * 1024  # of a parked payload; a larger one is left to the dead letters
REPLAY_INTERVAL = 5  # seconds
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Another transaction was in the way. That says nothing about the message.
BUSY = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)
# A text has a character that the database's encoding does not know, or that is no character.
UNSTORABLE = (errors.UntranslatableCharacter, errors.CharacterNotInRepertoire, UnicodeEncodeError)
# The database refuses the values: no other attempt makes them right.
REFUSED = (errors.DataError, errors.IntegrityError)
log = logging.getLogger("consumer")


class Failed(Exception):
    """The handler failed, and another attempt may succeed."""


class Refused(Exception):
    """The handler failed, and no other attempt will succeed."""


class Stop:
    """Whether the process is to end: a pause before the next attempt is cut short by it."""

    requested = False


def pay(db, body):
    """Pays what the message asks for. A tombstone (a message without a payload) asks for nothing."""
    try:
        payment = json.loads(body)
        row = (payment["payment_id"], payment["amount"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise Refused(type(error).__name__) from error
    db.execute("INSERT INTO payment (id, amount) VALUES (%s, %s)", row)


def message_id(properties):
    """The producer's id, never a hash of the payload; None if there is none. A UUID is written in lower case."""
    given = properties.message_id
    if given in (None, ""):
        given = (properties.headers or {}).get("id")
    if given in (None, ""):
        return None
    text = given if isinstance(given, str) else str(given)
    return text.lower() if UUID.fullmatch(text) else text


def digest(properties, body):
    """By it another message under a known id is a mismatch. A NULL payload is not an empty one."""
    absent = not body and (properties.headers or {}).get("x-outbox-null") == "true"
    return hashlib.sha256((b"0" if absent else b"1") + body).digest()[:16]


def process(db, message, properties, body):
    """Claims the message and pays, in one transaction; what the inbox says of the message, and why."""
    if not message:
        return "missing_id", ""
    if "\0" in message:
        return "unusable", "nul"  # no text of PostgreSQL's can hold it, so it cannot be asked for either
    claimed = False
    try:
        with db.transaction():
            # Long enough for another process that is at the same message; then this one gives up.
            db.execute("SET LOCAL lock_timeout = '5s'")
            # outbox.inbox_claim, and with it the count of failed attempts goes.
            claim = "SELECT verdict, reason FROM outbox.inbox_begin(%s, %s, %s)"
            found = db.execute(claim, (CONSUMER, message, digest(properties, body))).fetchone()
            claimed = found[0] == "fresh"
            if claimed:
                pay(db, body)
    except (*BUSY, Refused):
        raise
    except UNSTORABLE as error:
        if claimed:
            raise Refused(type(error).__name__) from error
        return "unusable", "encoding"  # the id has a character that the database's encoding does not know
    except Exception as error:
        # The database is away, or the inbox cannot be used: that says nothing about the message.
        # The process ends, its supervisor starts it again, and the message comes again.
        away = isinstance(error, psycopg.OperationalError) and not isinstance(error, errors.QueryCanceled)
        if not claimed or away:
            raise
        # The handler's, or of the COMMIT, which checks what was deferred.
        raise (Refused if isinstance(error, REFUSED) else Failed)(type(error).__name__) from error
    return found


def readable(value):
    """Text without what neither text nor jsonb of PostgreSQL's can hold; None for what is no text."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, (bool, int)):
        value = str(value).lower()
    return value.replace("\0", "\ufffd") if isinstance(value, str) else None


def kept(properties):
    """What a replay from the table needs beside the payload, as the Rust crate keeps it."""
    headers = [[readable(name), readable(value)] for name, value in (properties.headers or {}).items()]
    return json.dumps(
        {
            "destination": os.environ["QUEUE"],
            "type": readable(properties.type),
            "correlation_id": readable(properties.correlation_id),
            "headers": headers,
        }
    )


def fail(db, message, reason, error, attempts_max, properties, body):
    """Counts a failed attempt: how many there are, and whether the message is parked now."""
    sql = (
        "SELECT attempts, parked FROM outbox.inbox_fail(%s, %s, %s, %s, %s, headers => %s::jsonb, payload => %s)"
    )
    # Without its payload a message cannot be replayed from the table, and must not look as if it
    # could.
    fits = len(body) <= KEEP_BYTES_MAX
    what = (kept(properties), body) if fits else (None, None)
    try:
        return db.execute(sql, (CONSUMER, message, reason, error, attempts_max, *what)).fetchone()
    except UNSTORABLE:
        # A header, say, has a character that the database's encoding does not know.
        return db.execute(sql, (CONSUMER, message, reason, error, attempts_max, None, None)).fetchone()


def parking_name(message, verdict, reason):
    """Under which id a message is parked that no handler has seen. outbox.inbox_fail takes any text."""
    if verdict == "mismatch":
        return f"mismatch:{uuid.uuid4()}"  # under its own stands the message that has it already
    if message and reason in ("nul", "encoding"):
        return "sha256:" + hashlib.sha256(message.encode("utf-8", "surrogateescape")).hexdigest()
    return message


def pause(connection, seconds):
    """Waits, and answers the broker's heartbeats meanwhile."""
    while seconds > 0 and not Stop.requested:
        connection.sleep(min(seconds, 0.2))
        seconds -= 0.2


def attempt(db, message, properties, body):
    """Does what is to be done with a message: the decision, and the number of failed attempts."""
    told = f"message_id={message!r} correlation_id={properties.correlation_id!r}"
    try:
        verdict, reason = process(db, message, properties, body)
    except BUSY as error:
        log.info("message given back %s reason=%s", told, type(error).__name__)
        return "busy", 0
    except (Failed, Refused) as error:
        again = ATTEMPTS_MAX if isinstance(error, Failed) else 0
        kind = "transient" if again else "permanent"
        attempts, parked = fail(db, message, kind, str(error), again, properties, body)
        what = "message parked" if parked else "attempt failed"
        log.warning("%s %s attempt=%s reason=%s", what, told, attempts, error)
        return ("parked" if parked else "failed"), attempts
    if verdict in ("fresh", "duplicate"):
        log.info("%s %s decision=%s", "payment made" if verdict == "fresh" else "duplicate ignored", told, verdict)
        return verdict, 0
    # missing_id, mismatch, stale, unusable: no other attempt would end otherwise.
    fail(db, parking_name(message, verdict, reason), verdict, reason, 0, properties, body)
    log.warning("message parked %s reason=%s %s", told, verdict, reason or "")
    return "parked", 1


def receive(db, channel, method, properties, body):
    decision, attempts = attempt(db, message_id(properties), properties, body)
    tag = method.delivery_tag
    if decision in ("fresh", "duplicate"):
        channel.basic_ack(tag)
    elif decision == "parked":
        channel.basic_reject(tag, requeue=False)  # to the dead letters
    elif decision == "failed":
        pause(channel.connection, random.uniform(0, min(2 ** (attempts - 1), PAUSE_MAX)))
        channel.basic_reject(tag, requeue=True)
    else:
        pause(channel.connection, random.uniform(0, 1))
        channel.basic_nack(tag, requeue=True)  # no attempt, for this inbox and (from 4.3 on) for the queue


def replay(db, connection):
    """Processes what a person let through again (`outbox-relay inbox failures replay`), from the table."""
    sql = (
        "SELECT message_id, headers, payload FROM outbox.inbox_failure"
        " WHERE consumer = %s AND replay_at IS NOT NULL ORDER BY replay_at LIMIT 1"
    )
    row = db.execute(sql, (CONSUMER,)).fetchone()
    decision = None
    if row:
        message, what, body = row
        what = what if isinstance(what, dict) else {}
        properties = pika.BasicProperties(
            headers={pair[0]: pair[1] for pair in what.get("headers") or [] if len(pair) == 2},
            correlation_id=what.get("correlation_id"),
            type=what.get("type"),
        )
        decision, _ = attempt(db, message, properties, bytes(body or b""))
        if decision in ("duplicate", "parked"):
            # It came another way meanwhile, or waits for a person again: without this it would be taken again and again.
            db.execute("SELECT FROM outbox.inbox_settle(%s, %s)", (CONSUMER, [message]))
    connection.call_later(0 if decision == "fresh" else REPLAY_INTERVAL, lambda: replay(db, connection))


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("pika").setLevel(logging.WARNING)
    # autocommit: a transaction is what `with db.transaction()` says, and nothing else.
    with (
        psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, client_encoding="UTF8") as db,
        pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as connection,
    ):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(os.environ["QUEUE"], lambda *delivery: receive(db, *delivery))

        def stop(*_):
            Stop.requested = True
            connection.add_callback_threadsafe(channel.stop_consuming)

        signal.signal(signal.SIGTERM, stop)
        replay(db, connection)
        channel.start_consuming()


if __name__ == "__main__":
    main()
