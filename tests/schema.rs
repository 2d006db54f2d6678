//! The schema: what it refuses and why, who may do what, and how it gets into a database.

mod check;
mod doorbell;
mod grant;
mod guard;
mod lock_key;
mod message_id;
mod message_state;
mod migrate;
mod plan;
mod print;
mod publish;

use std::fmt::Debug;

use tokio_postgres::error::DbError;

/// What the server says about a statement that it must refuse.
fn refusal<T: Debug>(result: Result<T, tokio_postgres::Error>) -> DbError {
    match result {
        Ok(done) => panic!("must be refused: {done:?}"),
        Err(error) => error.as_db_error().expect("the server refuses it, not the client").clone(),
    }
}
