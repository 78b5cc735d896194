//! What somebody needs who follows the page of the vendor's client with our packages: a shell, a look at the machine, and
//! work on a mount that says how long it had to wait.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::driver::binary;
use crate::failure::Failure;
use crate::failure::Result;
use crate::failure::ensure;
use crate::process::Observed;
use crate::process::observe;

/// For any one program, in an emulated machine that is busy otherwise.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// The service of the vendor's client, and of ours.
pub const SERVICE: &str = "aliyun-alinas-mount-watchdog";
/// Its settings.
pub const CONF: &str = "/etc/aliyun/alinas/alinas-utils.conf";
/// Its logs.
pub const LOGS: &str = "/var/log/aliyun/alinas";
const BLOCK: usize = 4096;
/// Between two blocks.
const BREATH: Duration = Duration::from_millis(20);

/// The package of the programs under test, in a format; where the variable does not name it, it is built.
///
/// # Errors
/// When it cannot be.
pub fn package(folder: &Path, format: &str, variable: &str) -> Result<PathBuf> {
    if let Some(package) = std::env::var_os(variable) {
        return Ok(package.into());
    }
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/build");
    let mut command = Command::new(build);
    command.args(["--quick", "--out"]).arg(folder).arg("--binary").arg(binary()?).arg(format);
    let built = observe(PATIENCE * 3, &mut command)?;
    ensure(built.code == Some(0), format!("{built:?}"))?;
    Ok(built.output.lines().last().unwrap_or_default().into())
}

/// A line of the page, as a shell of root reads it.
///
/// # Errors
/// When there is no shell.
pub fn shell(line: &str) -> Result<Observed> {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .env_remove("LD_LIBRARY_PATH")
        .env("DEBIAN_FRONTEND", "noninteractive");
    observe(PATIENCE, &mut command)
}

/// The same of one that has to succeed.
///
/// # Errors
/// When it does not.
pub fn succeeded(line: &str) -> Result<Observed> {
    let observed = shell(line)?;
    ensure(observed.code == Some(0), format!("`{line}`: {observed:?}"))?;
    Ok(observed)
}

/// Changes a text within a file.
///
/// # Errors
/// When it is not there.
pub fn change(file: &str, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    ensure(text.contains(from), format!("{file} lacks {from:?}: {text}"))?;
    Ok(fs::write(file, text.replace(from, to))?)
}

/// Makes sure that a watchdog has ended in order, and has left its tunnel process.
///
/// # Errors
/// When its log does not say so.
pub fn left_its_tunnel() -> Result<()> {
    let log = fs::read_to_string(Path::new(LOGS).join("mount-watchdog.log"))?;
    ensure(log.contains("is left to the next watchdog"), format!("it did not end in order: {log}"))
}

/// Whether anybody listens on a port, on any address.
#[must_use]
pub fn listens_on(port: u16) -> bool {
    let hex = format!(":{port:04X} ");
    fs::read_to_string("/proc/net/tcp")
        .is_ok_and(|table| table.lines().any(|line| line.contains(&hex) && line.contains(" 0A ")))
}

/// Ours, of the installed program, also after an upgrade has put another file in its place.
#[must_use]
pub fn processes() -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours = |id: &u32| {
        fs::read_link(format!("/proc/{id}/exe"))
            .is_ok_and(|program| program.to_string_lossy().starts_with("/usr/bin/alinas-csi"))
    };
    ids.filter(ours).collect()
}

/// Writes block after block and has each on the server's disk before the next.
#[derive(Debug)]
pub struct Writer {
    file: PathBuf,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(usize, Duration)>>,
}

impl Writer {
    /// Begins in a new file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn start(path: &Path) -> Result<Self> {
        let file = File::options().create(true).truncate(true).write(true).open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut blocks, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                file.write_all_at(&block(blocks), u64::try_from(blocks * BLOCK).unwrap_or(0))?;
                file.sync_data()?;
                longest = longest.max(begin.elapsed());
                blocks += 1;
                // The package manager wants the processor, too.
                std::thread::sleep(BREATH);
            }
            Ok((blocks, longest))
        });
        Ok(Self { file: path.to_owned(), stop, thread })
    }

    /// Goes on for a moment, then reads everything back from the server.
    ///
    /// # Errors
    /// When a call has failed, or the file is not what was written.
    pub fn end(self, through: &str) -> Result<()> {
        std::thread::sleep(Duration::from_secs(2));
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| Failure::new("the writer panicked"))?;
        let (blocks, longest) = ended?;
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        let mut text = Vec::new();
        File::open(&self.file)?.read_to_end(&mut text)?;
        let expected: Vec<u8> = (0..blocks).flat_map(block).collect();
        println!(
            "  {blocks} blocks through {through}, longest pause {:.1} s",
            longest.as_secs_f64()
        );
        std::io::stdout().flush()?;
        ensure(blocks > 0 && text == expected, format!("{through} has changed the file"))
    }
}

/// A block that tells its place.
fn block(number: usize) -> [u8; BLOCK] {
    let mut block = [b'.'; BLOCK];
    let name = format!("{number:016x}");
    block[..name.len()].copy_from_slice(name.as_bytes());
    block
}
