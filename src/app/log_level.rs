//! `alinas-csi log-level`: what the logs of this pod or machine show, changed for a while.
//!
//! In a container `kubectl exec POD -c node -- /alinas-csi log-level debug` is all that it takes: where the processes
//! are, the environment of the container says. Each is asked over its own socket, the tunnel process too; what is not
//! there is passed over, unless it was named.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Code;

use crate::app::node::WATCHDOG_SOCKET;
use crate::app::print;
use crate::app::say;
use crate::csi::CsiEndpoint;
use crate::proto::log::SetRequest;
use crate::proto::log::SetResponse;
use crate::proto::log::log_client::LogClient;
use crate::runtime::one_connection;

/// Beside the watchdog's.
const TUNNEL_SOCKET: &str = "tunnel.sock";
/// For each process.
const DEADLINE: Duration = Duration::from_secs(5);

/// What to show.
#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// A level, which is then that of this program's own lines, or a list as for --log, such as "h2=debug,info".
    /// Without one, nothing is changed.
    filter: Option<String>,
    /// After so many minutes the log is again as it was at the start.
    #[arg(
        long,
        value_name = "MINUTES",
        default_value_t = 15,
        requires = "filter",
        value_parser = clap::value_parser!(u64).range(1..=1440)
    )]
    for_minutes: u64,
    /// Only the log of this process; may be repeated. Without, those of all that are there.
    #[arg(long = "for", value_name = "PROCESS", value_enum)]
    processes: Vec<ProcessName>,
    /// The log is again as it was at the start, at once.
    #[arg(long, conflicts_with = "filter")]
    reset: bool,
    /// Where the sockets of the watchdog and of the tunnel process are.
    #[arg(long, env = "ALINAS_CSI_STATE_DIR", default_value = "/run/alinas-csi")]
    state_dir: PathBuf,
    /// Where the node plugin or the controller serves CSI.
    #[arg(long, env = "CSI_ENDPOINT", value_parser = CsiEndpoint::parse)]
    csi_endpoint: Option<CsiEndpoint>,
}

/// A process with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProcessName {
    /// The node plugin.
    Node,
    /// The controller.
    Controller,
    /// The watchdog.
    Watchdog,
    /// The tunnel process.
    Tunnel,
}

impl ProcessName {
    fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Controller => "controller",
            Self::Watchdog => "watchdog",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Why a process did not answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("nothing serves {0:?}")]
    Absent(PathBuf),
    #[error("failed to ask at {socket:?}: permission denied; ask as root")]
    Forbidden { socket: PathBuf },
    #[error("the process at {socket:?} gave no answer within {} s", DEADLINE.as_secs())]
    Silent { socket: PathBuf },
    #[error("the process at {0:?} is of a release whose log cannot be changed")]
    Former(PathBuf),
    #[error("{0}")]
    Refused(String),
    #[error("failed to ask at {socket:?}: {why}")]
    Failed { socket: PathBuf, why: String },
}

/// Asks and prints.
pub(super) fn run(arguments: &LogLevelArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (told, faults) = match runtime {
        Ok(runtime) => runtime.block_on(ask_all(arguments)),
        Err(error) => (String::new(), vec![format!("failed to start: {error}")]),
    };
    print(&told);
    faults.iter().for_each(|fault| say(&format!("alinas-csi: {fault}\n")));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line for each process that answered, and what is wrong with the others.
async fn ask_all(arguments: &LogLevelArgs) -> (String, Vec<String>) {
    let (mut told, mut faults, mut absent, mut missing) =
        (String::new(), Vec::new(), Vec::new(), arguments.processes.clone());
    for socket in arguments.sockets() {
        let answer = match ask(&socket, SetRequest::default()).await {
            Ok(answer) => answer,
            Err(fault @ Fault::Absent(_)) => {
                absent.push(fault.to_string());
                continue;
            }
            Err(fault) => {
                faults.push(fault.to_string());
                continue;
            }
        };
        if !arguments.means(&answer.process) {
            continue;
        }
        missing.retain(|process| process.word() != answer.process);
        let answer = match arguments.change() {
            Some(change) => ask(&socket, change).await,
            None => Ok(answer),
        };
        match answer {
            // Nothing that is written to a text fails.
            Ok(answer) => drop(writeln!(told, "{}", line(&answer))),
            Err(fault) => faults.push(fault.to_string()),
        }
    }
    if faults.is_empty() && (!missing.is_empty() || told.is_empty()) {
        let names: Vec<_> = missing.iter().map(|process| process.word()).collect();
        let whom = if names.is_empty() { "process".to_owned() } else { names.join(", no ") };
        let why =
            if absent.is_empty() { String::new() } else { format!(": {}", absent.join("; ")) };
        faults.push(format!("there is no {whom} here{why}"));
    }
    (told, faults)
}

impl LogLevelArgs {
    fn sockets(&self) -> Vec<PathBuf> {
        let csi = self.csi_endpoint.as_ref().map(|endpoint| endpoint.path().to_owned());
        let others = [WATCHDOG_SOCKET, TUNNEL_SOCKET].map(|name| self.state_dir.join(name));
        csi.into_iter().chain(others).collect()
    }

    fn means(&self, process: &str) -> bool {
        self.processes.is_empty() || self.processes.iter().any(|meant| meant.word() == process)
    }

    fn change(&self) -> Option<SetRequest> {
        let (filter, seconds) = match &self.filter {
            Some(filter) => (spelled_out(filter), self.for_minutes * 60),
            None => (String::new(), 0),
        };
        let change = SetRequest { filter, seconds, reset: self.reset };
        (change != SetRequest::default()).then_some(change)
    }
}

/// A level alone, where it shows more than usual, is meant for us: libraries tell of every frame.
fn spelled_out(filter: &str) -> String {
    match filter.to_ascii_lowercase().as_str() {
        level @ ("debug" | "trace") => format!("info,alinas_csi={level}"),
        _ => filter.to_owned(),
    }
}

async fn ask(socket: &Path, request: SetRequest) -> Result<SetResponse, Fault> {
    let answer = timeout(DEADLINE, ask_patiently(socket, request)).await;
    answer.unwrap_or_else(|_| Err(Fault::Silent { socket: socket.to_owned() }))
}

async fn ask_patiently(socket: &Path, request: SetRequest) -> Result<SetResponse, Fault> {
    let named = || socket.to_owned();
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Fault::Absent(named()),
        io::ErrorKind::PermissionDenied => Fault::Forbidden { socket: named() },
        _ => Fault::Failed { socket: named(), why: error.to_string() },
    })?;
    let answer = LogClient::new(one_connection(stream)).set(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| match status.code() {
        Code::Unimplemented => Fault::Former(named()),
        Code::InvalidArgument => Fault::Refused(status.message().to_owned()),
        _ => Fault::Failed { socket: named(), why: status.message().to_owned() },
    })
}

