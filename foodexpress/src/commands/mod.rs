//! The commands, one file each; every one finds its city by `--data`.

mod audit;
mod bench;
mod bus;
mod chaos;
mod check;
mod cluster;
mod config;
#[cfg(feature = "conform")]
mod conform;
mod demo;
mod docs;
mod double_tap;
mod engines;
mod events;
mod ls;
mod metrics;
mod migrate;
mod restart;
mod secrets;
mod serve;
mod token;
mod up;
mod wait;
mod why;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::city::{DataFolder, Given, Plan, Ports};
use crate::output::Output;

/// FoodExpress: an open food-ordering and delivery platform.
#[derive(Debug, Parser)]
#[command(
    name = "foodexpress",
    version,
    after_help = "Example: foodexpress up --data city   then: foodexpress demo order --data city"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The city's data folder.
    #[arg(long, global = true, default_value = "data", env = "FOODEXPRESS_DATA")]
    data: PathBuf,
    /// One JSON object a line instead of text.
    #[arg(long, global = true)]
    json: bool,
}

/// What starts a city may also change about it.
#[derive(Clone, Debug, Args)]
pub(crate) struct CityArgs {
    /// `auto` for free ports, or the gateway's port from which the others follow.
    #[arg(long, default_value = "8080")]
    ports: Ports,
    /// A setting above file and environment; may be given several times.
    #[arg(long = "set", value_name = "SERVICE.SETTING=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Leave a new city empty instead of filling it with the demo city.
    #[arg(long)]
    empty: bool,
}

impl CityArgs {
    /// The plan for a city in this folder. A new one gets the demo city's restaurants and accounts unless told otherwise.
    pub(crate) fn plan(&self, data: DataFolder) -> Plan {
        let demo = if data.is_new() && !self.empty { DEMO } else { &[] };
        let flags = unless_said(&self.settings, demo.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Plan { data, ports: self.ports, instances: 1, seats: None, given: Given { city: Vec::new(), flags }, seed: 0 }
    }
}

/// The settings that fill a new city.
pub(crate) const DEMO: &[(&str, &str)] = &[("restaurants.demo_city", "true"), ("auth.demo_city", "true")];

/// What was said, and of the rest what was not.
pub(crate) fn unless_said<'a>(
    said: &[(String, String)],
    more: impl IntoIterator<Item = (&'a str, String)>,
) -> Vec<(String, String)> {
    let mut all = said.to_vec();
    for (name, value) in more {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.to_owned(), value));
        }
    }
    all
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text}: write SERVICE.SETTING=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the city and keep it running until Ctrl-C.
    Up(up::Up),
    /// Run one member of a running city in this process, or one more instance of a service.
    Serve(serve::Serve),
    /// Restart the members of a running city one after another, without failing a request.
    Restart(restart::Restart),
    /// List the city's services with address, process and state.
    Ls,
    /// Run orders through the city.
    #[command(subcommand)]
    Demo(Demo),
    /// Kill members of a city while customers order, then compare the books.
    Chaos(chaos::Chaos),
    /// Compare the books of a running city.
    #[command(subcommand)]
    Audit(audit::Audits),
    /// Measure what the city takes and costs here, against its budgets.
    Bench(bench::Bench),
    /// Tell the saga of one order.
    Why(why::Why),
    /// Work the bus by hand.
    #[command(subcommand)]
    Events(events::Events),
    /// Start, show and break real engines (PostgreSQL, Kafka, Redis …) for development and tests.
    #[command(subcommand)]
    Engines(engines::Engines),
    /// Play the cases that every engine is held to, and tell what each saw.
    #[cfg(feature = "conform")]
    Conform(conform::Conform),
    /// Show the settings in force, what differs, and which were in force before.
    #[command(subcommand)]
    Config(config::Config),
    /// List secrets, or replace one while the city runs.
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Which bus carries what: the stream from outbox to consumer, or Kafka.
    #[command(subcommand)]
    Bus(bus::Bus),
    /// Print an access token of a demo account.
    Token(token::Token),
    /// Tell Prometheus where the city is.
    #[command(subcommand)]
    Metrics(metrics::Metrics),
    /// Bring every database up to this program, and make or change the roles that log in.
    Migrate(migrate::Migrate),
    /// Make the generated documents anew, or check that they are.
    Docs(docs::Docs),
    /// Check the repository against its rules.
    Check(check::Check),
    /// Run the payment provider that stands in for a real one.
    #[command(name = "card-network")]
    CardNetwork(serve::CardNetwork),
}

#[derive(Debug, Subcommand)]
enum Demo {
    /// One order from sign-in to delivery, each step as it happens.
    Order(demo::Order),
    /// Many parallel posts under one key: one order, one charge.
    DoubleTap(double_tap::DoubleTap),
}

impl Cli {
    /// Runs the command.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let out = Output { json: self.json };
        match self.command {
            Command::CardNetwork(network) => return network.run().await.map(|()| ExitCode::SUCCESS),
            Command::Docs(docs) => return docs.run(out),
            Command::Check(check) => return check.run(out),
            Command::Engines(what) => return engines::run(what, &self.data, out).await,
            #[cfg(feature = "conform")]
            Command::Conform(conform) => return conform.run(&self.data, out).await,
            _ => {}
        }
        let data = DataFolder::open(&self.data)?;
        match self.command {
            Command::Up(up) => up.run(data, out).await?,
            Command::Serve(serve) => serve.run(&data).await?,
            Command::Restart(restart) => restart.run(&data, out).await?,
            Command::Ls => ls::run(&data, out).await?,
            Command::Demo(Demo::Order(order)) => order.run(data, out).await?,
            Command::Demo(Demo::DoubleTap(tap)) => return tap.run(data, out).await,
            Command::Chaos(chaos) => return chaos.run(data, out).await,
            Command::Audit(what) => return audit::run(what, &data, out).await,
            Command::Bench(bench) => return bench.run(data, out).await,
            Command::Why(why) => why.run(&data, out).await?,
            Command::Events(what) => events::run(what, &data, out).await?,
            Command::Config(what) => config::run(what, &data, out)?,
            Command::Secrets(what) => secrets::run(what, &data, out).await?,
            Command::Bus(what) => bus::run(what, &data, out).await?,
            Command::Token(token) => token.run(&data, out).await?,
            Command::Metrics(what) => metrics::run(&what, &data, out)?,
            Command::Migrate(migrate) => migrate.run(&data, out).await?,
            Command::CardNetwork(_) | Command::Docs(_) | Command::Check(_) | Command::Engines(_) => {}
            #[cfg(feature = "conform")]
            Command::Conform(_) => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what went wrong, with its causes, on standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    drop(writeln!(std::io::stderr(), "{text}"));
}
