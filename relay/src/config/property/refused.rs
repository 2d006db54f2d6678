//! The properties of librdkafka that cannot be set, each with the reason and the remedy.

/// Why properties cannot be set, and what to do instead.
pub(super) struct Refused {
    /// Whole names, or what a name begins with where one ends in `.`.
    pub(super) names: &'static [&'static str],
    pub(super) reason: &'static str,
    pub(super) hint: &'static str,
}

const NO_REMEDY: &str = "take it out";
const OWN_KEY: &str = "it has a key of its own";
const NO_CODE: &str = "the relay loads no code and runs no command at the word of a property";

const fn refused(
    names: &'static [&'static str],
    reason: &'static str,
    hint: &'static str,
) -> Refused {
    Refused { names, reason, hint }
}

/// The first that matches counts.
pub(super) const REFUSED: &[Refused] = &[
    // What "confirmed" means.
    refused(
        &["acks", "request.required.acks"],
        "a row is settled only when all in-sync replicas have it",
        NO_REMEDY,
    ),
    refused(&["delivery.report.only.error"], "every row waits for its delivery report", NO_REMEDY),
    refused(
        &["message.timeout.ms", "delivery.timeout.ms"],
        "a row that expires in the client may have been written all the same; rows never expire",
        "an outage is noticed by confirm_timeout",
    ),
    refused(
        &["test.mock.num.brokers", "test.mock.broker.rtt", "ut_handle_ProduceResponse"],
        "a broker that librdkafka only plays would confirm what goes nowhere",
        NO_REMEDY,
    ),
    // The order per key.
    refused(
        &["enable.idempotence"],
        "without it a retry inside the client breaks the order",
        NO_REMEDY,
    ),
    refused(&["enable.gapless.guarantee"], "the relay sends again itself, in order", NO_REMEDY),
    refused(
        &["max.in.flight", "max.in.flight.requests.per.connection"],
        "the idempotent producer sets it: more would break the order",
        NO_REMEDY,
    ),
    refused(
        &["retries", "message.send.max.retries"],
        "the client retries without end, in order; the relay decides",
        NO_REMEDY,
    ),
    refused(
        &["partitioner", "partitioner_cb"],
        "a key must stay in its partition, the one that Java clients choose (murmur2_random)",
        NO_REMEDY,
    ),
    refused(
        &["queuing.strategy", "msg_order_cmp"],
        "messages go out in the order of their rows",
        NO_REMEDY,
    ),
    refused(
        &["transactional.id"],
        "it is derived from the pipeline when there is a fence",
        NO_REMEDY,
    ),
    refused(&["transaction.timeout.ms"], "there are no transactions without a fence", NO_REMEDY),
    refused(
        &["api.version.request", "api.version.fallback.ms", "broker.version.fallback"],
        "the client asks each broker what it can; a guess would switch idempotence off",
        NO_REMEDY,
    ),
    // What the relay does by itself.
    refused(
        &["allow.auto.create.topics"],
        "a typing error in a route must not create a topic",
        "create topics with the partitions and replicas that they need",
    ),
    refused(
        &["topic.blacklist"],
        "its topics would look as if the broker did not have them",
        "let no route name them",
    ),
    refused(
        &["statistics.interval.ms", "stats_cb"],
        "nothing would read them: the relay has its own",
        "see [http] listen",
    ),
    refused(
        &["debug", "log_level", "log.queue", "log.thread.name", "log_cb", "enabled_events"],
        "the relay writes the log, and answers for what is in it",
        "take it out: what the client warns of is in the log, under [log] level",
    ),
    // What the window bounds.
    refused(
        &["queue.buffering.max.ms"],
        "it is another name of linger.ms, which has a key of its own",
        "set linger",
    ),
    refused(
        &["queue.buffering."],
        "the window bounds what is in flight, the client's queue only has room for it",
        "set window_messages_max and window_bytes_max",
    ),
    // What has a key of its own.
    refused(&["bootstrap.servers", "metadata.broker.list"], OWN_KEY, "set brokers"),
    refused(&["linger.ms"], OWN_KEY, "set linger"),
    refused(&["compression.codec", "compression.type"], OWN_KEY, "set compression"),
    refused(&["socket.connection.setup.timeout.ms"], OWN_KEY, "set connect_timeout"),
    refused(&["security.protocol"], "it follows from tls and sasl_mechanism", "set those"),
    refused(&["ssl.ca.location", "ssl.ca.pem", "ssl_ca"], OWN_KEY, "set tls.ca_file"),
    refused(
        &["ssl.certificate.location", "ssl.certificate.pem", "ssl_certificate"],
        OWN_KEY,
        "set tls.cert_file",
    ),
    refused(&["ssl.key.location"], OWN_KEY, "set tls.key_file"),
    refused(&["sasl.mechanism", "sasl.mechanisms"], OWN_KEY, "set sasl_mechanism"),
    refused(&["sasl.username"], OWN_KEY, "set sasl_username"),
    refused(
        &["sasl.password"],
        "it is a secret and has a key of its own",
        "set sasl_password_file",
    ),
    refused(&["sasl.jaas.config"], "it is Java's", "set sasl_username and sasl_password_file"),
    refused(&["ssl.truststore.location"], "it is Java's", "set tls.ca_file (PEM)"),
    // What TLS rests on.
    refused(
        &["enable.ssl.certificate.verification", "ssl.certificate.verify_cb"],
        "certificates are always verified",
        "set tls.ca_file",
    ),
    refused(
        &["ssl.endpoint.identification.algorithm"],
        "names are always verified",
        "connect by a name that the certificate holds",
    ),
    refused(
        &["client.dns.lookup"],
        "the name that a certificate must hold would come from a reverse look-up, which is not \
         protected",
        "list under brokers the names that the certificates hold",
    ),
    refused(
        &["ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list"],
        "it can switch encryption and authentication off (eNULL, aNULL)",
        "restrict them at the broker, or in the system's openssl.cnf",
    ),
    refused(
        &["ssl.crl.location"],
        "it opens a file that nothing here has looked at, and holds for this target alone",
        "use certificates that live for days, or a CA of the relay's and the brokers' own",
    ),
    refused(&["ssl.ca.certificate.stores"], "it is for Windows", "set tls.ca_file"),
    // Secrets, for which there is no key that would keep them out of logs.
    refused(
        &["ssl.key.password"],
        "it is a secret",
        "store the key unencrypted, readable by the relay alone",
    ),
    refused(&["ssl.key.pem", "ssl_key"], "it is a secret", "set tls.key_file"),
    refused(
        &["ssl.keystore.password"],
        "it is a secret",
        "set tls.cert_file and tls.key_file (PEM)",
    ),
    refused(
        &["ssl.keystore.location"],
        "keystores need a password",
        "set tls.cert_file and tls.key_file (PEM)",
    ),
    // What runs code or commands, or speaks with servers that are no brokers.
    refused(
        &[
            "plugin.library.paths",
            "interceptors",
            "ssl.engine.location",
            "ssl.engine.id",
            "ssl_engine_callback_data",
            "ssl.providers",
        ],
        NO_CODE,
        NO_REMEDY,
    ),
    refused(
        &["sasl.kerberos."],
        "GSSAPI is not available: it would run a command",
        "use SCRAM-SHA-512 or tls",
    ),
    refused(
        &[
            "sasl.oauthbearer.",
            "enable.sasl.oauthbearer.unsecure.jwt",
            "oauthbearer_token_refresh_cb",
            "enable_sasl_queue",
            "https.ca.location",
            "https.ca.pem",
        ],
        "OAUTHBEARER is not available: it would send a secret to a url",
        "use SCRAM-SHA-512 or tls",
    ),
    // What no text can be.
    refused(
        &[
            "builtin.features",
            "error_cb",
            "throttle_cb",
            "background_event_cb",
            "socket_cb",
            "connect_cb",
            "closesocket_cb",
            "open_cb",
            "resolve_cb",
            "opaque",
            "default_topic_conf",
            "dr_cb",
            "dr_msg_cb",
        ],
        "it is part of the program",
        NO_REMEDY,
    ),
    // What has no effect, or none that a relay needs.
    refused(
        &[
            "client.software.name",
            "client.software.version",
            "metadata.request.timeout.ms",
            "socket.blocking.max.ms",
            "reconnect.backoff.jitter.ms",
            "produce.offset.report",
            "enable.random.seed",
            "enable.sparse.connections",
            "internal.termination.signal",
        ],
        "it has no use here",
        NO_REMEDY,
    ),
    refused(
        &[
            "group.",
            "partition.assignment.strategy",
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "coordinator.query.interval.ms",
            "max.poll.interval.ms",
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "queued.min.messages",
            "queued.max.messages.kbytes",
            "fetch.",
            "max.partition.fetch.bytes",
            "offset.store.",
            "isolation.level",
            "consume_cb",
            "consume.callback.max.messages",
            "rebalance_cb",
            "offset_commit_cb",
            "enable.partition.eof",
            "check.crcs",
        ],
        "it is a consumer's, and the relay consumes nothing",
        NO_REMEDY,
    ),
];
