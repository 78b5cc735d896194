//! The commands `mount` and `umount` as a shell and as mount(8) call them: what the kernel would be told, what is
//! refused in which words, and how they end.
//!
//! Everything runs with `-f`, so neither root nor a kernel with NFS is needed; servers are a few lines of RPC on
//! loopback. Real mounts are in the tests that begin with root_.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use e2e::driver::binary;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

/// Calls the binary by a name, in a directory where `here` is a directory to mount at.
struct Shell {
    home: tempfile::TempDir,
}

impl Shell {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("here")).unwrap();
        Self { home }
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let link = self.home.path().join(name);
        if !link.exists() {
            symlink(binary().unwrap(), &link).unwrap();
        }
        let mut command = Command::new(link);
        command.args(words).current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> (i32, String) {
        let Output { status, stderr, .. } = self.command(line).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// The option texts that the kernel would be told, one for each attempt.
    fn told(&self, line: &str) -> Vec<String> {
        let (code, said) = self.run(line);
        assert_eq!(code, 0, "{line}: {said}");
        let text = |line: &str| {
            let (_, rest) = line.split_once("trying text-based options '")?;
            rest.strip_suffix('\'').map(str::to_owned)
        };
        said.lines().filter_map(text).collect()
    }
}

/// A server that answers every RPC call over TCP with success and nothing else, for as long as the test runs.
fn answering() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer_calls(stream.unwrap()));
        }
    });
    port
}

fn answer_calls(mut stream: std::net::TcpStream) -> Option<()> {
    loop {
        let mut mark = [0; 4];
        stream.read_exact(&mut mark).ok()?;
        let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
        stream.read_exact(&mut call).ok()?;
        // RFC 5531: the call's xid, REPLY, MSG_ACCEPTED, no verifier, SUCCESS.
        let mut reply = call.get(..4)?.to_vec();
        reply.extend([1_u32, 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()));
        let mark = 0x8000_0000 | u32::try_from(reply.len()).ok()?;
        stream.write_all(&[&mark.to_be_bytes()[..], &reply].concat()).ok()?;
    }
}

#[test]
fn every_spelling_of_a_mount_tells_the_kernel_what_it_means() {
    let shell = Shell::new();
    let port = answering();
    let v3 = format!("vers=3,port={port},mountport={port},mountproto=tcp,nolock");
    for (line, parts, without) in [
        (
            "alinas-csi mount -fv 127.0.0.1:/a here -o vers=4.2",
            &["vers=4.2", "proto=tcp", "addr=127.0.0.1"][..],
            "bg",
        ),
        ("mount.nfs 127.0.0.1:/a here -fv -o rw,vers=4.1,_netdev,x-a=b", &["vers=4.1"], "netdev"),
        ("mount.nfs4 127.0.0.1:/a here -fv -o minorversion=1", &["vers=4.1"], "minorversion"),
        ("mount.nfs4 127.0.0.1:/a here -fv", &["vers=4.2"], "vers=3"),
        ("mount.nfs [::1]:/a here -fv -o vers=4.0", &["vers=4.0", "proto=tcp6", "addr=::1"], "127"),
        (
            "mount.nfs 127.0.0.1:/a here -fv -o vers=4.2,rsize=4096,rsize=8192",
            &["rsize=8192"],
            "4096",
        ),
        ("mount.nfs 127.0.0.1:/a here -fvs -o nonsense,vers=4.2", &["sloppy", "vers=4.2"], "retry"),
        ("mount.nfs 127.0.0.1:/a here -fv -o retry=0,bg,vers=4.2", &["vers=4.2"], "retry"),
        (
            &format!("mount.nfs 127.0.0.1:/a here -fv -o {v3}"),
            &["vers=3", "proto=tcp", "nolock", "mountvers=3"],
            "clientaddr",
        ),
        (
            "mount.alinas nas.example.com:/a here -fv -o tls",
            &["vers=3", "addr=127.0.1.1", "port=12049", "mountport=12049", "noresvport", "nolock"],
            "tls",
        ),
        (
            "mount.alinas nas.example.com:/a here -fv -o tls,vers=4.0",
            &["vers=4.0", "hard"],
            "nolock",
        ),
        (
            "mount.alinas 127.0.0.1:/a here -fv -o vers=4.0,soft",
            &["vers=4.0", "soft", "rsize=1048576"],
            "hard",
        ),
    ] {
        let told = shell.told(line);
        let last = told.last().unwrap_or_else(|| panic!("{line}: nothing was tried"));
        for part in parts {
            assert!(last.contains(part), "{line}: {last:?} lacks {part:?}");
        }
        assert!(!last.contains(without), "{line}: {last:?} holds {without:?}");
    }
}

