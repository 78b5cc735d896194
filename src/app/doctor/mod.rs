//! `alinas-csi doctor`: looks at this node, and at a mount target from it, and says what to do.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`finding`] | the table of checks, what was found, what to do about it |
//! | [`node`] | what can be seen without a server |
//! | [`api`] | the API of NAS, and the clock by it |
//! | [`server`] | a mount target, by the ways that a mount goes |
//! | [`bundle`] | all of it and more in an archive, for whoever is asked for help |
//!
//! Nothing is mounted and nothing is changed. Every question has a deadline.

mod api;
mod bundle;
mod finding;
mod node;
mod server;

use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::app::USAGE;
use crate::app::doctor::bundle::Places;
pub(super) use crate::app::doctor::bundle::write as write_archive;
use crate::app::doctor::finding::Check;
use crate::app::doctor::finding::Diagnosis;
use crate::app::doctor::finding::Finding;
pub(super) use crate::app::doctor::finding::page;
use crate::app::doctor::server::Subject;
use crate::app::nas::NasArgs;
use crate::app::print;
use crate::app::say;
use crate::app::status;
use crate::app::status::Output;
use crate::app::telemetry::LogArgs;
use crate::model::ExportPath;
use crate::model::MountTarget;
use crate::model::RemotePort;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::runtime::Chain;
use crate::tls::Trust;
use crate::tunnel::Dialer;

/// The name of standard output, as usual.
const STDOUT: &str = "-";

/// What to look at.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// A mount target, with a path where that is to be looked at, too; without, this node alone.
    #[arg(value_name = "DOMAIN[:/PATH]")]
    subject: Option<String>,
    /// The port of the mount target; without, both that are known.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    tls_port: Option<u16>,
    /// The name that the certificate must carry, where it is not the mount target's.
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// PEM file of certificate authorities to trust besides the well-known ones, or a directory of such files.
    #[arg(long, env = "ALINAS_CSI_CA_FILE", value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// Where the watchdog's socket is.
    #[arg(long, env = "ALINAS_CSI_STATE_DIR", default_value = "/run/alinas-csi")]
    state_dir: PathBuf,
    /// The kubelet's root directory.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    #[command(flatten)]
    nas: NasArgs,
    /// For people, or for machines.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Writes a support archive (tar) without secrets besides: findings, status, mounts, settings, records, last lines of
    /// log files. With "-" it goes to standard output, and the findings to standard error.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
