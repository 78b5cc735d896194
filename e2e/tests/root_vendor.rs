//! The page of the vendor's client about encryption in transit, followed line by line with our Debian package: install,
//! mount, mount at startup, logs, settings, the port that is occupied; and what the page does not tell: upgrade and removal
//! while a mount is in use.
//!
//! The guest has no systemd (that of `boot_vendor.rs` has): `service` and the mount command use the package's System V
//! script. Nothing is mounted by anything but mount(8). The package is built before the lab starts
//! (`ALINAS_CSI_PACKAGE`), or here where it was not.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::nas::Front;
use e2e::nas::Nas;
use e2e::nas::TlsProfile;
use e2e::process::Process;
use e2e::process::wait_until;
use e2e::vendor_page::CONF;
use e2e::vendor_page::LOGS;
use e2e::vendor_page::PATIENCE;
use e2e::vendor_page::SERVICE;
use e2e::vendor_page::Writer;
use e2e::vendor_page::change;
use e2e::vendor_page::left_its_tunnel;
use e2e::vendor_page::listens_on;
use e2e::vendor_page::package;
use e2e::vendor_page::processes;
use e2e::vendor_page::shell;
use e2e::vendor_page::succeeded;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

const HOSTS: &str = "/etc/hosts";

#[test]
fn the_vendors_page_can_be_followed_line_by_line() -> Result<()> {
    let page = Page::open()?;
    let outcome = page.follow();
    outcome.map_err(|failure| Failure::new(format!("{failure}\n{}", page.logs())))
}

/// The machine of somebody who reads the page.
struct Page {
    nas: Nas,
    folder: tempfile::TempDir,
    package: PathBuf,
}

impl Page {
    fn open() -> Result<Self> {
        let nas = Nas::start(TlsProfile::Tls13)?;
        let folder = tempfile::tempdir()?;
        let package = package(folder.path(), "deb", "ALINAS_CSI_PACKAGE")?;
        // The page takes a public authority for granted; the lab has its own.
        let setting = format!("ALINAS_CSI_CA_FILE={}\n", nas.ca_file().display());
        fs::write(format!("/etc/default/{SERVICE}"), setting)?;
        Ok(Self { nas, folder, package })
    }

    fn follow(&self) -> Result<()> {
        self.step("install and check the client", Self::install)?;
        self.step("mount over NFSv3 and NFSv4.0, look at mount -l and df -h", Self::mount)?;
        self.step("read the logs", Self::read_the_logs)?;
        self.step("change the settings and restart the service under I/O", Self::restart)?;
        self.step("upgrade the package under I/O", Self::upgrade)?;
        self.step("the port is occupied: both solutions", Self::occupied)?;
        self.step("mount at startup by /etc/fstab", Self::mount_at_startup)?;
        self.step("remove the package: not while it is needed, then wholly", Self::remove)
    }

