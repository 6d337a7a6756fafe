//! The one binary: starts the city, shows it, runs orders through it, breaks it on purpose and checks its books.

mod audit;
mod bench;
mod chaos;
mod check;
mod city;
mod client;
mod commands;
mod dashboards;
mod door;
mod output;
mod services;
mod settings;
mod walk;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = commands::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("city").build();
    let runtime = runtime.expect("the system gives a process its threads");
    let ended = runtime.block_on(command.run());
    // A read of standard input cannot be called off; waiting for it would keep a stopped member from ending.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => {
            commands::complain(&error);
            ExitCode::FAILURE
        }
    }
}
