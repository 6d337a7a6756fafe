//! What goes in comes out: every kind of cell, NULLs, lists, and loud errors where a row type does not fit.

use kernel::clock::Timestamp;
use kernel::store::{Json, Migration, Scalar, Store, StoreError, Tx, any};
use kernel::{params, row, sql};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use uuid::Uuid;

use crate::world::{Note, note, on_every_engine, write_note};

const CELLS: &[Migration] = &[Migration {
    name: "001_cells",
    sql: "CREATE TABLE cells (id BIGINT NOT NULL PRIMARY KEY, flag BOOLEAN NOT NULL, whole BIGINT NOT NULL, ratio DOUBLE PRECISION NOT NULL,
          words TEXT NOT NULL, raw BYTEA NOT NULL, name UUID NOT NULL, at TIMESTAMPTZ NOT NULL, list TEXT NOT NULL,
          maybe_flag BOOLEAN, maybe_whole BIGINT, maybe_ratio DOUBLE PRECISION, maybe_words TEXT, maybe_raw BYTEA, maybe_name UUID, maybe_at TIMESTAMPTZ)",
}];

row! {
    struct Cells in "cells" {
        id: i64,
        flag: bool,
        whole: i64,
        ratio: f64,
        words: String,
        raw: Vec<u8>,
        name: Uuid,
        at: Timestamp,
        list: Json<Vec<i64>>,
        maybe_flag: Option<bool>,
        maybe_whole: Option<i64>,
        maybe_ratio: Option<f64>,
        maybe_words: Option<String>,
        maybe_raw: Option<Vec<u8>>,
        maybe_name: Option<Uuid>,
        maybe_at: Option<Timestamp>,
    }
}

const COLUMNS: &str = "SELECT id, flag, whole, ratio, words, raw, name, at, list, maybe_flag, maybe_whole, maybe_ratio, maybe_words, maybe_raw, maybe_name, maybe_at FROM cells WHERE id = $1";

fn moment() -> impl Strategy<Value = Timestamp> {
    // From the year 1 to the year 9999, where both engines keep every microsecond.
    (-62_135_596_800_000_000..253_402_300_799_000_000_i64).prop_map(Timestamp::from_micros)
}

fn ratio() -> impl Strategy<Value = f64> {
    prop::num::f64::NORMAL | prop::num::f64::ZERO
}

prop_compose! {
    fn cells()(
        (flag, whole, ratio, words) in (any_of::<bool>(), any_of::<i64>(), ratio(), "[^\0]{0,40}"),
        (raw, name, at, list) in (any_of::<Vec<u8>>(), any_of::<u128>(), moment(), any_of::<Vec<i64>>()),
        (maybe_flag, maybe_whole, maybe_ratio) in (any_of::<Option<bool>>(), any_of::<Option<i64>>(), prop::option::of(ratio())),
        (maybe_words, maybe_raw, maybe_name, maybe_at) in
            (prop::option::of("[^\0]{0,9}"), any_of::<Option<Vec<u8>>>(), any_of::<Option<u128>>(), prop::option::of(moment())),
    ) -> Cells {
        Cells {
            id: 0, flag, whole, ratio, words, raw, name: Uuid::from_u128(name), at, list: Json(list), maybe_flag, maybe_whole,
            maybe_ratio, maybe_words, maybe_raw, maybe_name: maybe_name.map(Uuid::from_u128), maybe_at,
        }
    }
}

fn any_of<T: Arbitrary>() -> impl Strategy<Value = T> {
    prop::arbitrary::any::<T>()
}

#[test]
fn every_kind_of_cell_is_read_back_as_it_was_written() {
    on_every_engine(async |world| {
        let store = Store::open(world.options(), CELLS).await.unwrap();
        let mut runner = proptest::test_runner::TestRunner::default();
        for id in 0..60 {
            let mut row = cells().new_tree(&mut runner).unwrap().current();
            row.id = id;
            let written = row.clone();
            store
                .write(move |tx: Tx| {
                    let row = row.clone();
                    async move { tx.insert(&row).await }
                })
                .await
                .unwrap();
            let read = store.read().one(sql!(Cells, COLUMNS), params![id]).await.unwrap();
            assert_eq!(read, written);
            // Bound as a parameter it must also compare equal to what is stored.
            let same = sql!(
                Scalar<i64>,
                "SELECT COUNT(*) AS value FROM cells WHERE id = $1 AND flag = $2 AND whole = $3 AND words = $4 AND raw = $5 AND name = $6 AND at = $7 AND ratio = $8"
            );
            let Cells { flag, whole, words, raw, name, at, ratio, .. } = written;
            let found = store.read().one(same, params![id, flag, whole, words, raw, name, at, ratio]).await.unwrap();
            assert_eq!(found, Scalar(1));
        }
    });
}

