//! The properties of librdkafka that an operator may set: they tune, and no promise rests on them.

/// Everything else is refused, also what a newer librdkafka brings: it has not been judged yet.
pub(super) const ALLOWED: [&str; 34] = [
    // How it introduces itself.
    "client.id",
    "client.rack",
    // Sizes. The topic's own limit is what counts; this one may only be lower.
    "message.max.bytes",
    "message.copy.max.bytes",
    "receive.message.max.bytes",
    "batch.num.messages",
    "batch.size",
    "sticky.partitioning.linger.ms",
    "compression.level",
    // How often it asks what there is.
    "metadata.max.age.ms",
    "metadata.recovery.strategy",
    "metadata.recovery.rebootstrap.trigger.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.sparse",
    "topic.metadata.propagation.max.ms",
    // Sockets.
    "socket.timeout.ms",
    "socket.send.buffer.bytes",
    "socket.receive.buffer.bytes",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.max.fails",
    "broker.address.ttl",
    "broker.address.family",
    "connections.max.idle.ms",
    "log.connection.close",
    "api.version.request.timeout.ms",
    // How long it waits before it tries again; the order is kept whatever they are.
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "request.timeout.ms",
    // Figures about the client, which a broker may ask for; "false" keeps them here.
    "enable.metrics.push",
];
