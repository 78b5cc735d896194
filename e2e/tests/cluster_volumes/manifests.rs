//! What helm puts into a cluster, and takes out of it.

use std::fs;
use std::time::Instant;

use e2e::cluster::NODE;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;

use crate::Steps;
use crate::world::DRIVER;
use crate::world::NAMESPACE;
use crate::world::PATIENCE;
use crate::world::RELEASE;
use crate::world::TAINT;
use crate::world::World;

pub(crate) const FIRST: &[Steps] = &[
    ("the_api_server_takes_every_manifest_that_is_shipped", every_manifest_is_taken),
    ("the_chart_is_installed_and_the_driver_registered_within_5_s", the_chart_is_installed),
    ("helm_test_writes_through_a_volume", the_chart_tests_itself),
];

pub(crate) const LAST: &[Steps] =
    &[("helm_uninstall_leaves_nothing_but_data", uninstall_leaves_nothing_but_data)];

/// The API server's own check: `--dry-run=server` with strict fields, so that a word it does not know is an error.
fn every_manifest_is_taken(world: &mut World) -> Result<()> {
    let deploy = World::repository().join("deploy");
    let mut files = Vec::new();
    for folder in ["kubernetes", "examples"] {
        for entry in fs::read_dir(deploy.join(folder))? {
            files.push(entry?.path());
        }
    }
    ensure(files.len() > 3, format!("there are only {files:?}"))?;
    let mut refused = String::new();
    for file in files {
        let file = file.display().to_string();
        let arguments =
            ["apply", "--dry-run=server", "--validate=strict", "--filename", file.as_str()];
        if let Err(failure) = world.client().kubectl(&arguments) {
            refused += &format!("{file}: {failure}\n");
        }
    }
    ensure(refused.is_empty(), refused)
}

fn the_chart_is_installed(world: &mut World) -> Result<()> {
    let roots = world.cluster().nas().ca_file().display().to_string();
    let file = format!("--from-file=ca.crt={roots}");
    world.client().kubectl(&[
        "create",
        "configmap",
        "lab-roots",
        "--namespace",
        NAMESPACE,
        &file,
    ])?;
    let taint = format!("{TAINT}=:NoSchedule");
    world.client().kubectl(&["taint", "node", NODE, &taint])?;
    let begin = Instant::now();
    world.install(&[])?;
    println!("     installed after {} s", begin.elapsed().as_secs());
    let drivers = "{.spec.drivers[*].name}";
    world.client().wait_for("the node has the driver", PATIENCE, |client| {
        Ok(client.field(&format!("csinode/{NODE}"), drivers)?.contains(DRIVER))
    })?;
    println!("     {}", registration(world)?);
    // The controller's pods would have waited for it for ever.
    let taints = world.client().field(&format!("node/{NODE}"), "{.spec.taints[*].key}")?;
    ensure(!taints.contains(TAINT), format!("the node still has {taints}"))?;
    let events = world.client().kubectl(&["get", "events", "--all-namespaces"])?;
    ensure(events.contains("StartupTaintRemoved"), format!("nobody was told: {events}"))
}

/// `helm test`: a volume of the chart's own class is made, written and removed.
fn the_chart_tests_itself(world: &mut World) -> Result<()> {
    let told = world.client().helm(&[
        "test",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--logs",
        "--timeout=280s",
    ])?;
    println!("     {}", told.lines().last().unwrap_or_default());
    ensure(told.contains("1 MiB was written and read back"), told)
}

/// From the first line of the node plugin's log to the kubelet's word, by the pod's own clock.
fn registration(world: &World) -> Result<String> {
    let pods = world.pods("node")?;
    let pod = pods.first().ok_or_else(|| Failure::new("there is no pod of the node plugin"))?;
    let log = world.client().kubectl(&[
        "logs",
        "--namespace",
        NAMESPACE,
        pod,
        "--container",
        "node",
        "--timestamps",
    ])?;
    let first = log.lines().next().and_then(time).ok_or_else(|| Failure::new("no log"))?;
    let said = "the kubelet has registered the driver";
    let registered = log.lines().find(|line| line.contains(said)).and_then(time);
    let registered = registered.ok_or_else(|| Failure::new("the kubelet has not registered it"))?;
    let took = registered - first;
    // The aim is for a machine; an emulated one is tens of times slower, and then the figure is only shown.
    let emulated = std::env::var("ALINAS_CSI_LAB").is_ok_and(|place| place == "guest");
    let limit = if emulated { time::Duration::minutes(2) } else { time::Duration::seconds(5) };
    ensure(took < limit, format!("registered {took} after the node plugin's first line"))?;
    Ok(format!("registered {took} after the node plugin's first line"))
}

fn time(line: &str) -> Option<time::OffsetDateTime> {
    let text = line.split_whitespace().next()?;
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
}

fn uninstall_leaves_nothing_but_data(world: &mut World) -> Result<()> {
    let kept = world.disk().join("kept-by-uninstall");
    fs::write(&kept, "data")?;
    world.remove(&["pods", "--all"])?;
    world.remove(&["pvc", "--all"])?;
    world.client().wait_for("every volume is gone", PATIENCE, |client| {
        Ok(client.kubectl(&["get", "pv", "--output=name"])?.is_empty())
    })?;
    world.client().helm(&[
        "uninstall",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--wait",
        "--timeout=300s",
    ])?;
    let kinds = "all,csidrivers,clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,\
        configmaps,secrets,networkpolicies,poddisruptionbudgets,storageclasses,priorityclasses";
    let selector = format!("app.kubernetes.io/instance={RELEASE}");
    world.client().wait_for("nothing of the release is left", PATIENCE, |client| {
        let left = client.kubectl(&[
            "get",
            kinds,
            "--all-namespaces",
            "--selector",
            &selector,
            "--output=name",
        ])?;
        if left.is_empty() { Ok(true) } else { Err(Failure::new(left)) }
    })?;
    let mounted = e2e::lab::mounts()?.into_iter().filter(|mount| mount.fs_type.starts_with("nfs"));
    let mounted: Vec<_> = mounted.filter(|mount| mount.fs_type != "nfsd").collect();
    ensure(mounted.is_empty(), format!("still mounted: {mounted:?}"))?;
    ensure(fs::read_to_string(kept)? == "data", "data was lost")?;
    Ok(())
}
