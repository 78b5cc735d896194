//! What the sidecars ask of a controller: a process of its own, as nobody, beside a NAS, and its client.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use alinas_csi::proto::csi;
use alinas_csi::proto::csi::controller_client::ControllerClient;
use alinas_csi::proto::csi::volume_capability::AccessMode;
use alinas_csi::proto::csi::volume_capability::AccessType;
use alinas_csi::proto::csi::volume_capability::MountVolume;
use alinas_csi::proto::csi::volume_capability::access_mode::Mode;
use alinas_csi::proto::csi::volume_content_source::SnapshotSource;
use alinas_csi::proto::csi::volume_content_source::Type;
use alinas_csi::proto::csi::volume_content_source::VolumeSource;
use alinas_csi::runtime::FailurePoint;
use alinas_csi::runtime::failure_point;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::Status;
use tonic::transport::Channel;

use crate::controller::Controller;
use crate::csi_client::channel;
use crate::driver::binary;
use crate::failure::Failure;
use crate::failure::Result;
use crate::failure::ensure;
use crate::ganesha::Ganesha;
use crate::ganesha::Target;
use crate::listing::names;
use crate::process::Process;
use crate::process::log_tail;
use crate::process::wait_until;

const MINUTE: Duration = Duration::from_secs(60);
/// The size that volumes are asked for with, in bytes.
pub const GIB: i64 = 1 << 30;

/// A controller, and who calls it. Ends when dropped.
#[derive(Debug)]
pub struct Sidecar {
    /// The controller.
    pub process: Process,
    /// What calls are made on.
    pub runtime: Runtime,
    /// Makes calls.
    pub client: ControllerClient<Channel>,
    /// Where it is called.
    pub socket: PathBuf,
    log: PathBuf,
}

impl Sidecar {
    /// Starts a controller whose files are called `name`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(nas: &Ganesha, name: &str) -> Result<Self> {
        Self::start_until(nas, name, None)
    }

    /// Starts one that ends at a failure point.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_until(nas: &Ganesha, name: &str, point: Option<FailurePoint>) -> Result<Self> {
        let mut program = nas.enter(&binary()?);
        program.envs(point.map(|point| (failure_point::VARIABLE, point.word())));
        Self::of(program, nas.folder(), name, nas.ca_file())
    }

    /// Starts `program`, which is the driver or leads to it, with its files in `folder`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn of(program: Command, folder: &Path, name: &str, ca_file: &Path) -> Result<Self> {
        let started = Controller::start(program, folder, name, ca_file)?;
        let Controller { process, socket, log } = started;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = {
            let _entered = runtime.enter();
            ControllerClient::new(channel(&socket)?)
        };
        Ok(Self { process, runtime, client, socket, log })
    }

    /// CreateVolume.
    ///
    /// # Errors
    /// The controller's.
    pub fn create(&self, request: csi::CreateVolumeRequest) -> Result<csi::Volume, Status> {
        let mut client = self.client.clone();
        let answer = self.runtime.block_on(client.create_volume(request))?;
        answer.into_inner().volume.ok_or_else(|| Status::internal("no volume"))
    }

    /// CreateVolume, with the end of the log where it fails.
    ///
    /// # Errors
    /// The controller's.
    pub fn made(&self, request: csi::CreateVolumeRequest) -> Result<csi::Volume> {
        let made = self.create(request);
        made.map_err(|status| Failure::new(format!("{status}\n{}", self.log())))
    }

    /// CreateVolume, again while the controller says that it goes on.
    ///
    /// # Errors
    /// The controller's last one.
    pub fn create_patiently(&self, request: &csi::CreateVolumeRequest) -> Result<csi::Volume> {
        let mut outcome = self.create(request.clone());
        for _ in 0..30 {
            match &outcome {
                Err(status) if status.code() == Code::Aborted => {
                    println!("{}", status.message());
                    outcome = self.create(request.clone());
                }
                Ok(_) | Err(_) => break,
            }
        }
        outcome.map_err(|status| Failure::new(format!("{status}\n{}", self.log())))
    }

    /// DeleteVolume.
    ///
    /// # Errors
    /// The controller's.
    pub fn delete(&self, id: &str) -> Result<(), Status> {
        let mut client = self.client.clone();
        let request = csi::DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() };
        self.runtime.block_on(client.delete_volume(request)).map(drop)
    }

    /// ControllerExpandVolume; the size in bytes.
    ///
    /// # Errors
    /// The controller's.
    pub fn expand(&self, id: &str, size: i64) -> Result<i64, Status> {
        let mut client = self.client.clone();
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: id.to_owned(),
            capacity_range: Some(csi::CapacityRange { required_bytes: size, limit_bytes: 0 }),
            ..Default::default()
        };
        let answer = self.runtime.block_on(client.controller_expand_volume(request))?;
        Ok(answer.into_inner().capacity_bytes)
    }

    /// ControllerModifyVolume.
    ///
    /// # Errors
    /// The controller's.
    pub fn modify(&self, id: &str, key: &str, value: &str) -> Result<(), Status> {
        let mut client = self.client.clone();
        let request = csi::ControllerModifyVolumeRequest {
            volume_id: id.to_owned(),
            mutable_parameters: [(key.to_owned(), value.to_owned())].into(),
            ..Default::default()
        };
        self.runtime.block_on(client.controller_modify_volume(request)).map(drop)
    }

    /// CreateSnapshot.
    ///
    /// # Errors
    /// The controller's.
    pub fn snapshot(&self, name: &str, volume: &str) -> Result<csi::Snapshot, Status> {
        let mut client = self.client.clone();
        let (name, source_volume_id) = (name.to_owned(), volume.to_owned());
        let request = csi::CreateSnapshotRequest { name, source_volume_id, ..Default::default() };
        let answer = self.runtime.block_on(client.create_snapshot(request))?;
        answer.into_inner().snapshot.ok_or_else(|| Status::internal("no snapshot"))
    }

    /// CreateSnapshot, again while it is not ready.
    ///
    /// # Errors
    /// The controller's.
    pub fn snapshot_patiently(&self, name: &str, volume: &str) -> Result<csi::Snapshot> {
        for _ in 0..30 {
            let made = self.snapshot(name, volume)?;
            if made.ready_to_use {
                return Ok(made);
            }
        }
        Err(Failure::new(format!("the snapshot {name} is not ready\n{}", self.log())))
    }

    /// DeleteSnapshot.
    ///
    /// # Errors
    /// The controller's.
    pub fn delete_snapshot(&self, id: &str) -> Result<(), Status> {
        let mut client = self.client.clone();
        let request =
            csi::DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() };
        self.runtime.block_on(client.delete_snapshot(request)).map(drop)
    }

    /// GetCapacity, in bytes.
    ///
    /// # Errors
    /// The controller's.
    pub fn room(&self, parameters: HashMap<String, String>) -> Result<i64, Status> {
        let mut client = self.client.clone();
        let request = csi::GetCapacityRequest { parameters, ..Default::default() };
        let answer = self.runtime.block_on(client.get_capacity(request))?;
        Ok(answer.into_inner().available_capacity)
    }

    /// ControllerGetVolumeHealth.
    ///
    /// # Errors
    /// The controller's.
    pub fn health(&self, id: &str) -> Result<csi::VolumeHealth, Status> {
        let mut client = self.client.clone();
        let request = csi::ControllerGetVolumeHealthRequest {
            volume_id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.runtime.block_on(client.controller_get_volume_health(request))?;
        answer.into_inner().volume_health.ok_or_else(|| Status::internal("no health"))
    }

    /// What CreateVolume is refused with, in one line.
    ///
    /// # Errors
    /// Where it is not.
    pub fn refusal(&self, request: csi::CreateVolumeRequest) -> Result<Status> {
        let name = request.name.clone();
        match self.create(request) {
            Ok(_) => Err(Failure::new(format!("{name} was made"))),
            Err(status) => {
                println!("{name}: {:?}: {}", status.code(), status.message());
                ensure(!status.message().contains('\n'), format!("{name}: more than a line"))?;
                Ok(status)
            }
        }
    }

    /// Waits until nothing is in the trash of the root.
    ///
    /// # Errors
    /// Where it is not empty within `deadline`.
    pub fn wait_for_empty_trash(&self, nas: &Ganesha, deadline: Duration) -> Result<()> {
        let is_empty = || trash(nas).is_ok_and(|trash| trash.is_empty());
        wait_until("the trash is empty", deadline, is_empty)
            .map_err(|failure| Failure::new(format!("{failure}\n{}", self.log())))
    }

    /// The memory that the controller has, in bytes (proc(5), VmRSS).
    ///
    /// # Errors
    /// Where it has ended.
    pub fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.map(|kib| kib * 1024).ok_or_else(|| Failure::new("the controller has ended"))
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        log_tail(&self.log)
    }
}

