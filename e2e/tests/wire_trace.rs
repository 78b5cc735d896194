//! One call of CSI by its id through the logs of all processes, and those logs changed while they run.
//!
//! The mount target does not exist, so that nothing is mounted: the call goes as far as the tunnel process and back.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use alinas_csi::proto::csi;
use alinas_csi::proto::csi::node_client::NodeClient;
use alinas_csi::proto::csi::volume_capability::AccessMode;
use alinas_csi::proto::csi::volume_capability::AccessType;
use alinas_csi::proto::csi::volume_capability::MountVolume;
use alinas_csi::proto::csi::volume_capability::access_mode::Mode;
use alinas_csi::proto::tunnel::ListRequest;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::process::Process;
use e2e::process::run;
use e2e::tls_lab::free_port;
use serde_json::Value;
use tempfile::TempDir;
use tonic::Request;

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a-secret-that-nobody-logs";
const ID: &str = "id-of-the-caller.1";

/// A node plugin and a watchdog, each with its log.
struct Pod {
    folder: TempDir,
    _node: Process,
    _watchdog: Process,
}

impl Pod {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("stage"))?;
        let command = |role: &str| -> Result<Command> {
            let mut command = Command::new(binary()?);
            command.args([role, "--log-format", "json", "--log", "info", "--state-dir"]);
            command.arg(path("state"));
            Ok(command)
        };
        let mut watchdog = command("watchdog")?;
        watchdog.args(["--proxy-port", &free_port().to_string()]);
        let watchdog = Process::start("watchdog", &mut watchdog, &path("watchdog.log"))?;
        let mut node = command("node")?;
        node.args(["--node-id", "node-1", "--csi-endpoint"]).arg(path("csi.sock"));
        let mut node = Process::start("node plugin", &mut node, &path("node.log"))?;
        node.wait_until("the CSI socket is served", PATIENCE, || {
            UnixStream::connect(path("csi.sock")).is_ok()
        })?;
        let pod = Self { folder, _node: node, _watchdog: watchdog };
        pod.until_tunnels().await?;
        Ok(pod)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Until the tunnel process serves.
    async fn until_tunnels(&self) -> Result<()> {
        let by = tokio::time::Instant::now() + PATIENCE;
        let mut client = TunnelsClient::new(channel(&self.path("state/watchdog.sock"))?);
        while tokio::time::Instant::now() < by {
            let listed = client.list(ListRequest::default()).await;
            if listed.is_ok_and(|listed| listed.into_inner().process == "running") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Failure::new("the tunnel process does not run"))
    }

    /// The call, which fails for want of a mount target.
    async fn stage(&self, id: &str) -> Result<tonic::Status> {
        let mut request = Request::new(self.message());
        let id = id.parse().map_err(|_| Failure::new("no metadata"))?;
        request.metadata_mut().insert("x-request-id", id);
        let mut client = NodeClient::new(channel(&self.path("csi.sock"))?);
        let answer = client.node_stage_volume(request).await;
        answer.err().ok_or_else(|| Failure::new("it was mounted"))
    }

    fn message(&self) -> csi::NodeStageVolumeRequest {
        let context = [("server", "no-such-nas.invalid"), ("path", "/data")];
        csi::NodeStageVolumeRequest {
            volume_id: "pv-1".to_owned(),
            staging_target_path: self.path("stage").display().to_string(),
            volume_capability: Some(csi::VolumeCapability {
                access_mode: Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() }),
                access_type: Some(AccessType::Mount(MountVolume::default())),
            }),
            volume_context: context.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            secrets: [("password".to_owned(), SECRET.to_owned())].into(),
            publish_context: std::collections::HashMap::new(),
        }
    }

    /// Every line of a log.
    fn log(&self, name: &str) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.path(name))?;
        assert!(!text.contains(SECRET), "{name} has a secret");
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<std::result::Result<_, _>>()?)
    }

    /// What is said of a request, as `call: message`.
    fn said(&self, log: &str, id: &str) -> Result<Vec<String>> {
        let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let lines = self.log(log)?;
        let lines = lines.iter().filter(|line| line["request.id"] == id);
        Ok(lines.map(|line| format!("{}: {}", text(line, "call"), text(line, "message"))).collect())
    }

    /// `alinas-csi log-level`, with these words more.
    fn log_level(&self, words: &[&str]) -> Result<String> {
        let state = self.path("state").display().to_string();
        let csi = self.path("csi.sock").display().to_string();
        let mut arguments = vec!["log-level", "--state-dir", &state, "--csi-endpoint", &csi];
        arguments.extend(words);
        run(PATIENCE, &binary()?.display().to_string(), &arguments)
    }
}