fn line(answer: &SetResponse) -> String {
    let SetResponse { process, filter, seconds_left, at_start } = answer;
    match seconds_left {
        0 => format!("{process:<10} {filter}"),
        left => {
            let left = humantime::format_duration(Duration::from_secs(*left));
            format!("{process:<10} {filter} for {left}, then {at_start}")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;

    use super::*;
    use crate::runtime::LogSwitch;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: LogLevelArgs,
    }

    fn parse(state_dir: &Path, line: &str) -> LogLevelArgs {
        let words = ["log-level", "--state-dir", state_dir.to_str().unwrap()];
        let words = words.into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().arguments
    }

    fn serve(socket: &Path, process: &'static str) {
        let log = LogSwitch::new(process, "info", |_| Ok(()));
        let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let server = tonic::transport::Server::builder().add_service(log.service());
        tokio::spawn(server.serve_with_incoming(listener));
    }

    #[test]
    fn a_command_line_asks_changes_or_resets() {
        for (line, fine) in [
            ("debug --for watchdog --for tunnel --for-minutes 1440", true),
            ("--reset --for node", true),
            ("--reset debug", false),
            ("--for-minutes 5", false),
            ("debug --for-minutes 0", false),
            ("debug --for-minutes 1441", false),
            ("debug --for nobody", false),
        ] {
            let words = std::iter::once("log-level").chain(line.split(' '));
            assert_eq!(Line::try_parse_from(words).is_ok(), fine, "{line}");
        }
    }

    #[test]
    fn a_level_that_shows_more_is_meant_for_this_program() {
        for (said, meant) in [
            ("debug", "info,alinas_csi=debug"),
            ("TRACE", "info,alinas_csi=trace"),
            ("warn", "warn"),
            ("h2=debug,info", "h2=debug,info"),
        ] {
            assert_eq!(spelled_out(said), meant);
        }
    }

    #[tokio::test]
    async fn whoever_is_there_is_changed_and_who_was_named_must_be() {
        let home = tempfile::tempdir().unwrap();
        let all = async |line: &str| ask_all(&parse(home.path(), line)).await;
        let (told, faults) = all("").await;
        assert!(
            told.is_empty() && faults[0].starts_with("there is no process here: nothing serves")
        );
        serve(&home.path().join(WATCHDOG_SOCKET), "watchdog");
        assert_eq!(all("").await, ("watchdog   info\n".to_owned(), Vec::new()));
        let (_, faults) = all("debug --for tunnel").await;
        assert!(faults[0].starts_with("there is no tunnel here: nothing serves"), "{faults:?}");
        serve(&home.path().join(TUNNEL_SOCKET), "tunnel");
        let (told, _) = all("debug --for tunnel --for-minutes 2").await;
        assert_eq!(told, "tunnel     info,alinas_csi=debug for 2m, then info\n");
        let (told, _) = all("").await;
        assert!(
            told.starts_with("watchdog   info\ntunnel     info,alinas_csi=debug for "),
            "{told}"
        );
        assert_eq!(all("--reset").await.0, "watchdog   info\ntunnel     info\n");
        let (_, faults) = all("debg").await;
        assert!(faults.len() == 2 && faults[0].starts_with("\"debg\" is no level"), "{faults:?}");
    }
}
