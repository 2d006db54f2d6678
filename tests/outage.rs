//! Brokers, networks and servers that go away and come back: nothing lost, nobody blamed, order kept.

mod alarm;
mod broker;
mod cut;
mod network;
mod server;
