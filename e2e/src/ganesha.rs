//! A NAS without a kernel's NFS server: nfs-ganesha behind stunnel, in namespaces of its own.
//!
//! ```text
//! controller (nobody) --- | stunnel :2049 -> splitter -> ganesha's NFS | ganesha's MOUNT |
//! ```
//!
//! Needs root, for ganesha opens files by their handles, and nothing else of the machine: its names, its network and
//! its disk, a tmpfs, are seen in there alone. Who is to reach it enters by [`Ganesha::enter`].

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cable;
use crate::certificates::Authority;
use crate::certificates::Validity;
use crate::controller;
use crate::failure::Failure;
use crate::failure::Result;
use crate::nas::splitter::Service;
use crate::nas::splitter::Splitter;
use crate::process::Process;

/// What a client sees as `/`, in the namespace.
const DISK: &str = "disk";
const SPLITTER: &str = "127.0.0.1:2051";
const START: Duration = Duration::from_secs(60);

/// A mount target, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Good,
    /// Nothing: another one of the same file system.
    Second,
    /// The certificate is signed by an authority that nobody trusts.
    Untrusted,
    /// The certificate is for another name.
    WrongName,
    /// Nothing listens.
    Closed,
}

const TARGETS: [Target; 5] =
    [Target::Good, Target::Second, Target::Untrusted, Target::WrongName, Target::Closed];

impl Target {
    /// Its domain.
    #[must_use]
    pub fn domain(self) -> &'static str {
        match self {
            Self::Good => "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com",
            Self::Second => "0123456789-abc13.cn-hangzhou.nas.aliyuncs.com",
            Self::Untrusted => "0123456789-unt20.cn-hangzhou.nas.aliyuncs.com",
            Self::WrongName => "0123456789-wro21.cn-hangzhou.nas.aliyuncs.com",
            Self::Closed => "0123456789-clo24.cn-hangzhou.nas.aliyuncs.com",
        }
    }

    fn address(self) -> Ipv4Addr {
        match self {
            Self::Good => Ipv4Addr::new(127, 0, 2, 10),
            Self::Second => Ipv4Addr::new(127, 0, 2, 11),
            Self::Untrusted => Ipv4Addr::new(127, 0, 2, 20),
            Self::WrongName => Ipv4Addr::new(127, 0, 2, 21),
            Self::Closed => Ipv4Addr::new(127, 0, 2, 24),
        }
    }
}

/// The running NAS. Ends with everything that it started when it is dropped.
#[derive(Debug)]
pub struct Ganesha {
    // In the order in which they must end.
    splitter: Option<Splitter>,
    servers: Process,
    ca_file: PathBuf,
    folder: tempfile::TempDir,
}

impl Ganesha {
    /// Starts it.
    ///
    /// # Errors
    /// When this is not root, or a part does not come up; with the end of its log.
    pub fn start() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new("this needs root: run it by e2e/lab/run, or as root"));
        }
        let folder = tempfile::Builder::new().prefix("alinas-csi-ganesha.").tempdir()?;
        // For nobody, who reads the authority's certificate and makes his socket.
        crate::process::run(START, "chmod", &["0755", &folder.path().display().to_string()])?;
        let ca_file = write_settings(folder.path())?;
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--propagation", "private", "sh"])
            .arg(folder.path().join("serve.sh"));
        let log = folder.path().join("log");
        let mut servers = Process::start("nfs-ganesha", &mut command, &log)?;
        let id = servers.id();
        servers.wait_until("nfs-ganesha and stunnel listen", START, || {
            [20048, 2050, 2049].into_iter().all(|port| listens(id, port))
        })?;
        let network = PathBuf::from(format!("/proc/{id}/ns/net"));
        let services = vec![(SPLITTER.to_owned(), Service::Split(Ipv4Addr::LOCALHOST))];
        let splitter = Some(Splitter::start(&network, services)?);
        Ok(Self { splitter, servers, ca_file, folder })
    }

    /// The authority that signed the good certificates.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// A folder that nobody may look into.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The NAS's own disk: what a client sees as `/`.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.servers.id()));
        root.join(self.folder.path().strip_prefix("/").unwrap_or(Path::new(""))).join(DISK)
    }

    /// The network that it is in.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.servers.id()))
    }

    /// What names are there in its network; a line that is added is seen at once.
    #[must_use]
    pub fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// A program in the network of the NAS, as nobody and without any capability. It sees the machine's files.
    #[must_use]
    pub fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.servers.id().to_string(), "--net", "--mount", "--"])
            .arg("setpriv")
            .args(controller::arguments())
            .arg(program);
        command
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        drop(self.splitter.take());
    }
}