#[test]
fn lists_pick_rows_by_every_listable_kind() {
    on_every_engine(async |world| {
        let store = world.open().await;
        for id in 1..=4 {
            write_note(&store, id).await.unwrap();
        }
        let by_id = sql!(Note, "SELECT id, body, remark FROM note WHERE id = ANY($1) ORDER BY id");
        let by_body =
            sql!(Scalar<i64>, "SELECT id AS value FROM note WHERE body = ANY($1) AND NOT (id = ANY($2)) ORDER BY id");
        let db = store.read();
        assert_eq!(db.all(by_id, params![any(&[3_i64, 1, 9])]).await.unwrap(), [note(1), note(3)]);
        assert_eq!(db.all(by_id, params![any::<i64>(&[])]).await.unwrap(), []);
        let bodies = ["note 2".to_owned(), "note 4".to_owned()];
        assert_eq!(db.all(by_body, params![any(&bodies), any(&[4_i64])]).await.unwrap(), [Scalar(2)]);
        let things = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let by_thing = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM thing WHERE id = ANY($1)");
        assert_eq!(db.one(by_thing, params![any(&things)]).await.unwrap(), Scalar(0));
    });
}

#[test]
fn touched_rows_are_counted_and_a_row_that_exists_is_not_added_again() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let counts = store
            .write(|tx: Tx| async move {
                let first = tx.add(&note(1)).await?;
                let second = tx.add(&note(1)).await?;
                tx.insert_all(&[note(2), note(3)]).await?;
                let all = tx.run(sql!("UPDATE note SET remark = $1"), params!["seen"]).await?;
                let none = tx.run(sql!("DELETE FROM note WHERE id = $1"), params![9_i64]).await?;
                Ok::<_, StoreError>((first, second, all, none))
            })
            .await
            .unwrap();
        assert_eq!(counts, (true, false, 3, 0));
        let rows =
            store.read().all(sql!(Note, "SELECT id, body, remark FROM note WHERE id = $1"), params![2_i64]).await;
        assert_eq!(rows.unwrap(), [Note { remark: Some("seen".into()), ..note(2) }]);
    });
}

#[test]
fn parameters_may_come_in_any_order_but_must_be_exactly_those_given() {
    on_every_engine(async |world| {
        let store = world.open().await;
        write_note(&store, 7).await.unwrap();
        let swapped = sql!(Scalar<i64>, "SELECT id AS value FROM note WHERE body = $2 AND id = $1");
        assert_eq!(store.read().one(swapped, params![7_i64, "note 7"]).await.unwrap(), Scalar(7));
        let twice = sql!(Scalar<i64>, "SELECT id AS value FROM note WHERE id = $1 AND id = $1");
        assert_eq!(store.read().one(twice, params![7_i64]).await.unwrap(), Scalar(7));
        let gap = kernel::store::Sql::<Scalar<i64>>::filed("SELECT id AS value FROM note WHERE id = $1 AND id = $3");
        for given in [params![7_i64], params![7_i64, 7_i64], params![7_i64, 7_i64, 7_i64]] {
            let refused = store.read().all(gap, given).await;
            assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        }
        let extra = store.read().one(twice, params![7_i64, 8_i64]).await;
        assert!(matches!(extra, Err(StoreError::Refused(_))), "{extra:?}");
    });
}

#[test]
fn a_result_that_does_not_fit_its_row_type_is_an_error() {
    on_every_engine(async |world| {
        let store = world.open().await;
        write_note(&store, 1).await.unwrap();
        let db = store.read();
        let filed = kernel::store::Sql::<Scalar<i64>>::filed;
        for text in [
            "SELECT id FROM note",
            "SELECT id AS value, body FROM note",
            "SELECT id AS value, id AS value FROM note",
            "SELECT body AS value FROM note",
            "SELECT remark AS value FROM note",
        ] {
            let got = db.one(filed(text), params![]).await;
            assert!(matches!(got, Err(StoreError::Decode(_))), "{text}: {got:?}");
        }
        let null =
            db.one(kernel::store::Sql::<Scalar<String>>::filed("SELECT remark AS value FROM note"), params![]).await;
        assert!(matches!(null, Err(StoreError::Decode(_))), "{null:?}");
        let none = db.one(sql!(Scalar<i64>, "SELECT id AS value FROM note WHERE id = 5"), params![]).await;
        assert!(matches!(none, Err(StoreError::NoRow)), "{none:?}");
        write_note(&store, 2).await.unwrap();
        let many = db.maybe(sql!(Scalar<i64>, "SELECT id AS value FROM note"), params![]).await;
        assert!(matches!(many, Err(StoreError::ManyRows)), "{many:?}");
    });
}

#[test]
fn a_reading_handle_cannot_write() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let sneaky = kernel::store::Sql::<Scalar<i64>>::filed(
            "INSERT INTO note (id, body) VALUES (1, 'x') RETURNING id AS value",
        );
        assert!(store.read().all(sneaky, params![]).await.is_err());
        assert_eq!(crate::world::notes(&store).await, [] as [i64; 0]);
    });
}
