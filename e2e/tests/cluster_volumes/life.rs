//! From a claim to its end, as deploy/examples say.

use std::fs;

use e2e::cluster::client::Client;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::nas::Front;

use crate::Steps;
use crate::world::NAMESPACE;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::claim;
use crate::world::pod;

pub(crate) const TESTS: &[Steps] = &[
    ("a_claim_is_bound_and_its_pod_writes_through_tls", a_claim_is_bound),
    ("kubectl_alinas_names_the_node_the_claim_and_its_mount_target", the_plugin_shows_the_claim),
    ("a_second_pod_reads_what_the_first_one_writes", a_second_pod_reads),
    ("claims_are_made_of_a_claim_and_of_a_snapshot", copies),
    ("a_claim_grows_while_it_is_in_use", a_claim_grows),
    ("a_directory_that_is_there_is_mounted_by_a_volume_of_ones_own", a_static_volume),
    ("a_wrong_class_is_explained_by_kubectl_describe_pvc", a_wrong_class_is_explained),
    ("data_of_a_deleted_claim_is_archived_where_the_class_says_so", data_is_archived),
];

/// deploy/examples/storageclass-subpath.yaml as it is: the lab's NAS has the domain that stands there.
fn a_claim_is_bound(world: &mut World) -> Result<()> {
    world.client().apply_file(&World::example("storageclass-subpath.yaml"))?;
    world.is_bound("data")?;
    world.client().pod_is_ready("writer", PATIENCE)?;
    let directory = format!("default-data-{}", world.volume_of("data")?);
    let dates = world.disk().join(directory).join("dates");
    world.client().wait_for("the pod has written", PATIENCE, |_| {
        Ok(fs::metadata(&dates).is_ok_and(|file| file.len() > 0))
    })?;
    through_tls(world)
}

/// The kernel knows nothing but a loopback address; what is behind it is said by the driver itself.
fn through_tls(world: &World) -> Result<()> {
    let mount = world.mount_of("writer", "data")?;
    let mounts = lab::mounts_below(&mount)?;
    let ours = mounts.first().ok_or_else(|| Failure::new("the volume is not mounted"))?;
    let options = &ours.options;
    ensure(ours.source.starts_with(Front::Good.domain()), format!("mounted from {}", ours.source))?;
    ensure(options.contains("addr=127.0."), format!("mounted with {options}"))?;
    let pods = world.pods("node")?;
    let pod = pods.first().ok_or_else(|| Failure::new("there is no pod of the node plugin"))?;
    let status = world.client().kubectl(&[
        "exec",
        "--namespace",
        NAMESPACE,
        pod,
        "--container",
        "watchdog",
        "--",
        "/alinas-csi",
        "status",
    ])?;
    println!("     {}", status.replace('\n', "\n     "));
    ensure(status.contains(Front::Good.domain()), format!("status says: {status}"))?;
    ensure(status.contains("default/data"), format!("without the claim: {status}"))
}

/// By kubectl's own way to its plugins: a program of this name on the path. It asks the cluster by that same kubectl.
fn the_plugin_shows_the_claim(world: &mut World) -> Result<()> {
    let node = world.client().field("pod/writer", "{.spec.nodeName}")?;
    let status = world.client().plugin(&["alinas", "status", "--pods", "--timeout", "120"])?;
    println!("     {}", status.replace('\n', "\n     "));
    let line = status.lines().find(|line| line.contains("default/data"));
    let line = line.ok_or_else(|| Failure::new(format!("no line of the claim: {status}")))?;
    ensure(line.starts_with(&node), format!("which is on {node}: {line}"))?;
    ensure(line.contains(Front::Good.domain()), format!("mounted from elsewhere: {line}"))?;
    ensure(line.contains("default/writer"), format!("without its pod: {line}"))
}

fn a_second_pod_reads(world: &mut World) -> Result<()> {
    world.client().apply(&pod("reader", "data", "", ""))?;
    world.client().pod_is_ready("reader", PATIENCE)?;
    world
        .client()
        .in_pod("reader", "test -s /data/dates && echo said by the reader >/data/reply")?;
    let reply = world.client().in_pod("writer", "cat /data/reply")?;
    ensure(reply == "said by the reader", format!("the writer reads {reply:?}"))
}

