//! The rights of the relay: each one that is missing is named, and its remedy is the statement.

use outbox_relay::admin::check::{Finding, Level, database, missing_rights};

use crate::keeper::outbox::Outbox;
use crate::support::relay::raw_command;
use crate::support::session::Session;

async fn missing(outbox: &Outbox, role: &str) -> Vec<Finding> {
    let session = Session::connect(&outbox.database.url_as(role)).await;
    let mut findings = database(&session, &outbox.schema, &[]).await;
    findings.retain(|finding| finding.subject == "grants" && finding.level > Level::Ok);
    findings
}

#[tokio::test]
async fn each_missing_right_is_named_as_a_statement() {
    // GIVEN
    let outbox = Outbox::create().await;
    let role = outbox.database.create_relay().await;
    assert!(missing(&outbox, &role).await.is_empty());
    for (right, what) in [
        ("USAGE ON SCHEMA outbox", "USAGE on the schema"),
        ("DELETE ON outbox.message", "DELETE on message"),
        ("INSERT ON outbox.retry", "INSERT on retry"),
        ("SELECT ON outbox.message_state", "SELECT on message_state"),
        ("SELECT ON SEQUENCE outbox.message_id_seq", "SELECT on message_id_seq"),
        ("UPDATE (floor) ON outbox.meta", "UPDATE of floor on meta"),
        ("EXECUTE ON FUNCTION outbox.lock_key(text)", "EXECUTE on lock_key"),
    ] {
        // WHEN
        outbox.run(&format!("REVOKE {right} FROM {role}")).await;
        let findings = missing(&outbox, &role).await;
        // THEN
        let [finding] = findings.as_slice() else { panic!("{right}: {findings:#?}") };
        assert_eq!(finding.level, Level::Fail);
        assert_eq!(finding.detail, format!("{role} lacks {what}"));
        assert_eq!(finding.remedy.as_deref(), Some(format!("GRANT {right} TO {role}").as_str()));
        outbox.run(finding.remedy.as_deref().unwrap()).await;
        assert!(missing(&outbox, &role).await.is_empty(), "{right}");
    }
}

/// Issue 17: there were 38 lines.
#[tokio::test]
async fn a_role_without_its_rights_is_one_line_with_one_command() {
    // GIVEN a role that may nothing
    let outbox = Outbox::create().await;
    let role = outbox.database.create_role("bare").await;
    // WHEN it is looked at THEN
    let findings = missing(&outbox, &role).await;
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    assert_eq!(finding.detail, format!("{role} has no right on the outbox"));
    let remedy = finding.remedy.as_deref().unwrap();
    assert!(remedy.ends_with(&format!("outbox-relay migrate --grant-relay {role}")), "{remedy}");
    // WHEN only a part is missing THEN that is one line, too
    outbox.run(&format!("GRANT USAGE ON SCHEMA outbox TO {role}")).await;
    let findings = missing(&outbox, &role).await;
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    let start = format!("{role} lacks ");
    assert!(finding.detail.starts_with(&start), "{finding:?}");
    assert!(
        finding.detail.ends_with(": SELECT on message, DELETE on message, SELECT on ledger, …")
    );
    // AND the command is the remedy
    let url = &outbox.database.url;
    let granted = raw_command(&["migrate", "--url", url, "--grant-relay", &role]).await;
    assert!(granted.status.success(), "{granted:?}");
    assert!(missing(&outbox, &role).await.is_empty());
}

#[tokio::test]
async fn the_statements_together_are_the_grant_of_the_migration() {
    // GIVEN a role that may nothing
    let outbox = Outbox::create().await;
    let role = outbox.database.create_role("bare").await;
    let granted = outbox.database.create_relay().await;
    // WHEN it is given everything that is missing
    let session = Session::connect(&outbox.database.url_as(&role)).await;
    let rights = missing_rights(&session, &outbox.schema).await.expect("a catalog can be read");
    for right in &rights {
        outbox.run(&right.statement).await;
    }
    // THEN nothing is, and it has what grant_relay gives, no more and no less
    assert!(missing(&outbox, &role).await.is_empty());
    let rights = |role: &str| {
        format!(
            "SELECT string_agg(item, E'\\n' ORDER BY item) FROM (
                 SELECT concat_ws(' ', relname, acl.privilege_type) AS item
                 FROM pg_class, aclexplode(relacl) AS acl
                 WHERE relnamespace = 'outbox'::regnamespace AND acl.grantee = '{role}'::regrole
                 UNION ALL
                 SELECT concat_ws(' ', relname, attname, acl.privilege_type)
                 FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid, aclexplode(attacl) AS acl
                 WHERE relnamespace = 'outbox'::regnamespace AND acl.grantee = '{role}'::regrole
                 UNION ALL
                 SELECT concat_ws(' ', proname, acl.privilege_type)
                 FROM pg_proc, aclexplode(proacl) AS acl
                 WHERE pronamespace = 'outbox'::regnamespace AND acl.grantee = '{role}'::regrole
             ) AS rights"
        )
    };
    let of = async |role: &str| -> String {
        outbox.session.query_one(&rights(role), &[]).await.unwrap().get(0)
    };
    assert_eq!(of(&role).await, of(&granted).await);
}
