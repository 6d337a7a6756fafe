//! What one flush costs here: the unit that durable things are measured in.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::figures::Spread;

/// What a small unit of work appends to a write-ahead log.
const BLOCK: [u8; 4096] = [7; 4096];

/// The time of one append and `fdatasync` in this folder, in milliseconds.
pub(super) async fn flush_ms(folder: &Path, times: usize) -> Result<Spread> {
    let path = folder.join("flushed");
    let measured = tokio::task::spawn_blocking(move || -> Result<Vec<f64>> {
        let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut all = Vec::with_capacity(times);
        for _ in 0..times {
            let began = Instant::now();
            file.write_all(&BLOCK)?;
            file.sync_data()?;
            all.push(super::figures::ms(began.elapsed()));
        }
        std::fs::remove_file(&path)?;
        Ok(all)
    });
    Ok(Spread::of(measured.await??))
}
