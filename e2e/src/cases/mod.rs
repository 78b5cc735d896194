//! The seed's test plans as data: what is mounted, from which server, and what must come of it.
//!
//! Tests run each [`Case`] with the driver's command line, and the program `differences` runs it with
//! mount.nfs(8) as well. [`all`] is the whole table; a file beside this one is a part of it.

mod addresses;
mod background;
mod faults;
pub mod lanes;
mod options;
mod paths;
pub mod program;
pub mod stage;
pub mod trial;
mod versions;

use std::fmt::Display;
use std::time::Duration;

use crate::plain::Condition;
use crate::plain::Front;

/// One line of a test plan.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique; what a person sees when it fails.
    pub name: String,
    /// The requirements that it shows: numbers of `e2e/nfs-checklist.md`.
    pub shows: Vec<u8>,
    /// What the server is like.
    pub condition: Condition,
    /// The file system type.
    pub fs_type: &'static str,
    /// What is mounted: `server:/path`.
    pub spec: String,
    /// The text after `-o`.
    pub options: String,
    /// More words of the command line, before the others.
    pub flags: &'static [&'static str],
    /// Where it is mounted.
    pub target: Target,
    /// Who asks.
    pub caller: Caller,
    /// What must come of it.
    pub expected: Expected,
    /// How long that may take.
    pub within: Duration,
    /// Where we differ from mount.nfs(8) on purpose: why.
    pub reason: &'static str,
}

/// The directory to mount at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An empty directory.
    Directory,
    /// An empty directory whose name has blanks, an ampersand, a comma, a backslash and more than ASCII.
    OddDirectory,
    /// It does not exist.
    Missing,
    /// A file.
    File,
    /// A symbolic link that leads to itself.
    Loop,
    /// A name of more than 255 bytes.
    TooLong,
    /// The very same thing is mounted there already.
    Taken,
}

/// Who calls the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// User 0.
    Root,
    /// User 65534, without any privilege.
    Nobody,
}

/// What must come of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is mounted: exit code 0, and in the mount table these are among the options.
    Mounted(&'static [&'static str]),
    /// It is refused with this exit code and a message that has a word of each group, in any case.
    Refused(i32, &'static [&'static [&'static str]]),
    /// It is refused or goes to the background while the fault lasts, and is mounted once it is repaired.
    MountedOnce(Repaired),
    /// Exit code 0, and nothing was mounted (`-f`).
    Pretended,
}

/// Which fault is taken away, and what the program does until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// The firewall of an address is lifted; the program waits.
    Waiting(Front),
    /// The same; the program has ended with exit code 0 and goes on in the background.
    Background(Front),
    /// The server is healthy again; the program goes on in the background.
    Server,
    /// The missing target is made; the program goes on in the background.
    Target,
}

/// Short enough that a kernel that gets no answer gives up in 4 s.
pub const IMPATIENT: &str = "timeo=20,retrans=1";
/// Emulated processors, other rows beside it, and a machine that others use as well; but less than what a program
/// takes that does not give up: `retry=` is two minutes, and the kernel's own patience three.
const GENEROUS: Duration = Duration::from_secs(75);

impl Case {
    /// A mount by root at an empty directory of a healthy server, which must succeed.
    pub fn new(
        name: impl Into<String>,
        spec: impl Into<String>,
        options: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            shows: Vec::new(),
            condition: Condition::Healthy,
            fs_type: "nfs",
            spec: spec.into(),
            options: options.into(),
            flags: &[],
            target: Target::Directory,
            caller: Caller::Root,
            expected: Expected::Mounted(&[]),
            within: GENEROUS,
            reason: "",
        }
    }

    /// The share of a front.
    pub fn at(name: impl Into<String>, front: Front, options: impl Into<String>) -> Self {
        Self::new(name, share(front.address()), options)
    }

    /// Says which requirements it shows.
    #[must_use]
    pub fn shows(mut self, requirements: &[u8]) -> Self {
        self.shows.extend_from_slice(requirements);
        self
    }

    /// Spoils the server.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// Asks for `-t nfs4`.
    #[must_use]
    pub fn nfs4(mut self) -> Self {
        self.fs_type = "nfs4";
        self
    }

    /// Adds words to the command line.
    #[must_use]
    pub fn flags(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = flags;
        self
    }

    /// Mounts elsewhere.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Has no privilege.
    #[must_use]
    pub fn by_nobody(mut self) -> Self {
        self.caller = Caller::Nobody;
        self
    }

    /// Succeeds with these options in the mount table.
    #[must_use]
    pub fn with(mut self, options: &'static [&'static str]) -> Self {
        self.expected = Expected::Mounted(options);
        self
    }

    /// Fails as mount(8) does where a mount fails: with 32.
    #[must_use]
    pub fn fails(self, says: &'static [&'static [&'static str]]) -> Self {
        self.fails_with(32, says)
    }

    /// Fails with another exit code.
    #[must_use]
    pub fn fails_with(mut self, code: i32, says: &'static [&'static [&'static str]]) -> Self {
        self.expected = Expected::Refused(code, says);
        self
    }

    /// Another outcome.
    #[must_use]
    pub fn becomes(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// Must be over within as many seconds.
    #[must_use]
    pub fn within(mut self, seconds: u64) -> Self {
        self.within = Duration::from_secs(seconds);
        self
    }

    /// Why mount.nfs does something else.
    #[must_use]
    pub fn differs(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }
}

/// The export that everybody may use, by any form of the server's name.
pub fn share(server: impl Display) -> String {
    format!("{server}:/share")
}

/// Every case. Those that spoil the server in the same way follow each other.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(addresses::cases());
    cases.extend(paths::cases());
    cases.extend(options::cases());
    cases.extend(faults::cases());
    cases.extend(background::cases());
    cases.extend(versions::cases());
    let mut order: Vec<Condition> = Vec::new();
    for case in &cases {
        if !order.contains(&case.condition) {
            order.push(case.condition);
        }
    }
    cases.sort_by_key(|case| order.iter().position(|condition| *condition == case.condition));
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_requirement() {
        let cases = all();
        let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        let idle: Vec<_> = cases.iter().filter(|case| case.shows.is_empty()).collect();
        assert!(idle.is_empty(), "{idle:#?}");
    }

    #[test]
    fn cases_of_one_condition_follow_each_other() {
        let cases = all();
        let changes = cases.windows(2).filter(|pair| pair[0].condition != pair[1].condition);
        let conditions: BTreeSet<_> =
            cases.iter().map(|case| format!("{:?}", case.condition)).collect();
        assert_eq!(changes.count() + 1, conditions.len());
    }
}
