//! What the programs share that start something in the lab, run a command beside it, and end as the command does.

use std::fmt;
use std::process::Command;
use std::process::ExitCode;

use crate::failure::Result;

/// Runs a command, whose first word is the program, with what `tell` tells it, and ends as it does.
///
/// # Errors
/// When it does not start.
pub fn run(command: &[String], tell: impl FnOnce(&mut Command)) -> Result<ExitCode> {
    let mut beside = Command::new(&command[0]);
    beside.args(&command[1..]);
    tell(&mut beside);
    let code = beside.status()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// The end of a program; a failure is said in its name.
pub fn ended(name: &str, outcome: std::result::Result<ExitCode, impl fmt::Display>) -> ExitCode {
    outcome.unwrap_or_else(|failure| {
        eprintln!("{name}: {failure}");
        ExitCode::FAILURE
    })
}
