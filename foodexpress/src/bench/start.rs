//! Cold start of the whole city, its memory in one process and in many, and what it does when nobody asks for anything.

use std::time::Duration;

use anyhow::Result;

use super::figures::{Spread, ms};
use super::town::{Mode, Town};
use super::{Row, Site};

pub(super) async fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    let rounds = site.size.pick(5, 3, 1);
    let (mut first, mut second, mut memory, mut idle) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 1..=rounds {
        site.watch.stage(&format!("start: one process, round {number} of {rounds}"));
        let folder = site.folder(&format!("start/{number}"))?;
        let town = Town::start(&folder, Mode::OneProcess, &[]).await?;
        first.push(ms(town.took));
        town.stop().await?;
        let town = Town::start(&folder, Mode::OneProcess, &[]).await?;
        second.push(ms(town.took));
        settle(site).await;
        memory.push(town.memory_mb());
        if number == 1 {
            site.watch.stage("start: idling");
            idle = idling(site, &town).await;
        }
        town.stop().await?;
    }
    let (together, apart) = (Spread::of(memory), apart(site).await?);
    Ok(vec![
        Row::measured("cold_start_new", "ms", Spread::of(first))
            .budget(1000.0, 350.0)
            .note("new data folder: keys, secrets, databases and the demo city are made; from starting the program to every member ready"),
        Row::measured("cold_start", "ms", Spread::of(second)).budget(1000.0, 350.0).note("the same folder again"),
        Row::measured("memory_one_process", "MB", together).budget(150.0, 100.0).note("PSS, card network included"),
        Row::measured("memory_one_each", "MB", Spread::of(apart)).budget(300.0, 200.0).note("PSS of all processes, card network and supervisor included"),
        Row::measured("idle_cpu", "% of a core", Spread::of(idle))
            .budget(2.0, 1.0)
            .note("one process and the card network"),
    ])
}

/// What is set off by starting is not idling.
async fn settle(site: &Site<'_>) {
    tokio::time::sleep(Duration::from_millis(site.size.pick(3000, 1500, 0))).await;
}

async fn idling(site: &Site<'_>, town: &Town) -> Vec<f64> {
    let (time, rounds) =
        site.size.pick((Duration::from_secs(10), 2), (Duration::from_secs(3), 1), (Duration::from_millis(50), 1));
    let mut shares = Vec::new();
    for _ in 0..rounds {
        let before = town.cpu();
        tokio::time::sleep(time).await;
        shares.push(100.0 * town.cpu().since(&before).as_secs_f64() / time.as_secs_f64());
    }
    shares
}

async fn apart(site: &Site<'_>) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for number in 1..=site.size.pick(2, 1, 1) {
        site.watch.stage("start: one process each");
        let town = Town::start(&site.folder(&format!("apart/{number}"))?, Mode::ProcessEach, &[]).await?;
        settle(site).await;
        all.push(town.memory_mb());
        town.stop().await?;
    }
    Ok(all)
}
