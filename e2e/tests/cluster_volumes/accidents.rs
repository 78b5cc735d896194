//! What happens to a cluster while its pods work: the work goes on.

use std::path::Path;
use std::time::Duration;

use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::steady_io::SteadyIo;

use crate::Steps;
use crate::world::NAMESPACE;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::claim;
use crate::world::pod;

pub(crate) const TESTS: &[Steps] = &[
    ("work_goes_on_when_the_pod_of_the_node_plugin_is_killed", the_node_plugin_is_killed),
    ("work_goes_on_while_the_daemon_set_is_upgraded", the_daemon_set_is_upgraded),
    ("another_controller_provisions_when_the_leader_is_killed", the_leader_is_killed),
    ("pods_have_their_volumes_again_when_the_node_has_been_rebooted", the_node_is_rebooted),
];

const ROUNDS: u64 = 3;
const SETTLED: Duration = Duration::from_secs(120);

/// Works in the volume while `accident` happens, and prints the longest pause.
fn under_work(world: &mut World, accident: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    let mount = world.mount_of("reader", "data")?;
    let io = SteadyIo::start([("data", mount.as_path())])?;
    io.goes_on(ROUNDS, SETTLED)?;
    let _ = io.pauses();
    accident(world)?;
    io.goes_on(ROUNDS, SETTLED)?;
    io.is_unharmed()?;
    println!("     longest pause {}; {}", io.pauses(), io.finish(SETTLED)?);
    Ok(())
}

fn the_node_plugin_is_killed(world: &mut World) -> Result<()> {
    under_work(world, |world| {
        for pod in world.pods("node")? {
            let pod = format!("pod/{pod}");
            world.client().kubectl(&[
                "delete",
                &pod,
                "--namespace",
                NAMESPACE,
                "--force",
                "--grace-period=0",
            ])?;
        }
        world.are_ready("node")
    })?;
    // The new one knows the volume: it can be mounted once more and taken down.
    world.client().apply(&pod("after-kill", "data", "", ""))?;
    world.client().pod_is_ready("after-kill", PATIENCE)?;
    world.remove(&["pod/after-kill"])
}

fn the_daemon_set_is_upgraded(world: &mut World) -> Result<()> {
    let before = world.pods("node")?;
    under_work(world, |world| {
        world.install(&["--set", "node.podAnnotations.release=next"])?;
        world.are_ready("node")
    })?;
    let after = world.pods("node")?;
    ensure(before != after, format!("the pod is still {before:?}"))
}

/// Who leads stands in the lease of the provisioner.
fn the_leader_is_killed(world: &mut World) -> Result<()> {
    let leads = |world: &World| {
        let holder = world.client().kubectl(&[
            "get",
            "lease",
            "alinas-csi-alibabacloud-com",
            "--namespace",
            NAMESPACE,
            "--output",
            "jsonpath={.spec.holderIdentity}",
        ])?;
        let pods = world.pods("controller")?;
        Ok::<_, Failure>(pods.into_iter().find(|pod| holder.contains(pod.as_str())))
    };
    let former = leads(world)?;
    let name = former.clone().unwrap_or_default();
    ensure(former.is_some(), "no pod of the controller leads")?;
    world.client().kubectl(&[
        "delete",
        "pod",
        &name,
        "--namespace",
        NAMESPACE,
        "--force",
        "--grace-period=0",
    ])?;
    world.client().apply(&claim("after-leader", "nas-subpath", "ReadWriteMany"))?;
    world.is_bound("after-leader")?;
    ensure(leads(world)? != former, "the killed pod still leads")?;
    world.remove(&["pvc/after-leader"])
}

fn the_node_is_rebooted(world: &mut World) -> Result<()> {
    world.client().in_pod("reader", "echo before >/data/before-reboot && sync")?;
    let mount = world.mount_of("reader", "data")?;
    world.cluster().reboot_node()?;
    world.are_ready("node")?;
    world.client().wait_for("the volume is mounted again", PATIENCE, |_| {
        let found = e2e::lab::mounts_below(Path::new(&mount))?;
        // The kubelet's folder is bound to itself, so what is mounted there is listed for both.
        Ok(!found.is_empty())
    })?;
    world.client().wait_for("the pod reads again", PATIENCE, |client| {
        Ok(client.in_pod("reader", "cat /data/before-reboot")? == "before")
    })
}
