// A consumer of PaymentRequested from Kafka: every payment is made once, however often its record comes.
//
// The claim of the message id and the payment are one transaction, and the offset is committed after it. So the process
// may be killed anywhere: the record comes again, and is a duplicate if the commit had happened.
'use strict'

const { createHash, randomUUID } = require('node:crypto')
const { setTimeout: sleep } = require('node:timers/promises')
const { Kafka, logLevel } = require('kafkajs')
const pg = require('pg')

const CONSUMER = 'billing-node' // the logical handler: all its processes have this name
const ATTEMPTS_MAX = 3

/** The handler failed, not the database around it. */
class Failed extends Error {}

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL })
db.on('error', (error) => console.error(`an idle connection was lost: ${error.message}`))

async function pay(client, body) {
  const payment = JSON.parse(body)
  await client.query('INSERT INTO payment (id, amount) VALUES ($1, $2)', [payment.payment_id, payment.amount])
}

/** The producer's id, never a hash of the payload. A UUID is written in lower case, always. */
function messageId(headers) {
  const given = headers?.id?.toString()
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(given) ? given.toLowerCase() : given
}

/** Claims the message and pays, in one transaction; what the inbox says of the message. */
async function claimAndPay(client, message, body) {
  // Long enough for another process that is at the same message; then this one gives up.
  await client.query("BEGIN; SET LOCAL lock_timeout = '5s'")
  // outbox.inbox_claim, and with it the count of failed attempts goes. By the digest another message under a known id
  // is a mismatch.
  const digest = createHash('sha256').update(body).digest().subarray(0, 16)
  const claim = await client.query('SELECT verdict FROM outbox.inbox_begin($1, $2, $3)', [CONSUMER, message, digest])
  if (claim.rows[0].verdict === 'fresh') {
    try {
      await pay(client, body)
    } catch (error) {
      await client.query('ROLLBACK') // fails too if the database is away: then this was no attempt
      throw /^(40|55)/.test(error.code) ? error : new Failed(error.name) // 40, 55: a deadlock, a wait
    }
  }
  await client.query('COMMIT')
  return claim.rows[0].verdict
}

async function processOnce(message, body) {
  const client = await db.connect()
  try {
    const verdict = await claimAndPay(client, message, body)
    client.release()
    return verdict
  } catch (error) {
    client.release(!(error instanceof Failed)) // true: nobody knows in which state it is, so it is closed
    throw error
  }
}

/** Counts a failed attempt: how many there are, and whether the message is parked now. */
async function fail(message, reason, attemptsMax, body) {
  const sql = 'SELECT attempts, parked FROM outbox.inbox_fail($1, $2, $3, $3, $4, payload => $5)'
  return (await db.query(sql, [CONSUMER, message, reason, attemptsMax, body])).rows[0]
}

/** Until the record is done with. What is thrown from here is not the record's fault: kafkajs fetches it again. */
async function receive({ message: { headers, value: body }, heartbeat }) {
  const message = messageId(headers)
  const told = `message_id=${message} correlation_id=${headers?.correlation_id}`
  for (;;) {
    try {
      const verdict = message ? await processOnce(message, body) : 'missing_id'
      if (verdict === 'fresh') return console.log(`payment made ${told} decision=fresh`)
      if (verdict === 'duplicate') return console.log(`duplicate ignored ${told} decision=duplicate`)
      // missing_id, mismatch, stale: no other attempt would end otherwise. The id may be another message's.
      await fail(`${verdict}:${randomUUID()}`, verdict, 0, body)
      return console.log(`message parked ${told} reason=${verdict}`)
    } catch (error) {
      if (!(error instanceof Failed)) throw error
      const { attempts, parked } = await fail(message, error.message, ATTEMPTS_MAX, body)
      const said = `${told} attempt=${attempts} reason=${error.message}`
      if (parked) return console.log(`message parked ${said}`) // Kafka has no dead letters: it waits in the table
      console.log(`attempt failed ${said}`)
      await sleep(Math.random() * 100 * 2 ** attempts)
      await heartbeat()
    }
  }
}

async function main() {
  const kafka = new Kafka({ brokers: process.env.KAFKA_BROKERS.split(','), logLevel: logLevel.ERROR })
  // A shorter session gives the partitions of a killed process away sooner.
  const consumer = kafka.consumer({ groupId: CONSUMER, sessionTimeout: 6_000, heartbeatInterval: 2_000 })
  await consumer.connect()
  await consumer.subscribe({ topics: [process.env.TOPIC], fromBeginning: true })
  process.once('SIGTERM', () => consumer.disconnect().then(() => db.end()))
  await consumer.run({
    autoCommit: false,
    eachMessage: async (record) => {
      await receive(record)
      const offset = (BigInt(record.message.offset) + 1n).toString()
      await consumer.commitOffsets([{ topic: record.topic, partition: record.partition, offset }])
    },
  })
}

main()
