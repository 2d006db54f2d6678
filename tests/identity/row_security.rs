//! Row level security that something else switches on.

use outbox_relay::schema::{MigrateError, Options, Schema, migrate};

use super::text;
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::relay::{RelayProcess, raw_command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;

/// What some platforms have: every table that is made, or changed, gets it.
async fn secure(database: &Database, tags: &str) {
    let trigger = format!(
        "CREATE FUNCTION public.ensure_rls() RETURNS event_trigger LANGUAGE plpgsql AS $f$
         DECLARE made record;
         BEGIN
             FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' LOOP
                 IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = made.objid) THEN
                     EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', made.object_identity);
                 END IF;
             END LOOP;
         END $f$;
         CREATE EVENT TRIGGER ensure_rls ON ddl_command_end WHEN TAG IN ({tags})
             EXECUTE FUNCTION public.ensure_rls()"
    );
    database.connect().await.run(&trigger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_switches_it_off_for_its_own_tables_and_says_so() {
    // GIVEN
    let database = Database::create_empty_on(&Services::postgres()).await;
    secure(&database, "'CREATE TABLE'").await;

    // WHEN
    let output = raw_command(&["migrate", "--url", &database.url]).await;

    // THEN
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains("row level security had been switched"),
        "{said}"
    );
    for table in ["message", "ledger", "retry", "dead", "meta", "migration"] {
        assert!(said.contains(table), "{table}: {said}");
    }

    // AND writer and relay work
    let writer = Session::connect(&database.url_as(&database.create_writer().await)).await;
    writer.run("SELECT outbox.publish('t', 'k', '1'::text)").await;
    let stage = Stage::new(database).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(1).await;
    assert!(relay.terminate().await.success());

    // AND the inbox is no exception
    let database = Database::create_empty_on(&Services::postgres()).await;
    secure(&database, "'CREATE TABLE'").await;
    let output = raw_command(&["inbox", "init", "--url", &database.url]).await;
    let said = text(&output.stdout);
    assert!(said.contains("was switched off again: inbox"), "{said}");
}

#[tokio::test]
async fn what_switches_it_on_again_is_named() {
    // GIVEN
    let database = Database::create_empty_on(&Services::postgres()).await;
    secure(&database, "'CREATE TABLE', 'ALTER TABLE'").await;

    // WHEN
    let schema = Schema::default();
    let error = {
        let mut session = database.connect().await;
        migrate(&mut session, &schema, &Options::default()).await
    };
    let error = error.expect_err("its rows would be hidden");

    // THEN
    assert!(matches!(error, MigrateError::Secured { .. }), "{error}");
    assert!(error.hint().contains("leave schema outbox alone"), "{}", error.hint());
}
