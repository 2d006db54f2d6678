//! `check`: each finding is made once by breaking what it looks at.

use outbox_relay::admin::check::{Finding, Level, database, worst};
use outbox_relay::command::check::render;

use crate::keeper::outbox::Outbox;
use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

/// What is found by a role that has exactly what the relay needs.
async fn look(outbox: &Outbox) -> Vec<Finding> {
    let role = outbox.database.create_relay().await;
    look_as(outbox, &role).await
}

async fn look_as(outbox: &Outbox, role: &str) -> Vec<Finding> {
    let session = Session::connect(&outbox.database.url_as(role)).await;
    database(&session, &outbox.schema, &["lake".to_owned()]).await
}

/// The one finding of that subject that is not as it should be.
fn bad<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
    let found: Vec<_> = findings
        .iter()
        .filter(|finding| finding.subject == subject && finding.level > Level::Ok)
        .collect();
    let [finding] = found.as_slice() else { panic!("{findings:#?}") };
    finding
}

#[tokio::test]
async fn all_is_well() {
    // GIVEN a migrated database, its relay role, and a ledger
    let outbox = Outbox::create().await;
    outbox.settle("lake", "{}").await;
    let role = outbox.database.create_relay().await;
    outbox.run(&format!("GRANT pg_read_all_stats TO {role}")).await;
    // WHEN
    let mut findings = look_as(&outbox, &role).await;
    // THEN; the test server runs without fsync
    findings.retain(|finding| finding.subject != "fsync");
    assert_eq!(worst(&findings), Level::Ok, "{findings:#?}");
    for finding in &mut findings {
        finding.detail = finding.detail.replace(&role, "ROLE");
        if finding.subject == "server" {
            finding.detail = "PostgreSQL 15.1".to_owned();
        }
    }
    insta::assert_snapshot!(render(&findings), @r#"
    ok    server       PostgreSQL 15.1
    ok    replication  no synchronous standby: a failover may lose what was committed last
    ok    schema       outbox, version 8
    ok    grants       ROLE has what the relay needs
    ok    tables       no policy, no subscription, owned by another role
    ok    guards       UPDATE, DELETE and TRUNCATE are refused
    ok    doorbell     a commit wakes an idle relay
    ok    identity     GENERATED ALWAYS, CACHE 1
    ok    durability   a commit is durable when the relay sees it
    ok    additions    no foreign key, trigger or rule of others
    ok    place        the outbox is where its id was made
    ok    ledgers      one for each configured target
    ok    keeper       does all of its work, as far as is written down
    ok    locks        held by no others than relays
    "#);
}

#[tokio::test]
async fn a_finding_is_one_line_with_its_remedy() {
    let findings = [
        Finding::ok("a", "fine"),
        Finding::warn("longer", "two\nlines", "do this"),
        Finding::down("a", "not there", "wait"),
        Finding::fail("a", "wrong", "change it"),
    ];
    insta::assert_snapshot!(render(&findings), @r#"
    ok    a       fine
    warn  longer  two\nlines; hint: do this
    fail  a       not there; hint: wait
    fail  a       wrong; hint: change it
    "#);
    assert_eq!(worst(&findings), Level::Fail);
    assert_eq!(worst(&[]), Level::Ok);
}

#[tokio::test]
async fn an_outbox_that_is_not_there_or_of_another_version_is_named() {
    // GIVEN no schema
    let empty = Database::create_empty_on(&Services::postgres()).await;
    let session = empty.connect().await;
    let schema = outbox_relay::schema::Schema::default();
    let findings = database(&session, &schema, &[]).await;
    let finding = bad(&findings, "schema");
    assert_eq!(
        (finding.level, finding.remedy.as_deref()),
        (Level::Fail, Some("outbox-relay migrate, or another `schema` under [database]"))
    );
    // GIVEN an older one, a newer one
    let outbox = Outbox::create().await;
    let newest = outbox_relay::schema::newest_version();
    outbox.run(&format!("DELETE FROM outbox.migration WHERE version = {newest}")).await;
    let findings = look(&outbox).await;
    assert_eq!(bad(&findings, "schema").remedy.as_deref(), Some("outbox-relay migrate"));
    outbox.run("INSERT INTO outbox.migration VALUES (99, 'x', 'y')").await;
    let role = format!("{}_relay", outbox.database.name);
    let findings = look_as(&outbox, &role).await;
    assert!(bad(&findings, "schema").detail.contains("has version 99"), "{findings:#?}");
}

#[tokio::test]
async fn a_disabled_and_a_missing_guard_are_named() {
    let outbox = Outbox::create().await;
    outbox.run("ALTER TABLE outbox.message DISABLE TRIGGER refuse_delete").await;
    let findings = look(&outbox).await;
    let finding = bad(&findings, "guards");
    assert_eq!(finding.level, Level::Fail);
    let remedy = finding.remedy.clone().unwrap();
    assert_eq!(remedy, "ALTER TABLE outbox.message ENABLE TRIGGER refuse_delete");
    // THEN the remedy is one
    outbox.run(&remedy).await;
    outbox.run("DROP TRIGGER refuse_truncate ON outbox.message").await;
    let role = format!("{}_relay", outbox.database.name);
    let findings = look_as(&outbox, &role).await;
    let finding = bad(&findings, "guards");
    assert!(finding.detail.starts_with("refuse_truncate is missing"), "{finding:?}");
    outbox.run(finding.remedy.as_deref().unwrap()).await;
    assert!(
        look_as(&outbox, &role).await.iter().all(|f| f.subject != "guards" || f.level == Level::Ok)
    );
}

#[tokio::test]
async fn an_identity_that_draws_ids_otherwise_is_refused() {
    let outbox = Outbox::create().await;
    let role = outbox.database.create_relay().await;
    for (change, named) in [
        ("SET CACHE 50", "CACHE 50"),
        ("SET INCREMENT 2", "INCREMENT 2"),
        ("SET CYCLE", "CYCLE"),
        ("SET GENERATED BY DEFAULT", "not GENERATED ALWAYS"),
    ] {
        outbox.run(&format!("ALTER TABLE outbox.message ALTER id {change}")).await;
        let findings = look_as(&outbox, &role).await;
        let finding = bad(&findings, "identity");
        assert!(finding.level == Level::Fail && finding.detail.contains(named), "{finding:?}");
        // The remedy is one.
        outbox.run(finding.remedy.as_deref().unwrap()).await;
    }
    let findings = look_as(&outbox, &role).await;
    assert!(
        findings.iter().any(|f| f.subject == "identity" && f.level == Level::Ok),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn an_identity_below_a_ledger_is_refused() {
    let outbox = Outbox::create().await;
    outbox.insert(2).await;
    outbox.settle("lake", "{[1,9)}").await;
    let findings = look(&outbox).await;
    let finding = bad(&findings, "identity");
    assert_eq!(finding.level, Level::Fail);
    assert!(finding.detail.contains("last id drawn is 2, and the ledger of lake"), "{finding:?}");
}

#[tokio::test]
async fn a_policy_that_hides_rows_is_refused() {
    let outbox = Outbox::create().await;
    outbox.run("ALTER TABLE outbox.message ENABLE ROW LEVEL SECURITY").await;
    let role = outbox.database.create_relay().await;
    let findings = look_as(&outbox, &role).await;
    let finding = bad(&findings, "policies");
    assert_eq!(finding.level, Level::Fail);
    assert!(
        finding.remedy.as_deref().unwrap().contains("DISABLE ROW LEVEL SECURITY"),
        "{finding:?}"
    );
    // A role that bypasses it is only warned.
    outbox.run(&format!("ALTER ROLE {role} BYPASSRLS")).await;
    assert_eq!(bad(&look_as(&outbox, &role).await, "policies").level, Level::Warn);
}

#[tokio::test]
async fn owner_and_superuser_are_warned() {
    let outbox = Outbox::create().await;
    let role = outbox.database.create_relay().await;
    outbox.run(&format!("ALTER TABLE outbox.message OWNER TO {role}")).await;
    assert_eq!(bad(&look_as(&outbox, &role).await, "owner").level, Level::Warn);
    let findings = database(&outbox.session, &outbox.schema, &[]).await;
    assert_eq!(bad(&findings, "role").level, Level::Warn);
}

#[tokio::test]
async fn a_missing_doorbell_is_explained() {
    // GIVEN one that was switched off
    let outbox = Outbox::create().await;
    outbox.run("SELECT outbox.install_doorbell('off')").await;
    assert_eq!(bad(&look(&outbox).await, "doorbell").detail, "not installed: an idle relay polls");
    // GIVEN a server where transactions may be prepared
    let prepared = Database::create_on(&Services::postgres_two_phase()).await;
    let session = prepared.connect().await;
    let findings = database(&session, &outbox.schema, &[]).await;
    let detail = &bad(&findings, "doorbell").detail;
    assert!(detail.contains("max_prepared_transactions = "), "{detail}");
}

#[tokio::test]
async fn a_writer_whose_commits_a_crash_can_undo_is_named() {
    // GIVEN a writer, somebody else, and the database itself
    let outbox = Outbox::create().await;
    let relay = outbox.database.create_relay().await;
    let other = outbox.database.create_role("other").await;
    outbox.run(&format!("ALTER ROLE {other} SET synchronous_commit = off")).await;
    let durable = |f: &Finding| f.subject == "durability" && f.level == Level::Ok;
    assert!(look_as(&outbox, &relay).await.iter().any(durable));
    let writer = outbox.database.create_writer().await;
    outbox
        .run(&format!(
            "ALTER ROLE {writer} IN DATABASE {} SET synchronous_commit = off",
            outbox.database.name
        ))
        .await;
    let findings = look_as(&outbox, &relay).await;
    let finding = bad(&findings, "durability");
    assert_eq!(finding.level, Level::Warn);
    assert!(finding.detail.contains(&format!("off for role {writer}")), "{finding:?}");
    // THEN the remedy is one
    outbox.run(finding.remedy.as_deref().unwrap()).await;
    assert!(look_as(&outbox, &relay).await.iter().any(durable));
    outbox
        .run(&format!("ALTER DATABASE {} SET synchronous_commit = off", outbox.database.name))
        .await;
    let findings = look_as(&outbox, &relay).await;
    assert!(bad(&findings, "durability").detail.contains("for the database"), "{findings:#?}");
}

#[tokio::test]
async fn a_table_that_a_subscription_fills_is_refused() {
    let outbox = Outbox::create().await;
    outbox
        .run("CREATE SUBSCRIPTION s CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false);
              INSERT INTO pg_subscription_rel SELECT oid, 'outbox.message'::regclass, 'r' FROM pg_subscription")
        .await;
    assert_eq!(bad(&look(&outbox).await, "subscription").level, Level::Fail);
}

#[tokio::test]
async fn ledgers_and_targets_are_compared() {
    let outbox = Outbox::create().await;
    outbox.settle("old", "{}").await;
    let findings = look(&outbox).await;
    let finding = bad(&findings, "ledgers");
    assert_eq!(finding.level, Level::Warn);
    assert_eq!(
        finding.remedy.as_deref(),
        Some("outbox-relay target remove old, or configure [target.old]")
    );
    let new = findings.iter().find(|f| f.subject == "ledgers" && f.level == Level::Ok).unwrap();
    assert_eq!(new.detail, "target lake is new: its first run makes it");
}

#[tokio::test]
async fn a_connection_that_is_lost_is_down_and_not_wrong() {
    let outbox = Outbox::create().await;
    let lost = outbox.another().await;
    let pid = crate::keeper::outbox::pid(&lost).await;
    outbox.run(&format!("SELECT pg_terminate_backend({pid})")).await;
    let findings = database(&lost, &outbox.schema, &[]).await;
    assert!(findings.iter().all(|finding| finding.level == Level::Down), "{findings:#?}");
}

#[tokio::test]
async fn what_others_added_to_the_outbox_is_named() {
    // GIVEN a foreign key, a trigger and a rule that are none of the outbox's
    let outbox = Outbox::create().await;
    outbox
        .run(
            "CREATE TABLE audit (message bigint REFERENCES outbox.message (id));
             CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER watch AFTER DELETE ON outbox.message
             FOR EACH ROW EXECUTE FUNCTION public.f();
             CREATE TRIGGER insert_only AFTER INSERT ON outbox.message
             FOR EACH ROW EXECUTE FUNCTION public.f();
             CREATE RULE mirror AS ON INSERT TO outbox.dead DO ALSO NOTHING",
        )
        .await;
    // WHEN
    let findings = look(&outbox).await;
    // THEN all but the one that the relay's statements do not fire
    let named: Vec<_> = findings.iter().filter(|finding| finding.subject == "additions").collect();
    assert_eq!(named.len(), 3, "{named:#?}");
    for (finding, (what, remedy)) in named.iter().zip([
        ("foreign key audit_message_fkey of audit", "DROP CONSTRAINT audit_message_fkey"),
        ("trigger watch on outbox.message", "DROP TRIGGER watch ON outbox.message"),
        ("rule mirror on outbox.dead", "DROP RULE mirror ON outbox.dead"),
    ]) {
        assert!(finding.level == Level::Warn && finding.detail.contains(what), "{finding:?}");
        assert!(finding.remedy.as_deref().is_some_and(|text| text.contains(remedy)), "{finding:?}");
    }
}
