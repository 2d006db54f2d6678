//! What becomes of messages that a broker does not take.

mod bisect;
mod crowd;
mod delay;
mod flood;
mod order;
mod park;
mod poison;
mod timestamp;
mod unreadable;
mod waiting;