    fn step(&self, name: &str, step: fn(&Self) -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        step(self).during(format!("failed to {name}"))?;
        println!("{name}: {:.1} s", begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Step 1 of the page.
    fn install(&self) -> Result<()> {
        self.dpkg_install()?;
        let found = succeeded("which mount.alinas")?;
        ensure(found.output.contains("/sbin/mount.alinas"), format!("{found:?}"))
    }

    /// Triggers rebuild the machine's index of manual pages, which takes minutes here.
    fn dpkg_install(&self) -> Result<()> {
        succeeded(&format!("dpkg --no-triggers --install {}", self.package.display())).map(drop)
    }

    /// Step 2: each spelling of a version, a look at it, and bytes that arrive.
    fn mount(&self) -> Result<()> {
        let domain = Front::Good.domain();
        for (version, shown) in [("3", "vers=3"), ("4.0", "vers=4.0"), ("4", "vers=4.0")] {
            let dir = self.dir(&format!("v{version}"))?;
            let place = dir.display();
            succeeded(&format!("mount -t alinas -o tls,vers={version} {domain}:/ {place}"))?;
            let listed = succeeded("mount -l")?.output;
            let line = listed.lines().find(|line| line.contains(&format!(" on {place} ")));
            let line = line.ok_or_else(|| Failure::new(format!("not in mount -l: {listed}")))?;
            println!("  {line}");
            ensure(line.starts_with(&format!("{domain}:/ on")), line)?;
            ensure(line.contains(shown) && line.contains("addr=127.0.1."), line)?;
            let usage = succeeded(&format!("df -h {place}"))?.output;
            ensure(usage.contains(&format!("{domain}:/")), usage)?;
            fs::write(dir.join(format!("by-{version}")), version)?;
            let arrived = fs::read_to_string(self.nas.disk().join(format!("by-{version}")))?;
            ensure(arrived == version, format!("{arrived:?} arrived"))?;
        }
        succeeded(&format!("service {SERVICE} status"))?;
        for version in ["4", "4.0"] {
            succeeded(&format!("umount {}", self.dir(&format!("v{version}"))?.display()))?;
        }
        Ok(())
    }

    fn read_the_logs(&self) -> Result<()> {
        for (log, word) in [
            ("mount.log", Front::Good.domain()),
            ("mount-watchdog.log", "tunnel"),
            ("tunnel.log", "listening"),
        ] {
            let text = fs::read_to_string(Path::new(LOGS).join(log)).during(log.to_owned())?;
            ensure(text.contains(word), format!("{log} lacks {word:?}: {text}"))?;
            ensure(!text.contains("DEBUG"), format!("{log} has more than INFO"))?;
        }
        Ok(())
    }

    /// The mount of the first step goes on meanwhile.
    fn restart(&self) -> Result<()> {
        let (former, hosts) = (processes(), fs::read_to_string(HOSTS)?);
        let writer = Writer::start(&self.dir("v3")?.join("restarted"))?;
        change(CONF, "logging_level = INFO", "logging_level = DEBUG")?;
        change(CONF, "proxy_port = 12049", "hosts_entries = true\nproxy_port = 12049")?;
        // The shortest, for the steps below.
        change(CONF, "unmount_grace_period_sec = 30", "unmount_grace_period_sec = 10")?;
        succeeded(&format!("service {SERVICE} restart"))?;
        let log = Path::new(LOGS).join("mount-watchdog.log");
        wait_until("the new level is in force", PATIENCE, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("DEBUG"))
        })?;
        wait_until("the former processes are replaced", PATIENCE, || {
            let now = processes();
            now.len() == 2 && now.iter().all(|process| !former.contains(process))
        })?;
        writer.end("a restart of the service")?;
        left_its_tunnel()?;
        // The lab's hosts file is a bind mount, as in a container.
        wait_until("the hosts file has a line", PATIENCE, || hosts_lines() == 1)?;
        let now = fs::read_to_string(HOSTS)?;
        println!("  {}", now.lines().last().unwrap_or_default());
        ensure(
            now.starts_with(&hosts),
            format!("another line has changed: {hosts}\nis now {now}"),
        )?;
        change(CONF, "logging_level = DEBUG", "logging_level = INFO")
    }

    fn upgrade(&self) -> Result<()> {
        let former = processes();
        let writer = Writer::start(&self.dir("v3")?.join("upgraded"))?;
        self.dpkg_install()?;
        wait_until("the former processes are replaced", PATIENCE, || {
            let now = processes();
            now.len() == 2 && now.iter().all(|process| !former.contains(process))
        })?;
        writer.end("an upgrade")
    }

    /// The page's "Error message for port occupancy", solution 1 and solution 2.
    fn occupied(&self) -> Result<()> {
        let dir = self.dir("occupied")?;
        let mount =
            format!("mount -t alinas -o tls,vers=3 {}:/ {}", Front::Second.domain(), dir.display());
        let listener = self.listener(12050)?;
        change(CONF, "proxy_port = 12049", "proxy_port = 12050")?;
        let refused = shell(&mount)?;
        println!("  {}", refused.output.trim());
        let holder = format!("perl (pid {}) listens on 0.0.0.0:12050", listener.id());
        for part in [&holder, "end it", "proxy_port", CONF] {
            ensure(refused.output.contains(part), format!("no {part:?}: {refused:?}"))?;
        }
        ensure(refused.code == Some(32), format!("{refused:?}"))?;

        drop(listener);
        succeeded(&mount)?;
        succeeded(&format!("umount {}", dir.display()))?;
        // The tunnel of that mount keeps its port until it is closed.
        wait_until("the tunnel is closed", PATIENCE, || !listens_on(12050))?;

        let _listener = self.listener(12050)?;
        change(CONF, "proxy_port = 12050", "proxy_port = 12051")?;
        succeeded(&mount)?;
        ensure(listens_on(12051), "nobody listens on the other port")?;
        succeeded(&format!("umount {}", dir.display()))?;
        change(CONF, "proxy_port = 12051", "proxy_port = 12049")
    }

