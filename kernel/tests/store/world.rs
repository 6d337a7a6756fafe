//! The engines of this test run, one after the other, for each test body.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use kernel::testing::scratch;

pub(crate) use kernel::testing::world::*;

/// The engines there are; says which are missing, and fails if none may be.
fn engines() -> Vec<World> {
    let mut worlds = vec![World::sqlite()];
    let (direct, pooled) = (scratch::address("FX_TEST_POSTGRES"), scratch::address("FX_TEST_PGBOUNCER"));
    for (on, url) in [(On::Postgres, &direct), (On::Pooler, &pooled)] {
        if let (Some(url), Some(admin)) = (url, &direct) {
            worlds.push(World::postgres(on, url, admin));
        }
    }
    worlds
}

/// Runs a test body on each of the engines that `wanted` picks, in a fresh database.
pub(crate) fn on_engines(wanted: &[On], body: impl AsyncFn(&World)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for world in engines().into_iter().filter(|world| wanted.contains(&world.on)) {
        println!("on {:?}", world.on);
        runtime.block_on(async {
            let outcome = AssertUnwindSafe(body(&world)).catch_unwind().await;
            world.clean().await;
            if let Err(panic) = outcome {
                println!("failed on {:?}", world.on);
                std::panic::resume_unwind(panic);
            }
        });
    }
}

/// Runs a test body on each engine there is.
pub(crate) fn on_every_engine(body: impl AsyncFn(&World)) {
    on_engines(&[On::Sqlite, On::Postgres, On::Pooler], body);
}
