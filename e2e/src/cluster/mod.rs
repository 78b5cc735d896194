//! A real Kubernetes of one node, beside the embedded NAS: etcd, kube-apiserver, controller-manager, scheduler,
//! snapshot-controller, containerd and kubelet as plain processes. Nothing is pulled, and nothing leaves the machine.
//!
//! ```text
//! pod --- ptp --- node (10.77.0.1, API server at 10.96.0.1:443) --- veth --- NAS (192.0.2.10)
//! ```
//!
//! There is no kube-proxy and no DNS of the cluster: the API server listens at the address that pods know it by, and a name
//! service of ours knows the mount targets alone.
//!
//! Start with [`Cluster::start`]; what a person would type is in [`client`].

pub mod client;
mod settings;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cable::ip;
use crate::certificates::Authority;
use crate::certificates::Validity;
use crate::cluster::client::Client;
use crate::cluster::settings::Identity;
use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::lab;
use crate::name_service::NameService;
use crate::nas::FRONTS;
use crate::nas::Nas;
use crate::nas::TlsProfile;
use crate::process::Process;
use crate::process::run;

/// The kubelet's folder; some of Kubernetes' own tests know no other.
pub const KUBELET: &str = "/var/lib/kubelet";
/// The node's name in the cluster.
pub const NODE: &str = "lab-node";
/// The image of the driver, as the chart is told.
pub const IMAGE: &str = "localhost/alinas-csi";

const FOLDER: &str = "/srv/alinas-csi-cluster";
const NODE_ADDRESS: &str = "10.77.0.1";
/// Where every pod looks for the API server: the first address of the services.
const SERVICE_ADDRESS: &str = "10.96.0.1";
const POD_NETWORK: &str = "10.78.0.0/24";

/// Emulated processors take minutes for what takes seconds elsewhere.
const START: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(120);

/// The programs, each from `e2e/tools` or Debian; found by the environment that `e2e/run-tests` sets.
#[derive(Clone, Debug)]
struct Programs {
    kubernetes: PathBuf,
    containerd: PathBuf,
    snapshots: PathBuf,
    images: Vec<PathBuf>,
}

impl Programs {
    fn find() -> Result<Self> {
        let folder = |name: &str| {
            let missing = format!("{name} is not set: run this by `make cluster`");
            std::env::var_os(name).map(PathBuf::from).ok_or_else(|| Failure::new(missing))
        };
        Ok(Self {
            kubernetes: folder("ALINAS_CSI_KUBERNETES")?,
            containerd: folder("ALINAS_CSI_CONTAINERD")?,
            snapshots: folder("ALINAS_CSI_SNAPSHOTS")?,
            images: vec![folder("ALINAS_CSI_IMAGES")?, folder("ALINAS_CSI_IMAGE")?],
        })
    }
}

/// The running cluster and its NAS. All of it ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    client: Client,
    // In the order in which they must end: the node before what it needs, and the NAS last, for mounts wait for it.
    node: Option<Node>,
    _control_plane: Vec<Process>,
    _names: NameService,
    nas: Nas,
}

impl Cluster {
    /// Starts all of it, and waits until the node is ready for pods.
    ///
    /// # Errors
    /// When a part does not come up; with the end of its log.
    pub fn start() -> Result<Self> {
        lab::require()?;
        let programs = Programs::find()?;
        let nas = Nas::start(TlsProfile::Tls13)?;
        make_folder()?;
        connect()?;
        let table = FRONTS.map(|front| (front.domain().to_owned(), front.address()));
        let names = NameService::knowing(NODE_ADDRESS, table.into())?;
        settings::write(Path::new(FOLDER))?;
        certify()?;
        let client = Client::find(&path("admin.kubeconfig"))?;
        let containerd = start_containerd(&programs)?;
        let control_plane = start_control_plane(&programs, &client)?;
        import_images(&programs)?;
        let kubelet = start_kubelet(&programs)?;
        let cluster = Self {
            programs,
            client,
            node: Some(Node { kubelet, containerd }),
            _control_plane: control_plane,
            _names: names,
            nas,
        };
        cluster.wait_for_node()?;
        Ok(cluster)
    }

