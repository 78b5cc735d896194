//! `alinas-csi tunnel` as a program of its own: its log, its memory, its descriptors.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use crate::driver::binary;
use crate::tls_lab::Lab;
use crate::tls_lab::NAME;

/// A tunnel to a server of the lab, at any port. Ends when dropped.
pub struct Tunnel {
    child: Killed,
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// Ends when dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Tunnel {
    /// Starts one to a port of this machine, with so many descriptors at most.
    pub fn start(lab: &Lab, port: u16, admit: &str, descriptors: Option<u32>) -> Self {
        let binary = binary().unwrap();
        let target = format!("127.0.0.1:{port}");
        let ca_file = lab.ca_file.to_str().unwrap();
        let limit = descriptors.map(|most| format!("--nofile={most}:{most}"));
        let mut arguments: Vec<&str> = limit.iter().map(String::as_str).collect();
        arguments.extend([
            binary.to_str().unwrap(),
            "tunnel",
            "--listen",
            "127.0.0.1:0",
            "--target",
            &target,
        ]);
        arguments.extend(["--server-name", NAME, "--ca-file", ca_file, "--admit", admit]);
        let mut child = Killed(program("prlimit", &arguments));
        let log = Arc::new(Mutex::new(Vec::new()));
        let errors = BufReader::new(child.0.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            errors.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        let mut said = String::new();
        BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let address = said.trim().rsplit(' ').next().unwrap();
        let address = address.parse::<SocketAddrV4>().unwrap_or_else(|_| panic!("{said:?}")).into();
        Self { child, address, log }
    }

    /// Its lines of a kind, up to now.
    pub fn said(&self, part: &str) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// Memory, in bytes.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// How many it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.0.id())).unwrap().count()
    }
}

/// Starts a program whose outputs are read by the test.
#[allow(clippy::disallowed_methods, reason = "a test's own programs, killed when dropped")]
pub fn program(name: &str, arguments: &[&str]) -> Child {
    Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} is installed: {error}"))
}
