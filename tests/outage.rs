//! Brokers, networks and servers that go away and come back: nothing lost, nobody blamed, order kept.

mod broker;
mod network;
mod server;
