//! External steps: what is called for a message, and how often.

use std::sync::Mutex;
use std::time::Duration;

use outbox_inbox::connection::Connections;
use outbox_inbox::idempotency::{ExternalSteps, LeaseError, StepError};
use outbox_inbox::schema::Schema;
use outbox_inbox::{HandlerError, Inbox, InboxError, Message, Outcome, Park};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::process::{PAYMENTS, message, payments};
use crate::support::database::Database;
use crate::support::id;
use crate::support::session::Session;

/// A payment provider: it honours its key, and remembers every call.
#[derive(Default)]
struct Provider(Mutex<Vec<Uuid>>);

impl Provider {
    async fn charge(&self, key: Uuid) -> Result<String, std::io::Error> {
        self.0.lock().unwrap().push(key);
        tokio::task::yield_now().await;
        Ok(format!("ch_{key}"))
    }

    fn calls(&self) -> Vec<Uuid> {
        self.0.lock().unwrap().clone()
    }
}

struct Scene {
    database: Database,
    session: Session,
    inbox: Inbox,
    external: ExternalSteps,
    provider: Provider,
}

async fn scene() -> Scene {
    let database = Database::create().await;
    let session = database.connect().await;
    session.run(PAYMENTS).await;
    let connections = connections(&database.url);
    Scene {
        session,
        inbox: Inbox::builder("billing").attempts_max(5).build().unwrap(),
        external: ExternalSteps::new(connections, &Schema::default()),
        provider: Provider::default(),
        database,
    }
}

/// A connection for each time one is asked for.
fn connections(url: &str) -> Connections {
    let url = url.to_owned();
    Connections::new(move || {
        let url = url.clone();
        async move {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
            tokio::spawn(connection);
            Ok::<Client, tokio_postgres::Error>(client)
        }
    })
}

impl Scene {
    /// Charges and pays; `fail`: after that.
    async fn deliver(&mut self, message: &Message<'_>, fail: bool) -> Outcome<()> {
        self.try_deliver(message, fail).await.unwrap()
    }

    async fn try_deliver(
        &mut self,
        message: &Message<'_>,
        fail: bool,
    ) -> Result<Outcome<()>, InboxError> {
        let Self { session, inbox, external, provider, .. } = self;
        let outcome = inbox.process(session, message, async |transaction| {
            let steps = external.begin(inbox, message).await?;
            let charge: String = steps.once("charge", |key| provider.charge(key)).await?;
            transaction.execute("INSERT INTO payment VALUES ($1, 10)", &[&charge]).await?;
            if fail {
                return Err(HandlerError::transient("the mail server is away"));
            }
            steps.finish_in(transaction).await?;
            Ok(())
        });
        outcome.await
    }

    /// As if the lease of whoever was lost had run out.
    async fn end_leases(&self) {
        let text = "UPDATE outbox.idempotency_key SET lease_until = now() - interval '1 s' WHERE status IS NULL";
        self.session.run(text).await;
    }
}

#[tokio::test]
async fn a_step_that_was_made_is_not_made_again() {
    let mut scene = scene().await;
    let id = id::new();
    // GIVEN a handler that failed three times after its charge
    for _ in 0..3 {
        let outcome = scene.deliver(&message(&id, b"x"), true).await;
        assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
        scene.end_leases().await;
    }
    assert_eq!(payments(&scene.session).await, 0);
    // WHEN it succeeds
    let outcome = scene.deliver(&message(&id, b"x"), false).await;
    assert_eq!(outcome, Outcome::Done { value: (), attempt: 4 });
    // THEN the provider was asked once, and a duplicate asks nobody
    assert!(matches!(
        scene.deliver(&message(&id, b"x"), false).await,
        Outcome::DuplicateIgnored { .. }
    ));
    assert_eq!((scene.provider.calls().len(), payments(&scene.session).await), (1, 1));
    let done = "SELECT count(*) FROM outbox.idempotency_key WHERE scope = 'consumer:billing' AND status = 0";
    assert_eq!(scene.session.count(done).await, 1);
}

#[tokio::test]
async fn a_step_that_was_made_and_not_recorded_is_made_with_the_same_key() {
    let mut scene = scene().await;
    let id = id::new();
    // GIVEN a consumer that is lost after the provider was asked and before that was recorded
    {
        let Scene { session, inbox, external, provider, .. } = &mut scene;
        let message = message(&id, b"x");
        let lost = inbox.process(session, &message, async |_| {
            let steps = external.begin(inbox, &message).await?;
            let _: String = steps
                .once("charge", async |key| {
                    provider.charge(key).await?;
                    std::future::pending::<Result<String, std::io::Error>>().await
                })
                .await?;
            Ok(())
        });
        let asked = async {
            while provider.calls().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = lost => panic!("it is lost"),
            () = asked => {}
        }
    }
    scene.end_leases().await;
    // WHEN the message comes again THEN the provider is asked again, and can tell
    let outcome = scene.deliver(&message(&id, b"x"), false).await;
    assert_eq!(outcome, Outcome::Done { value: (), attempt: 1 });
    let calls = scene.provider.calls();
    assert_eq!((calls.len(), calls[0]), (2, calls[1]));
    assert_eq!(payments(&scene.session).await, 1);
}

#[tokio::test]
async fn nobody_is_called_for_a_stale_message() {
    let mut scene = scene().await;
    let outcome = scene.deliver(&message(&id::of_day(-1000), b"x"), false).await;
    assert!(matches!(outcome, Outcome::Parked { why: Park::Stale, .. }), "{outcome:?}");
    assert!(scene.provider.calls().is_empty());
}

