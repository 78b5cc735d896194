//! The flags of kubectl that say which cluster is meant and who asks: they are passed on as they are.

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Args;
use clap::Command;
use clap::FromArgMatches;

/// A flag with a value, and what the value is called.
const VALUES: [(&str, &str); 13] = [
    ("kubeconfig", "FILE"),
    ("context", "NAME"),
    ("cluster", "NAME"),
    ("user", "NAME"),
    ("server", "URL"),
    ("token", "TOKEN"),
    ("as", "USER"),
    ("as-group", "GROUP"),
    ("as-uid", "UID"),
    ("certificate-authority", "FILE"),
    ("client-certificate", "FILE"),
    ("client-key", "FILE"),
    ("request-timeout", "TIME"),
];

/// Flags without one.
const SWITCHES: [&str; 1] = ["insecure-skip-tls-verify"];

/// As kubectl takes them.
#[derive(Clone, Debug, Default)]
pub(super) struct KubectlFlags(pub(super) Vec<String>);

impl FromArgMatches for KubectlFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = VALUES.iter().flat_map(|(name, _)| {
            let given = matches.get_many::<String>(name).into_iter().flatten();
            given.map(move |value| format!("--{name}={value}"))
        });
        let switches = SWITCHES.iter().filter(|name| matches.get_flag(name));
        Ok(Self(values.chain(switches.map(|name| format!("--{name}"))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for KubectlFlags {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str| {
            Arg::new(name)
                .long(name)
                .global(true)
                .hide_short_help(true)
                .help_heading("Passed on to kubectl")
                .help("As kubectl has it")
        };
        let values = VALUES
            .iter()
            .map(|(name, value)| flag(name).value_name(*value).action(ArgAction::Append));
        let switches = SWITCHES.iter().map(|name| flag(name).action(ArgAction::SetTrue));
        command.args(values.chain(switches))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
