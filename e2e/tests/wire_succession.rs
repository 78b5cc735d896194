//! One node plugin follows another on the same socket while the other still lives, as a DaemonSet's next pod does; and
//! what the kubelet sees of it in its folder for registrations.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use alinas_csi::proto::csi::NodeGetInfoRequest;
use alinas_csi::proto::csi::node_client::NodeClient;
use alinas_csi::proto::kubelet::InfoRequest;
use alinas_csi::proto::kubelet::registration_client::RegistrationClient;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::process::Process;
use e2e::process::log_tail;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;
use tokio::time::sleep;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);
const MAKES_WAY: &[&str] = &["--make-way"];

/// The kubelet's side of a node.
struct Kubelet {
    folder: TempDir,
}

impl Kubelet {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("plugins_registry")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A pod's node plugin, whose name is that of its node: so it can be told which one answers.
    fn pod(&self, name: &str, flags: &[&str]) -> Process {
        let mut command = Command::new(binary().unwrap());
        command.args(["node", "--node-id", name]).args(flags);
        command.arg("--csi-endpoint").arg(self.path("csi.sock"));
        command.arg("--state-dir").arg(self.path("state"));
        command.arg("--registration-dir").arg(self.path("plugins_registry"));
        command.args(["--kubelet-socket-path", "/var/lib/kubelet/plugins/alinas/csi.sock"]);
        Process::start("node", &mut command, &self.log()).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.path("log")
    }

    fn registration(&self) -> PathBuf {
        self.path("plugins_registry/reg@alinas.csi.alibabacloud.com.sock")
    }

    async fn who_answers(&self) -> Option<String> {
        let mut client = NodeClient::new(channel(&self.path("csi.sock")).unwrap());
        let asked = client.node_get_info(NodeGetInfoRequest {}).await;
        asked.ok().map(|info| info.into_inner().node_id)
    }

    async fn until_answered_by(&self, name: &str) {
        let answered = async {
            while self.who_answers().await.as_deref() != Some(name) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, answered).await.unwrap_or_else(|_| panic!("{}", log_tail(&self.log())));
    }

    /// Waits for another registration than `former`, and answers which one.
    async fn until_registered(&self, former: Option<u64>) -> u64 {
        let registered = async {
            loop {
                match inode(&self.registration()) {
                    Some(found) if Some(found) != former => return found,
                    _ => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(DEADLINE, registered).await.expect("it registers")
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|found| found.ino())
}

fn end(process: &mut Process) {
    let id = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    process.wait_for_end(DEADLINE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pod_serves_the_kubelet_and_is_registered_while_the_former_one_lives() {
    let kubelet = Kubelet::new();
    let mut first = kubelet.pod("first", MAKES_WAY);
    kubelet.until_answered_by("first").await;
    let former = kubelet.until_registered(None).await;
    let mut second = kubelet.pod("second", MAKES_WAY);
    kubelet.until_answered_by("second").await;
    let registered = kubelet.until_registered(Some(former)).await;
    assert!(!first.has_ended(), "the kubelet would start it again, and it would take over");
    end(&mut first);
    assert_eq!(
        inode(&kubelet.registration()),
        Some(registered),
        "the kubelet would forget the driver"
    );
    let mut asked = RegistrationClient::new(channel(&kubelet.registration()).unwrap());
    let info = asked.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.endpoint, "/var/lib/kubelet/plugins/alinas/csi.sock");
    end(&mut second);
    assert!(!kubelet.registration().exists(), "the kubelet is to forget the driver");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_plugin_that_made_way_serves_again_where_the_next_one_dies() {
    let kubelet = Kubelet::new();
    let mut first = kubelet.pod("first", MAKES_WAY);
    kubelet.until_answered_by("first").await;
    let mut second = kubelet.pod("second", MAKES_WAY);
    kubelet.until_answered_by("second").await;
    let registered = kubelet.until_registered(None).await;
    second.kill().unwrap();
    kubelet.until_answered_by("first").await;
    kubelet.until_registered(Some(registered)).await;
    end(&mut first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_plugin_that_does_not_make_way_keeps_its_socket() {
    let kubelet = Kubelet::new();
    let mut first = kubelet.pod("first", &[]);
    kubelet.until_answered_by("first").await;
    let mut second = kubelet.pod("second", MAKES_WAY);
    second.wait_for_end(DEADLINE).unwrap_err();
    let log = log_tail(&kubelet.log());
    assert!(log.contains("does not make way"), "{log}");
    kubelet.until_answered_by("first").await;
    end(&mut first);
}

#[test]
fn a_probe_says_whether_the_plugin_works() {
    let kubelet = Kubelet::new();
    let mut command = Command::new(binary().unwrap());
    command.arg("probe").env("CSI_ENDPOINT", kubelet.path("csi.sock"));
    let seen = e2e::process::observe(DEADLINE, &mut command).unwrap();
    assert_eq!(seen.code, Some(1));
    assert!(seen.output.contains("csi.sock"), "{}", seen.output);
}
