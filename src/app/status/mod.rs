//! `alinas-csi status`: what the tunnels of this node carry, with whom, and how well it is protected.
//!
//! The watchdog is asked over its socket, and asks the tunnel process. Nothing here reads a record or a mount: what is
//! shown is what those two know, and which claims the node plugin has noted.

pub(super) mod report;
pub(super) mod table;
pub(super) mod watch;

#[cfg(test)]
pub(super) use report::example;

use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::app::node::WATCHDOG_SOCKET;
use crate::app::print;
use crate::app::say;
use crate::app::status::report::Report;
use crate::app::status::watch::Streams;
use crate::app::status::watch::Watch;
use crate::node::claim_notes::ClaimNotes;
use crate::proto::tunnel as wire;
use crate::proto::tunnel::tunnels_client::TunnelsClient;
use crate::runtime::Clock;
use crate::runtime::SystemClock;
use crate::runtime::one_connection;
use crate::watchdog::report::STATUS_DEADLINE;

/// For the whole question.
const DEADLINE: Duration = Duration::from_secs(5);
const _: () = assert!(
    STATUS_DEADLINE.as_secs() < DEADLINE.as_secs(),
    "the watchdog could not tell us that the tunnel process does not answer"
);

/// What to ask for.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the watchdog's socket is.
    #[arg(long, env = "ALINAS_CSI_STATE_DIR", default_value = "/run/alinas-csi")]
    state_dir: PathBuf,
    /// For people, or for machines.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Looks again and again, every two seconds or every so many, and shows what is carried meanwhile.
    #[arg(
        long,
        short,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=86400)
    )]
    watch: Option<u32>,
    /// Looks twice, a second apart, and shows what was carried meanwhile.
    #[arg(long, conflicts_with = "watch")]
    rate: bool,
}

/// Between the two looks of `--rate`.
const A_MOMENT: Duration = Duration::from_secs(1);

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for each volume, and what is weak or wrong below.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// The same in YAML.
    Yaml,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum StatusError {
    #[error("failed to ask the watchdog at {socket:?}: {why}; is it running on this node?")]
    NoWatchdog { socket: PathBuf, why: String },
    #[error("failed to ask the watchdog at {socket:?}: permission denied; ask as root")]
    Forbidden { socket: PathBuf },
    #[error(
        "failed to ask the watchdog at {socket:?}: no answer within {} s; see its log",
        DEADLINE.as_secs()
    )]
    Silent { socket: PathBuf },
    #[error("failed to start: {0}")]
    Runtime(io::Error),
    #[error("failed to write the answer down: {0}")]
    Unwritable(String),
}

