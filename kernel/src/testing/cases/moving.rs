//! Moving from bus to bus while events are written: before, during and after, with sudden ends in between.

use super::stage::{Stage, changed, check, effects, noting, tamper, things};
use crate::events::Road;
use crate::sql;

/// Changes between two moves.
const STRETCH: usize = 60;

pub(super) async fn back_and_forth(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let mut beta = stage.consumer("beta", vec![noting()]).await;
    assert!(stage.take(&beta, Road::Stream).await, "it begins on the stream");
    let all = things(7);
    let write = async || {
        for turn in 0..STRETCH {
            changed(&alpha.store, all[turn % all.len()], "").await;
        }
    };
    write().await;
    stage.until("the stream carries", async || effects(&beta.store).await > 0).await;
    for (round, road) in [Road::Kafka, Road::Stream, Road::Kafka, Road::Stream, Road::Kafka].into_iter().enumerate() {
        let moved = async {
            // In the middle of the stretch, somewhere.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            stage.take(&beta, road).await
        };
        let ((), moved) = futures::join!(write(), moved);
        assert!(moved, "it goes to {}", road.word());
        if round % 2 == 0 {
            // No goodbye; the next life finds its road in its database.
            drop(beta);
            write().await;
            beta = stage.consumer("beta", vec![noting()]).await;
        }
        if round == 2 {
            let so_far = effects(&beta.store).await;
            stage.until("the new road carries", async || effects(&beta.store).await > so_far).await;
        }
    }
    if stage.seeded {
        // A move that carries no place over, and no inbox behind it.
        tamper(&beta.store, || sql!("DELETE FROM inbox")).await;
        tamper(&beta.store, || sql!("UPDATE bus_position SET position = 0")).await;
        tamper(&beta.store, || sql!("UPDATE kafka_offset SET next_offset = -2")).await;
        beta.health.look_again();
    }
    write().await;
    let published = (1 + 5 + 3 + 1) * STRETCH;
    stage.until("all came", async || effects(&beta.store).await >= published).await;
    let events = check(&alpha.store, &beta.store).await;
    beta.stop().await;
    alpha.stop().await;
    format!("5 moves, 3 sudden ends, {events} events")
}
