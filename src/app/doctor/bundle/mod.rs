//! `doctor --bundle`: what somebody who is asked for help wants to see, in one archive, without secrets.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`archive`] | the bounds, the form, the place |
//! | [`scrub`] | leaves secrets out |
//! | [`settings`] | what holds here |
//!
//! Only what is known to hold no secret is read: settings by their names, records, log files. What could be one all the
//! same is taken out of every text. Reading has a deadline: a log may lie on a disk that does not answer.

mod archive;
mod scrub;
mod settings;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub(in crate::app) use crate::app::doctor::bundle::archive::write;

use crate::app::doctor;
use crate::app::doctor::bundle::archive::Archive;
use crate::app::doctor::bundle::scrub::Scrub;
use crate::app::log_file;
use crate::host::mount_table;
use crate::kubernetes::access;
use crate::model::client_identity::CredentialsPath;
use crate::node::plain_record;
use crate::runtime::Clock;
use crate::runtime::SystemClock;
use crate::tls::fips;
use crate::watchdog::record;

/// For everything that is read here.
const DEADLINE: Duration = Duration::from_secs(20);
const MOST_RECORDS: usize = 1024;
const MOST_LOGS: usize = 16;
/// Of a log, from its end.
const LONGEST_TAIL: u64 = 128 * 1024;
const LONGEST_RECORD: u64 = 64 * 1024;

/// Finds a variable of the process.
type LookUp = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Where things are.
pub(super) struct Places {
    state_dir: PathBuf,
    logs: PathBuf,
    mounts: PathBuf,
    processes: PathBuf,
    settings_file: PathBuf,
    /// The vendor's file of RAM credentials, whose words are looked for.
    credentials: PathBuf,
    look_up: LookUp,
}

impl Places {
    /// Of this machine.
    pub(super) fn of(state_dir: &Path, log_dir: Option<&Path>) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            logs: log_dir.unwrap_or(Path::new(log_file::FOLDER)).to_owned(),
            mounts: "/proc/self/mountinfo".into(),
            processes: "/proc".into(),
            settings_file: crate::app::alinas_conf::FILE.into(),
            credentials: CredentialsPath::USUAL.into(),
            look_up: Box::new(doctor::variable),
        }
    }
}

/// The archive, and how many files it has.
///
/// # Errors
/// When it cannot be made in time.
pub(super) async fn gather(
    places: Places,
    findings: String,
    status: Result<String, String>,
) -> io::Result<(Vec<u8>, usize)> {
    let gathering = spawn_blocking(move || gathered(&places, &findings, status));
    match timeout(DEADLINE, gathering).await {
        Ok(Ok(gathered)) => gathered,
        Ok(Err(crashed)) => Err(io::Error::other(crashed)),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("records and logs could not be read within {} s", DEADLINE.as_secs()),
        )),
    }
}

