//! The hostile writer: concurrent transactions in every shape that breaks a poller.

mod control;
mod end_to_end;
mod late;
