//! What two kinds of server world share: a network namespace at the end of a veth pair, and a look at who
//! listens in it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Result;
use crate::process::run;

const DEADLINE: Duration = Duration::from_secs(20);

/// The file of a network namespace that has a name.
#[must_use]
pub fn namespace(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Ends every process in a network namespace, then the namespace and the cable to it. Whatever is not
/// there is not missed.
pub fn remove(node_interface: &str, name: &str) {
    let _ = ip(&format!("link del {node_interface}"));
    if let Ok(left) = ip(&format!("netns pids {name}")) {
        for pid in left.split_whitespace() {
            let _ = run(DEADLINE, "kill", &["-KILL", pid]);
        }
    }
    let _ = ip(&format!("netns del {name}"));
}

/// How many sockets listen on a port in the network of a process.
#[must_use]
pub fn count_listeners(process: u32, port: u16) -> usize {
    const LISTEN: &str = "0A";
    // proc(5): the network of that process. To enter it for each look would take far longer.
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    let local = format!(":{port:04X}");
    let listens = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|address| address.ends_with(&local))
            && columns.nth(1) == Some(LISTEN)
    };
    table.lines().filter(listens).count()
}

/// Many commands by one process: each costs a tenth of a second on an emulated processor.
///
/// # Errors
/// When one of them fails.
pub fn batch(options: &[&str], folder: &Path, commands: &str) -> Result<()> {
    let file = folder.join("ip.batch");
    fs::write(&file, commands)?;
    let file = file.display().to_string();
    run(DEADLINE, "ip", &[options, &["-batch", &file]].concat())?;
    Ok(())
}

/// One command of ip(8), split at its blanks. Answers what it printed.
///
/// # Errors
/// When it fails.
pub fn ip(arguments: &str) -> Result<String> {
    run(DEADLINE, "ip", &arguments.split(' ').collect::<Vec<_>>())
}
