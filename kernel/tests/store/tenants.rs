//! Organisations: a statement that forgets its WHERE touches rows of the unit's organisations and of nobody else.

use futures::future::join_all;
use kernel::store::{Migration, Options, Scalar, Scope, Store, StoreError, Tx, WriteError};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::world::{On, SERVERS, World, changed_of, on_engines, on_every_engine, spawn};

const OURS: Uuid = Uuid::from_u128(0xa);
const THEIRS: Uuid = Uuid::from_u128(0xb);

const RENTED: &[Migration] = &[Migration {
    name: "001_rented",
    sql: "CREATE TABLE rented (org_id UUID NOT NULL, id BIGINT NOT NULL, word TEXT NOT NULL, PRIMARY KEY (org_id, id));",
}];

row! {
    struct Rented in "rented" {
        org_id: Uuid,
        id: i64,
        word: String,
    }
}

fn rented(org_id: Uuid, id: i64) -> Rented {
    Rented { org_id, id, word: format!("{org_id} {id}") }
}

async fn open(world: &World) -> Store {
    let store = open_with(world.options()).await;
    for org in [OURS, THEIRS, Uuid::nil()] {
        add(&store, org, 1).await.unwrap();
    }
    store
}

async fn open_with(options: Options) -> Store {
    Store::open(options, RENTED).await.unwrap()
}

async fn add(store: &Store, org: Uuid, id: i64) -> Result<(), WriteError<StoreError>> {
    store.write(move |tx: Tx| async move { tx.insert(&rented(org, id)).await }).await
}

/// Every row that a statement without any WHERE gives.
async fn all(store: &Store) -> Vec<Uuid> {
    let sql = sql!(Rented, "SELECT org_id, id, word FROM rented ORDER BY org_id, id");
    store.read().all(sql, params![]).await.unwrap().into_iter().map(|row| row.org_id).collect()
}

async fn count(store: &Store) -> i64 {
    store.read().one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM rented"), params![]).await.unwrap().0
}

#[test]
fn a_read_that_forgets_its_where_gives_the_scopes_rows_alone() {
    on_every_engine(async |world| {
        let store = open(world).await;
        assert_eq!(all(&store).await, [Uuid::nil(), OURS, THEIRS]);
        assert_eq!(all(&store.in_org(OURS)).await, [Uuid::nil(), OURS]);
        let said = Scope::org(THEIRS).around(async { all(&store).await }).await;
        assert_eq!(said, [Uuid::nil(), THEIRS]);
        let stale = sql!(Rented, "SELECT org_id, id, word FROM rented");
        let stale = store.in_org(OURS).read_stale(std::time::Duration::ZERO).all(stale, params![]).await.unwrap();
        assert_eq!(stale.len(), 2);
    });
}

#[test]
fn a_unit_neither_inserts_nor_publishes_what_is_anothers() {
    on_every_engine(async |world| {
        let store = open(world).await;
        let end = add(&store.in_org(OURS), THEIRS, 2).await;
        assert!(matches!(end, Err(WriteError::Unit(StoreError::Refused(_)))), "{end:?}");
        let end = store.in_org(OURS).write(|tx: Tx| async move { tx.emit(changed_of(THEIRS, Uuid::nil(), 1)) }).await;
        assert!(matches!(end, Err(WriteError::Unit(StoreError::Refused(_)))), "{end:?}");
        let both = |tx: Tx| async move {
            tx.insert(&rented(OURS, 2)).await?;
            tx.emit(changed_of(OURS, kernel::ids::fresh(), 1))
        };
        store.in_org(OURS).write(both).await.unwrap();
        assert_eq!(count(&store).await, 4);
    });
}

