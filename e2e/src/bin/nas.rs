//! Starts the embedded NAS in the lab, runs a command beside it, and ends as the command does.
//!
//!     e2e/lab/guest -- target/debug/nas [--tls12] COMMAND...

use std::process::ExitCode;

use clap::Parser;
use e2e::beside;
use e2e::failure::Result;
use e2e::nas::FRONTS;
use e2e::nas::Nas;
use e2e::nas::TlsProfile;

#[derive(Parser)]
struct Arguments {
    /// Terminates TLS 1.2 (ECDHE) instead of TLS 1.3.
    #[arg(long)]
    tls12: bool,
    /// What to run while the NAS serves; the trusted authority's file is in $NAS_CA_FILE.
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    beside::ended("nas", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let profile = if arguments.tls12 { TlsProfile::Tls12 } else { TlsProfile::Tls13 };
    let nas = Nas::start(profile)?;
    for front in FRONTS {
        println!("{:<15} {} {front:?}", front.address(), front.domain());
    }
    beside::run(&arguments.command, |command| {
        command.env("NAS_CA_FILE", nas.ca_file());
    })
}