/// Asks and prints.
pub(super) fn run(arguments: &StatusArgs) -> ExitCode {
    let answered = match arguments.watch {
        Some(seconds) => watch(arguments, Duration::from_secs(seconds.into())),
        None => answer(arguments),
    };
    match answered {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("alinas-csi: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: &StatusArgs) -> Result<String, StatusError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let look = async || look(&arguments.state_dir).await;
    let report = runtime.map_err(StatusError::Runtime)?.block_on(async {
        if arguments.rate { watch::with_rates(look, A_MOMENT).await } else { look().await }
    })?;
    write(&report, arguments.output)
}

/// Ends when nobody reads any more.
fn watch(arguments: &StatusArgs, every: Duration) -> Result<String, StatusError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut streams = Streams { out: &mut io::stdout(), errors: &mut io::stderr() };
    let how = Watch {
        every,
        output: arguments.output,
        in_place: arguments.output == Output::Table && io::stdout().is_terminal(),
    };
    let watching = watch::watch(
        how,
        async || look(&arguments.state_dir).await,
        || SystemClock.now().epoch_seconds(),
        &mut streams,
    );
    // A reader that has seen enough, as `head` has, is no error.
    let _ = runtime.map_err(StatusError::Runtime)?.block_on(watching);
    Ok(String::new())
}

/// As the watchdog of a state directory says it.
///
/// # Errors
/// Says why there is no answer.
pub(super) async fn ask_in(state_dir: &Path) -> Result<wire::ListResponse, StatusError> {
    ask(&state_dir.join(WATCHDOG_SOCKET)).await
}

/// The answer for machines.
///
/// # Errors
/// Says why there is none.
pub(super) async fn json_in(state_dir: &Path) -> Result<String, StatusError> {
    write(&look(state_dir).await?, Output::Json)
}

async fn look(state_dir: &Path) -> Result<Report, StatusError> {
    let listed = ask_in(state_dir).await?;
    let report = Report::read(listed, SystemClock.now().epoch_seconds());
    Ok(report.name(&ClaimNotes::below(state_dir).read()))
}

async fn ask(socket: &Path) -> Result<wire::ListResponse, StatusError> {
    timeout(DEADLINE, ask_patiently(socket))
        .await
        .unwrap_or_else(|_| Err(StatusError::Silent { socket: socket.to_owned() }))
}

async fn ask_patiently(socket: &Path) -> Result<wire::ListResponse, StatusError> {
    let no_watchdog = |why: String| StatusError::NoWatchdog { socket: socket.to_owned(), why };
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(StatusError::Forbidden { socket: socket.to_owned() });
        }
        Err(error) => return Err(no_watchdog(error.to_string())),
    };
    let request = wire::ListRequest { listeners: true };
    let answer = TunnelsClient::new(one_connection(stream)).list(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| no_watchdog(status.message().to_owned()))
}

fn write(report: &Report, output: Output) -> Result<String, StatusError> {
    output.of(report, table::of).map_err(StatusError::Unwritable)
}

impl Output {
    /// An answer in this form.
    ///
    /// # Errors
    /// The serializer's words.
    pub(super) fn of<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<String, String> {
        match self {
            Self::Table => Ok(table(answer)),
            Self::Json => serde_json::to_string_pretty(answer)
                .map(|text| text + "\n")
                .map_err(|error| error.to_string()),
            Self::Yaml => serde_saphyr::to_string(answer).map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_at(state_dir: &Path) -> String {
        let state_dir = state_dir.to_owned();
        answer(&StatusArgs { state_dir, output: Output::Table, watch: None, rate: false })
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_node_without_a_watchdog_is_asked_whether_it_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let said = asked_at(dir.path());
        let path = dir.path().join("watchdog.sock");
        assert!(said.starts_with(&format!("failed to ask the watchdog at {path:?}: ")), "{said}");
        assert!(said.ends_with("; is it running on this node?"), "{said}");
    }

    #[test]
    fn a_socket_that_its_watchdog_has_left_behind_is_no_watchdog() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(WATCHDOG_SOCKET)).unwrap());
        let said = asked_at(dir.path());
        assert!(said.contains("Connection refused"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_that_is_silent_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(WATCHDOG_SOCKET);
        let _silent = tokio::net::UnixListener::bind(&socket).unwrap();
        let error = ask(&socket).await.unwrap_err();
        assert!(matches!(error, StatusError::Silent { .. }), "{error}");
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let report = Report::read(report::example(), report::EXAMPLE_NOW);
        let json = write(&report, Output::Json).unwrap();
        let yaml = write(&report, Output::Yaml).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["tunnels"][0]["session"]["weak"][0], "static-rsa");
        assert_eq!(json["tunnels"][0]["session"]["certificate"]["daysLeft"], 12);
        assert_eq!(json["tunnels"][0]["bytes"]["toServer"], 3 << 20);
        assert_eq!(json["tunnels"][1]["session"], serde_json::Value::Null);
        let lines: Vec<_> = yaml.lines().map(str::trim).collect();
        for line in ["version: TLSv1.2", "daysLeft: 12", "toServer: 3145728", "session: null"] {
            assert!(lines.contains(&line), "{line:?} in {yaml}");
        }
    }
}
