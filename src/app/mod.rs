//! Where everything meets: the command line, the settings, and one file per role.

pub mod tunnel;

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
