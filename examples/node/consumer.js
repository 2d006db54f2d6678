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
const ATTEMPTS_MAX = 8 // as the Rust crate: with the pauses below, a minute on average
const PAUSE_MS_MAX = 300_000
const HEARTBEAT_MS = 2_000
const KEEP_BYTES_MAX = 256 * 1024 // of a parked payload
const UNSTORABLE = '22P05' // a text has a character that the database's encoding does not know
const REPLAY_INTERVAL_MS = 5_000

/** The handler failed, not the database around it. Another attempt may succeed, unless it is permanent. */
class Failed extends Error {
  constructor(name, permanent) {
    super(name)
    this.permanent = permanent
  }
}

let stopping = false
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL })
db.on('error', (error) => console.error(`an idle connection was lost: ${error.message}`))

/** Pays what the record asks for. A tombstone (a record without a value) asks for nothing. */
async function pay(client, body) {
  let payment
  try {
    payment = JSON.parse(body)
    if (payment.payment_id === undefined || payment.amount === undefined) throw new TypeError('no payment')
  } catch (error) {
    throw new Failed(error.name, true) // no other attempt makes another payload of it
  }
  await client.query('INSERT INTO payment (id, amount) VALUES ($1, $2)', [payment.payment_id, payment.amount])
}

/** Text, or undefined for bytes that are none: two of those would look alike. */
function text(bytes) {
  // A header that is given more than once is an array, and each of its values may be null. Under a
  // name like `constructor` kafkajs puts what every object inherits into it as well.
  const readable = (one) => Buffer.isBuffer(one) || typeof one === 'string'
  const value = (Array.isArray(bytes) ? bytes : [bytes]).find(readable)
  if (value === undefined) return undefined
  const buffer = Buffer.from(value)
  const decoded = buffer.toString()
  return Buffer.from(decoded).equals(buffer) ? decoded : undefined
}

/** The producer's id, never a hash of the payload. A UUID is written in lower case, always. */
function messageId(headers) {
  const given = text(headers?.id)
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(given) ? given.toLowerCase() : given
}

/** By it another message under a known id is a mismatch. A tombstone is not an empty payload. */
function digest(body) {
  const absent = body === null || body === undefined
  return createHash('sha256').update(absent ? '0' : '1').update(absent ? '' : body).digest().subarray(0, 16)
}

/** The handler's failure; or the error as it is, if it says nothing about the message. */
function failure(error) {
  if (error instanceof Failed) return error
  if (error instanceof pg.DatabaseError) {
    if (/^2[23]/.test(error.code)) return new Failed(`SQLSTATE ${error.code}`, true) // the values are refused
    // The database is away or at its limits, or another transaction was in the way.
    return /^(08|40|53|55|57(?!014)|58)/.test(error.code) ? error : new Failed(`SQLSTATE ${error.code}`, false)
  }
  const lost = error.syscall !== undefined || /connection/i.test(error.message)
  return lost ? error : new Failed(error.name, false)
}

/** Claims the message and pays, in one transaction; what the inbox says of the message, and why. */
async function claimAndPay(client, message, body) {
  // Long enough for another process that is at the same message; then this one gives up.
  await client.query("BEGIN; SET LOCAL lock_timeout = '5s'")
  // outbox.inbox_claim, and with it the count of failed attempts goes. By the digest another message under a known id
  // is a mismatch.
  const claim = await client.query('SELECT verdict, reason FROM outbox.inbox_begin($1, $2, $3)', [
    CONSUMER, message, digest(body),
  ])
  const found = claim.rows[0]
  if (found.verdict !== 'fresh') {
    await client.query('ROLLBACK')
    return found
  }
  try {
    await pay(client, body)
    await client.query('COMMIT') // it checks what was deferred
  } catch (error) {
    const failed = failure(error)
    if (failed instanceof Failed) await client.query('ROLLBACK') // fails if the database is away: then this was no attempt
    throw failed
  }
  return found
}

async function processOnce(message, body) {
  if (!message) return { verdict: 'missing_id' }
  if (message.includes('\0')) return { verdict: 'unusable', reason: 'nul' } // no text of PostgreSQL's can hold it
  const client = await db.connect()
  try {
    const found = await claimAndPay(client, message, body)
    client.release()
    return found
  } catch (error) {
    client.release(!(error instanceof Failed)) // true: nobody knows in which state it is, so it is closed
    if (error.code === UNSTORABLE) return { verdict: 'unusable', reason: 'encoding' }
    throw error
  }
}

/** What a replay from the table needs beside the payload, as the Rust crate keeps it. jsonb has no NUL. */
function kept({ topic, message: { key, headers } }) {
  const readable = (bytes) => text(bytes)?.replaceAll('\0', '\ufffd') ?? null
  const pairs = Object.entries(headers ?? {}).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((one) => [name.replaceAll('\0', '\ufffd'), readable(one)]))
  return JSON.stringify({ destination: topic, type: readable(headers?.type), key: readable(key), headers: pairs })
}

/** Counts a failed attempt: how many there are, and whether the message is parked now. */
async function fail(message, kind, error, attemptsMax, record) {
  const sql = 'SELECT attempts, parked FROM outbox.inbox_fail($1, $2, $3, $4, $5, headers => $6::jsonb, payload => $7)'
  const body = record.message.value
  // Without its payload a message cannot be replayed from the table, and must not look as if it
  // could.
  const fits = !body || body.length <= KEEP_BYTES_MAX
  const what = fits ? [kept(record), body] : [null, null]
  const told = [CONSUMER, message, kind, error, attemptsMax]
  try {
    return (await db.query(sql, [...told, ...what])).rows[0]
  } catch (refused) {
    if (refused.code !== UNSTORABLE) throw refused
    // A header, say, has a character that the database's encoding does not know.
    return (await db.query(sql, [CONSUMER, message, kind, error.replace(/[^ -~]/g, '?'), attemptsMax, null, null])).rows[0]
  }
}

