//! R6: an ongoing mount is interrupted, and nothing of it is left.

use std::fs;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use e2e::cases::stage::PATIENCE;
use e2e::cases::stage::Stage;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::plain::Front;
use e2e::process::wait_until;
use rustix::process::Pid;
use rustix::process::Signal;

use crate::Steps;

pub(crate) const TESTS: &[Steps] = &[
    ("an_interrupted_mount_ends_at_once_v4", |stage| interrupted(stage, "vers=4.2", Signal::INT)),
    ("an_interrupted_mount_ends_at_once_v3", |stage| {
        interrupted(stage, "vers=3,nolock,port=2049,mountport=20048,mountproto=tcp", Signal::INT)
    }),
    ("an_interrupted_negotiation_ends_at_once", |stage| interrupted(stage, "nolock", Signal::INT)),
    ("a_terminated_mount_ends_at_once", |stage| interrupted(stage, "vers=4.2", Signal::TERM)),
    ("an_interrupted_wait_between_attempts_ends_at_once", |stage| {
        interrupted_at(stage, Front::NfsReset, "vers=4.2,retry=2", Signal::INT)
    }),
];

/// mount(8): 8 is "user interrupt".
const INTERRUPTED: i32 = 8;
/// So long the kernel has time to begin what is then interrupted, once a connection is tried.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Not interrupted, each of these waits lasts for minutes. A second does outside of emulation.
const AT_MOST: Duration = Duration::from_secs(10);

fn interrupted(stage: &mut Stage, options: &str, signal: Signal) -> Result<()> {
    interrupted_at(stage, Front::BlackHole, options, signal)
}

fn interrupted_at(stage: &mut Stage, front: Front, options: &str, signal: Signal) -> Result<()> {
    let target = stage.target("cancelled")?;
    let spec = format!("{}:/share", front.address());
    let mut command = stage.command(&[&"mount", &"-t", &"nfs", &"-o", &options, &spec, &target])?;
    let mut program = command.spawn()?;
    if let Front::BlackHole = front {
        wait_until("it connects", PATIENCE, || !connections_to(front).is_empty())?;
    }
    thread::sleep(UNDER_WAY);
    let early = program.try_wait()?;
    ensure(early.is_none(), format!("it ended before it was interrupted: {early:?}"))?;
    let start = Instant::now();
    if let Some(pid) = i32::try_from(program.id()).ok().and_then(Pid::from_raw) {
        rustix::process::kill_process(pid, signal)?;
    }
    let mut status = None;
    let ended = wait_until("the program ends", PATIENCE, || {
        status = program.try_wait().ok().flatten();
        status.is_some()
    });
    let took = start.elapsed();
    println!("{options}: ended {took:.2?} after the signal: {status:?}");
    if ended.is_err() {
        program.kill()?;
    }
    ended?;
    ensure(took < AT_MOST, format!("it took {took:?}"))?;
    ensure(status.and_then(|status| status.code()) == Some(INTERRUPTED), format!("{status:?}"))?;
    nothing_is_left(stage, front)
}

fn nothing_is_left(stage: &Stage, front: Front) -> Result<()> {
    let targets = stage.world.folder().join("targets");
    ensure(lab::mounts_below(&targets)?.is_empty(), "a mount is left")?;
    let mut left = Vec::new();
    let gone = wait_until("processes and sockets are gone", PATIENCE, || {
        left = connections_to(front);
        left.extend(
            lab::processes_running(stage.world.folder()).iter().map(|pid| format!("{pid:?}")),
        );
        left.is_empty()
    });
    ensure(gone.is_ok(), format!("left behind: {left:?}"))
}

/// Connections that are being made (SYN_SENT) or stand. What is closed, the kernel clears away by itself.
fn connections_to(front: Front) -> Vec<String> {
    let address = format!("{:08X}:", u32::from_le_bytes(front.address().octets()));
    // Of this thread: /proc/self is the first thread's, which is in no lane.
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
    let lines = table.lines().filter(|line| {
        let mut columns = line.split_whitespace().skip(2);
        let to_it = columns.next().is_some_and(|remote| remote.starts_with(&address));
        to_it && matches!(columns.next(), Some("01" | "02"))
    });
    lines.map(str::to_owned).collect()
}
