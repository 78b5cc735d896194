//! From a claim to its data to its deletion, for every kind of volume that a class can ask for: the controller is a
//! process of nobody's beside a simulated API, the node mounts what it answers, with the kernel and over TLS.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use e2e::cloud::Cloud;
use e2e::cloud::NETWORK;
use e2e::csi_client::Access;
use e2e::csi_client::CsiClient;
use e2e::csi_client::Volume;
use e2e::data;
use e2e::driver::Driver;
use e2e::driver::binary;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::listing::names;
use e2e::nas::Front;
use e2e::nas::Nas;
use e2e::nas::TlsProfile;
use e2e::openapi::Timing;
use e2e::process::wait_until;
use e2e::scene::CLEARED;
use e2e::sidecar::Sidecar;
use e2e::sidecar::claim;

const MINUTE: Duration = Duration::from_secs(60);
/// MiB in a test file.
const BLOCKS: usize = 2;
/// A file system that was there before.
const ADOPTED: &str = "31a8e4";

/// Everything, fresh. It ends in this order.
struct World {
    client: CsiClient,
    driver: Driver,
    controller: Sidecar,
    cloud: Cloud,
    nas: Nas,
}

/// A volume that the controller has made.
struct Made {
    /// Of the claim, too.
    name: &'static str,
    /// As the PersistentVolume describes it.
    volume: Volume,
    /// Where the server has its data.
    on_disk: PathBuf,
}

impl World {
    fn start() -> Result<Self> {
        let nas = Nas::start(TlsProfile::Tls13)?;
        let cloud = Cloud::start(&nas, Timing::default())?;
        cloud.simulator.adopt(ADOPTED);
        let controller = cloud.controller(nas.enter(&binary()?), "controller")?;
        let driver = Driver::start(&cloud.trust)?;
        Ok(Self { client: driver.client()?, driver, controller, cloud, nas })
    }

    /// What the sidecar writes into the PersistentVolume is all that the node gets to know.
    fn make(&self, name: &'static str, parameters: &[(&str, &str)]) -> Result<Made> {
        let made = self.controller.made(claim(name, parameters))?;
        println!("{name}: {} at {}", made.volume_id, made.volume_context["server"]);
        let on_disk = match name {
            "filesystem" => {
                let id = made.volume_id.split(':').nth(3).unwrap_or_default();
                self.cloud.simulator.root_of(id)
            }
            "accesspoint" => self.cloud.simulator.root_of(ADOPTED).join("k8s/accesspoint"),
            _ => self.nas.disk().join(name),
        };
        ensure(on_disk.is_dir(), format!("{name}: there is no {}", on_disk.display()))?;
        let volume = Volume {
            id: made.volume_id,
            attributes: made.volume_context,
            mount_options: Vec::new(),
            staging: self.driver.kubelet_dir().join("staging").join(name),
        };
        Ok(Made { name, volume, on_disk })
    }

    fn make_each(&self) -> Result<[Made; 5]> {
        fs::create_dir(self.nas.disk().join("sharepath"))?;
        let server = ("server", Front::Good.domain());
        let of = |first: &[(&'static str, &'static str)]| [first, &NETWORK].concat();
        Ok([
            self.make("subpath", &[server, ("onDelete", "delete")])?,
            self.make("archived", &[server, ("onDelete", "archive")])?,
            self.make("sharepath", &[server, ("volumeAs", "sharepath"), ("path", "/sharepath")])?,
            self.make("filesystem", &of(&[("volumeAs", "filesystem"), ("onDelete", "delete")]))?,
            self.make(
                "accesspoint",
                &of(&[
                    ("volumeAs", "accesspoint"),
                    ("fileSystemId", ADOPTED),
                    ("path", "/k8s"),
                    ("volumeCapacity", "true"),
                ]),
            )?,
        ])
    }

    fn target(&self, made: &Made, pod: &str) -> PathBuf {
        let pod = format!("{}-{pod}", made.name);
        self.driver.kubelet_dir().join("pods").join(pod).join("mount")
    }

    /// Mounted for a pod that writes.
    fn write(&self, made: &Made) -> Result<[u8; 32]> {
        let target = self.target(made, "writer");
        self.client.stage(&made.volume)?;
        self.client.publish(&made.volume, &target, Access::ReadWrite)?;
        is_mounted_through_a_tunnel(&target, &made.volume)?;
        let written = data::write(&target.join(made.name), BLOCKS, |_| Ok(()))?;
        let read = data::hash_on_server(&target.join(made.name))?;
        ensure(read == written.hash, "what was read differs from what was written")?;
        Ok(written.hash)
    }

