//! The shell with a policy of a few lines: what it does for each step, and what it leaves behind.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fake::FakeNetwork;
use super::underway::Underway;
use super::*;
use crate::host::daemon::Daemon;
use crate::host::mount_table::fake::FakeMountTable;
use crate::host::mount_table::fake::nfs_mount;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::host::worker::OptionRefusal;
use crate::host::worker::fake::Answer as WorkerAnswer;
use crate::host::worker::fake::FakeWorker;
use crate::model::DeviceName;
use crate::model::MountOptions;
use crate::model::NfsVersion;
use crate::model::nfs_option::Rules;
use crate::model::nfs_option::Transport;
use crate::nfs::Patience;
use crate::nfs::Start;
use crate::nfs::Way;
use crate::nfs::policy::Answer;
use crate::nfs::policy::Note;
use crate::nfs::policy::Service;
use crate::nfs::policy::Step;

const TARGET: &str = "/t";
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const A_SECOND: Duration = Duration::from_secs(1);

/// An engine among fakes.
struct Bench {
    table: FakeMountTable,
    worker: Arc<FakeWorker>,
    network: Arc<FakeNetwork>,
    engine: Engine,
    cancel: CancellationToken,
    told: Arc<Mutex<Vec<Progress>>>,
}

impl Bench {
    fn new(network: FakeNetwork) -> Self {
        let table = FakeMountTable::default();
        let worker = Arc::new(FakeWorker::acting_on(table.clone()));
        let shared: Arc<dyn Worker> = Arc::clone(&worker) as _;
        let network = Arc::new(network);
        let asked: Arc<dyn Network> = Arc::clone(&network) as _;
        let engine = Engine::new(asked, shared, Arc::new(table.clone()));
        let cancel = CancellationToken::new();
        Self { table, worker, network, engine, cancel, told: Arc::default() }
    }

    fn underway(&self, options: &str) -> Underway {
        let request = request(options);
        let told = Arc::clone(&self.told);
        let progress = Box::new(move |progress| told.lock().unwrap().push(progress));
        Underway::new(self.engine.clone(), &request, self.cancel.clone(), progress)
    }

    /// Does the steps in turn and returns their answers, without the first, and the time that it took.
    async fn answers(&self, options: &str, steps: Vec<Step>) -> (Vec<Answer>, Duration) {
        let began = Instant::now();
        let mut answers = Vec::new();
        let mut steps = steps.into_iter();
        let ended = self.underway(options).drive(|answer, _| {
            answers.push(answer);
            steps.next().unwrap_or_else(|| Step::Finish(Box::new(mounted(Vec::new()))))
        });
        ended.await.unwrap();
        answers.remove(0);
        (answers, began.elapsed())
    }

    async fn mount(&self, options: &str) -> Result<Mounted, MountFault> {
        let told = Arc::clone(&self.told);
        let progress = move |progress| told.lock().unwrap().push(progress);
        self.engine.mount(request(options), self.cancel.clone(), progress).await
    }

    async fn cancelled_soon(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.cancel.cancel();
    }

    fn sources(&self) -> Vec<String> {
        self.table.entries().into_iter().map(|entry| entry.source).collect()
    }
}

fn request(options: &str) -> MountRequest {
    MountRequest {
        device: DeviceName::parse("nas.example:/a").unwrap(),
        target: TARGET.into(),
        options: MountOptions::parse(Rules::Direct, [options]).unwrap(),
        way: Way::Direct,
        start: Start::default(),
        patience: Patience::AsOptionsSay,
    }
}

fn mounted(notes: Vec<Note>) -> Mounted {
    Mounted {
        version: NfsVersion::V42,
        server: ([192, 0, 2, 1], 2049).into(),
        options: "vers=4.2".to_owned(),
        already: false,
        notes,
        history: crate::nfs::policy::History::default(),
    }
}

fn mount() -> Step {
    let job = Job::MountNfs {
        source: "nas.example:/a".to_owned(),
        options: vec![("vers".to_owned(), Some("4.2".to_owned())), ("hard".to_owned(), None)],
        attributes: vec!["ro".to_owned()],
        target: TARGET.into(),
    };
    Step::Mount { job, deadline: A_WEEK }
}

fn check() -> Step {
    Step::CheckTarget { job: Job::CheckTarget { target: TARGET.into() }, deadline: A_SECOND }
}

fn resolve() -> Step {
    Step::Resolve { host: "nas.example".to_owned(), family: None, limit: A_WEEK }
}

