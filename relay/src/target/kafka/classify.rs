//! What librdkafka's errors call for.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::config::KafkaTimestamp;
use crate::target::{Reaction, Setting, Trouble};

/// What an error of a delivery, or of handing a message to librdkafka, calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is about this message, or about its batch.
    Refuse(Reaction),
    /// librdkafka's queue is full: hand it over again later, in order.
    Full,
    /// The producer cannot go on; what is in flight is unknown.
    Broken,
    /// The answer to our own purge: nobody waits for it.
    Purged,
}

/// What an error calls for. docs/reactions/kafka.md has a line for each, and a test compares.
///
/// Only the size of a message is its own fault. A topic's settings, its brokers and the clocks are not:
/// what they refuse waits, and nothing of it is given up.
pub(super) fn classify(code: Code) -> Verdict {
    match code {
        Code::QueueFull => Verdict::Full,
        Code::PurgeQueue | Code::PurgeInflight => Verdict::Purged,

        // The topic is missing, or forbidden, or has no such name; or its message format, or its
        // compression, takes nothing of what this relay sends.
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic => Verdict::Refuse(Reaction::Park(Trouble::Missing)),
        Code::TopicAuthorizationFailed => Verdict::Refuse(Reaction::Park(Trouble::Forbidden)),
        Code::UnsupportedForMessageFormat | Code::UnsupportedCompressionType => {
            Verdict::Refuse(Reaction::Park(Trouble::Setting))
        }

        // A batch is refused as a whole, whichever of its messages is too large.
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            Verdict::Refuse(Reaction::Suspect)
        }

        // Neither an outage nor a clock is a message's fault, and the topic takes other messages.
        Code::InvalidTimestamp => Verdict::Refuse(Reaction::Setting(Setting::Timestamp)),
        Code::InvalidRecord => Verdict::Refuse(Reaction::Setting(Setting::Record)),
        Code::PolicyViolation => Verdict::Refuse(Reaction::Setting(Setting::Policy)),
        Code::InvalidDifferentRecord => Verdict::Refuse(Reaction::Innocent),

        // librdkafka does not take the call: only the message can be why.
        Code::InvalidArgument | Code::Conflict | Code::NotImplemented => {
            Verdict::Refuse(Reaction::Retry)
        }

        // The producer's session with the brokers is over: a new one is needed.
        Code::Fatal
        | Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::GaplessGuarantee
        | Code::Inconsistent
        | Code::TransactionCoordinatorFenced
        | Code::InvalidTransactionalState
        | Code::InvalidTransactionTimeout
        | Code::ConcurrentTransactions
        | Code::TransactionalIdAuthorizationFailed
        | Code::State => Verdict::Broken,

        // The brokers cannot be used, or not understood. librdkafka retries most of these by itself; if
        // one comes through all the same, no message is to blame. A time-out may have been persisted.
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::BrokerNotAvailable
        | Code::NetworkException
        | Code::Resolve
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::SSL
        | Code::ClusterAuthorizationFailed
        | Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::ListenerNotFound
        | Code::StaleBrokerEpoch
        | Code::UnknownBroker
        | Code::NotCoordinator
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::WaitingForCoordinator
        | Code::ReplicaNotAvailable
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::ISRInsufficient
        | Code::InvalidRequiredAcks
        | Code::KafkaStorageError
        | Code::ThrottlingQuotaExceeded
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnknownProtocol
        | Code::RebootstrapRequired
        | Code::BadMessage
        | Code::BadCompression
        | Code::Underflow
        | Code::CriticalSystemResource
        | Code::FileSystem
        | Code::Retry
        | Code::DestroyBroker
        | Code::BrokerDestroy => Verdict::Broken,

        // The broker failed and does not say why (or with a code that is no answer to a producer).
        // Unknown is never silent, and never poison.
        _ => Verdict::Refuse(Reaction::Later),
    }
}