enum DoctorError {
    #[error("failed to start")]
    Runtime(#[source] io::Error),
    #[error("failed to write the findings down: {0}")]
    Unwritable(String),
    #[error("failed to write the support archive {file:?}")]
    Bundle { file: PathBuf, source: io::Error },
}

/// Looks and prints.
pub(super) fn run(arguments: &DoctorArgs, log: &LogArgs) -> ExitCode {
    match diagnose(arguments, log) {
        Ok(is_failed) => {
            if is_failed {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            say(&format!("alinas-csi: {}\n", Chain(&error)));
            ExitCode::from(USAGE)
        }
    }
}

fn diagnose(arguments: &DoctorArgs, log: &LogArgs) -> Result<bool, DoctorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(DoctorError::Runtime)?;
    let diagnosis = runtime.block_on(look(arguments));
    let text = arguments.output.of(&diagnosis, finding::table).map_err(DoctorError::Unwritable)?;
    let is_to_stdout = arguments.bundle.as_deref() == Some(Path::new(STDOUT));
    // The findings first: an archive that fails does not hide them.
    if is_to_stdout {
        say(&text)
    } else {
        print(&text)
    }
    let written = match &arguments.bundle {
        Some(file) => runtime.block_on(write_bundle(file, arguments, log, &diagnosis)),
        None => Ok(()),
    };
    // Neither a resolver nor a disk that does not answer is waited for.
    runtime.shutdown_background();
    written.map(|()| diagnosis.is_failed())
}

async fn write_bundle(
    file: &Path,
    arguments: &DoctorArgs,
    log: &LogArgs,
    diagnosis: &Diagnosis,
) -> Result<(), DoctorError> {
    let failed = |source| DoctorError::Bundle { file: file.to_owned(), source };
    let places = Places::of(&arguments.state_dir, log.log_dir.as_deref());
    let findings = Output::Json.of(diagnosis, finding::table).map_err(DoctorError::Unwritable)?;
    let status = status::json_in(&arguments.state_dir).await.map_err(|error| error.to_string());
    let (bytes, files) = bundle::gather(places, findings, status).await.map_err(failed)?;
    if file == Path::new(STDOUT) {
        let mut out = io::stdout();
        return out.write_all(&bytes).and_then(|()| out.flush()).map_err(failed);
    }
    bundle::write(file, &bytes).map_err(failed)?;
    say(&format!(
        "alinas-csi: wrote {} ({files} files, {} bytes); it has no secrets, but names of mount targets, volumes and \
         directories\n",
        file.display(),
        bytes.len()
    ));
    Ok(())
}

async fn look(arguments: &DoctorArgs) -> Diagnosis {
    let mut findings = node::look(&arguments.state_dir, &arguments.kubelet_dir).await;
    let trust = Trust::new(arguments.ca_file.as_deref()).map(Arc::new);
    let asked = api::look(&arguments.nas, variable, trust.as_ref().ok()).await;
    findings.extend(asked);
    if let Some(text) = &arguments.subject {
        match (subject(text, arguments), trust) {
            (Err(finding), _) => findings.push(finding),
            (Ok(subject), Ok(trust)) => {
                findings.extend(server::look(&Dialer::new(trust), &subject).await);
            }
            (Ok(_), Err(error)) => findings.push(Finding::of_fault(Check::Tls, &Chain(&error))),
        }
    }
    Diagnosis::of(findings, arguments.subject.is_some())
}

#[expect(clippy::disallowed_methods, reason = "app is where the environment is looked up")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn subject(text: &str, arguments: &DoctorArgs) -> Result<Subject, Finding> {
    let wrong = |error: &(dyn std::error::Error + 'static)| {
        Finding::of_fault(Check::MountTarget, &Chain(error))
    };
    let (domain, path) = match text.split_once(":/") {
        Some((domain, path)) => (domain, ExportPath::parse(&format!("/{path}"))),
        None => (text, Ok(ExportPath::root())),
    };
    let target = MountTarget::parse(domain).map_err(|error| wrong(&error))?;
    let path = path.map_err(|error| wrong(&error))?;
    let port = arguments.tls_port.map_or(RemotePort::Known, RemotePort::Only);
    let mut spec = TunnelSpec::to(target.name().clone(), port);
    if let Some(name) = &arguments.tls_server_name {
        spec.server_name = ServerName::parse(name).map_err(|error| wrong(&error))?;
    }
    Ok(Subject { target, spec, path })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        doctor: DoctorArgs,
    }

    #[test]
    fn a_mount_target_is_asked_about_with_or_without_a_path() {
        let asked = |words: &[&str]| {
            let line = std::iter::once("doctor").chain(words.iter().copied());
            let arguments = Line::try_parse_from(line).unwrap().doctor;
            let text = arguments.subject.clone().unwrap();
            subject(&text, &arguments)
                .map(|subject| format!("{} {}", subject.spec, subject.path))
                .map_err(|finding| finding.found)
        };
        for (words, expected) in [
            (&["nas.example.com"][..], Ok("nas.example.com /")),
            (&["nas.example.com:/a/b", "--tls-port", "7"], Ok("nas.example.com:7 /a/b")),
            (
                &["192.0.2.1:/", "--tls-port", "7", "--tls-server-name", "a.b"],
                Ok("192.0.2.1:7 (as a.b) /"),
            ),
            (&["nas.example.com:/a/../b"], Err("must not contain")),
            (&["x.cn-hangzhou.extreme.nas.aliyuncs.com"], Err("Extreme NAS")),
            (&["nas example"], Err("no host name")),
        ] {
            match (asked(words), expected) {
                (Ok(subject), Ok(expected)) => assert_eq!(subject, expected, "{words:?}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                (outcome, _) => panic!("{words:?}: {outcome:?}"),
            }
        }
    }
}
