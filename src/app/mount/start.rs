//! Starts a watchdog where a mount needs one and none serves, as the vendor's client does.
//!
//! The installed service is started where there is one, by whatever starts services here; else a process of its own.
//! Each step has a deadline: a service manager that does not answer must not hang a boot. Start with [`watchdog`].

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::Instant;
use tokio::time::sleep;

use super::MountArgs;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::app::log_file;
use crate::app::node::WATCHDOG_SOCKET;
use crate::host::command::Command;
use crate::runtime::Chain;

/// The name of the vendor's service, which our packages keep.
const SERVICE: &str = "aliyun-alinas-mount-watchdog";
/// The state directory of the service. A watchdog of another one is the caller's own affair.
const STATE_DIR: &str = "/run/alinas-csi";
/// This program itself, also after its file was replaced.
const OURSELVES: &str = "/proc/self/exe";

/// For the service manager, which is only asked to begin.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Until the watchdog serves. It reads its records first, and a machine that boots is busy.
const SERVE_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where this machine keeps what starts services.
#[derive(Debug)]
struct Places {
    /// There while systemd is process 1 (sd_booted(3)).
    systemd: PathBuf,
    /// Where a unit may be (systemd.unit(5)).
    units: Vec<PathBuf>,
    /// Where a script may be.
    scripts: PathBuf,
}

/// What can start the watchdog here.
#[derive(Debug, PartialEq, Eq)]
enum Starter {
    /// `systemctl start`.
    Systemd,
    /// A script of System V init.
    Script(PathBuf),
    /// Nobody: the watchdog is a process that this one leaves behind.
    Ourselves,
}

/// Whether the watchdog of this state directory is one that may be started.
pub(super) fn is_wanted_at(state_dir: &Path) -> bool {
    state_dir == Path::new(STATE_DIR)
}

/// Starts the watchdog, and waits until it serves.
pub(super) async fn watchdog(args: &MountArgs) -> Result<(), Ending> {
    let places = Places {
        systemd: "/run/systemd/system".into(),
        units: ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"]
            .map(|folder| Path::new(folder).join("systemd/system"))
            .into(),
        scripts: "/etc/init.d".into(),
    };
    start(&places.starter(), args, &args.state_dir.join(WATCHDOG_SOCKET)).await
}

async fn start(starter: &Starter, args: &MountArgs, socket: &Path) -> Result<(), Ending> {
    tracing::info!(by = starter.words(), "no watchdog serves; starting one");
    let mut child = None;
    match starter {
        Starter::Systemd => {
            // Not waited for: while the machine boots, the queue of systemd may wait for this very mount.
            let words = ["--no-block", "start", SERVICE];
            ask(starter, Command::new(Path::new("systemctl"), words)).await?;
        }
        Starter::Script(script) => ask(starter, Command::new(script, ["start"])).await?,
        Starter::Ourselves => child = Some(leave_behind(args)?),
    }
    match serves_in_time(socket).await {
        true => Ok(()),
        false => Err(silent(starter, child)),
    }
}

