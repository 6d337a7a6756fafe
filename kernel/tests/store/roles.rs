//! Roles: a service logs in as somebody who owns nothing, sees no other service's schema, and cannot migrate.

use futures::future::join_all;
use kernel::store::{Admin, Engine, Login, Server, Store, StoreError};
use kernel::testing::scratch;
use tokio_postgres::{Client, NoTls};

use crate::world::{On, STEPS, World, on_engines, spawn};

async fn admin(world: &World) -> Admin {
    Admin::connect(world.server().admin_url.as_deref().unwrap(), None).await.unwrap()
}

/// The world's login, straight on the server.
async fn login(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    spawn(async move { drop(connection.await) });
    client
}

/// The world as a service has it: no administrator's address.
fn as_service(world: &World) -> kernel::store::Options {
    let mut options = world.options();
    options.engine = Engine::Postgres(Server { admin_url: None, ..world.server().clone() });
    options
}

async fn refusal(options: kernel::store::Options) -> String {
    match Store::open(options, STEPS).await {
        Ok(_) => panic!("the store opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_role_cannot_read_another_services_schema_nor_make_a_table_anywhere() {
    on_engines(&[On::Postgres], async |world| {
        world.open().await.close().await;
        let (url, other) = (world.server().admin_url.clone().unwrap(), scratch::fresh_schema());
        let Engine::Postgres(neighbour) = scratch::postgres(&url, &url, &other) else { panic!("not a server") };
        admin(world).await.provision(&other, STEPS, Login::read(&format!("{other}_a scratch")).as_ref()).await.unwrap();
        let client = login(&neighbour.url).await;
        let mine = client.query_one(&format!("SELECT count(*) FROM {other}.note"), &[]).await.unwrap();
        assert_eq!(mine.get::<_, i64>(0), 0);
        for denied in [
            format!("SELECT count(*) FROM {}.note", world.schema()),
            format!("SELECT count(*) FROM {}.outbox", world.schema()),
            format!("CREATE TABLE {}.planted (id BIGINT)", world.schema()),
            format!("CREATE TABLE {other}.planted (id BIGINT)"),
            "CREATE TABLE public.planted (id BIGINT)".to_owned(),
            "CREATE TEMPORARY TABLE planted (id BIGINT)".to_owned(),
            "CREATE SCHEMA planted".to_owned(),
            format!("ALTER TABLE {other}.outbox NO FORCE ROW LEVEL SECURITY"),
            format!("DROP POLICY organisation ON {other}.outbox"),
            format!("DELETE FROM {other}.schema_steps"),
            format!("SET ROLE {other}_owner"),
        ] {
            let error = client.batch_execute(&denied).await.expect_err(&denied);
            assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{denied}: {error}");
        }
        let bypass = "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user";
        assert!(!client.query_one(bypass, &[]).await.unwrap().get::<_, bool>(0));
        admin(world).await.remove(&other).await.unwrap();
    });
}

#[test]
fn a_service_does_not_start_on_a_schema_that_nobody_migrated() {
    on_engines(crate::world::SERVERS, async |world| {
        let admin = admin(world).await;
        let own = Login::read(&format!("{}_a scratch", world.schema())).unwrap();
        // The roles are there, the schema is empty of this program's steps.
        admin.provision(world.schema(), &[], Some(&own)).await.unwrap();
        let said = refusal(as_service(world)).await;
        assert!(said.contains("001_test") && said.contains("run `migrate`"), "{said}");
        admin.provision(world.schema(), STEPS, None).await.unwrap();
        Store::open(as_service(world), STEPS).await.unwrap().close().await;
        // An older program than the schema.
        let said = Store::open(as_service(world), &[]).await.err().unwrap().to_string();
        assert!(said.contains("newer version"), "{said}");
    });
}

#[test]
fn a_service_refuses_to_work_above_row_level_security() {
    on_engines(&[On::Postgres], async |world| {
        world.open().await.close().await;
        let mut options = as_service(world);
        if let Engine::Postgres(server) = &mut options.engine {
            server.url = server.admin_url.clone().or(world.server().admin_url.clone()).unwrap();
        }
        let said = refusal(options).await;
        assert!(said.contains("row-level security") && said.contains(&format!("{}_a", world.schema())), "{said}");
        // A table that somebody took from under the policy is noticed at the next start.
        let bare = format!("ALTER TABLE {}.outbox NO FORCE ROW LEVEL SECURITY", world.schema());
        world.admin().await.batch_execute(&bare).await.unwrap();
        let said = refusal(as_service(world)).await;
        assert!(said.contains("outbox") && said.contains("row-level security"), "{said}");
        admin(world).await.provision(world.schema(), STEPS, None).await.unwrap();
        Store::open(as_service(world), STEPS).await.unwrap().close().await;
    });
}

#[test]
fn migrating_twice_and_at_once_makes_one_of_everything() {
    on_engines(&[On::Postgres], async |world| {
        let own = Login::read(&format!("{}_a scratch", world.schema())).unwrap();
        let at_once = (0..4).map(|_| {
            let own = own.clone();
            async move { admin(world).await.provision(world.schema(), STEPS, Some(&own)).await.unwrap() }
        });
        let made = join_all(at_once).await;
        let kept = format!("SELECT count(*) FROM {}.schema_steps", world.schema());
        let kept: i64 = world.admin().await.query_one(&kept, &[]).await.unwrap().get(0);
        let ran = made.iter().map(|m| m.steps).sum::<usize>();
        assert!(ran > STEPS.len() && i64::try_from(ran).unwrap() == kept, "{ran} steps ran, {kept} are remembered");
        assert_eq!(made.iter().filter(|m| m.login_is_new).count(), 1);
        let again = admin(world).await.provision(world.schema(), STEPS, Some(&own)).await.unwrap();
        assert_eq!((again.steps, again.login_is_new), (0, false));
    });
}

#[test]
fn a_wrong_password_is_told_with_the_remedy_and_without_the_password() {
    on_engines(crate::world::SERVERS, async |world| {
        world.open().await.close().await;
        let mut options = as_service(world);
        if let Engine::Postgres(server) = &mut options.engine {
            server.url = server.url.replace(":scratch@", ":hush@");
        }
        let error = Store::open(options, STEPS).await.err().unwrap();
        let said = error.to_string();
        assert!(matches!(error, StoreError::Login(_)), "{error:?}");
        assert!(said.contains(&format!("{}_a", world.schema())) && said.contains("migrate"), "{said}");
        assert!(!said.contains("hush"), "{said}");
    });
}
