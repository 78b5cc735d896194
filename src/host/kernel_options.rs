//! Which mount options the running kernel knows, found by telling it and not by its version.
//!
//! An option that is unknown is so until the next boot, so each key is asked about once. Values are the parser's
//! business; a kernel that knows a key may still refuse its value at the mount, and then says so itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::io::Errno;

use crate::host::mount_syscalls::call;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::host::worker::OptionRefusal;
use crate::host::worker::Worker;
use crate::runtime::Together;

/// No server is asked, so this only guards against a machine out of breath.
const DEADLINE: Duration = Duration::from_secs(10);

/// Linux takes `proto=udp` as such whatever it was built with, and refuses it where it looks at the whole, behind
/// the address. Nobody is asked there.
const NFS_OVER_UDP: [(&str, &str); 3] = [("vers", "3"), ("proto", "udp"), ("addr", "127.0.0.1")];

/// fs/nfs/fs_context.c: `nfs_validate_transport_protocol`.
const NO_UDP: &str = "Unsupported transport protocol";

type Setting = (String, Option<String>);

/// What the kernel is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Probe {
    /// One option after the other.
    Each(Vec<Setting>),
    /// All, as a mount would set them.
    Together(Vec<Setting>),
}

/// The probes under way.
type Probes = Together<Probe, Vec<Option<OptionRefusal>>>;

/// The options of the running kernel. A clone knows what the original knows. Many who ask the same at once, as at
/// the start of many mounts, cost one probe.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    worker: Arc<dyn Worker>,
    /// By key. The lock is held to look up and to insert, never while the kernel is asked.
    unknown: Arc<Mutex<HashMap<String, Option<OptionRefusal>>>>,
    udp: Arc<Mutex<Option<bool>>>,
    probes: Arc<Probes>,
}

impl KernelOptions {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(worker: Arc<dyn Worker>) -> Self {
        Self { worker, unknown: Arc::default(), udp: Arc::default(), probes: Arc::default() }
    }

    /// The first option whose key the kernel does not know, as the refusal that a mount would meet. None where
    /// the kernel cannot be asked: the mount itself will say.
    pub async fn first_unknown(&self, options: &[Setting]) -> Option<Failure> {
        let new: Vec<Setting> = {
            let known = lock(&self.unknown);
            options.iter().filter(|(key, _)| !known.contains_key(key)).cloned().collect()
        };
        if !new.is_empty() {
            let answers = self.ask(Probe::Each(new.clone())).await?;
            let answers = new.into_iter().map(|(key, _)| key).zip(answers);
            lock(&self.unknown)
                .extend(answers.map(|(key, answer)| (key, answer.filter(is_unknown))));
        }
        let known = lock(&self.unknown);
        options.iter().find_map(|(key, _)| {
            let refusal = known.get(key)?.as_ref()?;
            let errno = Errno::from_raw_os_error(refusal.errno);
            Some(Failure::refused(&call::option(key), errno, refusal.kernel.clone()))
        })
    }

    /// Whether NFSv3 goes over UDP (CONFIG_NFS_DISABLE_UDP_SUPPORT is not set). True where the kernel cannot
    /// be asked: the mount itself will say.
    pub async fn has_udp(&self) -> bool {
        let known = *lock(&self.udp);
        if let Some(known) = known {
            return known;
        }
        let options = NFS_OVER_UDP.map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
        match self.ask(Probe::Together(options.to_vec())).await.as_deref() {
            Some([answer]) => {
                let refused = answer.as_ref().is_some_and(|refusal| says(refusal, NO_UDP));
                *lock(&self.udp).insert(!refused)
            }
            _ => true,
        }
    }

    /// One answer for each option, or one for all.
    async fn ask(&self, probe: Probe) -> Option<Vec<Option<OptionRefusal>>> {
        let run = async || self.run(&probe).await.ok_or(());
        self.probes.ask(probe.clone(), run).await.ok()
    }

    async fn run(&self, probe: &Probe) -> Option<Vec<Option<OptionRefusal>>> {
        let (number, job) = match probe.clone() {
            Probe::Each(options) => (options.len(), Job::ProbeOptions { options }),
            Probe::Together(options) => (1, Job::ProbeTogether { options }),
        };
        match self.worker.run(job, DEADLINE).await {
            Ok(Done::Probed(answers)) if answers.len() == number => Some(answers),
            Ok(other) => {
                tracing::debug!(answer = ?other, "a probe of the kernel's options made no sense");
                None
            }
            // A kernel before 5.2, no privilege, no NFS at all.
            Err(failure) => {
                tracing::debug!(%failure, "the kernel's options cannot be probed");
                None
            }
        }
    }
}

