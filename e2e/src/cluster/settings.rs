//! What each part of the cluster is told: files and command lines.

use std::fs;
use std::path::Path;

use crate::cluster::NODE_ADDRESS;
use crate::cluster::POD_NETWORK;
use crate::cluster::SERVICE_ADDRESS;
use crate::failure::During;
use crate::failure::Result;

/// Who somebody is to the API server. A word is enough here, where nobody listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) name: &'static str,
    user: &'static str,
    groups: &'static str,
}

pub(super) const IDENTITIES: [Identity; 4] = [
    Identity { name: "admin", user: "admin", groups: "system:masters" },
    Identity { name: "kubelet", user: "system:node:lab-node", groups: "system:nodes" },
    Identity {
        name: "kube-controller-manager",
        user: "system:kube-controller-manager",
        groups: "",
    },
    Identity { name: "kube-scheduler", user: "system:kube-scheduler", groups: "" },
];

impl Identity {
    pub(super) fn kubeconfig(self, folder: &Path) -> String {
        let ca = folder.join("pki/ca.pem");
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: lab\n\
             clusters:\n\
             - name: lab\n  cluster: {{server: 'https://{SERVICE_ADDRESS}:443', certificate-authority: {}}}\n\
             users:\n\
             - name: me\n  user: {{token: {}-token}}\n\
             contexts:\n\
             - name: lab\n  context: {{cluster: lab, user: me}}\n",
            ca.display(),
            self.name
        )
    }
}

pub(super) fn containerd_socket() -> String {
    "/run/alinas-csi-cluster/containerd.sock".to_owned()
}

/// Every file that is the same in each run.
pub(super) fn write(folder: &Path) -> Result<()> {
    let tokens = IDENTITIES
        .map(|Identity { name, user, groups }| format!("{name}-token,{user},{name},\"{groups}\"\n"))
        .concat();
    for (name, text) in [
        ("tokens.csv", tokens),
        ("resolv.conf", format!("nameserver {NODE_ADDRESS}\noptions timeout:1 attempts:2\n")),
        ("containerd.toml", containerd(folder)),
        ("kubelet.yaml", kubelet(folder)),
        ("cni/10-lab.conflist", network()),
    ] {
        fs::write(folder.join(name), text).during(format!("failed to write {name}"))?;
    }
    Ok(())
}

pub(super) fn apiserver(folder: &Path) -> Vec<String> {
    let pki = folder.join("pki").display().to_string();
    [
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        // Where in-cluster clients look for it; no kube-proxy is needed.
        "--secure-port=443".to_owned(),
        format!("--advertise-address={NODE_ADDRESS}"),
        format!("--service-cluster-ip-range={SERVICE_ADDRESS}/24"),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--tls-cert-file={pki}/apiserver.pem"),
        format!("--tls-private-key-file={pki}/apiserver.pem"),
        format!("--token-auth-file={}/tokens.csv", folder.display()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={pki}/accounts.pem"),
        format!("--service-account-signing-key-file={pki}/accounts.pem"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ]
    .into()
}

pub(super) fn controller_manager(folder: &Path) -> Vec<String> {
    let pki = folder.join("pki").display().to_string();
    [
        format!("--root-ca-file={pki}/ca.pem"),
        format!("--service-account-private-key-file={pki}/accounts.pem"),
        "--use-service-account-credentials=true".to_owned(),
    ]
    .into()
}

fn containerd(folder: &Path) -> String {
    format!(
        r#"version = 3
root = "{folder}/containerd"
state = "/run/alinas-csi-cluster/containerd"

[grpc]
address = "{socket}"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "registry.k8s.io/pause:3.10.2"

[plugins.'io.containerd.cri.v1.runtime']
# The kernel of the lab may have AppArmor; the programs for its profiles are not there.
disable_apparmor = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{folder}/cni"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
# There is no systemd.
SystemdCgroup = false
"#,
        folder = folder.display(),
        socket = containerd_socket(),
    )
}

/// A cable from each pod to the node: without masquerade it needs no iptables.
fn network() -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "lab", "plugins": [{{"type": "ptp", "ipMasq": false,
"ipam": {{"type": "host-local", "subnet": "{POD_NETWORK}", "routes": [{{"dst": "0.0.0.0/0"}}]}}}}]}}
"#
    )
}

fn kubelet(folder: &Path) -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {NODE_ADDRESS}
# Nobody but the API server of this lab comes here.
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
containerRuntimeEndpoint: unix://{socket}
resolvConf: {folder}/resolv.conf
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
# The images came by hand and cannot come again.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}}
volumePluginDir: {folder}/volume-plugins
# An emulated processor is late.
runtimeRequestTimeout: 10m
"#,
        folder = folder.display(),
        socket = containerd_socket(),
    )
}