fn gathered(
    places: &Places,
    findings: &str,
    status: Result<String, String>,
) -> io::Result<(Vec<u8>, usize)> {
    let records = records(&places.state_dir);
    let now = SystemClock.now();
    let mut archive = Archive::new(secrets(places, &records), now.wall.as_secs());
    archive.add("about.json", &pretty(&about(now.epoch_seconds())))?;
    archive.add("doctor.json", findings)?;
    match status {
        Ok(status) => archive.add("status.json", &status)?,
        Err(why) => archive.note(format!("status.json: {why}")),
    }
    match fs::read(&places.mounts) {
        Ok(table) => archive.add("mounts.txt", &nfs_lines(&String::from_utf8_lossy(&table)))?,
        Err(error) => archive.note(format!("mounts.txt: {error}")),
    }
    archive.add("settings.json", &pretty(&settings::of(places)))?;
    archive.add("state-directory.txt", &listing(&places.state_dir))?;
    for (name, text) in &records {
        archive.add(&format!("records/{name}"), text)?;
    }
    logs(&mut archive, &places.logs)?;
    archive.finish()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn about(now: i64) -> Value {
    let names = rustix::system::uname();
    let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
    json!({
        "time": prost_types::Timestamp { seconds: now, nanos: 0 }.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "builtForFips": fips::BUILT_IN,
        "optimised": !cfg!(debug_assertions),
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "libc": if cfg!(target_env = "musl") { "musl" } else { "other" },
        "kernel": {
            "release": text(names.release()),
            "version": text(names.version()),
            "machine": text(names.machine()),
        },
    })
}

/// What must be in no text.
fn secrets(places: &Places, records: &[(String, String)]) -> Scrub {
    let mut scrub = Scrub::default();
    for value in settings::SECRET.iter().filter_map(|name| (places.look_up)(name)) {
        scrub.add(&value);
    }
    for (variable, files, usual) in [
        ("ALINAS_CSI_NAS_CREDENTIALS", &["secret", "token"][..], None),
        ("ALINAS_CSI_KUBERNETES_CREDENTIALS", &["token"], Some(access::CREDENTIALS)),
    ] {
        let folder = (places.look_up)(variable).or(usual.map(str::to_owned));
        for file in
            folder.iter().flat_map(|folder| files.iter().map(|file| Path::new(folder).join(file)))
        {
            scrub.add_words_at(&file);
        }
    }
    if let Some(file) = (places.look_up)("ALIBABA_CLOUD_OIDC_TOKEN_FILE") {
        scrub.add_words_at(Path::new(&file));
    }
    scrub.add_words_at(&places.credentials);
    for (_, text) in records {
        let record: Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(path) = record.pointer("/policy/identity/ram").and_then(Value::as_str) {
            scrub.add_words_at(Path::new(path));
        }
    }
    scrub
}

fn nfs_lines(table: &str) -> String {
    let is_nfs = |line: &&str| {
        let entries = mount_table::parse(line).unwrap_or_default();
        entries.iter().any(mount_table::MountEntry::is_nfs)
    };
    table.lines().filter(is_nfs).flat_map(|line| [line, "\n"]).collect()
}

/// Names and sizes. Of what is no record, no more than that is told.
fn listing(folder: &Path) -> String {
    let line = |entry: fs::DirEntry| {
        let name = entry.file_name().display().to_string();
        match entry.metadata() {
            Ok(found) => format!("{:o} {:>8} {name}\n", found.mode(), found.len()),
            Err(error) => format!("{name}: {error}\n"),
        }
    };
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut lines: Vec<_> = entries.flatten().take(MOST_RECORDS).map(line).collect();
            lines.sort();
            lines.concat()
        }
        Err(error) => format!("{}: {error}\n", folder.display()),
    }
}

/// Records of tunnels and of volumes of plain NFS, also damaged ones, as they are on the disk.
fn records(state_dir: &Path) -> Vec<(String, String)> {
    let is_record = |name: &str| {
        let stem = name.strip_suffix(".damaged").unwrap_or(name).strip_suffix(".json");
        stem.is_some_and(|stem| stem.chars().all(|one| one.is_ascii_hexdigit() || one == '.'))
    };
    let mut found = Vec::new();
    for below in [record::FOLDER, plain_record::FOLDER] {
        let names = regular_files(&state_dir.join(below), is_record);
        found.extend(names.into_iter().map(|name| format!("{below}/{name}")));
    }
    found.truncate(MOST_RECORDS);
    let read = |name: String| {
        let file = File::open(state_dir.join(&name)).ok()?;
        let mut bytes = Vec::new();
        file.take(LONGEST_RECORD).read_to_end(&mut bytes).ok()?;
        Some((name, String::from_utf8_lossy(&bytes).into_owned()))
    };
    found.into_iter().filter_map(read).collect()
}

fn logs(archive: &mut Archive, folder: &Path) -> io::Result<()> {
    let names = regular_files(folder, |name| name.ends_with(".log"));
    if names.is_empty() {
        let shown = folder.display();
        archive
            .note(format!("logs: no log files in {shown}; of a pod, add what kubectl logs says"));
    }
    for name in names.into_iter().take(MOST_LOGS) {
        match tail(&folder.join(&name)) {
            Ok(text) => archive.add(&format!("logs/{name}"), &text)?,
            Err(error) => archive.note(format!("logs/{name}: {error}")),
        }
    }
    Ok(())
}

/// The last whole lines.
fn tail(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let begin = file.metadata()?.len().saturating_sub(LONGEST_TAIL);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LONGEST_TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // A part of a line could be a part of a secret.
    let whole =
        if begin == 0 { Some(&*text) } else { text.split_once('\n').map(|(_, lines)| lines) };
    Ok(whole.unwrap_or_default().to_owned())
}

/// Sorted. No link is followed, and no pipe waited for.
fn regular_files(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| is_wanted(name)).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
