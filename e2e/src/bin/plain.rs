//! Starts the plain NFS server in the lab, runs a command beside it, and ends as the command does.
//!
//!     e2e/lab/guest -- target/debug/plain COMMAND...

use std::process::ExitCode;

use clap::Parser;
use e2e::beside;
use e2e::failure::Result;
use e2e::plain::FRONTS;
use e2e::plain::Plain;

#[derive(Parser)]
struct Arguments {
    /// What to run while the server serves.
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    beside::ended("plain", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let _plain = Plain::start()?;
    for front in FRONTS {
        println!("{:<15} {front:?}", front.address());
    }
    beside::run(&arguments.command, |_| {})
}
