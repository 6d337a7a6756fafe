//! Where engines listen, written for people, tests and other processes; whoever may read it may sign in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;
use crate::place::private;

/// The file in the named folder that says where every node listens.
pub const ADDRESSES: &str = "engines.json";
/// The file in the named folder with the variables that tests read.
pub const VARIABLES: &str = "engines.env";

/// What is said of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The engine it belongs to.
    pub engine: String,
    /// The version of its program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `primary` or `standby`, for the nodes of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// Where its clients go, without a password.
    pub url: String,
    /// Host and port by what is spoken there.
    pub addresses: BTreeMap<String, String>,
    /// A file with what its administrator signs in with: a line for `PGPASSFILE`, or a bare password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credentials: Option<PathBuf>,
    /// Its settings and data.
    pub folder: PathBuf,
    /// What it prints.
    pub log: PathBuf,
}

impl Card {
    /// The cards of the engines that run in a folder.
    ///
    /// # Errors
    /// When none do.
    pub fn read(folder: &Path) -> Result<BTreeMap<String, Self>> {
        let file = folder.join(ADDRESSES);
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not what we wrote", file.display()))
    }
}

/// Writes both files.
pub(crate) fn publish(fleet: &Fleet) -> Result<()> {
    let named = &fleet.place.named;
    private(&named.join(ADDRESSES), &format!("{}\n", serde_json::to_string_pretty(&cards(fleet)?)?))?;
    let mut lines = String::new();
    for (name, value) in variables(fleet)? {
        writeln!(lines, "{name}={}", quoted(&value)).context("a string takes everything")?;
    }
    private(&named.join(VARIABLES), &lines)
}

/// As a shell reads it: as it is, unless it holds what a shell would take for its own.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@,=-".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

/// Both files say where something listens; nothing does any more.
pub(crate) fn withdraw(named: &Path) {
    for file in [ADDRESSES, VARIABLES] {
        // A stale one is noticed: nobody holds the folder's lock.
        drop(std::fs::remove_file(named.join(file)));
    }
}

pub(crate) fn cards(fleet: &Fleet) -> Result<BTreeMap<String, Card>> {
    let card = |node: &crate::node::Node| {
        let site = node.site(&fleet.place);
        let ports = fleet.place.ports(node.name).unwrap_or_default();
        let addresses = ports.iter().map(|(name, port)| ((*name).to_owned(), format!("127.0.0.1:{port}")));
        let card = Card {
            engine: node.engine.name.to_owned(),
            version: fleet.version(node.engine),
            pid: node.pid(),
            role: fleet.role(node),
            url: node.engine.recipe.url(site)?,
            addresses: addresses.collect(),
            credentials: node.engine.recipe.credentials(site),
            folder: site.folder(),
            log: site.log(),
        };
        Ok((node.name.to_owned(), card))
    };
    fleet.nodes.iter().map(card).collect()
}

/// What tests are told.
pub(crate) fn variables(fleet: &Fleet) -> Result<BTreeMap<&'static str, String>> {
    let mut all = BTreeMap::new();
    for engine in &fleet.engines {
        let sites: Vec<_> =
            fleet.nodes.iter().filter(|n| n.engine.name == engine.name).map(|n| n.site(&fleet.place)).collect();
        all.extend(engine.recipe.variables(&sites)?);
    }
    all.insert("FX_TEST_ENGINES", fleet.place.named.display().to_string());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_value_is_quoted_only_where_a_shell_would_misread_it() {
        assert_eq!(quoted("redis://:Ab3@127.0.0.1:20001"), "redis://:Ab3@127.0.0.1:20001");
        assert_eq!(quoted("a folder/it's mine"), r"'a folder/it'\''s mine'");
    }
}