/// What only a server can hold to: statements whose rows the kernel does not see.
#[test]
fn on_a_server_no_statement_of_any_kind_reaches_anothers_rows() {
    on_engines(SERVERS, async |world| {
        let store = open(world).await;
        let ours = store.in_org(OURS);
        assert_eq!(count(&ours).await, 2);
        let touched = ours
            .write(|tx: Tx| async move {
                let changed = tx.run(sql!("UPDATE rented SET word = 'mine'"), params![]).await?;
                let gone = tx.run(sql!("DELETE FROM rented WHERE org_id <> $1"), params![Uuid::nil()]).await?;
                Ok::<_, StoreError>((changed, gone))
            })
            .await
            .unwrap();
        assert_eq!(touched, (2, 1));
        assert_eq!(all(&store).await, [Uuid::nil(), THEIRS]);
        let given_away = ours
            .write(|tx: Tx| async move { tx.run(sql!("UPDATE rented SET org_id = $1"), params![THEIRS]).await })
            .await;
        assert!(matches!(given_away, Err(WriteError::Unit(StoreError::Refused(_)))), "{given_away:?}");
        let smuggled = ours
            .write(|tx: Tx| async move {
                let sql = sql!("INSERT INTO rented (org_id, id, word) VALUES ($1, 9, 'x')");
                tx.run(sql, params![THEIRS]).await
            })
            .await;
        assert!(matches!(smuggled, Err(WriteError::Unit(StoreError::Refused(_)))), "{smuggled:?}");
    });
}

#[test]
fn without_a_scope_the_server_shows_nothing() {
    on_engines(&[On::Postgres], async |world| {
        open(world).await;
        let (client, connection) = tokio_postgres::connect(&world.server().url, tokio_postgres::NoTls).await.unwrap();
        spawn(async move { drop(connection.await) });
        let count = format!("SELECT count(*) FROM {}.rented", world.schema());
        assert_eq!(client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 0);
        client.batch_execute(&format!("BEGIN; SELECT set_config('app.org', '{OURS}', true); COMMIT")).await.unwrap();
        // The setting is empty now and no longer absent; both show nothing.
        assert_eq!(client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 0);
    });
}

#[test]
fn a_unit_may_cross_where_it_says_so() {
    on_every_engine(async |world| {
        let store = open(world).await;
        let crossing = |tx: Tx| async move {
            tx.insert(&rented(OURS, 2)).await?;
            tx.across("the test crosses");
            tx.insert(&rented(THEIRS, 2)).await?;
            tx.emit(changed_of(THEIRS, kernel::ids::fresh(), 1))
        };
        store.in_org(OURS).write(crossing).await.unwrap();
        assert_eq!(count(&store).await, 5);
        assert_eq!(count(&store.in_org(OURS).across("the test looks at all")).await, 5);
        // Who is held to one organisation cannot name another.
        let other = Scope::org(OURS).around(async { add(&store.in_org(THEIRS), THEIRS, 7).await }).await;
        assert!(matches!(other, Err(WriteError::Unit(StoreError::Refused(_)))), "{other:?}");
    });
}

/// 32 clients of 8 organisations over few connections: no setting of one unit is seen by another.
#[test]
fn organisations_do_not_mix_under_contention() {
    on_engines(SERVERS, async |world| {
        let store = open_with(world.options()).await;
        let client = |number: i64| {
            let store = store.clone();
            async move {
                let org = Uuid::from_u128(100 + u128::from(number.unsigned_abs() % 8));
                let mut seen = 0_usize;
                for round in 0..40 {
                    let id = number * 1000 + round;
                    let unit = move |tx: Tx| async move {
                        tx.insert(&rented(org, id)).await?;
                        if round % 7 == 3 {
                            // A unit that ends badly leaves no setting behind either.
                            tx.run(kernel::store::Sql::filed("SELECT nonsense"), params![]).await?;
                        }
                        if round % 11 == 5 { Err(StoreError::NoRow) } else { Ok(()) }
                    };
                    let ended = store.in_org(org).write(unit).await;
                    assert_eq!(ended.is_ok(), round % 7 != 3 && round % 11 != 5, "{ended:?}");
                    let rows = all(&store.in_org(org)).await;
                    assert!(rows.iter().all(|found| *found == org), "{org} saw rows of {rows:?}");
                    assert!(rows.len() >= seen, "rows that were seen are gone");
                    seen = rows.len();
                }
            }
        };
        join_all((0..32).map(|number| spawn(client(number)))).await.into_iter().for_each(Result::unwrap);
        let kept = (0..40).filter(|round| round % 7 != 3 && round % 11 != 5).count() * 32;
        assert_eq!(count(&store).await, i64::try_from(kept).unwrap());
    });
}