/// Whether anybody listens in the network of a process, on either family.
fn listens(process: u32, port: u16) -> bool {
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp6")).unwrap_or_default();
    let of_6 = table.lines().any(|line| line.contains(&format!(":{port:04X} 00000000")));
    of_6 || cable::count_listeners(process, port) > 0
}

fn write_settings(folder: &Path) -> Result<PathBuf> {
    let disk = folder.join(DISK);
    fs::create_dir(&disk)?;
    let disk = disk.display();
    let shown = folder.display();
    fs::write(
        folder.join("ganesha.conf"),
        format!(
            "NFS_CORE_PARAM {{ NFS_Port = 2050; MNT_Port = 20048; Protocols = 3; Enable_NLM = false;\n\
             Enable_RQUOTA = false; NSM_Use_Caller_Name = false; mount_path_pseudo = true; }}\n\
             NFS_KRB5 {{ Active_krb5 = false; }}\n\
             EXPORT {{ Export_Id = 1; Path = {disk}; Pseudo = /; Access_Type = RW; Squash = No_Root_Squash;\n\
             SecType = sys; Protocols = 3; Transports = TCP; FSAL {{ Name = VFS; }} }}\n\
             LOG {{ Default_Log_Level = EVENT; }}\n"
        ),
    )?;
    let hosts: String = TARGETS
        .iter()
        .map(|target| format!("{} {}\n", target.address(), target.domain()))
        .collect();
    fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{hosts}"))?;
    // rpcbind is there because ganesha does not start without it.
    fs::write(
        folder.join("serve.sh"),
        format!(
            "set -eu\nip link set lo up\nmount -t tmpfs run /run\nmkdir /run/rpcbind\n\
             mount -t tmpfs nas-disk {disk}\nmount --bind {shown}/hosts /etc/hosts\n\
             rpcbind -w\nuntil rpcinfo -p 127.0.0.1 >/dev/null 2>&1; do sleep 0.1; done\n\
             stunnel {shown}/stunnel.conf &\n\
             exec ganesha.nfsd -F -f {shown}/ganesha.conf -L {shown}/ganesha.log -p /run/ganesha.pid\n"
        ),
    )?;
    write_terminators(folder)
}

/// Answers the file of the trusted authority.
fn write_terminators(folder: &Path) -> Result<PathBuf> {
    let trusted = Authority::create(folder, "ca")?;
    let unknown = Authority::create(folder, "unknown-ca")?;
    let mut settings = String::from("foreground = yes\npid =\ndebug = notice\n");
    settings += "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\nsslVersion = TLSv1.3\n";
    for target in TARGETS {
        let (label, domain) = (format!("{target:?}"), target.domain());
        let certificate = match target {
            Target::Good | Target::Second => trusted.sign(&label, domain, Validity::Now)?,
            Target::Untrusted => unknown.sign(&label, domain, Validity::Now)?,
            Target::WrongName => trusted.sign(&label, "elsewhere.test", Validity::Now)?,
            Target::Closed => continue,
        };
        settings += &format!(
            "[{label}]\naccept = {}:2049\nconnect = {SPLITTER}\ncert = {}\n",
            target.address(),
            certificate.display()
        );
    }
    fs::write(folder.join("stunnel.conf"), settings)?;
    Ok(trusted.file())
}
