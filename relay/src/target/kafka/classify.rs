//! What librdkafka's errors call for.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::target::{Reaction, Trouble};

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

/// What an error calls for.
pub(super) fn classify(code: Code) -> Verdict {
    match code {
        Code::QueueFull => Verdict::Full,
        Code::PurgeQueue | Code::PurgeInflight => Verdict::Purged,

        // The topic is missing, or forbidden, or has no such name.
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic => Verdict::Refuse(Reaction::Park(Trouble::Missing)),
        Code::TopicAuthorizationFailed => Verdict::Refuse(Reaction::Park(Trouble::Forbidden)),

        // A batch is refused as a whole, whichever of its messages is to blame.
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::PolicyViolation => Verdict::Refuse(Reaction::Suspect),

        // The producer's session with the brokers is over: a new one is needed.
        Code::Fatal
        | Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::OutOfOrderSequenceNumber
        | Code::UnknownProducerId
        | Code::GaplessGuarantee
        | Code::TransactionCoordinatorFenced
        | Code::InvalidTransactionalState
        | Code::ConcurrentTransactions
        | Code::TransactionalIdAuthorizationFailed
        | Code::State => Verdict::Broken,

        // The brokers cannot be used. librdkafka retries these by itself; if one comes through all
        // the same, no message is to blame. A time-out may have been persisted.
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::BrokerNotAvailable
        | Code::NetworkException
        | Code::Resolve
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
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
        | Code::ReplicaNotAvailable
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::ISRInsufficient
        | Code::KafkaStorageError
        | Code::ThrottlingQuotaExceeded
        | Code::Retry
        | Code::DestroyBroker
        | Code::BrokerDestroy => Verdict::Broken,

        // Unknown is never silent, never poison.
        _ => Verdict::Refuse(Reaction::Retry),
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Broken, Full, Purged, Refuse};
    use super::*;

    #[test]
    fn every_code_has_its_verdict() {
        let table: [(&[Code], Verdict); 7] = [
            (&[Code::QueueFull], Full),
            (&[Code::PurgeQueue, Code::PurgeInflight], Purged),
            (
                &[
                    Code::UnknownTopic,
                    Code::UnknownTopicOrPartition,
                    Code::UnknownPartition,
                    Code::UnknownTopicId,
                    Code::InvalidTopic,
                ],
                Refuse(Reaction::Park(Trouble::Missing)),
            ),
            (&[Code::TopicAuthorizationFailed], Refuse(Reaction::Park(Trouble::Forbidden))),
            (
                &[
                    Code::MessageSizeTooLarge,
                    Code::MessageBatchTooLarge,
                    Code::InvalidMessage,
                    Code::InvalidMessageSize,
                    Code::InvalidRecord,
                    Code::InvalidTimestamp,
                    Code::UnsupportedForMessageFormat,
                    Code::UnsupportedCompressionType,
                    Code::PolicyViolation,
                ],
                Refuse(Reaction::Suspect),
            ),
            (
                &[
                    Code::Fatal,
                    Code::Fenced,
                    Code::ProducerFenced,
                    Code::InvalidProducerEpoch,
                    Code::InvalidProducerIdMapping,
                    Code::OutOfOrderSequenceNumber,
                    Code::UnknownProducerId,
                    Code::GaplessGuarantee,
                    Code::TransactionCoordinatorFenced,
                    Code::InvalidTransactionalState,
                    Code::ConcurrentTransactions,
                    Code::TransactionalIdAuthorizationFailed,
                    Code::State,
                    Code::AllBrokersDown,
                    Code::BrokerTransportFailure,
                    Code::BrokerNotAvailable,
                    Code::NetworkException,
                    Code::Resolve,
                    Code::Authentication,
                    Code::SaslAuthenticationFailed,
                    Code::UnsupportedSASLMechanism,
                    Code::IllegalSASLState,
                    Code::SSL,
                    Code::ClusterAuthorizationFailed,
                    Code::MessageTimedOut,
                    Code::OperationTimedOut,
                    Code::TimedOutQueue,
                    Code::RequestTimedOut,
                    Code::LeaderNotAvailable,
                    Code::NotLeaderForPartition,
                    Code::FencedLeaderEpoch,
                    Code::UnknownLeaderEpoch,
                    Code::PreferredLeaderNotAvailable,
                    Code::EligibleLeadersNotAvailable,
                    Code::ListenerNotFound,
                    Code::StaleBrokerEpoch,
                    Code::UnknownBroker,
                    Code::NotCoordinator,
                    Code::CoordinatorNotAvailable,
                    Code::CoordinatorLoadInProgress,
                    Code::ReplicaNotAvailable,
                    Code::NotEnoughReplicas,
                    Code::NotEnoughReplicasAfterAppend,
                    Code::ISRInsufficient,
                    Code::KafkaStorageError,
                    Code::ThrottlingQuotaExceeded,
                    Code::Retry,
                    Code::DestroyBroker,
                    Code::BrokerDestroy,
                ],
                Broken,
            ),
            (
                &[Code::Unknown, Code::InvalidRequest, Code::Fail, Code::Inconsistent],
                Refuse(Reaction::Retry),
            ),
        ];
        for (codes, verdict) in table {
            for &code in codes {
                assert_eq!(classify(code), verdict, "{code}");
            }
        }
    }
}
