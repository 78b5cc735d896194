//! `kubectl alinas doctor` and `logs`: one node, by way of its pod.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::app::doctor;
use crate::app::plugin::PluginError;
use crate::app::plugin::cluster::Cluster;
use crate::app::plugin::kubectl::Answer;
use crate::app::plugin::kubectl::Call;
use crate::app::plugin::pods::NodePod;
use crate::app::plugin::pods::WATCHDOG;
use crate::app::plugin::runtime;
use crate::app::print;
use crate::app::say;
use crate::app::status::Output;

/// For all that is looked at, and for the archive to arrive.
const DEADLINE: Duration = Duration::from_secs(180);
/// Two blocks of zeros, by which a tar ends.
const END_OF_ARCHIVE: usize = 1024;

/// What to look at.
#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// A mount target, with a path where that is to be looked at, too; without, the node alone.
    #[arg(value_name = "DOMAIN[:/PATH]")]
    subject: Option<String>,
    /// From which node; may be left out where there is only one.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// In which container of the node's pod; "node" may mount and sees the kubelet's directory, "watchdog" knows whom to
    /// trust.
    #[arg(long, short, value_name = "NAME", default_value = WATCHDOG)]
    container: String,
    /// The port of the mount target; without, both that are known.
    #[arg(long, value_name = "PORT")]
    tls_port: Option<u16>,
    /// The name that the certificate must carry, where it is not the mount target's.
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// For people, or for machines.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Fetches a support archive (tar) without secrets besides, and writes it here.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// Whose log to show.
#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    /// Of which node; may be left out where there is only one.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Of this container alone: node, watchdog.
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    /// The last lines of each container.
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    tail: u32,
    /// Goes on with what is logged from now on.
    #[arg(long, short)]
    follow: bool,
    /// What the containers logged that ran before these.
    #[arg(long, short)]
    previous: bool,
}

/// Has the node look, and shows what it says. Ends as doctor does there.
pub(super) fn run(cluster: &Cluster, arguments: &DoctorArgs) -> Result<ExitCode, PluginError> {
    let runtime = runtime()?;
    let pod = runtime.block_on(cluster.pod(arguments.node.as_deref()))?;
    let words = arguments.words();
    let Some(file) = &arguments.bundle else {
        let line = cluster.exec(&pod, &arguments.container, words);
        return Err(PluginError::Kubectl(cluster.kubectl.become_it(&line)));
    };
    let answer = runtime.block_on(fetch(cluster, &pod, &arguments.container, words))?;
    if !is_archive(&answer.stdout) {
        let cut = if answer.stdout.is_empty() { "" } else { "the archive was cut: " };
        let why = format!("{cut}{}", answer.why());
        return Err(PluginError::NodeSilent { node: pod.node, why });
    }
    print(&answer.remarks().map(|line| format!("{line}\n")).collect::<String>());
    doctor::write_archive(file, &answer.stdout)
        .map_err(|source| PluginError::Bundle { file: file.clone(), source })?;
    say(&format!(
        "kubectl alinas: wrote {} ({} bytes); it has no secrets, but names of mount targets, volumes and directories\n",
        file.display(),
        answer.stdout.len()
    ));
    Ok(if answer.code == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the log of a node's pod.
pub(super) fn logs(cluster: &Cluster, arguments: &LogsArgs) -> Result<ExitCode, PluginError> {
    let pod = runtime()?.block_on(cluster.pod(arguments.node.as_deref()))?;
    Err(PluginError::Kubectl(cluster.kubectl.become_it(&arguments.line(cluster, &pod))))
}

async fn fetch(
    cluster: &Cluster,
    pod: &NodePod,
    container: &str,
    words: Vec<String>,
) -> Result<Answer, PluginError> {
    let arguments = cluster.exec(pod, container, words);
    let call = Call { arguments, deadline: DEADLINE, errors_are_shown: false };
    let silent = |why: String| PluginError::NodeSilent { node: pod.node.clone(), why };
    cluster.kubectl.run(call).await.map_err(|error| silent(error.to_string()))
}

/// Whether all of it has arrived.
fn is_archive(bytes: &[u8]) -> bool {
    let end = bytes.len().checked_sub(END_OF_ARCHIVE).and_then(|start| bytes.get(start..));
    end.is_some_and(|end| end.iter().all(|byte| *byte == 0)) && bytes.len() > END_OF_ARCHIVE
}

impl DoctorArgs {
    /// The command line on the node.
    fn words(&self) -> Vec<String> {
        let mut words = vec!["doctor".to_owned()];
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("--{name}={value}")));
        };
        option("tls-port", self.tls_port.map(|port| port.to_string()));
        option("tls-server-name", self.tls_server_name.clone());
        option("bundle", self.bundle.as_ref().map(|_| "-".to_owned()));
        option(
            "output",
            match self.output {
                Output::Table => None,
                Output::Json => Some("json".to_owned()),
                Output::Yaml => Some("yaml".to_owned()),
            },
        );
        if let Some(subject) = &self.subject {
            words.extend(["--".to_owned(), subject.clone()]);
        }
        words
    }
}

impl LogsArgs {
    fn line(&self, cluster: &Cluster, pod: &NodePod) -> Vec<String> {
        let front = ["logs", "--namespace", &pod.namespace, &pod.name].map(str::to_owned);
        let whose = match &self.container {
            Some(container) => vec![format!("--container={container}")],
            None => vec!["--all-containers".to_owned(), "--prefix".to_owned()],
        };
        let mut line: Vec<_> = front.into_iter().chain(whose).collect();
        line.push(format!("--tail={}", self.tail));
        line.extend(self.follow.then(|| "--follow".to_owned()));
        line.extend(self.previous.then(|| "--previous".to_owned()));
        line.extend(cluster.flags.clone());
        line
    }
}