fn ask_port() -> Step {
    let server = IpAddr::from([192, 0, 2, 1]).into();
    let service = Service::Nfs(NfsVersion::V3);
    let (transport, over) = (Transport::Tcp, Transport::Udp);
    Step::AskPort { server, service, transport, over, limit: A_WEEK }
}

fn ping() -> Step {
    let service = Service::Mount(3);
    let server = ([192, 0, 2, 1], 20048).into();
    Step::Ping { server, service, transport: Transport::Udp, limit: A_WEEK }
}

fn ask_export() -> Step {
    let mountd = ([192, 0, 2, 1], 20048).into();
    Step::AskExport { mountd, transport: Transport::Udp, path: "/a".to_owned(), limit: A_WEEK }
}

#[tokio::test(start_paused = true)]
async fn each_step_is_done_and_answered_in_its_own_kind() {
    let bench = Bench::new(FakeNetwork::default());
    let look = || Step::LookAtTarget(TARGET.into());
    let locate = Step::Locate { destination: IpAddr::from([192, 0, 2, 1]).into() };
    let steps = vec![
        check(),
        resolve(),
        locate,
        Step::LookFor(Daemon::Statd),
        ask_port(),
        ping(),
        ask_export(),
        look(),
        Step::Wait(A_SECOND),
        mount(),
        look(),
    ];
    let (answers, took) = bench.answers("", steps).await;
    let kinds: Vec<_> = answers.iter().map(|answer| format!("{answer:?}")).collect();
    let expected = [
        "Target(Ok(Done))",
        "Addresses(Ok([ServerAddress { ip: 192.0.2.1, scope: 0 }]))",
        "Source(Ok(192.0.2.200))",
        "Daemon(Runs)",
        "Port(Ok(2049))",
        "Pinged(Ok(()))",
        "Export(Ok(Flavours([Flavour(1)])))",
        "MountedThere(Ok(None))",
        "Waited",
        "Mounted(Ok(Done))",
        "MountedThere(Ok(Some(MountEntry",
    ];
    for (kind, expected) in kinds.iter().zip(expected) {
        assert!(kind.starts_with(expected), "{kind}, not {expected}");
    }
    assert_eq!((kinds.len(), took), (expected.len(), A_SECOND));
    let told = bench.told.lock().unwrap();
    assert!(matches!(&told[..], [Progress::Asking { options }] if options == "vers=4.2,hard"));
}