/// deploy/examples/clone-and-snapshot.yaml as it is.
fn copies(world: &mut World) -> Result<()> {
    world.client().in_pod("writer", "echo first >/data/of-monday && sync")?;
    world.client().apply_file(&World::example("clone-and-snapshot.yaml"))?;
    let ready = "{.status.readyToUse}";
    world.client().wait_for("the snapshot is there", PATIENCE, |client| {
        Ok(client.field("volumesnapshot/data-monday", ready)? == "true")
    })?;
    for claim in ["data-copy", "data-of-monday"] {
        world.is_bound(claim)?;
        let directory = format!("default-{claim}-{}", world.volume_of(claim)?);
        let copied = fs::read_to_string(world.disk().join(directory).join("of-monday"))?;
        ensure(copied == "first\n", format!("{claim} has {copied:?}"))?;
    }
    world.remove(&["pvc/data-copy", "pvc/data-of-monday"])?;
    world.remove(&["volumesnapshot/data-monday", "volumesnapshotclass/nas-subpath"])?;
    let contents =
        |client: &Client| client.kubectl(&["get", "volumesnapshotcontents", "--output=name"]);
    world
        .client()
        .wait_for("the snapshot is gone", PATIENCE, |client| Ok(contents(client)?.is_empty()))
}

fn a_claim_grows(world: &mut World) -> Result<()> {
    world.client().kubectl(&[
        "patch",
        "storageclass/nas-subpath",
        "--patch",
        "{\"allowVolumeExpansion\": true}",
    ])?;
    world.client().kubectl(&[
        "patch",
        "pvc/data",
        "--patch",
        "{\"spec\": {\"resources\": {\"requests\": {\"storage\": \"20Gi\"}}}}",
    ])?;
    world.client().wait_for("the claim has grown", PATIENCE, |client| {
        Ok(client.field("pvc/data", "{.status.capacity.storage}")? == "20Gi")
    })?;
    world.client().in_pod("writer", "test -s /data/dates")?;
    // As the example has it, for whoever applies it again.
    world.client().kubectl(&[
        "patch",
        "storageclass/nas-subpath",
        "--patch",
        "{\"allowVolumeExpansion\": null}",
    ])?;
    Ok(())
}

fn a_static_volume(world: &mut World) -> Result<()> {
    fs::create_dir(world.disk().join("shared"))?;
    fs::write(world.disk().join("shared/there"), "before the cluster\n")?;
    world.client().apply_file(&World::example("static-pv.yaml"))?;
    world.client().pod_is_ready("nas-writer", PATIENCE)?;
    let read = world.client().in_pod("nas-writer", "cat /data/there")?;
    ensure(read == "before the cluster", format!("the pod reads {read:?}"))?;
    world.remove(&["pod/nas-writer"])?;
    world.remove(&["pvc/nas-shared"])?;
    world.remove(&["pv/nas-shared"])?;
    ensure(world.disk().join("shared/there").exists(), "the directory is gone")
}

fn a_wrong_class_is_explained(world: &mut World) -> Result<()> {
    let domain = Front::Good.domain();
    world.client().apply(&format!(
        "apiVersion: storage.k8s.io/v1\n\
         kind: StorageClass\n\
         metadata: {{name: wrong}}\n\
         provisioner: alinas.csi.alibabacloud.com\n\
         parameters: {{server: {domain}, onDelet: archive}}\n\
         ---\n{}",
        claim("unlucky", "wrong", "ReadWriteMany")
    ))?;
    let told = world.client().wait_for("the claim says what is wrong", PATIENCE, |client| {
        let seen = client.kubectl(&["describe", "pvc", "unlucky"])?;
        let event = seen.lines().find(|line| line.contains("ProvisioningFailed"));
        if let Some(event) = event {
            println!("     {}", event.trim());
        }
        Ok(event.is_some_and(|event| event.contains("onDelet") && event.contains("onDelete")))
    });
    world.remove(&["pvc/unlucky", "storageclass/wrong"])?;
    told
}

fn data_is_archived(world: &mut World) -> Result<()> {
    let domain = Front::Good.domain();
    world.client().apply(&format!(
        "apiVersion: storage.k8s.io/v1\n\
         kind: StorageClass\n\
         metadata: {{name: archived}}\n\
         provisioner: alinas.csi.alibabacloud.com\n\
         parameters: {{server: {domain}, onDelete: archive}}\n\
         ---\n{}{}",
        claim("old", "archived", "ReadWriteMany"),
        pod("old-writer", "old", "", "")
    ))?;
    world.client().pod_is_ready("old-writer", PATIENCE)?;
    world.client().in_pod("old-writer", "echo kept >/data/file")?;
    let volume = world.volume_of("old")?;
    world.remove(&["pod/old-writer"])?;
    world.remove(&["pvc/old"])?;
    world.client().wait_for("the volume is gone", PATIENCE, |client| {
        Ok(client.kubectl(&["get", "pv", &volume, "--ignore-not-found"])?.is_empty())
    })?;
    let archived = fs::read_dir(world.disk())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with(&format!("archived-{volume}")));
    let archived = archived.ok_or_else(|| Failure::new("nothing was archived"))?;
    let kept = fs::read_to_string(world.disk().join(&archived).join("file"))?;
    ensure(kept == "kept\n", format!("{archived}/file has {kept:?}"))?;
    world.remove(&["storageclass/archived"])
}
