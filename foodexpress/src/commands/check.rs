//! `check`: the rules of this repository over its tree, its manifests and its crates.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::check::{self, Inputs, Outcome, Rule};
use crate::output::Output;
use crate::services;

/// Check the repository against its rules.
#[derive(Debug, Args)]
#[command(after_help = "Example: foodexpress check --demo-violation F4")]
pub(super) struct Check {
    /// Plant a violation of this rule in memory and run the rule over it: it must fail there.
    #[arg(long, value_name = "RULE", value_parser = rule)]
    demo_violation: Option<Named>,
    /// Write the schema of every published event that has none yet; what is there stays as it is.
    #[arg(long)]
    bless: bool,
    /// The repository.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

#[derive(Clone)]
struct Named(Rule);

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

fn rule(name: &str) -> Result<Named, String> {
    let all = check::all();
    let names = all.iter().map(|r| r.name).collect::<Vec<_>>().join(", ");
    all.into_iter()
        .find(|r| r.name.eq_ignore_ascii_case(name))
        .map(Named)
        .ok_or_else(|| format!("the rules are {names}"))
}

impl Check {
    pub(super) fn run(self, out: Output) -> Result<ExitCode> {
        if self.bless {
            let written = check::bless(&self.root, &services::manifests())?;
            written.iter().for_each(|path| out.say(format!("written: {path}")));
        }
        let mut inputs = Inputs::read(&self.root, services::manifests()).context("nothing to check")?;
        let (rules, planted) = match self.demo_violation {
            Some(Named(rule)) => {
                let place = rule.plant(&mut inputs);
                out.say(format!("planted a violation of {} at {}:{}", rule.name, place.file, place.line));
                (vec![rule], Some(place))
            }
            None => (check::all(), None),
        };
        let outcomes: Vec<Outcome> = rules.iter().map(|rule| rule.run(&inputs)).collect();
        rules.iter().zip(&outcomes).for_each(|(rule, outcome)| say(out, rule, outcome));
        let mut result = json!({"rules": outcomes.iter().map(told).collect::<Vec<_>>()});
        if let Some(place) = planted {
            result["planted"] = json!({"file": place.file, "line": place.line});
        }
        out.result(&result);
        let holds = outcomes.iter().all(|o| o.findings.is_empty());
        Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn say(out: Output, rule: &Rule, outcome: &Outcome) {
    let holds = outcome.findings.is_empty();
    out.say(format!("{} {:<12} {}", out.mark(holds, if holds { "holds " } else { "BROKEN" }), rule.name, rule.says));
    for found in &outcome.findings {
        out.say(format!("       {}:{}: {} [{}]", found.place.file, found.place.line, found.what, found.subject));
    }
}

fn told(outcome: &Outcome) -> Value {
    let findings = outcome.findings.iter().map(|f| json!({"file": f.place.file, "line": f.place.line, "what": f.what}));
    json!({"rule": outcome.rule, "ok": outcome.findings.is_empty(), "findings": findings.collect::<Vec<_>>()})
}
