//! A controller that knows of a cluster lists volumes, whoever made them, and goes on where another one has ended.
//!
//! Needs root for the server, but no NFS in the kernel: it runs on the machine itself.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use alinas_csi::proto::csi;
use alinas_csi::proto::csi::controller_service_capability::Type;
use alinas_csi::proto::csi::controller_service_capability::rpc;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::process::wait_until;
use e2e::sidecar::GIB;
use e2e::sidecar::Sidecar;
use e2e::sidecar::wanted;
use e2e::small_cluster::SmallCluster;
use tonic::Code;

const DRIVER: &str = "alinas.csi.alibabacloud.com";
const MINUTE: Duration = Duration::from_secs(60);

fn capabilities(sidecar: &Sidecar) -> Result<Vec<i32>> {
    let mut client = sidecar.client.clone();
    let asked = client.controller_get_capabilities(csi::ControllerGetCapabilitiesRequest {});
    let answer = sidecar.runtime.block_on(asked)?.into_inner();
    let number = |capability: csi::ControllerServiceCapability| {
        capability.r#type.map(|Type::Rpc(rpc)| rpc.r#type)
    };
    Ok(answer.capabilities.into_iter().filter_map(number).collect())
}

fn list(sidecar: &Sidecar, max_entries: i32, token: &str) -> Result<csi::ListVolumesResponse> {
    let mut client = sidecar.client.clone();
    let request = csi::ListVolumesRequest { max_entries, starting_token: token.to_owned() };
    let answer = sidecar.runtime.block_on(client.list_volumes(request));
    Ok(answer.map_err(|status| Failure::new(format!("{status}\n{}", sidecar.log())))?.into_inner())
}

/// All volumes by their ids, so many at a time.
fn volumes(sidecar: &Sidecar, at_a_time: i32) -> Result<BTreeMap<String, csi::Volume>> {
    let (mut found, mut token) = (BTreeMap::new(), String::new());
    loop {
        let page = list(sidecar, at_a_time, &token)?;
        for volume in page.entries.into_iter().filter_map(|entry| entry.volume) {
            let id = volume.volume_id.clone();
            ensure(found.insert(id, volume).is_none(), "one is listed twice")?;
        }
        token = page.next_token;
        if token.is_empty() {
            return Ok(found);
        }
    }
}

/// The volumes whose health is told, and how much is the matter with all of them.
fn health(sidecar: &Sidecar) -> Result<(Vec<String>, usize)> {
    let mut client = sidecar.client.clone();
    let request = csi::ControllerListVolumeHealthRequest::default();
    let answer = sidecar.runtime.block_on(client.controller_list_volume_health(request))?;
    let entries = answer.into_inner().entries;
    let complaints = entries.iter().map(|volume| volume.health_statuses.len()).sum();
    Ok((entries.into_iter().map(|volume| volume.volume_id).collect(), complaints))
}

#[test]
fn a_controller_that_begins_anew_lists_every_volume_beside_one_persistent_volume() -> Result<()> {
    let nas = Ganesha::start()?;
    let cluster = SmallCluster::beside(&nas)?;
    let first = Sidecar::start(&nas, "first")?;
    let mut made = BTreeMap::new();
    for number in 0..5 {
        let volume = first.made(wanted(&format!("pvc-{number}"), &[("onDelete", "delete")]))?;
        made.insert(volume.volume_id.clone(), volume);
    }
    let lists = [rpc::Type::ListVolumes, rpc::Type::ListVolumeHealth].map(i32::from);
    let announced = capabilities(&first)?;
    ensure(!lists.iter().any(|one| announced.contains(one)), "it cannot know, and says it does")?;
    let refused = list(&first, 0, "").err().map(|failure| failure.to_string());
    ensure(refused.is_some_and(|said| said.contains("PersistentVolumes")), "no reason is given")?;
    drop(first);

    let ids: Vec<_> = made.keys().cloned().collect();
    cluster.bind("pv-0", DRIVER, &ids[0])?;
    cluster.bind("pv-lost", DRIVER, &ids[0].replace("pvc-0", "pvc-9"))?;
    cluster.bind("pv-by-hand", DRIVER, "by-hand")?;
    cluster.bind("pv-of-another", "other.example.com", "v1:nas.example.com:/:pvc-1")?;
    let second = cluster.controller(&nas, "second")?;
    let announced = capabilities(&second)?;
    ensure(lists.iter().all(|one| announced.contains(one)), format!("{announced:?}"))?;
    for at_a_time in [0, 1, 2, 5] {
        let found = volumes(&second, at_a_time)?;
        ensure(found.keys().eq(made.keys()), format!("{at_a_time} at a time: {:?}", found.keys()))?;
        for (id, volume) in &found {
            ensure(volume.capacity_bytes == GIB, format!("{volume:?}"))?;
            let context = &made[id].volume_context;
            ensure(volume.volume_context["path"] == context["path"], format!("{volume:?}"))?;
        }
    }
    let mut client = second.client.clone();
    let request = csi::ListVolumesRequest { max_entries: 0, starting_token: "no token".to_owned() };
    let strange = second.runtime.block_on(client.list_volumes(request));
    ensure(strange.is_err_and(|status| status.code() == Code::Aborted), "it goes on from nowhere")?;

    let told = health(&second)?;
    ensure(told == (ids.clone(), 0), format!("{told:?}"))?;
    second.delete(&ids[1])?;
    let left = volumes(&second, 0)?;
    ensure(left.len() == 4 && !left.contains_key(&ids[1]), format!("{:?}", left.keys()))
}

#[test]
fn what_another_controller_left_in_the_trash_goes_before_anybody_calls() -> Result<()> {
    let nas = Ganesha::start()?;
    let cluster = SmallCluster::beside(&nas)?;
    let first = Sidecar::start(&nas, "first")?;
    let volume = first.made(wanted("pvc-1", &[("onDelete", "delete")]))?;
    drop(first);
    let left = nas.disk().join(".alinas-csi/trash/pvc-0.0");
    fs::create_dir_all(left.join("deep/deeper"))?;
    fs::write(left.join("deep/deeper/file"), "x")?;
    cluster.bind("pv-1", DRIVER, &volume.volume_id)?;
    let _second = cluster.controller(&nas, "second")?;
    wait_until("the trash is empty", MINUTE, || !left.exists())
}
