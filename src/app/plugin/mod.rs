//! `kubectl alinas`: what this program says on a node, asked of all nodes from where kubectl works.
//!
//! kubectl starts whatever is called `kubectl-alinas` on its user's path; so a link of that name to this program is its
//! plugin. Everything goes by way of the user's own kubectl, so there is no other way to log in and no other right.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`status`] | the status of all nodes, once or again and again |
//! | [`doctor`] | doctor, a support archive and the logs of one node |
//! | [`cluster`] | asks the nodes, each with a deadline |
//! | [`view`] | one table, one answer for machines |
//! | [`pods`], [`names`] | which pods there are to ask; whose a volume is |
//! | [`kubectl`], [`flags`] | the program that is called, with a fake; what it is passed on |

mod cluster;
mod doctor;
mod flags;
mod kubectl;
mod names;
mod pods;
mod status;
#[cfg(test)]
mod tests;
mod view;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use clap::Subcommand;
use clap::error::ErrorKind;
use tokio::runtime::Runtime;

use crate::app::USAGE;
use crate::app::plugin::cluster::Cluster;
use crate::app::plugin::flags::KubectlFlags;
use crate::app::plugin::kubectl::KubectlError;
use crate::app::plugin::kubectl::Program;
use crate::app::say;

/// Looks at Alibaba Cloud NAS on the nodes of a cluster: a plugin of kubectl.
#[derive(Debug, Parser)]
#[command(name = "kubectl-alinas", bin_name = "kubectl alinas", version, max_term_width = 100)]
pub(super) struct PluginLine {
    #[command(flatten)]
    flags: KubectlFlags,
    /// The namespace of the driver; without, the pods of all namespaces are looked through.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    /// The program to call.
    #[arg(long, global = true, env = "ALINAS_CSI_KUBECTL", default_value = "kubectl")]
    kubectl: PathBuf,
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Shows the tunnels of all nodes: which volumes they carry, where to, how they are secured.
    Status(status::StatusArgs),
    /// Looks at a node, and at a mount target from it, and says what to do.
    Doctor(doctor::DoctorArgs),
    /// Shows what the containers of a node have logged.
    Logs(doctor::LogsArgs),
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("failed to start: {0}")]
    Runtime(io::Error),
    #[error("failed to list the pods of the node plugin: {0}")]
    Pods(KubectlError),
    #[error(
        "no pod of the node plugin is in {place} (kubectl get pods -l {}); is the chart installed there?",
        pods::SELECTOR
    )]
    NoPods { place: String },
    #[error("no pod of the node plugin is on {asked}; there is one on {there}")]
    NoSuchNode { asked: String, there: String },
    #[error("which node is meant? --node NAME, with one of {there}")]
    WhichNode { there: String },
    #[error("failed to ask {node}: {why}")]
    NodeSilent { node: String, why: String },
    #[error("failed to write the answer down: {0}")]
    Unwritable(String),
    #[error("failed to write the support archive {file:?}: {source}")]
    Bundle { file: PathBuf, source: io::Error },
    #[error("{0}")]
    Kubectl(KubectlError),
}

/// Runs the command line of the plugin.
pub(super) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match PluginLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // The text is clap's own; where it cannot be printed there is nobody to tell.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            };
        }
    };
    let PluginLine { flags, namespace, kubectl, command } = line;
    let cluster = Cluster { kubectl: Arc::new(Program(kubectl)), flags: flags.0, namespace };
    let ended = match command {
        PluginCommand::Status(arguments) => status::run(&cluster, &arguments),
        PluginCommand::Doctor(arguments) => doctor::run(&cluster, &arguments),
        PluginCommand::Logs(arguments) => doctor::logs(&cluster, &arguments),
    };
    ended.unwrap_or_else(|error| {
        say(&format!("kubectl alinas: {error}\n"));
        ExitCode::FAILURE
    })
}

/// The command line, for who checks what is written about it.
pub(super) fn command_line() -> clap::Command {
    <PluginLine as clap::CommandFactory>::command()
}

fn runtime() -> Result<Runtime, PluginError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PluginError::Runtime)
}

fn seconds(given: u32) -> Duration {
    Duration::from_secs(given.into())
}

#[cfg(test)]
mod line_tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_calls_itself_as_it_is_called() {
        command_line().debug_assert();
        let error = PluginLine::try_parse_from(["/usr/bin/kubectl-alinas", "status", "--nod", "a"]);
        let said = error.unwrap_err().to_string();
        assert!(said.contains("Usage: kubectl alinas status"), "{said}");
    }

    #[test]
    fn what_is_kubectl_s_is_passed_on_wherever_it_stands() {
        let line = "kubectl-alinas --context here status --as-group=a --as-group b -n x \
                    --insecure-skip-tls-verify --node n";
        let line = PluginLine::try_parse_from(line.split_whitespace()).unwrap();
        let expected =
            ["--context=here", "--as-group=a", "--as-group=b", "--insecure-skip-tls-verify"];
        assert_eq!(line.flags.0, expected);
        assert_eq!(line.namespace.as_deref(), Some("x"));
        assert!(matches!(line.command, PluginCommand::Status(_)));
    }
}
