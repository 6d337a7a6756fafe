//! `config`: the settings in force with the layer each came from, what differs, and which were in force before.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use kernel::config::{self, CITY, COMMAND_LINE, Change, Effective, Held, History, Running, Standing};
use serde_json::json;

use crate::city::DataFolder;
use crate::output::{Output, table};
use crate::settings;

/// Show the settings in force, what differs, and which were in force before.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example: foodexpress config show orders --data city")]
pub(super) enum Config {
    /// Every setting with its value and the layer it came from; of a running city, or as a start would have it now.
    Show {
        /// Only settings that begin with this, such as `orders` or `orders.pay`.
        of: Option<String>,
    },
    /// What differs between the running city and its files, or between two versions.
    Diff {
        /// A version; without one, what is in force.
        from: Option<u64>,
        /// Another; without one, the newest.
        #[arg(requires = "from")]
        to: Option<u64>,
    },
    /// Which versions were in force, and since when.
    History,
}

pub(super) fn run(what: Config, data: &DataFolder, out: Output) -> Result<()> {
    // Only the running city knows how many it keeps; nothing is forgotten by looking.
    let history = History::new(&data.config(), usize::MAX);
    match what {
        Config::Show { of } => show(data, &history, of.as_deref().unwrap_or(""), out),
        Config::Diff { from: Some(from), to } => between(&history, from, to, out),
        Config::Diff { from: None, .. } => against_files(data, &history, out),
        Config::History => list(&history, out),
    }
}

fn show(data: &DataFolder, history: &History, of: &str, out: Output) -> Result<()> {
    let running = data.running().is_some();
    let now = if running { in_force(history)? } else { at_a_start(data)? };
    let shown: Vec<(&String, &Held)> = now.values.iter().filter(|(key, _)| key.starts_with(of)).collect();
    anyhow::ensure!(!shown.is_empty(), "no setting begins with {of}; `foodexpress config show` lists all");
    if out.json {
        for (key, held) in &shown {
            out.row("", &json!({"key": key, "value": held.value, "origin": held.origin}));
        }
    } else {
        let row = |(key, held): &(&String, &Held)| vec![(*key).clone(), held.value.to_string(), held.origin.clone()];
        out.say(table(&["setting", "value", "from"], &shown.iter().map(row).collect::<Vec<_>>()));
    }
    if let Some(why) = &now.standing.refused {
        out.say(format!("the newest configuration is refused, this one stays in force: {why}"));
    }
    if !now.standing.needs_restart.is_empty() {
        out.say(format!("needs a restart: {}", now.standing.needs_restart.join(", ")));
    }
    let (sequence, hash, standing) = (now.sequence, &now.hash, &now.standing);
    out.result(&json!({
        "running": running, "version": sequence, "hash": hash, "settings": shown.len(),
        "refused": standing.refused, "needs_restart": standing.needs_restart,
    }));
    Ok(())
}

fn in_force(history: &History) -> Result<Running> {
    history.running().context("the city that runs here does not say what is in force; start it again with this program")
}

fn at_a_start(data: &DataFolder) -> Result<Running> {
    let values = from(data, |_| {})?;
    Ok(Running { sequence: 0, hash: String::new(), values, standing: Standing::default() })
}

/// The settings that files give, with what `but` takes out of their recipe.
fn from(data: &DataFolder, but: impl FnOnce(&mut config::Recipe)) -> Result<BTreeMap<String, Held>> {
    let mut recipe = data.recipe(Vec::new(), &[]);
    but(&mut recipe);
    Ok(Effective::of(&settings::tables(), &config::read_once(&recipe)?)?.shown())
}

/// What a file says now and the city does not have. Stronger layers hide a file, and only the city knows them.
fn against_files(data: &DataFolder, history: &History, out: Output) -> Result<()> {
    data.must_run()?;
    let running = in_force(history)?;
    let files = from(data, |recipe| recipe.environment.clear()).context("the files would be refused")?;
    let hidden = |key: &String| {
        let origin = running.values.get(key).map_or("", |held| held.origin.as_str());
        let stronger = origin == COMMAND_LINE || origin.starts_with("FX_") || origin.starts_with("consul ");
        let city = origin == CITY && files.get(key).is_some_and(|held| held.origin == "default");
        stronger || city
    };
    let changes: Vec<Change> =
        config::changes(&running.values, &files).into_iter().filter(|change| !hidden(&change.key)).collect();
    tell(&changes, out);
    out.result(&json!({"from": running.sequence, "to": "files", "different": changes.len(), "refused": running.standing.refused}));
    Ok(())
}

fn between(history: &History, from: u64, to: Option<u64>, out: Output) -> Result<()> {
    let numbers = || {
        let kept = history.list().unwrap_or_default();
        kept.iter().map(|version| version.sequence.to_string()).collect::<Vec<_>>().join(", ")
    };
    let read =
        |number| history.read(number).with_context(|| format!("there is no version {number}; there are {}", numbers()));
    let newest = || history.list()?.into_iter().next_back().context("there is no version yet");
    let (old, new) = (read(from)?, to.map_or_else(newest, read)?);
    let changes = config::changes(&old.values, &new.values);
    tell(&changes, out);
    out.result(&json!({"from": old.sequence, "to": new.sequence, "different": changes.len()}));
    Ok(())
}

fn tell(changes: &[Change], out: Output) {
    for change in changes {
        out.row(format!("{}: {} → {}  ({})", change.key, change.from, change.to, change.origin), change);
    }
    if changes.is_empty() {
        out.say("nothing differs");
    }
}

fn list(history: &History, out: Output) -> Result<()> {
    let versions = history.list().context("the versions cannot be read")?;
    for version in &versions {
        let changed: Vec<&str> = version.changes.iter().map(|change| change.key.as_str()).collect();
        let what = if changed.is_empty() { "as it began".to_owned() } else { changed.join(", ") };
        out.row(
            format!("{:>6}  {}  {}  {what}", version.sequence, version.at, version.hash),
            &json!({"version": version.sequence, "at": version.at, "hash": version.hash, "changes": version.changes}),
        );
    }
    out.result(&json!({"versions": versions.len()}));
    Ok(())
}