async fn serves_in_time(socket: &Path) -> bool {
    let until = Instant::now() + SERVE_DEADLINE;
    while UnixStream::connect(socket).await.is_err() {
        if Instant::now() >= until {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
    true
}

async fn ask(starter: &Starter, command: Command) -> Result<(), Ending> {
    let failed = |why: String| {
        let by = starter.words();
        Ending::new(
            Exit::System,
            format!("option \"tls\" needs a watchdog, and {by} failed: {why}"),
        )
    };
    let output = command.run(ASK_DEADLINE).await;
    let output = output.map_err(|error| failed(Chain(&error).to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}; {}", output.status, said.trim().replace('\n', "; "))))
}

fn leave_behind(args: &MountArgs) -> Result<Child, Ending> {
    #[expect(clippy::disallowed_methods, reason = "it outlives us on purpose")]
    let mut command = tokio::process::Command::new(OURSELVES);
    command.arg0("alinas-csi").args(arguments(args)).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Ctrl-C at the terminal is for the mount.
    command.process_group(0);
    command.spawn().map_err(|error| {
        Ending::new(
            Exit::System,
            format!(
                "option \"tls\" needs a watchdog, and a process for it failed to start: {error}"
            ),
        )
    })
}

fn arguments(args: &MountArgs) -> Vec<OsString> {
    vec![
        "watchdog".into(),
        "--state-dir".into(),
        args.state_dir.clone().into(),
        "--config".into(),
        args.config.clone().into(),
    ]
}

/// It was started, and does not serve.
fn silent(starter: &Starter, child: Option<Child>) -> Ending {
    let ended = child.and_then(|mut child| child.try_wait().ok().flatten());
    let what = ended.map_or_else(
        || format!("does not serve after {} s", SERVE_DEADLINE.as_secs()),
        |status| format!("has ended ({status})"),
    );
    let log = Path::new(log_file::FOLDER).join("mount-watchdog.log");
    Ending::new(
        Exit::System,
        format!(
            "option \"tls\" needs a watchdog; one was started by {}, and it {what}; see {}{}",
            starter.words(),
            log.display(),
            starter.more_to_see()
        ),
    )
}

impl Places {
    fn starter(&self) -> Starter {
        let unit = format!("{SERVICE}.service");
        let is_unit = |folder: &PathBuf| folder.join(&unit).exists();
        if self.systemd.is_dir() && self.units.iter().any(is_unit) {
            return Starter::Systemd;
        }
        let script = self.scripts.join(SERVICE);
        if script.exists() { Starter::Script(script) } else { Starter::Ourselves }
    }
}

impl Starter {
    fn words(&self) -> String {
        match self {
            Self::Systemd => format!("\"systemctl start {SERVICE}\""),
            Self::Script(script) => format!("\"{} start\"", script.display()),
            Self::Ourselves => "\"alinas-csi watchdog\"".to_owned(),
        }
    }

    fn more_to_see(&self) -> String {
        match self {
            Self::Systemd => format!(" and \"systemctl status {SERVICE}\""),
            Self::Script(_) | Self::Ourselves => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::args;
    use super::*;

    fn places(root: &Path) -> Places {
        Places {
            systemd: root.join("booted"),
            units: vec![root.join("units")],
            scripts: root.join("init.d"),
        }
    }

    fn script(root: &Path, text: &str) -> Starter {
        let file = root.join("script");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        Starter::Script(file)
    }

    #[test]
    fn systemd_goes_before_a_script_and_a_process_of_its_own_comes_last() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        assert_eq!(places.starter(), Starter::Ourselves);
        let script = places.scripts.join(SERVICE);
        fs::create_dir(&places.scripts).unwrap();
        fs::write(&script, "").unwrap();
        assert_eq!(places.starter(), Starter::Script(script.clone()));
        // A unit alone is of no use where systemd does not run, and systemd without the unit neither.
        fs::create_dir(&places.units[0]).unwrap();
        fs::write(places.units[0].join(format!("{SERVICE}.service")), "").unwrap();
        assert_eq!(places.starter(), Starter::Script(script));
        fs::create_dir(&places.systemd).unwrap();
        assert_eq!(places.starter(), Starter::Systemd);
    }

    #[test]
    fn only_the_watchdog_of_the_service_is_started() {
        assert!(is_wanted_at(Path::new("/run/alinas-csi")));
        assert!(!is_wanted_at(Path::new("/tmp/other")));
        assert!(is_wanted_at(&args("-t alinas a:/ /b").state_dir));
    }

    #[tokio::test]
    async fn a_starter_that_fails_is_named_with_its_words() {
        let root = tempfile::tempdir().unwrap();
        let starter = script(root.path(), "#!/bin/sh\necho no such thing >&2\nexit 3\n");
        let ending = start(&starter, &args("a:/ /b"), Path::new("/nowhere")).await.unwrap_err();
        for part in ["start\" failed", "exit status: 3", "no such thing"] {
            assert!(ending.message.contains(part), "{}", ending.message);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_that_does_not_come_to_serve_is_given_up_with_where_to_look() {
        let root = tempfile::tempdir().unwrap();
        let begin = Instant::now();
        assert!(!serves_in_time(&root.path().join("watchdog.sock")).await);
        assert!(begin.elapsed() <= SERVE_DEADLINE + LOOK_EVERY);
        let ending = silent(&Starter::Systemd, None);
        for part in ["does not serve after 20 s", "systemctl status", "mount-watchdog.log"] {
            assert!(ending.message.contains(part), "{}", ending.message);
        }
    }

    #[tokio::test]
    async fn a_watchdog_is_waited_for_until_it_serves() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("watchdog.sock");
        let line = format!(
            "#!/bin/sh\n(sleep 0.3; perl -MIO::Socket::UNIX -e \
             'my $socket = IO::Socket::UNIX->new(Listen => 1, Local => shift); sleep 5' {} >/dev/null 2>&1) \
             >/dev/null 2>&1 </dev/null &\n",
            socket.display()
        );
        start(&script(root.path(), &line), &args("a:/ /b"), &socket).await.unwrap();
    }
}