/// The longest that a trash is waited for.
pub const SWEPT: Duration = MINUTE;

/// What is in the trash of the root.
///
/// # Errors
/// Where there is none.
pub fn trash(nas: &Ganesha) -> Result<Vec<PathBuf>> {
    let trash = nas.disk().join(".alinas-csi/trash");
    fs::read_dir(trash)?.map(|entry| Ok(entry?.path())).collect()
}

/// Makes sure that no volume, snapshot, record or place of work is on a disk.
///
/// # Errors
/// Names what is.
pub fn nothing_is_left(disk: &Path) -> Result<()> {
    let visible = names(disk)?;
    ensure(visible == [".alinas-csi"], format!("{visible:?}"))?;
    for folder in names(&disk.join(".alinas-csi"))? {
        let left = names(&disk.join(".alinas-csi").join(&folder))?;
        ensure(left.is_empty(), format!("in {folder}: {left:?}"))?;
    }
    Ok(())
}

/// A volume of a class with these parameters, on the good mount target unless they say otherwise.
#[must_use]
pub fn wanted(name: &str, parameters: &[(&str, &str)]) -> csi::CreateVolumeRequest {
    claim(name, &[&[("server", Target::Good.domain())], parameters].concat())
}

/// A volume of a class with these parameters, and no other; the last of one key counts.
#[must_use]
pub fn claim(name: &str, parameters: &[(&str, &str)]) -> csi::CreateVolumeRequest {
    let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    csi::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(csi::CapacityRange { required_bytes: GIB, limit_bytes: 0 }),
        volume_capabilities: vec![capability()],
        parameters: parameters.collect(),
        ..csi::CreateVolumeRequest::default()
    }
}

/// The same as a copy of a volume or, where the id is one's, of a snapshot.
#[must_use]
pub fn copy_of(id: &str, request: csi::CreateVolumeRequest) -> csi::CreateVolumeRequest {
    let source = if id.starts_with("s1:") {
        Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() })
    } else {
        Type::Volume(VolumeSource { volume_id: id.to_owned() })
    };
    let source = csi::VolumeContentSource { r#type: Some(source) };
    csi::CreateVolumeRequest { volume_content_source: Some(source), ..request }
}

fn capability() -> csi::VolumeCapability {
    csi::VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}