    /// How to speak to it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The NAS that its volumes are on.
    #[must_use]
    pub fn nas(&self) -> &Nas {
        &self.nas
    }

    /// Ends everything that runs on the node, as a power cut does, takes its mounts and what lay in memory away, and
    /// starts it again. What is on disk stays.
    ///
    /// # Errors
    /// When the node does not become ready again.
    pub fn reboot_node(&mut self) -> Result<()> {
        drop(self.node.take());
        end_containers();
        unmount_below(Path::new(KUBELET));
        let _ = fs::remove_dir_all("/run/alinas-csi");
        let containerd = start_containerd(&self.programs)?;
        let kubelet = start_kubelet(&self.programs)?;
        self.node = Some(Node { kubelet, containerd });
        self.wait_for_node()
    }

    fn wait_for_node(&self) -> Result<()> {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        self.client.wait_for("the node is ready", START, |client| {
            Ok(client.kubectl(&["get", "node", NODE, "-o", ready])? == "True")
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.node.take());
        end_containers();
        unmount_below(Path::new(KUBELET));
    }
}

/// What runs on the node itself.
#[derive(Debug)]
struct Node {
    #[expect(dead_code, reason = "ends when dropped, before what it speaks to")]
    kubelet: Process,
    #[expect(dead_code, reason = "ends when dropped")]
    containerd: Process,
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn log(name: &str) -> PathBuf {
    // Kept, where somebody wants to see them.
    match std::env::var_os("ALINAS_CSI_LAB_OUT") {
        Some(out) => PathBuf::from(out).join(format!("{name}.log")),
        None => path(&format!("{name}.log")),
    }
}

/// A file system in memory: an overlay cannot hold the overlays of containers.
fn make_folder() -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    run(SHORT, "mount", &["-t", "tmpfs", "-o", "size=4g", "cluster", FOLDER])?;
    for folder in ["cni", "pki", KUBELET] {
        fs::create_dir_all(path(folder))?;
    }
    // Mounts of a container must show on the node, and the other way round.
    run(SHORT, "mount", &["--bind", KUBELET, KUBELET])?;
    run(SHORT, "mount", &["--make-rshared", KUBELET])?;
    Ok(())
}

fn connect() -> Result<()> {
    ip(&format!("addr add {NODE_ADDRESS}/32 dev lo"))?;
    ip(&format!("addr add {SERVICE_ADDRESS}/32 dev lo"))?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").during("failed to forward for pods")?;
    ip(&format!("-n nas route add {POD_NETWORK} via {}", lab::NODE_ADDRESS))?;
    Ok(())
}

/// One file has the certificate and its key: Go takes from it what it looks for.
fn certify() -> Result<()> {
    let authority = Authority::create(&path("pki"), "ca")?;
    authority.sign("apiserver", SERVICE_ADDRESS, Validity::Now)?;
    // A certificate only because a key of this form has no public half that Kubernetes finds.
    authority.sign("accounts", "accounts", Validity::Now)?;
    for identity in settings::IDENTITIES {
        let Identity { name, .. } = identity;
        fs::write(path(&format!("{name}.kubeconfig")), identity.kubeconfig(Path::new(FOLDER)))?;
    }
    Ok(())
}

fn start_control_plane(programs: &Programs, client: &Client) -> Result<Vec<Process>> {
    let etcd = Process::start(
        "etcd",
        Command::new("etcd")
            .arg("--data-dir")
            .arg(path("etcd"))
            // Nobody's data; and what waits for a disk here waits for an emulated one.
            .args(["--unsafe-no-fsync", "--log-level=error"]),
        &log("etcd"),
    )?;
    let mut apiserver = Process::start(
        "kube-apiserver",
        Command::new(programs.kubernetes.join("kube-apiserver"))
            .args(settings::apiserver(Path::new(FOLDER))),
        &log("kube-apiserver"),
    )?;
    apiserver.wait_until("the API server is ready", START, || {
        client.kubectl(&["get", "--raw", "/readyz"]).is_ok()
    })?;
    let mut all = vec![apiserver, etcd];
    for name in ["kube-controller-manager", "kube-scheduler"] {
        let kubeconfig = path(&format!("{name}.kubeconfig"));
        let mut command = Command::new(programs.kubernetes.join(name));
        command.arg("--kubeconfig").arg(kubeconfig).arg("--leader-elect=false");
        if name == "kube-controller-manager" {
            command.args(settings::controller_manager(Path::new(FOLDER)));
        }
        all.insert(0, Process::start(name, &mut command, &log(name))?);
    }
    all.insert(0, start_snapshot_controller(programs, client)?);
    Ok(all)
}

/// What a cluster has where VolumeSnapshots are wanted: their kinds, and what goes with the snapshotter of each driver.
fn start_snapshot_controller(programs: &Programs, client: &Client) -> Result<Process> {
    client.apply_file(&programs.snapshots.join("crds.yaml"))?;
    let kinds = ["volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"];
    for kind in kinds.map(|kind| format!("crd/{kind}.snapshot.storage.k8s.io")) {
        client.kubectl(&["wait", "--for=condition=Established", "--timeout=120s", &kind])?;
    }
    let mut command = Command::new(programs.snapshots.join("snapshot-controller"));
    command.arg("--kubeconfig").arg(path("admin.kubeconfig"));
    Process::start("snapshot-controller", &mut command, &log("snapshot-controller"))
}

fn start_containerd(programs: &Programs) -> Result<Process> {
    let search = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(programs.containerd.join("containerd"));
    command
        .arg("--config")
        .arg(path("containerd.toml"))
        // Its shim, and runc.
        .env("PATH", format!("{}:/usr/sbin:/sbin:{search}", programs.containerd.display()));
    let mut containerd = Process::start("containerd", &mut command, &log("containerd"))?;
    containerd.wait_until("containerd answers", START, || ctr(programs, &["version"]).is_ok())?;
    Ok(containerd)
}

fn import_images(programs: &Programs) -> Result<()> {
    for archive in &programs.images {
        let archive = archive.display().to_string();
        ctr(programs, &["--namespace", "k8s.io", "images", "import", "--local", &archive])?;
    }
    Ok(())
}

fn ctr(programs: &Programs, arguments: &[&str]) -> Result<String> {
    let program = programs.containerd.join("ctr").display().to_string();
    let socket = settings::containerd_socket();
    run(START, &program, &[&["--address", &socket], arguments].concat())
}

fn start_kubelet(programs: &Programs) -> Result<Process> {
    Process::start(
        "kubelet",
        Command::new(programs.kubernetes.join("kubelet"))
            .arg("--config")
            .arg(path("kubelet.yaml"))
            .arg("--kubeconfig")
            .arg(path("kubelet.kubeconfig"))
            .arg("--cert-dir")
            .arg(path("pki/kubelet"))
            .arg(format!("--root-dir={KUBELET}"))
            .arg(format!("--hostname-override={NODE}"))
            .arg(format!("--node-ip={NODE_ADDRESS}")),
        &log("kubelet"),
    )
}

/// Shims outlive containerd, and with them their containers.
fn end_containers() {
    let Some(folder) = std::env::var_os("ALINAS_CSI_CONTAINERD") else { return };
    let shims = lab::processes_running(Path::new(&folder));
    let _ = crate::process::wait_until("every container has ended", SHORT, || {
        for namespace in fs::read_dir("/sys/fs/cgroup/k8s.io").into_iter().flatten().flatten() {
            let _ = fs::write(namespace.path().join("cgroup.kill"), "1");
        }
        let left = fs::read_to_string("/sys/fs/cgroup/k8s.io/cgroup.events").unwrap_or_default();
        !left.contains("populated 1")
    });
    for shim in shims {
        let _ = rustix::process::kill_process(shim, rustix::process::Signal::KILL);
    }
}

fn unmount_below(folder: &Path) {
    let mounts = lab::mounts_below(folder).unwrap_or_default();
    for mount in mounts.iter().rev().filter(|mount| mount.point != folder) {
        let _ = run(SHORT, "umount", &["-l", &mount.point.display().to_string()]);
    }
}
