//! The vendor's API with mount targets that lead somewhere: what it makes is a folder on the disk of a
//! [`Ganesha`] or of the lab's [`Nas`], and the domain of a mount target or access point shows that folder as `/`, over TLS.
//!
//! ```text
//! controller -- HTTPS --> simulator: makes <disk>/file-systems/<id>, writes the domain into the hosts file
//! controller -- TLS, by the domain --> terminator -- MOUNT "/x" becomes "/file-systems/<id>/x" --> server
//! ```
//!
//! Both listen in the network of the NAS. One terminator stands for all mount targets: it signs a certificate for
//! whatever name a client asks for, and that name says which folder is meant. NFSv4 has no MOUNT: there the disk's own root is
//! seen, so what the API makes is for NFSv3.

mod carry;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;

use alinas_csi::proto::csi;
use alinas_csi::runtime::FailurePoint;
use alinas_csi::runtime::failure_point;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::certificates::Validity;
use crate::cloud::carry::carry;
use crate::driver::binary;
use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::ganesha::Ganesha;
use crate::lab;
use crate::nas::Nas;
use crate::openapi::Simulator;
use crate::openapi::Timing;
use crate::sidecar::Sidecar;
use crate::sidecar::claim;

/// Below the disk, and before every path that a client mounts.
const FOLDER: &str = "file-systems";

/// The access key of a RAM user who may do everything.
pub const KEY: (&str, &str) = ("LTAI5tExample", "a secret");

/// The VPC that mount targets are made in.
pub const NETWORK: [(&str, &str); 2] = [("vpcId", "vpc-1"), ("vSwitchId", "vsw-1")];

/// A volume that is a file system of its own, removed with it unless `more` says otherwise.
#[must_use]
pub fn file_system(name: &str, more: &[(&str, &str)]) -> csi::CreateVolumeRequest {
    claim(
        name,
        &[&[("volumeAs", "filesystem"), ("onDelete", "delete")], &NETWORK[..], more].concat(),
    )
}

/// The part of an id that names a file system.
///
/// # Errors
/// Where it names none.
pub fn file_system_id(volume: &csi::Volume) -> Result<&str> {
    let id = volume.volume_id.split(':').nth(3);
    id.ok_or_else(|| Failure::new(format!("{:?} names no file system", volume.volume_id)))
}

/// The API and what it makes. Ends when dropped.
#[derive(Debug)]
pub struct Cloud {
    /// What the API knows.
    pub simulator: Arc<Simulator>,
    /// Whom to trust: the API, its mount targets and those of the NAS.
    pub trust: PathBuf,
    folder: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The NAS that what is made is a part of.
#[derive(Debug)]
pub struct Beside<'a> {
    disk: PathBuf,
    folder: &'a Path,
    network: PathBuf,
    hosts: PathBuf,
    ca_file: &'a Path,
    /// Of every mount target that the simulator makes.
    address: Ipv4Addr,
}

impl<'a> From<&'a Ganesha> for Beside<'a> {
    fn from(nas: &'a Ganesha) -> Self {
        let (disk, network, hosts) = (nas.disk(), nas.network(), nas.hosts());
        let address = Ipv4Addr::new(127, 0, 2, 40);
        Self { disk, folder: nas.folder(), network, hosts, ca_file: nas.ca_file(), address }
    }
}

impl<'a> From<&'a Nas> for Beside<'a> {
    fn from(nas: &'a Nas) -> Self {
        let (disk, network, hosts) = (nas.disk(), nas.network(), nas.hosts());
        let address = crate::nas::MADE;
        Self { disk, folder: nas.folder(), network, hosts, ca_file: nas.ca_file(), address }
    }
}