#[tokio::test(start_paused = true)]
async fn whatever_it_waits_for_a_cancelled_mount_is_answered_within_a_second() {
    for step in [resolve(), ask_port(), ping(), ask_export(), mount(), Step::Wait(A_WEEK)] {
        let bench = Bench::new(FakeNetwork::silent());
        bench.worker.answers([WorkerAnswer::Hang]);
        let shown = format!("{step:?}");
        let both = tokio::join!(bench.answers("", vec![step]), bench.cancelled_soon());
        let ((answers, took), ()) = both;
        assert!(matches!(answers[..], [Answer::Cancelled]), "{shown}: {answers:?}");
        assert!(took < Duration::from_secs(5) + A_SECOND, "{shown}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_came_to_be_while_it_was_cancelled_is_taken_back() {
    let bench = Bench::new(FakeNetwork::default());
    bench.worker.answers([WorkerAnswer::SucceedAndHang]);
    let both = tokio::join!(bench.answers("", vec![mount()]), bench.cancelled_soon());
    let ((answers, _), ()) = both;
    assert!(matches!(answers[..], [Answer::Cancelled]), "{answers:?}");
    assert!(bench.sources().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unmount_that_waits_for_the_server_does_not_keep_the_caller() {
    let bench = Bench::new(FakeNetwork::default());
    bench.worker.answers([WorkerAnswer::SucceedAndHang, WorkerAnswer::SucceedAndHang]);
    let both = tokio::join!(bench.answers("", vec![mount()]), bench.cancelled_soon());
    let ((_, took), ()) = both;
    assert!(took < Duration::from_secs(5) + A_SECOND, "{took:?}");
    assert!(bench.sources().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_left_that_gave_no_answer_is_taken_back_before_the_next_step() {
    let gone = || WorkerAnswer::Say(Err(Failure::Worker("gone".to_owned())));
    for answer in [WorkerAnswer::HangAndSucceed, WorkerAnswer::SucceedAndHang, gone()] {
        let bench = Bench::new(FakeNetwork::default());
        bench.worker.answers([answer.clone()]);
        let (answers, _) = bench.answers("", vec![mount()]).await;
        assert!(matches!(answers[..], [Answer::Mounted(Err(_))]), "{answers:?}");
        assert!(bench.sources().is_empty(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_was_there_before_stays() {
    let bench = Bench::new(FakeNetwork::default());
    bench.table.add(nfs_mount("before:/", Path::new(TARGET)));
    bench.table.add(nfs_mount("elsewhere:/", Path::new("/e")));
    bench.worker.answers([WorkerAnswer::HangAndSucceed]);
    bench.answers("", vec![mount()]).await;
    assert_eq!(bench.sources(), ["before:/", "elsewhere:/"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_delays_no_mount_from_another() {
    let (slow, fast) = (Bench::new(FakeNetwork::silent()), Bench::new(FakeNetwork::default()));
    let began = Instant::now();
    let many = async {
        for _ in 0..200 {
            fast.answers("", vec![resolve(), ask_port(), mount()]).await;
        }
        began.elapsed()
    };
    tokio::select! {
        biased;
        _ = slow.answers("", vec![resolve()]) => panic!("the slow one answered"),
        took = many => assert_eq!(took, Duration::ZERO),
    }
}

#[tokio::test(start_paused = true)]
async fn an_option_that_the_kernel_does_not_know_is_refused_before_anything_is_sent() {
    let unknown = || {
        let kernel = vec!["nfs: Unknown parameter 'fatal_neterrors'".to_owned()];
        Some(OptionRefusal { errno: Errno::INVAL.raw_os_error(), kernel })
    };
    let options = "vers=3,nolock,fatal_neterrors=none";
    let bench = Bench::new(FakeNetwork::default());
    let asked = request(options).options.kernel_options(NfsVersion::V3);
    let told = asked.iter().map(|(key, _)| (key == "fatal_neterrors").then(unknown).flatten());
    bench.worker.answers([WorkerAnswer::Say(Ok(Done::Probed(told.collect())))]);
    let fault = bench.mount(options).await.unwrap_err();
    assert_eq!(fault.id(), "nfs.option-refused");
    assert!(fault.to_string().contains("Unknown parameter 'fatal_neterrors'"), "{fault}");
    assert_eq!((bench.worker.jobs().len(), bench.network.asked().len()), (1, 0));
    bench.mount(&format!("sloppy,{options}")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mount_with_the_policy_goes_from_the_name_to_the_table() {
    let bench = Bench::new(FakeNetwork::default());
    let mounted = bench.mount("vers=3,nolock").await.unwrap();
    assert_eq!(mounted.version, NfsVersion::V3);
    assert_eq!(bench.sources(), ["nas.example:/a"]);
    assert_eq!(bench.network.asked()[0], "resolve nas.example None");
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_nobody_waits_for_any_more_is_cancelled() {
    let bench = Bench::new(FakeNetwork::default());
    bench.worker.answers((0..9).map(|_| WorkerAnswer::Succeed));
    let soon = tokio::time::timeout(A_SECOND, bench.mount("vers=4.2"));
    soon.await.unwrap().unwrap();
    let hung = Bench::new(FakeNetwork::default());
    // The kernel's options, the target, then the mount.
    hung.worker.answers([
        WorkerAnswer::Say(Err(Failure::Worker("no probe".to_owned()))),
        WorkerAnswer::Say(Err(Failure::Worker("no probe".to_owned()))),
        WorkerAnswer::Succeed,
        WorkerAnswer::SucceedAndHang,
    ]);
    tokio::time::timeout(A_SECOND, hung.mount("vers=4.2,nocto")).await.unwrap_err();
    assert_eq!(hung.sources(), ["nas.example:/a"], "the mount was under way");
    tokio::time::sleep(A_SECOND).await;
    assert!(hung.sources().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_for_calls_back_is_remarked_on_where_it_is_not_ours() {
    use NfsVersion::V40;
    use NfsVersion::V42;
    for (address, version, remarked) in [
        ([192, 0, 2, 200], V40, false),
        ([203, 0, 113, 1], V40, true),
        ([203, 0, 113, 1], V42, false),
    ] {
        let bench = Bench::new(FakeNetwork::default());
        let note = Note::ClientAddressOfUser(address.into());
        let ended = bench
            .underway("")
            .drive(|_, _| {
                Step::Finish(Box::new(Mounted { version, ..mounted(vec![note.clone()]) }))
            })
            .await;
        assert_eq!(!ended.unwrap().notes.is_empty(), remarked, "{address:?} {version}");
    }
}