/// fs/fs_parser.c and fs/fs_context.c: `nfs: Unknown parameter 'x'`.
fn is_unknown(refusal: &OptionRefusal) -> bool {
    says(refusal, "Unknown parameter")
}

fn says(refusal: &OptionRefusal, part: &str) -> bool {
    refusal.kernel.iter().any(|words| words.contains(part))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::worker::fake::Answer;
    use crate::host::worker::fake::FakeWorker;

    fn refusal(words: &str) -> Option<OptionRefusal> {
        let errno = Errno::INVAL.raw_os_error();
        Some(OptionRefusal { errno, kernel: vec![words.to_owned()] })
    }

    fn kernel(answers: Vec<Vec<Option<OptionRefusal>>>) -> (Arc<FakeWorker>, KernelOptions) {
        let worker = Arc::new(FakeWorker::default());
        worker.answers(answers.into_iter().map(|answer| Answer::Say(Ok(Done::Probed(answer)))));
        (Arc::clone(&worker), KernelOptions::new(worker))
    }

    fn options(options: &[(&str, Option<&str>)]) -> Vec<Setting> {
        let owned = |text: &str| text.to_owned();
        options.iter().map(|(key, value)| (owned(key), value.map(owned))).collect()
    }

    #[tokio::test]
    async fn an_unknown_option_is_named_and_asked_about_once() {
        let unknown = refusal("nfs: Unknown parameter 'fatal_neterrors'");
        let (worker, kernel) = kernel(vec![vec![None, unknown]]);
        let told = options(&[("hard", None), ("fatal_neterrors", Some("none"))]);
        for _ in 0..2 {
            let failure = kernel.first_unknown(&told).await.unwrap();
            assert_eq!(
                failure.to_string(),
                "fsconfig(fatal_neterrors) failed: EINVAL (Invalid argument) (kernel: nfs: Unknown \
                 parameter 'fatal_neterrors')"
            );
        }
        assert_eq!(kernel.first_unknown(&options(&[("hard", None)])).await, None);
        assert_eq!(worker.jobs().len(), 1);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_probe() {
        let (worker, kernel) = kernel(vec![vec![None], vec![None]]);
        // Lets the others come before the worker answers.
        worker.answers_slowly();
        let told = options(&[("hard", None)]);
        let all = tokio::join!(
            kernel.first_unknown(&told),
            kernel.first_unknown(&told),
            kernel.first_unknown(&told)
        );
        assert_eq!(all, (None, None, None));
        tokio::join!(kernel.has_udp(), kernel.has_udp());
        assert_eq!(worker.jobs().len(), 2);
    }

    #[tokio::test]
    async fn a_value_that_is_refused_is_no_unknown_option() {
        let (_, kernel) = kernel(vec![vec![refusal("nfs: Bad value for 'rsize'")]]);
        assert_eq!(kernel.first_unknown(&options(&[("rsize", Some("8k"))])).await, None);
    }

    #[tokio::test]
    async fn a_kernel_that_cannot_be_asked_is_trusted_and_asked_again() {
        let (worker, kernel) = kernel(Vec::new());
        let no = || Answer::Say(Err(Failure::refused(call::FSOPEN, Errno::NOSYS, Vec::new())));
        worker.answers([no(), no()]);
        assert_eq!(kernel.first_unknown(&options(&[("x", None)])).await, None);
        assert!(kernel.has_udp().await);
        assert_eq!(kernel.first_unknown(&options(&[("x", None)])).await, None);
        assert_eq!(worker.jobs().len(), 3);
    }

    #[tokio::test]
    async fn a_kernel_without_udp_says_so_once_and_only_of_the_options_together() {
        let no = refusal("NFS: Unsupported transport protocol udp");
        let (worker, kernel) = kernel(vec![vec![no]]);
        assert!(!kernel.has_udp().await);
        assert!(!kernel.has_udp().await);
        let jobs = worker.jobs();
        let [Job::ProbeTogether { options: told }] = jobs.as_slice() else { panic!("{jobs:?}") };
        let address = options(&[("addr", Some("127.0.0.1"))]);
        assert!(told.ends_with(&address), "without an address, it comes to no transport: {told:?}");
    }

    #[tokio::test]
    async fn a_kernel_that_finds_nothing_wrong_but_the_source_has_udp() {
        let no_source = refusal("NFS: device name not in host:path format");
        let (worker, kernel) = kernel(vec![vec![no_source]]);
        assert!(kernel.has_udp().await);
        assert!(kernel.has_udp().await);
        assert_eq!(worker.jobs().len(), 1);
    }
}
