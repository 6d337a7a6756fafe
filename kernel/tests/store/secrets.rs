//! Logins that change while everybody works: two are valid at a time, and no unit and no read fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kernel::secrets::{Secret, Secrets};
use kernel::store::{Admin, Engine, Login, Options, PostgresSettings, Server, Store, Tx};
use kernel::{params, sql};
use tokio_util::sync::CancellationToken;

use crate::world::{SERVERS, STEPS, World, note, on_engines, spawn};

const ROTATIONS: usize = 3;

/// The world with its login in a file, as a service finds it.
fn with_secret(world: &World, secrets: &Secrets) -> Options {
    let (_, place) = world.server().url.rsplit_once('@').unwrap();
    let settings = PostgresSettings {
        url: Some(format!("postgres://{place}")),
        pooler: !world.server().direct,
        ..PostgresSettings::default()
    };
    let Some(Engine::Postgres(made)) = settings.engine(secrets, "store") else { panic!("not a server") };
    let engine = Engine::Postgres(Server { schema: world.schema().to_owned(), connections: 8, ..made });
    Options { engine, ..world.options() }
}

#[test]
fn logins_rotate_under_load_without_a_failed_unit() {
    on_engines(SERVERS, async |world| {
        let admin = Admin::connect(world.server().admin_url.as_deref().unwrap(), None).await.unwrap();
        let secrets = Secrets::open(&world.path("secrets")).unwrap();
        let secret = PostgresSettings::secret("store");
        let mut now = Login { user: format!("{}_a", world.schema()), password: Login::password() };
        admin.provision(world.schema(), STEPS, Some(&now)).await.unwrap();
        secrets.put(&secret, &Secret::new(now.text().as_bytes())).await.unwrap();
        let store = Store::open(with_secret(world, &secrets), STEPS).await.unwrap();
        let (stop, done) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let client = |client: i64| {
            let (store, stop, done) = (store.clone(), stop.clone(), done.clone());
            async move {
                let mut id = client;
                while !stop.is_cancelled() {
                    id += 100;
                    store.write(move |tx: Tx| async move { tx.insert(&note(id)).await }).await.unwrap();
                    let back = sql!(crate::world::Note, "SELECT id, body, remark FROM note WHERE id = $1");
                    assert_eq!(store.read().one(back, params![id]).await.unwrap(), note(id));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let clients: Vec<_> = (0..6).map(|number| spawn(client(number))).collect();
        for _ in 0..ROTATIONS {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let change = admin.rotate(world.schema(), Some(&now)).await.unwrap();
            assert_eq!(change.old.as_ref(), Some(&now.user));
            secrets.put(&secret, &Secret::new(change.login.text().as_bytes())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let before = done.load(Ordering::SeqCst);
            let left = admin.retire(&now.user, Duration::from_secs(2)).await.unwrap();
            // A pooler keeps its own sessions of the old login a while; the store itself has none left.
            assert!(!left || !world.server().direct, "sessions of the old login are left");
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(done.load(Ordering::SeqCst) > before, "nobody got through after the old login was shut");
            refused(world, &now).await;
            now = change.login;
        }
        stop.cancel();
        join_all(clients).await.into_iter().for_each(Result::unwrap);
        println!("{:?}: {} units and reads over {ROTATIONS} rotations", world.on, done.load(Ordering::SeqCst));
        store.close().await;
    });
}

/// The old login is no way in any more.
async fn refused(world: &World, old: &Login) {
    let (_, place) = world.server().url.rsplit_once('@').unwrap();
    let url = format!("postgres://{}:{}@{place}", old.user, old.password);
    assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err(), "{old:?} still gets in");
}
