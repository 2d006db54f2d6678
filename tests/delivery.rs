//! What reaches the brokers, and what does not hold it up.

mod backlog;
mod isolation;
mod long_transaction;