    /// Step 2, 3: what is left of the system after a reboot is its files; `/run` is empty and no process lives.
    fn mount_at_startup(&self) -> Result<()> {
        let dir = self.dir("v3")?;
        let former = fs::read_to_string("/etc/fstab").unwrap_or_default();
        let line = format!("{}:/ {} alinas _netdev,tls 0 0\n", Front::Good.domain(), dir.display());
        fs::write("/etc/fstab", format!("{former}{line}"))?;
        succeeded(&format!("umount {}", dir.display()))?;
        shut_down()?;

        // Where a process takes longer to start than on any real machine, the watchdog starts another one meanwhile.
        wait_until("fstab is mounted", PATIENCE, || {
            shell("mount -a -O _netdev").is_ok_and(|mounted| {
                println!("  mount -a: {:?} {}", mounted.code, mounted.output.trim());
                mounted.code == Some(0)
            })
        })?;
        let usage = succeeded("df -h")?.output;
        ensure(usage.contains(Front::Good.domain()), usage)?;
        fs::write(dir.join("after-the-start"), "words")?;
        ensure(self.nas.disk().join("after-the-start").exists(), "it did not arrive")?;
        fs::write("/etc/fstab", former).map_err(Failure::from)
    }

    fn remove(&self) -> Result<()> {
        let dir = self.dir("v3")?;
        let remove = "dpkg --no-triggers --remove alinas-csi-utils";
        let refused = shell(remove)?;
        ensure(refused.code != Some(0), format!("{refused:?}"))?;
        ensure(refused.output.contains(&dir.display().to_string()), format!("{refused:?}"))?;
        fs::write(dir.join("still-there"), "words")?;

        let hosts = theirs(&fs::read_to_string(HOSTS)?);
        succeeded(&format!("umount {}", dir.display()))?;
        wait_until("the hosts file has no line", PATIENCE, || hosts_lines() == 0)?;
        let now = theirs(&fs::read_to_string(HOSTS)?);
        ensure(now == hosts, format!("another line has changed: {hosts:?}\nis now {now:?}"))?;
        succeeded(remove)?;
        wait_until("no process is left", PATIENCE, || processes().is_empty())?;
        ensure(shell("which mount.alinas")?.code != Some(0), "the helper is left")?;
        ensure(Path::new(CONF).exists(), "the settings went with it")?;
        succeeded("dpkg --no-triggers --purge alinas-csi-utils")?;
        ensure(!Path::new(CONF).exists() && !Path::new(LOGS).exists(), "a purge left files")
    }

    fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.folder.path().join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// A process of somebody else's that has the port on every address.
    fn listener(&self, port: u16) -> Result<Process> {
        let program = format!(
            "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 1, ReuseAddr => 1, \
             LocalAddr => '0.0.0.0:{port}') or die $@; sleep 600;"
        );
        let log = self.folder.path().join("perl.log");
        let mut perl = Process::start("perl", Command::new("perl").args(["-e", &program]), &log)?;
        perl.wait_until("perl listens", PATIENCE, || listens_on(port))?;
        Ok(perl)
    }

    fn logs(&self) -> String {
        let logs = fs::read_dir(LOGS).into_iter().flatten().flatten();
        let ends = logs.map(|log| {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            let from = text.len().saturating_sub(3000);
            format!("{}:\n{}", log.path().display(), text.get(from..).unwrap_or(&text))
        });
        ends.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        for mount in lab::mounts_below(self.folder.path()).unwrap_or_default() {
            let _ = shell(&format!("umount -f -l {}", mount.point.display()));
        }
        let _ = shut_down();
    }
}

/// How many lines there are for tunnels.
fn hosts_lines() -> usize {
    let text = fs::read_to_string(HOSTS).unwrap_or_default();
    text.lines().filter(|line| line.contains(".cn-hangzhou.tls.127.0.1.")).count()
}

/// All lines but ours.
fn theirs(hosts: &str) -> Vec<String> {
    hosts.lines().filter(|line| !line.contains("# alinas-csi ")).map(str::to_owned).collect()
}

/// What a reboot does to everything but files.
fn shut_down() -> Result<()> {
    for id in processes() {
        if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(id, Signal::KILL);
        }
    }
    wait_until("no process is left", PATIENCE, || processes().is_empty())?;
    for path in ["/run/alinas-csi", "/run/mount"] {
        let _ = fs::remove_dir_all(path);
    }
    let _ = fs::remove_file(format!("/run/{SERVICE}.pid"));
    Ok(())
}