/// The reason, with what an operator can do about it where the code alone does not say that.
pub(super) fn with_hint(reason: String, reaction: Reaction, timestamp: KafkaTimestamp) -> String {
    let hint = match (reaction, timestamp) {
        (Reaction::Setting(Setting::Timestamp), KafkaTimestamp::Created) => {
            "set timestamp = \"sent\", or raise message.timestamp.before.max.ms (or .after.max.ms) of the topic"
        }
        (Reaction::Setting(Setting::Timestamp), KafkaTimestamp::Sent) => {
            "compare the clocks of this host and of the brokers"
        }
        (Reaction::Setting(Setting::Record), _) => {
            "a compacted topic takes no record without a key: see its cleanup.policy"
        }
        (Reaction::Setting(Setting::Policy), _) => "the operators of the brokers know the policy",
        _ => return reason,
    };
    format!("{reason}; hint: {hint}")
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaRespErr;

    use super::Verdict::{Broken, Full, Purged, Refuse};
    use super::*;

    const PAGE: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reactions/kafka.md"));

    /// Every code that the client library knows: its number, its name, and what it calls for.
    fn codes() -> impl Iterator<Item = (i32, String, Code)> {
        (-250..1_000).filter_map(|number| {
            let code = RDKafkaRespErr::try_from(number).ok()?;
            let name = format!("{code:?}").replacen("RD_KAFKA_RESP_ERR_", "", 1);
            let bound = ["_BEGIN", "_END", "END_ALL"].contains(&name.as_str());
            (!bound).then(|| (number, name, Code::from(code)))
        })
    }

    /// As the page names it.
    fn word(verdict: Verdict) -> &'static str {
        match verdict {
            Full => "held",
            Purged => "own purge",
            Broken => "outage",
            Refuse(Reaction::Park(_)) => "topic waits",
            Refuse(Reaction::Setting(_)) => "row waits",
            Refuse(Reaction::Suspect) => "dead if alone",
            Refuse(Reaction::Innocent) => "again at once",
            Refuse(Reaction::Retry) => "dead in the end",
            Refuse(Reaction::Later) => "again later",
            Refuse(Reaction::Bury | Reaction::Route) => unreachable!("no code says so"),
        }
    }

    #[test]
    fn the_page_has_a_line_for_every_code() {
        let lines: Vec<&str> = PAGE.lines().map(str::trim).collect();
        let mut known = 0;
        for (number, name, code) in codes().filter(|(number, ..)| *number != 0) {
            let line = format!("| {number} | {name} | {} |", word(classify(code)));
            let found = lines.iter().filter(|found| found.starts_with(&line)).count();
            assert_eq!(found, 1, "docs/reactions/kafka.md should have once: {line}");
            known += 1;
        }
        assert!(known > 150, "{known}");
        let is_code = |line: &&&str| {
            let number = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
            number.is_some_and(|number| number.parse::<i32>().is_ok())
        };
        assert_eq!(lines.iter().filter(is_code).count(), known, "a line of an unknown code");
    }

    /// What the topic's settings, the brokers or a clock did ends in no burial.
    #[test]
    fn only_a_size_is_a_messages_own_fault() {
        let buries = |verdict| matches!(verdict, Refuse(Reaction::Suspect | Reaction::Bury));
        let found: Vec<Code> =
            codes().map(|(.., code)| code).filter(|code| buries(classify(*code))).collect();
        assert_eq!(found, [Code::MessageSizeTooLarge, Code::MessageBatchTooLarge]);
        // In the end, after attempts_max: what the client library itself refuses.
        let found: Vec<Code> = codes()
            .map(|(.., code)| code)
            .filter(|code| classify(*code) == Refuse(Reaction::Retry))
            .collect();
        assert_eq!(found, [Code::InvalidArgument, Code::Conflict, Code::NotImplemented]);
    }

    #[test]
    fn a_refused_setting_comes_with_its_remedy() {
        for (code, timestamp, hint) in [
            (Code::InvalidTimestamp, KafkaTimestamp::Created, "timestamp = \"sent\""),
            (Code::InvalidTimestamp, KafkaTimestamp::Sent, "compare the clocks"),
            (Code::InvalidRecord, KafkaTimestamp::Sent, "cleanup.policy"),
            (Code::PolicyViolation, KafkaTimestamp::Sent, "policy"),
        ] {
            let Refuse(reaction) = classify(code) else { unreachable!() };
            let reason = with_hint("no".into(), reaction, timestamp);
            assert!(reason.starts_with("no; hint: ") && reason.contains(hint), "{reason}");
        }
        assert_eq!(
            with_hint("no".into(), Reaction::Park(Trouble::Missing), KafkaTimestamp::Sent),
            "no"
        );
    }
}