#[test]
fn helper_and_subcommand_are_one_program() {
    let shell = Shell::new();
    let options = "vers=4.2,rsize=65536,soft,ro";
    let as_command =
        shell.told(&format!("alinas-csi mount -t nfs -v -f -o {options} 127.0.0.1:/a here"));
    let as_helper = shell.told(&format!("mount.nfs 127.0.0.1:/a here -sfnv -o {options}"));
    let bare = |texts: Vec<String>| texts.concat().replace(",sloppy", "");
    assert_eq!(bare(as_command), bare(as_helper));
}

#[test]
fn what_cannot_be_mounted_is_refused_in_one_line_that_names_it() {
    let shell = Shell::new();
    for (line, code, part) in [
        ("mount.nfs 127.0.0.1:/a here -f -o rsise=1", 32, "did you mean \"rsize\""),
        ("mount.nfs 127.0.0.1:/a here -f -o rsize=8k", 32, "\"rsize\" is \"8k\""),
        ("mount.nfs 127.0.0.1:/a here -f -o vers=2", 32, "version 2"),
        ("mount.nfs 127.0.0.1:/a here -f -o vers=3,vers=4.1", 32, "two NFS versions"),
        ("mount.nfs 127.0.0.1:/a here -f -o tls", 32, "xprtsec=tls"),
        ("mount.nfs4 127.0.0.1:/a here -f -o nfsvers=4.1", 32, "\"nfsvers\" is not for type nfs4"),
        ("mount.nfs4 127.0.0.1:/a here -f -o vers=3", 32, "-t nfs"),
        ("mount.nfs 127.0.0.1 here -f", 32, "127.0.0.1"),
        ("mount.nfs nfs://nas/a here -f", 32, "nfs://"),
        ("mount.nfs 127.0.0.1:/a missing -f -o vers=4.2", 32, "missing"),
        ("mount.nfs 127.0.0.1:/a here -f -o remount,ro", 32, "no NFS mount"),
        ("mount.alinas 127.0.0.1:/a here -f -o tls", 32, "named by its domain"),
        ("mount.alinas nas.example.com:/a here -f -o tls,vers=4.1", 32, "4.1"),
        ("mount.nfs 127.0.0.1:/a", 1, "Usage"),
        ("alinas-csi mount -t ext4 127.0.0.1:/a here", 1, "ext4"),
        ("umount.nfs", 1, "Usage"),
        ("mount.nfs 127.0.0.1:/a here -N /nowhere -f", 2, "namespace"),
    ] {
        let (exit, said) = shell.run(line);
        assert_eq!(exit, code, "{line}: {said}");
        assert!(said.contains(part), "{line}: {said}");
        if code == 32 {
            assert_eq!(said.lines().count(), 1, "{line}: {said}");
            assert!(said.starts_with("alinas-csi mount: "), "{line}: {said}");
        }
    }
}

#[test]
fn only_root_mounts_and_unmounts_and_anybody_may_look() {
    let shell = Shell::new();
    let root = rustix::process::geteuid().is_root();
    for line in ["mount.nfs 127.0.0.1:/a here -o rsise=1", "umount.nfs here"] {
        let (code, said) = shell.run(line);
        assert_eq!(said.contains("only root can"), !root, "{line}: {said}");
        assert_eq!(code == 1, !root, "{line}: {said}");
    }
}

#[test]
fn help_and_version_are_no_failures() {
    let shell = Shell::new();
    for line in ["mount.nfs -h", "mount.nfs -V", "umount.nfs -h", "alinas-csi mount --help"] {
        let output = shell.command(line).output().unwrap();
        assert!(output.status.success(), "{line}");
        assert!(!output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn a_signal_ends_a_mount_that_waits_for_a_silent_server() {
    let shell = Shell::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let line = format!(
        "mount.nfs 127.0.0.1:/a here -fv -o vers=3,nolock,port={port},mountport={port},mountproto=tcp"
    );
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = shell.command(&line).stderr(Stdio::piped()).spawn().unwrap();
        // It has come as far as the server.
        let (_connection, _) = silent.accept().unwrap();
        let start = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        // Else it would wait for minutes.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(8), "{said}");
        assert!(said.contains("interrupted"), "{said}");
    }
}

#[test]
fn a_look_at_a_mount_leaves_nothing_behind() {
    let shell = Shell::new();
    let utab = || std::fs::read(Path::new("/run/mount/utab")).ok();
    let before = utab();
    shell.told("mount.nfs 127.0.0.1:/a here -fv -o vers=4.2");
    assert_eq!(utab(), before);
}