    /// The server has the file where it must be, and nothing of another volume beside it; a pod that may only read
    /// reads it.
    fn read(&self, made: &Made, hash: [u8; 32]) -> Result<()> {
        let names = names(&made.on_disk)?;
        ensure(names == [made.name], format!("the server has {names:?}"))?;
        let held = data::hash_on_server(&made.on_disk.join(made.name))?;
        ensure(held == hash, "what the server has differs from what was written")?;
        let target = self.target(made, "reader");
        self.client.publish(&made.volume, &target, Access::ReadOnly)?;
        let read = data::hash_on_server(&target.join(made.name))?;
        ensure(read == hash, "the reader sees something else")?;
        let refused = fs::write(target.join("more"), "x").map_err(|error| error.kind());
        ensure(refused == Err(ErrorKind::ReadOnlyFilesystem), format!("{refused:?}"))
    }

    fn take_down(&self, made: &Made) -> Result<()> {
        for pod in ["reader", "writer"] {
            self.client.unpublish(&made.volume, &self.target(made, pod))?;
        }
        self.client.unstage(&made.volume)?;
        Ok(())
    }

    /// Twice, as a sidecar may; then what its class says has become of it.
    fn delete(&self, made: &Made, hash: [u8; 32]) -> Result<()> {
        for _ in 0..2 {
            self.controller.delete(&made.volume.id)?;
        }
        let api = &self.cloud.simulator;
        let kept = match made.name {
            "archived" => {
                let names = names(&self.nas.disk())?;
                let archive = names.iter().find(|name| name.starts_with("archived-archived."));
                let archive = archive.ok_or_else(|| Failure::new(format!("{names:?}")))?;
                Some(self.nas.disk().join(archive))
            }
            "sharepath" | "accesspoint" => Some(made.on_disk.clone()),
            _ => None,
        };
        if let Some(kept) = &kept {
            let held = data::hash_on_server(&kept.join(made.name))?;
            ensure(held == hash, "what was kept differs from what was written")?;
        }
        let is_where_it_was = made.on_disk.exists();
        ensure(is_where_it_was == (kept.as_ref() == Some(&made.on_disk)), "where are its data?")?;
        match made.name {
            "filesystem" => {
                let held = (api.file_systems(), api.mount_targets());
                ensure(held == (1, 0), format!("file systems and mount targets: {held:?}"))
            }
            "accesspoint" => {
                let held = (api.access_points(), api.quotas());
                ensure(held == (0, Vec::new()), format!("access points and quotas: {held:?}"))
            }
            _ => Ok(()),
        }
    }

    fn nothing_is_left(&self) -> Result<()> {
        self.driver.nothing_is_left(CLEARED)?;
        let own = self.nas.disk().join(".alinas-csi");
        wait_until("the trash is empty", MINUTE, || {
            names(&own.join("trash")).is_ok_and(|names| names.is_empty())
        })?;
        let records = names(&own.join("volumes"))?;
        ensure(records.is_empty(), format!("records are left: {records:?}"))
    }
}

fn is_mounted_through_a_tunnel(target: &Path, volume: &Volume) -> Result<()> {
    let mounts = lab::mounts_below(target)?;
    let source = format!("{}:{}", volume.attributes["server"], volume.attributes["path"]);
    let is_ours = |mount: &lab::Mount| {
        mount.fs_type == "nfs" && mount.source == source && mount.options.contains(",addr=127.")
    };
    ensure(matches!(&mounts[..], [only] if is_ours(only)), format!("{source}: {mounts:?}"))
}

#[test]
fn a_claim_of_every_kind_is_mounted_holds_its_data_and_goes_as_its_class_says() -> Result<()> {
    let world = World::start()?;
    let volumes = world.make_each()?;
    let step = |doing: &str, made: &Made, outcome: Result<()>| {
        println!("{doing} {}", made.name);
        let logs = || format!("{}\n{}", world.driver.logs(), world.controller.log());
        outcome.map_err(|failure| {
            Failure::new(format!("{doing} {}: {failure}\n{}", made.name, logs()))
        })
    };
    let mut hashes = Vec::new();
    for made in &volumes {
        let written = world.write(made).map(|hash| hashes.push(hash));
        step("wrote", made, written)?;
    }
    // All are mounted by now: none shows what another one holds.
    for (made, hash) in volumes.iter().zip(&hashes) {
        step("read", made, world.read(made, *hash))?;
    }
    for made in &volumes {
        step("took down", made, world.take_down(made))?;
    }
    for (made, hash) in volumes.iter().zip(&hashes) {
        step("deleted", made, world.delete(made, *hash))?;
    }
    world.nothing_is_left()
}