impl Cloud {
    /// Serves in the network of a NAS.
    ///
    /// # Errors
    /// When something cannot be made or listened at.
    pub fn start<'a>(beside: impl Into<Beside<'a>>, timing: Timing) -> Result<Self> {
        let Beside { disk, folder, network, hosts, ca_file, address } = beside.into();
        let root = disk.join(FOLDER);
        fs::create_dir(&root).during("failed to make a folder")?;
        let own = folder.join("cloud");
        fs::create_dir(&own).during("failed to make a folder")?;
        let authority = Authority::create(&own, "mount-targets")?;
        let trusted = authority.file();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            let told = ready.clone();
            let served = lab::inside_network(&network, move || {
                serve(timing, root, (&hosts, address), authority, &ready, stopped)
            });
            if let Err(failure) = served {
                drop(told.send(Err(failure)));
            }
        });
        let ended = |_| Failure::new("the cloud ended at once");
        let simulator = is_ready.recv().map_err(ended)??;
        simulator.add_user(KEY.0, KEY.1);
        let trust = trust_all(folder, &[&trusted, &simulator.ca_file, ca_file])?;
        let folder = folder.to_owned();
        Ok(Self { simulator, trust, folder, stop: Some(stop), thread: Some(thread) })
    }

    /// A controller that may call the API. `program` is the driver in the network of the NAS, or leads to it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn controller(&self, mut program: Command, name: &str) -> Result<Sidecar> {
        self.set_up(&mut program);
        Sidecar::of(program, &self.folder, name, &self.trust)
    }

    /// The same beside `nas`; it ends at a failure point, where one is given.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn sidecar(
        &self,
        nas: &Ganesha,
        name: &str,
        point: Option<FailurePoint>,
    ) -> Result<Sidecar> {
        let mut program = nas.enter(&binary()?);
        program.envs(point.map(|point| (failure_point::VARIABLE, point.word())));
        self.controller(program, name)
    }

    /// Tells a controller where the API is, and as whom to call it.
    pub fn set_up(&self, controller: &mut Command) {
        controller
            .env("ALINAS_CSI_NAS_REGION", "cn-test")
            .env("ALINAS_CSI_NAS_ENDPOINT", &self.simulator.endpoint)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY.0)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY.1)
            .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    }

    /// The NAS's own disk is a file system of the account, too, by this id.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn adopt_disk(&self, file_system_id: &str) -> Result<()> {
        self.simulator.adopt(file_system_id);
        let link = self.simulator.root_of(file_system_id);
        std::os::unix::fs::symlink("..", link).during("failed to make a folder")
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A directory that nobody may read, too.
fn trust_all(folder: &Path, files: &[&Path]) -> Result<PathBuf> {
    let trust = folder.join("trust");
    fs::create_dir(&trust).during("failed to make a folder")?;
    for (number, file) in files.iter().enumerate() {
        let copy = trust.join(format!("{number}.pem"));
        fs::copy(file, copy).during("failed to copy a certificate")?;
    }
    Ok(trust)
}

fn serve(
    timing: Timing,
    root: PathBuf,
    (hosts, address): (&Path, Ipv4Addr),
    authority: Authority,
    ready: &mpsc::Sender<Result<Arc<Simulator>>>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let simulator = Arc::new(Simulator::start_at(timing, root).await?);
        simulator.write_names(hosts, IpAddr::V4(address));
        let acceptor = acceptor(authority)?;
        let at = (address, crate::nas::PORT);
        let listener = TcpListener::bind(at).await.during("failed to bind the mount targets")?;
        tokio::spawn(accept(listener, acceptor, Arc::clone(&simulator)));
        drop(ready.send(Ok(simulator)));
        // Ends when the sender is dropped.
        drop(stopped.await);
        Ok(())
    })
}

fn acceptor(authority: Authority) -> Result<TlsAcceptor> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let names = Names { authority: Mutex::new(authority), signed: Mutex::default() };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(names));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A certificate for each name that was asked for.
struct Names {
    authority: Mutex<Authority>,
    signed: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    fn sign(&self, name: &str) -> Result<Arc<CertifiedKey>> {
        let authority = self.authority.lock().unwrap_or_else(PoisonError::into_inner);
        let file = authority.sign(name, name, Validity::Now)?;
        let chain = CertificateDer::pem_file_iter(&file)?.collect::<Result<Vec<_>, _>>()?;
        let key = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::from_pem_file(&file)?)?;
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = signed.get(name) {
            return Some(Arc::clone(known));
        }
        let certificate = self.sign(name).ok()?;
        signed.insert(name.to_owned(), Arc::clone(&certificate));
        Some(certificate)
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, simulator: Arc<Simulator>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, simulator) = (acceptor.clone(), Arc::clone(&simulator));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            let root = name.and_then(|name| simulator.root_of_domain(&name));
            if let Some(root) = root {
                // How a connection ends is the client's affair.
                drop(carry(stream, &format!("/{FOLDER}{root}")).await);
            }
        });
    }
}
