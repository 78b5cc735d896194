//! Starts the embedded NAS in the lab, runs a command beside it, and ends as the command does.
//!
//!     e2e/lab/guest -- target/debug/nas [--tls12] COMMAND...

use std::process::Command;
use std::process::ExitCode;

use clap::Parser;
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
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("nas: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let profile = if arguments.tls12 { TlsProfile::Tls12 } else { TlsProfile::Tls13 };
    let nas = Nas::start(profile)?;
    for front in FRONTS {
        println!("{:<15} {} {front:?}", front.address(), front.domain());
    }
    let status = Command::new(&arguments.command[0])
        .args(&arguments.command[1..])
        .env("NAS_CA_FILE", nas.ca_file())
        .status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
