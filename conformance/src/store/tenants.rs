//! Organisations: a statement that forgets its WHERE touches rows of the unit's organisations and of nobody else.

use futures::future::join_all;
use kernel::store::{Migration, Options, Scalar, Scope, Store, StoreError, Tx, WriteError};
use kernel::testing::world::{World, changed_of, spawn};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::place::Place;

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
        add(&store, org, 1).await.expect("the store works");
    }
    store
}

async fn open_with(options: Options) -> Store {
    Store::open(options, RENTED).await.expect("the store works")
}

async fn add(store: &Store, org: Uuid, id: i64) -> Result<(), WriteError<StoreError>> {
    store.write(move |tx: Tx| async move { tx.insert(&rented(org, id)).await }).await
}

/// Every row that a statement without any WHERE gives.
async fn all(store: &Store) -> Vec<Uuid> {
    let sql = sql!(Rented, "SELECT org_id, id, word FROM rented ORDER BY org_id, id");
    store.read().all(sql, params![]).await.expect("the store works").into_iter().map(|row| row.org_id).collect()
}

async fn count(store: &Store) -> i64 {
    store
        .read()
        .one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM rented"), params![])
        .await
        .expect("the store works")
        .0
}

/// 32 clients of 8 organisations over few connections: no setting of one unit is seen by another.
pub(super) async fn reads(place: &Place, world: &World) -> String {
    let store = open(world).await;
    assert_eq!(all(&store).await, [Uuid::nil(), OURS, THEIRS]);
    let ours = if place.seeded { store.clone() } else { store.in_org(OURS) };
    assert_eq!(all(&ours).await, [Uuid::nil(), OURS], "rows of the scope alone");
    let said = Scope::org(THEIRS).around(async { all(&store).await }).await;
    assert_eq!(said, [Uuid::nil(), THEIRS]);
    let stale = sql!(Rented, "SELECT org_id, id, word FROM rented");
    let stale =
        store.in_org(OURS).read_stale(std::time::Duration::ZERO).all(stale, params![]).await.expect("the store works");
    assert_eq!(stale.len(), 2);
    "2 of 3 rows without any WHERE".to_owned()
}

pub(super) async fn writes(place: &Place, world: &World) -> String {
    let store = open(world).await;
    let ours = if place.seeded { store.clone() } else { store.in_org(OURS) };
    let end = add(&ours, THEIRS, 2).await;
    assert!(matches!(end, Err(WriteError::Unit(StoreError::Refused(_)))), "{end:?}");
    let end = store.in_org(OURS).write(|tx: Tx| async move { tx.emit(changed_of(THEIRS, Uuid::nil(), 1)) }).await;
    assert!(matches!(end, Err(WriteError::Unit(StoreError::Refused(_)))), "{end:?}");
    let both = |tx: Tx| async move {
        tx.insert(&rented(OURS, 2)).await?;
        tx.emit(changed_of(OURS, kernel::ids::fresh(), 1))
    };
    store.in_org(OURS).write(both).await.expect("the store works");
    assert_eq!(count(&store).await, 4);
    "2 attempts refused, 1 own row written".to_owned()
}

pub(super) async fn statements(place: &Place, world: &World) -> String {
    let store = open(world).await;
    let ours = if place.seeded { store.clone() } else { store.in_org(OURS) };
    assert_eq!(count(&ours).await, 2);
    let touched = ours
        .write(|tx: Tx| async move {
            let changed = tx.run(sql!("UPDATE rented SET word = 'mine'"), params![]).await?;
            let gone = tx.run(sql!("DELETE FROM rented WHERE org_id <> $1"), params![Uuid::nil()]).await?;
            Ok::<_, StoreError>((changed, gone))
        })
        .await
        .expect("the store works");
    assert_eq!(touched, (2, 1));
    assert_eq!(all(&store).await, [Uuid::nil(), THEIRS]);
    let given_away =
        ours.write(|tx: Tx| async move { tx.run(sql!("UPDATE rented SET org_id = $1"), params![THEIRS]).await }).await;
    assert!(matches!(given_away, Err(WriteError::Unit(StoreError::Refused(_)))), "{given_away:?}");
    let smuggled = ours
        .write(|tx: Tx| async move {
            let sql = sql!("INSERT INTO rented (org_id, id, word) VALUES ($1, 9, 'x')");
            tx.run(sql, params![THEIRS]).await
        })
        .await;
    assert!(matches!(smuggled, Err(WriteError::Unit(StoreError::Refused(_)))), "{smuggled:?}");
    "5 kinds of statement, 0 rows of others touched".to_owned()
}

pub(super) async fn contention(place: &Place, world: &World) -> String {
    let store = open_with(world.options()).await;
    let client = |number: i64| {
        let store = store.clone();
        let seeded = place.seeded;
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
                let looks = if seeded { store.clone() } else { store.in_org(org) };
                let rows = all(&looks).await;
                assert!(rows.iter().all(|found| *found == org), "{org} saw rows of {rows:?}");
                assert!(rows.len() >= seen, "rows that were seen are gone");
                seen = rows.len();
            }
        }
    };
    join_all((0..32).map(|number| spawn(client(number))))
        .await
        .into_iter()
        .for_each(|end| end.expect("the store works"));
    let kept = (0..40).filter(|round| round % 7 != 3 && round % 11 != 5).count() * 32;
    assert_eq!(count(&store).await, i64::try_from(kept).expect("the store works"));
    format!("32 clients of 8 organisations, {kept} units, 0 rows of others seen")
}

pub(super) async fn across(place: &Place, world: &World) -> String {
    let store = open(world).await;
    let seeded = place.seeded;
    let crossing = move |tx: Tx| async move {
        tx.insert(&rented(OURS, 2)).await?;
        if !seeded {
            tx.across("the case crosses");
        }
        tx.insert(&rented(THEIRS, 2)).await?;
        tx.emit(changed_of(THEIRS, kernel::ids::fresh(), 1))
    };
    store.in_org(OURS).write(crossing).await.expect("the store works");
    assert_eq!(count(&store).await, 5);
    assert_eq!(count(&store.in_org(OURS).across("the case looks at all")).await, 5);
    // Who is held to one organisation cannot name another.
    let other = Scope::org(OURS).around(async { add(&store.in_org(THEIRS), THEIRS, 7).await }).await;
    assert!(matches!(other, Err(WriteError::Unit(StoreError::Refused(_)))), "{other:?}");
    "5 of 5 rows seen, another organisation refused".to_owned()
}

pub(super) async fn absent(place: &Place, world: &World) -> String {
    open(world).await;
    let client = world.login().await;
    if place.seeded {
        let naked = format!("ALTER TABLE {}.rented DISABLE ROW LEVEL SECURITY", world.schema());
        world.admin().await.batch_execute(&naked).await.expect("the store works");
    }
    let count = format!("SELECT count(*) FROM {}.rented", world.schema());
    assert_eq!(client.query_one(&count, &[]).await.expect("the store works").get::<_, i64>(0), 0);
    client
        .batch_execute(&format!("BEGIN; SELECT set_config('app.org', '{OURS}', true); COMMIT"))
        .await
        .expect("the store works");
    // The setting is empty now and no longer absent; both show nothing.
    assert_eq!(client.query_one(&count, &[]).await.expect("the store works").get::<_, i64>(0), 0);
    "0 of 3 rows shown to a session without a scope".to_owned()
}
