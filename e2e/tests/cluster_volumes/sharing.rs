//! What a pod may ask for besides: read-only, a part of the volume, a group, to be alone.

use std::fs;
use std::os::unix::fs::MetadataExt;

use e2e::failure::Result;
use e2e::failure::ensure;

use crate::Steps;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::claim;
use crate::world::pod;

pub(crate) const TESTS: &[Steps] = &[
    ("a_pod_that_mounts_read_only_cannot_write", read_only),
    ("a_pod_with_a_sub_path_sees_that_directory_alone", sub_path),
    ("files_of_a_pod_with_an_fs_group_belong_to_it", fs_group),
    ("a_volume_for_one_pod_is_given_to_no_second_one", one_pod_alone),
];

fn read_only(world: &mut World) -> Result<()> {
    world.client().apply(&pod("looker", "data", ", readOnly: true", ""))?;
    world.client().pod_is_ready("looker", PATIENCE)?;
    let refused = world
        .client()
        .in_pod("looker", "touch /data/not-allowed")
        .map_err(|failure| failure.to_string());
    ensure(refused.as_ref().is_err_and(|text| text.contains("Read-only")), format!("{refused:?}"))?;
    world.client().in_pod("looker", "cat /data/dates >/dev/null")?;
    world.remove(&["pod/looker"])
}

fn sub_path(world: &mut World) -> Result<()> {
    world.client().apply(&pod("part", "data", ", subPath: one/two", ""))?;
    world.client().pod_is_ready("part", PATIENCE)?;
    world.client().in_pod("part", "echo deep >/data/file && test ! -e /data/dates")?;
    let seen = world.client().in_pod("writer", "cat /data/one/two/file")?;
    ensure(seen == "deep", format!("the other pod reads {seen:?}"))?;
    world.remove(&["pod/part"])
}

fn fs_group(world: &mut World) -> Result<()> {
    const GROUP: u32 = 4444;
    let security = "  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 4444}\n";
    let objects =
        claim("grouped", "nas-subpath", "ReadWriteMany") + &pod("member", "grouped", "", security);
    world.client().apply(&objects)?;
    world.client().pod_is_ready("member", PATIENCE)?;
    world.client().in_pod("member", "echo mine >/data/file")?;
    let directory = format!("default-grouped-{}", world.volume_of("grouped")?);
    let file = fs::metadata(world.disk().join(directory).join("file"))?;
    ensure(
        (file.uid(), file.gid()) == (1000, GROUP),
        format!("it belongs to {}:{}", file.uid(), file.gid()),
    )?;
    world.remove(&["pod/member"])?;
    world.remove(&["pvc/grouped"])
}

fn one_pod_alone(world: &mut World) -> Result<()> {
    let objects =
        claim("alone", "nas-subpath", "ReadWriteOncePod") + &pod("first", "alone", "", "");
    world.client().apply(&objects)?;
    world.client().pod_is_ready("first", PATIENCE)?;
    world.client().apply(&pod("second", "alone", "", ""))?;
    world.client().wait_for("the second pod waits", PATIENCE, |client| {
        let reason = "{.status.conditions[?(@.type=='PodScheduled')].message}";
        Ok(client.field("pod/second", reason)?.contains("ReadWriteOncePod"))
    })?;
    world.remove(&["pod/first"])?;
    world.client().pod_is_ready("second", PATIENCE)?;
    world.remove(&["pod/second"])?;
    world.remove(&["pvc/alone"])
}