#[tokio::test]
async fn two_messages_are_two_charges() {
    let mut scene = scene().await;
    for _ in 0..2 {
        scene.deliver(&message(&id::new(), b"x"), false).await;
    }
    let calls = scene.provider.calls();
    assert_eq!(calls.len(), 2);
    assert_ne!(calls[0], calls[1]);
}

/// How many attempts were counted.
async fn attempts(session: &Session) -> i64 {
    session.count("SELECT coalesce(sum(attempts), 0)::bigint FROM outbox.inbox_failure").await
}

#[tokio::test]
async fn the_lease_of_who_was_lost_is_waited_for() {
    let mut scene = scene().await;
    scene.external = scene.external.clone().lease(Duration::from_secs(1));
    let id = id::new();
    // GIVEN an attempt that was lost, and its lease
    let lost = scene.external.begin(&scene.inbox, &message(&id, b"x")).await.unwrap();
    // WHEN the message comes again THEN it is processed, and no attempt is counted against it
    let outcome = scene.deliver(&message(&id, b"x"), false).await;
    assert_eq!(outcome, Outcome::Done { value: (), attempt: 1 });
    assert_eq!(attempts(&scene.session).await, 0);
    // AND the lost one, should it come back, can record nothing
    let late = lost.once("charge", |key| scene.provider.charge(key)).await;
    assert!(matches!(late, Err(StepError::Lease(LeaseError::Lost))), "{late:?}");
}

#[tokio::test]
async fn a_lease_that_somebody_holds_on_is_no_failed_attempt() {
    let mut scene = scene().await;
    let external = scene.external.clone();
    scene.external = external.clone().lease(Duration::from_millis(1));
    let id = id::new();
    // GIVEN an attempt that is alive, though the claim is not its own
    let message = message(&id, b"x");
    let _theirs =
        external.lease(Duration::from_secs(3600)).begin(&scene.inbox, &message).await.unwrap();
    // WHEN the message comes THEN it goes back, nobody is called, and nothing is counted
    let refused = scene.try_deliver(&message, false).await;
    assert!(matches!(refused, Err(InboxError::Busy(_))), "{refused:?}");
    assert_eq!((scene.provider.calls().len(), attempts(&scene.session).await), (0, 0));
}

#[tokio::test]
async fn who_was_overtaken_commits_nothing() {
    let mut scene = scene().await;
    let id = id::new();
    let message = message(&id, b"x");
    let other = scene.database.connect().await;
    // WHEN the lease is taken over while the handler is at work
    let Scene { session, inbox, external, provider, .. } = &mut scene;
    let outcome = inbox.process(session, &message, async |transaction| {
        let steps = external.begin(inbox, &message).await?;
        let charge: String = steps.once("charge", |key| provider.charge(key)).await?;
        transaction.execute("INSERT INTO payment VALUES ($1, 10)", &[&charge]).await?;
        other.run("UPDATE outbox.idempotency_key SET lease_token = gen_random_uuid()").await;
        steps.finish_in(transaction).await?;
        Ok(())
    });
    let outcome: Result<Outcome<()>, _> = outcome.await;
    // THEN its payment is rolled back, and the message comes again
    assert!(matches!(outcome, Err(InboxError::Busy(_))), "{outcome:?}");
    assert_eq!((payments(&scene.session).await, attempts(&scene.session).await), (0, 0));
}

#[tokio::test]
async fn a_call_that_was_made_is_recorded_whatever_it_returned() {
    let scene = scene().await;
    for (result, kept) in [
        ("x".repeat(70_000), true),
        ("x".repeat(700_000), true),
        ("x".repeat(2_000_000), false),
        // No JSON of PostgreSQL's can hold it.
        ("a\0b".to_owned(), false),
        // It is larger in the table than on its way.
        (format!("[{}1]", "1,".repeat(300_000)), true),
    ] {
        let id = id::new();
        let message = message(&id, b"x");
        let steps = scene.external.begin(&scene.inbox, &message).await.unwrap();
        let before = scene.provider.calls().len();
        // WHEN a step returns it THEN this attempt has it
        let call = async |key| {
            scene.provider.charge(key).await?;
            Ok::<_, std::io::Error>(result.clone())
        };
        let first: String = steps.once("charge", call).await.unwrap();
        scene.end_leases().await;
        // AND no later attempt makes the call again, whether the result could be kept or not
        let steps = scene.external.begin(&scene.inbox, &message).await.unwrap();
        let again = steps.once("charge", |key| scene.provider.charge(key)).await;
        match (again, kept) {
            (Ok(again), true) => assert_eq!(again, first),
            (Err(StepError::NotRetained), false) => {}
            (again, _) => panic!("{} bytes: {:?}", first.len(), again.map(|text| text.len())),
        }
        assert_eq!(scene.provider.calls().len(), before + 1);
        // AND the steps behind it are recorded as well
        let mail: String = steps.once("mail", |key| scene.provider.charge(key)).await.unwrap();
        let known: String = steps.once("mail", |key| scene.provider.charge(key)).await.unwrap();
        assert_eq!(mail, known);
    }
}

#[tokio::test]
async fn a_result_that_is_nested_too_deep_to_be_read_back_is_not_kept() {
    let scene = scene().await;
    let id = id::new();
    let message = message(&id, b"x");
    let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]));
    let steps = scene.external.begin(&scene.inbox, &message).await.unwrap();
    let call = async |_| Ok::<_, std::io::Error>(deep);
    steps.once::<serde_json::Value, _, _>("charge", call).await.unwrap();
    scene.end_leases().await;
    // The lease itself can be read again: its message is not lost with it.
    let steps = scene.external.begin(&scene.inbox, &message).await.unwrap();
    let again = steps.once("charge", |key| scene.provider.charge(key)).await;
    assert!(matches!(again, Err(StepError::NotRetained)), "{again:?}");
    assert!(scene.provider.calls().is_empty());
}
