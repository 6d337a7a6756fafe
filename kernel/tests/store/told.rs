//! What a store tells of its units: whose they are, and how they ended.

use std::time::Duration;

use kernel::store::{Options, StoreError, Tx, WriteError};
use kernel::telemetry::{self, Metrics, StoreMeasures, Trace};

use crate::world::{on_every_engine, write_note};

#[test]
fn a_unit_knows_the_service_and_trace_of_whoever_handed_it_in() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let unit = |tx: Tx| async move {
            drop(tx);
            Ok::<_, StoreError>((telemetry::current_service(), telemetry::current_trace()))
        };
        let (one, two) = (Trace::start(), Trace::start());
        // Both may share a batch, on a thread that works for nobody in particular.
        let (seen_one, seen_two) = futures::join!(
            telemetry::in_service("orders", telemetry::in_trace(one, store.write(unit))),
            telemetry::in_service("payments", telemetry::in_trace(two, store.write(unit))),
        );
        assert_eq!(seen_one.unwrap(), (Some("orders".into()), one));
        assert_eq!(seen_two.unwrap(), (Some("payments".into()), two));
        assert_eq!(store.write(unit).await.unwrap(), (None, Trace::default()));
    });
}

#[test]
fn every_unit_is_counted_once_by_how_it_ended() {
    on_every_engine(async |world| {
        let metrics = Metrics::new("orders");
        let measures = Some(StoreMeasures::new(&metrics));
        let options = Options { deadline: Duration::from_millis(500), measures, ..world.options() };
        let store = world.open_with(options).await;
        write_note(&store, 1).await.unwrap();
        write_note(&store, 2).await.unwrap();
        write_note(&store, 2).await.unwrap_err();
        let refused = store.write(|_| async { Err::<(), _>("no") }).await;
        assert!(matches!(refused, Err(WriteError::Unit("no"))));
        let panicked: Result<(), WriteError<StoreError>> = store.write(|_| async { panic!("on purpose") }).await;
        assert!(matches!(panicked, Err(WriteError::Panicked(_))));
        let late: Result<(), WriteError<StoreError>> = store.write(|_| std::future::pending()).await;
        assert!(matches!(late, Err(WriteError::Deadline)));
        let text = metrics.render();
        let units = |end: &str| {
            let start = format!("store_units_total{{service=\"orders\",outcome=\"{end}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("{start} in\n{text}")).parse::<u64>().unwrap()
        };
        // The note whose number was taken is the unit's own refusal: its code passed the database's error on.
        let ends = ["committed", "refused", "panicked", "deadline", "failed", "unknown"].map(units);
        assert_eq!(ends, [2, 2, 1, 1, 0, 0]);
        assert!(text.contains("store_unit_duration_seconds_count{service=\"orders\"} 6\n"), "{text}");
    });
}