/** Under which id a message is parked that no handler has seen. outbox.inbox_fail takes any text. */
function parkingName(message, verdict, reason) {
  if (verdict === 'mismatch') return `mismatch:${randomUUID()}` // under its own stands the message that has it already
  if (reason === 'nul' || reason === 'encoding') return `sha256:${createHash('sha256').update(message).digest('hex')}`
  return message ?? null
}

/** Does what is to be done with a message: the decision, and the number of failed attempts. */
async function attempt(message, record) {
  const told = `message_id=${JSON.stringify(message)} correlation_id=${JSON.stringify(text(record.message.headers?.correlation_id))}`
  try {
    const { verdict, reason } = await processOnce(message, record.message.value)
    if (verdict === 'fresh') {
      console.log(`payment made ${told} decision=fresh`)
    } else if (verdict === 'duplicate') {
      console.log(`duplicate ignored ${told} decision=duplicate`)
    } else {
      // missing_id, mismatch, stale, unusable: no other attempt would end otherwise.
      await fail(parkingName(message, verdict, reason), verdict, reason ?? '', 0, record)
      console.log(`message parked ${told} reason=${verdict} ${reason ?? ''}`)
      return { decision: 'parked' }
    }
    return { decision: verdict }
  } catch (error) {
    if (!(error instanceof Failed)) throw error
    const [kind, maximum] = error.permanent ? ['permanent', 0] : ['transient', ATTEMPTS_MAX]
    const { attempts, parked } = await fail(message, kind, error.message, maximum, record)
    const said = `${told} attempt=${attempts} reason=${error.message}`
    // Kafka has no dead letters: it waits in the table.
    console.log(`${parked ? 'message parked' : 'attempt failed'} ${said}`)
    return { decision: parked ? 'parked' : 'failed', attempts }
  }
}

/** Waits between two attempts; the group must not take the process for a dead one meanwhile. */
async function pause(milliseconds, heartbeat) {
  for (let left = milliseconds; left > 0 && !stopping; left -= HEARTBEAT_MS) {
    await sleep(Math.min(left, HEARTBEAT_MS))
    await heartbeat()
  }
}

/** Until the record is done with. What says nothing about the record is waited out: nothing behind it is overtaken. */
async function receive(record) {
  const message = messageId(record.message.headers)
  for (let lost = 0; ; ) {
    if (stopping) throw new Error('stopping: the record comes again')
    try {
      const { decision, attempts } = await attempt(message, record)
      if (decision !== 'failed') return
      await pause(Math.random() * Math.min(1_000 * 2 ** (attempts - 1), PAUSE_MS_MAX), record.heartbeat)
    } catch (error) {
      if (error.name.startsWith('KafkaJS')) throw error // of the heartbeat: the partition may be another process's by now
      lost += 1
      console.error(`no attempt, tried again message_id=${JSON.stringify(message)}: ${error.message}`)
      await pause(Math.random() * Math.min(1_000 * 2 ** lost, 30_000), record.heartbeat)
    }
  }
}

/** Processes what a person let through again (`outbox-relay inbox failures replay`), from the table. */
async function replay() {
  const sql = `SELECT message_id, headers, payload FROM outbox.inbox_failure
    WHERE consumer = $1 AND replay_at IS NOT NULL ORDER BY replay_at LIMIT 1`
  const row = (await db.query(sql, [CONSUMER])).rows[0]
  if (!row) return false
  const pairs = Array.isArray(row.headers?.headers) ? row.headers.headers : []
  const headers = Object.fromEntries(pairs.map(([name, value]) => [name, value]))
  const message = { key: row.headers?.key ?? null, headers, value: row.payload }
  const { decision } = await attempt(row.message_id, { topic: row.headers?.destination ?? '', message })
  if (decision === 'duplicate' || decision === 'parked') {
    // It came another way meanwhile, or waits for a person again: without this it would be taken again and again.
    await db.query('SELECT FROM outbox.inbox_settle($1, $2)', [CONSUMER, [row.message_id]])
  }
  return decision === 'fresh'
}

async function keepReplaying() {
  while (!stopping) {
    try {
      if (await replay()) continue
    } catch (error) {
      console.error(`no replay: ${error.message}`)
    }
    await sleep(REPLAY_INTERVAL_MS, undefined, { ref: false })
  }
}

async function main() {
  const kafka = new Kafka({ brokers: process.env.KAFKA_BROKERS.split(','), logLevel: logLevel.ERROR })
  // A shorter session gives the partitions of a killed process away sooner.
  const consumer = kafka.consumer({ groupId: process.env.GROUP ?? CONSUMER, sessionTimeout: 6_000, heartbeatInterval: HEARTBEAT_MS })
  // kafkajs goes on after some errors, and ends quietly after others: a process that does nothing
  // must not look well.
  consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
    if (stopping) return
    console.error(`the consumer has ended: ${error.message}`)
    if (!restart) process.exit(1)
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [process.env.TOPIC], fromBeginning: true })
  process.once('SIGTERM', async () => {
    stopping = true
    await consumer.disconnect()
    await db.end()
  })
  keepReplaying()
  await consumer.run({
    autoCommit: false,
    eachMessage: async (record) => {
      await receive(record)
      const offset = (BigInt(record.message.offset) + 1n).toString()
      await consumer.commitOffsets([{ topic: record.topic, partition: record.partition, offset }])
    },
  })
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
