//! How `mount` and `umount` end: the exit codes of mount(8).

use std::process::ExitCode;

/// Why the command ended. The numbers are those of mount(8), "EXIT STATUS".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Done.
    Success = 0,
    /// The command line makes no sense, or the caller is not root.
    Usage = 1,
    /// This system lacks something: memory, a process, a namespace, the watchdog.
    System = 2,
    /// A fault in this program.
    Internal = 4,
    /// SIGINT or SIGTERM. Nothing is left.
    Interrupted = 8,
    /// The mount is as it should be, but utab could not be changed.
    Table = 16,
    /// It is not mounted, or still mounted; an option or a name that cannot be mounted is one of the reasons.
    Failure = 32,
}

impl Exit {
    /// The ending of that number; one that mount(8) does not know is a fault in this program.
    pub(super) fn of_code(code: u8) -> Self {
        let all = [
            Self::Success,
            Self::Usage,
            Self::System,
            Self::Interrupted,
            Self::Table,
            Self::Failure,
        ];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Internal)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A message for whoever called, and how to end.
#[derive(Debug)]
pub(super) struct Ending {
    /// How to end.
    pub(super) exit: Exit,
    /// One line.
    pub(super) message: String,
}

impl Ending {
    /// An ending with these words.
    pub(super) fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string() }
    }
}
