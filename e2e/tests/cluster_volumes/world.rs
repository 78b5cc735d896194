//! What every test needs: the cluster, the release, and how to write a pod in a line.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use e2e::cluster::Cluster;
use e2e::cluster::IMAGE;
use e2e::cluster::KUBELET;
use e2e::cluster::client::Client;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::nas::Front;

/// For what a cluster does by itself. An emulated one takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
pub(crate) const RELEASE: &str = "alinas-csi";
pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const DRIVER: &str = "alinas.csi.alibabacloud.com";

/// What a node pool puts on new nodes, until the driver is there.
pub(crate) const TAINT: &str = "alinas.csi.alibabacloud.com/agent-not-ready";

pub(crate) struct World {
    cluster: Cluster,
}

impl World {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    pub(crate) fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    pub(crate) fn client(&self) -> &Client {
        self.cluster.client()
    }

    /// The NAS's own disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.cluster.nas().disk()
    }

    pub(crate) fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    pub(crate) fn example(name: &str) -> PathBuf {
        Self::repository().join("deploy/examples").join(name)
    }

    /// `helm upgrade --install` with the lab's values and some more.
    pub(crate) fn install(&self, more: &[&str]) -> Result<()> {
        let chart = Self::repository().join("charts/alinas-csi").display().to_string();
        let repository = format!("image.repository={IMAGE}");
        let server = format!("storageClasses[0].parameters.server={}", Front::Good.domain());
        let taint = format!("node.startupTaint={TAINT}");
        let ours = [
            "upgrade",
            "--install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout=600s",
            "--set",
            &repository,
            "--set",
            "image.tag=dev",
            "--set",
            "image.pullPolicy=Never",
            "--set",
            "tunnel.ca.configMap=lab-roots",
            "--set",
            "sidecars.resizer.enabled=true,sidecars.snapshotter.enabled=true",
            "--set",
            "storageClasses[0].name=of-the-chart",
            "--set",
            &server,
            "--set",
            "test.pullPolicy=Never",
            "--set",
            &taint,
        ];
        self.client().helm(&[&ours, more].concat()).map(drop)
    }

    /// The name of the volume that a claim got.
    pub(crate) fn volume_of(&self, claim: &str) -> Result<String> {
        self.client().field(&format!("pvc/{claim}"), "{.spec.volumeName}")
    }

    pub(crate) fn is_bound(&self, claim: &str) -> Result<()> {
        let object = format!("pvc/{claim}");
        let waited = self.client().wait_for(&format!("{claim} is bound"), PATIENCE, |client| {
            Ok(client.field(&object, "{.status.phase}")? == "Bound")
        });
        waited.map_err(|failure| {
            let seen = self.client().kubectl(&["describe", &object]).unwrap_or_default();
            Failure::new(format!("{failure}\n{seen}"))
        })
    }

    /// Where the node has a volume of a pod.
    pub(crate) fn mount_of(&self, pod: &str, claim: &str) -> Result<PathBuf> {
        let id = self.client().field(&format!("pod/{pod}"), "{.metadata.uid}")?;
        let volume = self.volume_of(claim)?;
        Ok(Path::new(KUBELET).join(format!("pods/{id}/volumes/kubernetes.io~csi/{volume}/mount")))
    }

    /// The pod of a part of the release: `node` or `controller`.
    pub(crate) fn pods(&self, component: &str) -> Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/component={component}");
        let names = self.client().kubectl(&[
            "get",
            "pods",
            "--namespace",
            NAMESPACE,
            "--selector",
            &selector,
            "--output",
            "jsonpath={.items[*].metadata.name}",
        ])?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// Waits until every pod of a part is ready again.
    pub(crate) fn are_ready(&self, component: &str) -> Result<()> {
        let what = match component {
            "node" => "daemonset/alinas-csi-node",
            _ => "deployment/alinas-csi-controller",
        };
        self.client()
            .kubectl(&["rollout", "status", what, "--namespace", NAMESPACE, "--timeout=280s"])
            .map(drop)
            .during(format!("{component} does not become ready"))
    }

    /// Removes pods and waits until they are gone.
    pub(crate) fn remove(&self, objects: &[&str]) -> Result<()> {
        let arguments =
            [&["delete", "--wait=true", "--ignore-not-found", "--timeout=280s"], objects].concat();
        self.client().kubectl(&arguments).map(drop)
    }

    /// What a person would look at next.
    pub(crate) fn seen(&self) -> String {
        let look = |arguments: &[&str]| {
            self.client().kubectl(arguments).unwrap_or_else(|failure| failure.to_string())
        };
        let logs = ["node", "controller"].map(|component| {
            let selector = format!("app.kubernetes.io/component={component}");
            look(&[
                "logs",
                "--namespace",
                NAMESPACE,
                "--selector",
                &selector,
                "--all-containers",
                "--prefix",
                "--tail=15",
            ])
        });
        [
            look(&["get", "pods,pvc,pv", "--all-namespaces", "--output=wide"]),
            look(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
            logs.join("\n"),
        ]
        .join("\n\n")
    }
}

/// A claim of a class.
pub(crate) fn claim(name: &str, class: &str, access: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: PersistentVolumeClaim\n\
         metadata: {{name: {name}}}\n\
         spec:\n  accessModes: [{access}]\n  storageClassName: {class}\n  resources: {{requests: {{storage: 1Gi}}}}\n\
         ---\n"
    )
}

/// A pod that does nothing, with a claim at /data; `mount` and `spec` are further fields, as `readOnly: true` is.
pub(crate) fn pod(name: &str, claim: &str, mount: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 terminationGracePeriodSeconds: 1\n\
         {spec}\
         \x20 containers:\n\
         \x20   - name: sleeper\n\
         \x20     image: busybox:1.37\n\
         \x20     command: [sleep, '86400']\n\
         \x20     volumeMounts: [{{name: data, mountPath: /data{mount}}}]\n\
         \x20 volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]\n\
         ---\n"
    )
}
