//! `ls`: the members of a running city and how they are.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::city::{CARD_NETWORK, DataFolder, memory_kib};
use crate::output::Output;

pub(super) async fn run(data: &DataFolder, out: Output) -> Result<()> {
    let map = data.must_run()?;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    for (name, member) in &map.members {
        let probe = if member.service == CARD_NETWORK { "livez" } else { "readyz" };
        let answer = http.get(format!("http://{}/{probe}", member.address)).send().await;
        let state = match answer {
            Ok(response) if response.status().is_success() => "ready",
            Ok(_) => "not ready",
            Err(_) => "no answer",
        };
        let memory = memory_kib(member.pid);
        let text = format!(
            "{name:<14} {:<22} pid {:<8} {:>8} KiB  {}",
            member.address.to_string(),
            member.pid,
            memory.unwrap_or(0),
            out.mark(state == "ready", state),
        );
        out.row(
            text,
            &json!({"name": name, "service": member.service, "address": member.address, "pid": member.pid, "memory_kib": memory, "state": state}),
        );
    }
    Ok(())
}