fn assert_has(said: &[String], expected: &[&str]) {
    for line in expected {
        assert!(said.iter().any(|said| said == line), "{line:?} is not in {said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_leads_through_the_logs_of_the_node_plugin_the_watchdog_and_the_tunnel() -> Result<()>
{
    let pod = Pod::start().await?;
    let refusal = pod.stage(ID).await?;
    println!("{refusal}");
    let node = pod.said("node.log", ID)?;
    assert_has(&node, &["NodeStageVolume: NodeStageVolume failed", "NodeStageVolume: ended"]);
    let watchdog = pod.said("watchdog.log", ID)?;
    // Of the watchdog, and of the tunnel process, which writes to the same place.
    assert_has(
        &watchdog,
        &["Acquire: Acquire failed", "Acquire: ended", "Open: ended", "Close: ended"],
    );
    println!("{node:#?}\n{watchdog:#?}");
    for log in ["node.log", "watchdog.log"] {
        for line in pod.log(log)?.iter().filter(|line| line["request.id"] == ID) {
            let of_tunnel = ["Open", "Close"].contains(&line["call"].as_str().unwrap_or_default());
            assert!(of_tunnel || line["volume.id"] == "pv-1", "{line}");
        }
    }
    let ended = pod.log("node.log")?;
    let ended = ended.iter().find(|line| line["message"] == "ended").cloned().unwrap_or_default();
    assert!(ended["ms"].is_u64() && ended["code"].is_string(), "{ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_could_forge_a_line_is_left_aside_and_another_is_drawn() -> Result<()> {
    let pod = Pod::start().await?;
    pod.stage("a b\"c").await?;
    let ended = pod.log("node.log")?;
    let ended = ended.iter().find(|line| line["message"] == "ended").cloned().unwrap_or_default();
    let id = ended["request.id"].as_str().unwrap_or_default().to_owned();
    assert!(id.len() == 12 && id.bytes().all(|one| one.is_ascii_hexdigit()), "{ended}");
    assert_has(&pod.said("watchdog.log", &id)?, &["Acquire: ended", "Open: ended"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_log_of_a_pod_is_changed_while_it_runs_and_back() -> Result<()> {
    let pod = Pod::start().await?;
    let before = "node       info\nwatchdog   info\ntunnel     info\n";
    assert_eq!(pod.log_level(&[])?, before);
    pod.stage("quiet").await?;
    let told = pod.log_level(&["debug", "--for-minutes", "1"])?;
    println!("{told}");
    let lines: Vec<_> = told.lines().collect();
    for (line, process) in lines.iter().zip(["node", "watchdog", "tunnel"]) {
        let begin = format!("{process:<10} info,alinas_csi=debug for ");
        assert!(line.starts_with(&begin) && line.ends_with(", then info"), "{line}");
    }
    assert_eq!(lines.len(), 3);
    pod.stage("loud").await?;
    assert_has(&pod.said("node.log", "loud")?, &["NodeStageVolume: begins"]);
    assert_has(
        &pod.said("watchdog.log", "loud")?,
        &["Acquire: begins", "Open: begins", "Probe: begins"],
    );
    assert_eq!(pod.log_level(&["--reset"])?, before);
    pod.stage("quiet-again").await?;
    for (log, id) in
        [("node.log", "quiet"), ("watchdog.log", "quiet"), ("watchdog.log", "quiet-again")]
    {
        let said = pod.said(log, id)?;
        assert!(
            !said.is_empty() && !said.iter().any(|line| line.ends_with(": begins")),
            "{said:?}"
        );
    }
    // A level that is none would silence everything.
    let refusal = pod.log_level(&["debg"]).err().ok_or_else(|| Failure::new("it was taken"))?;
    assert!(refusal.to_string().contains("\"debg\" is no level"), "{refusal}");
    assert_eq!(pod.log_level(&[])?, before);
    Ok(())
}
