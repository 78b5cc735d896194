//! Starts the plain NFS server in the lab, runs a command beside it, and ends as the command does.
//!
//!     e2e/lab/guest -- target/debug/plain COMMAND...

use std::process::Command;
use std::process::ExitCode;

use clap::Parser;
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
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("plain: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let _plain = Plain::start()?;
    for front in FRONTS {
        println!("{:<15} {front:?}", front.address());
    }
    let status = Command::new(&arguments.command[0]).args(&arguments.command[1..]).status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
