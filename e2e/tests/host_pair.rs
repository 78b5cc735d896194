//! Two live controllers with the same settings, of which neither knows of the other, are asked the same at the same
//! time: as while a Deployment is rolled out whose sidecars do not elect a leader, or elect two for a moment.
//!
//! Needs root for the server, but no NFS in the kernel: it runs on the machine itself.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::proto::csi;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::listing;
use e2e::listing::names;
use e2e::listing::plant;
use e2e::sidecar::SWEPT;
use e2e::sidecar::Sidecar;
use e2e::sidecar::copy_of;
use e2e::sidecar::nothing_is_left;
use e2e::sidecar::wanted;
use tonic::Code;
use tonic::Status;

/// They meet at another step each time.
const ROUNDS: usize = 25;
/// A copy that both begin takes some attempts.
const COPIES: usize = 8;
/// For one of the two to get its answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before it asks again, and twice as long each time; a sidecar begins with a second.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

struct Pair {
    both: [Sidecar; 2],
    nas: Ganesha,
}

impl Pair {
    fn start() -> Result<Self> {
        let nas = Ganesha::start()?;
        let both = [Sidecar::start(&nas, "first")?, Sidecar::start(&nas, "second")?];
        Ok(Self { both, nas })
    }

    /// Each is asked by a sidecar of its own, at the same moment.
    fn ask<T: Send>(
        &self,
        ask: impl Fn(usize, &Sidecar) -> Result<T, Status> + Sync,
    ) -> [Answer<T>; 2] {
        let barrier = Barrier::new(self.both.len());
        let call = |number: usize| {
            barrier.wait();
            let pause = if number == 0 { FIRST_PAUSE } else { 2 * FIRST_PAUSE };
            until_answered(pause, || ask(number, &self.both[number]))
        };
        thread::scope(|scope| {
            let second = scope.spawn(|| call(1));
            let first = call(0);
            [first, second.join().unwrap_or_else(|_| Err(Status::internal("it panicked")))]
        })
    }

    /// What both have answered.
    fn same<T: Send + PartialEq + std::fmt::Debug>(
        &self,
        ask: impl Fn(&Sidecar) -> Result<T, Status> + Sync,
    ) -> Result<T> {
        match self.ask(|_, sidecar| ask(sidecar)) {
            [Ok(first), Ok(second)] if first == second => Ok(first),
            answers => {
                let logs = self.both.each_ref().map(Sidecar::log).join("\n");
                Err(Failure::new(format!("{answers:?}\n{logs}")))
            }
        }
    }

    fn nothing_is_left(&self) -> Result<()> {
        self.both[0].wait_for_empty_trash(&self.nas, SWEPT)?;
        nothing_is_left(&self.nas.disk())
    }
}

type Answer<T> = Result<T, Status>;

/// As the external-provisioner does: after any other code than these it may forget what it has asked for.
fn until_answered<T>(mut pause: Duration, ask: impl Fn() -> Answer<T>) -> Answer<T> {
    let start = Instant::now();
    loop {
        match ask() {
            Err(status) if is_under_way(status.code()) && start.elapsed() < PATIENCE => {
                println!("{:?}: {}", status.code(), status.message());
                thread::sleep(pause);
                pause = LONGEST_PAUSE.min(2 * pause);
            }
            answer => return answer,
        }
    }
}

fn is_under_way(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
    )
}

fn deletable(name: &str) -> csi::CreateVolumeRequest {
    wanted(name, &[("onDelete", "delete"), ("dirMode", "0750"), ("uid", "1000")])
}

#[test]
fn two_controllers_that_make_one_volume_make_it_once_and_delete_it_once() -> Result<()> {
    let pair = Pair::start()?;
    let disk = pair.nas.disk();
    for round in 0..ROUNDS {
        let name = format!("pvc-{round}");
        let volume = pair.same(|sidecar| sidecar.create(deletable(&name))).during("to create")?;
        plant(&disk.join(&name))?;
        let again = pair.same(|sidecar| sidecar.create(deletable(&name))).during("again")?;
        ensure(again == volume, format!("{again:?} is not {volume:?}"))?;
        pair.same(|sidecar| sidecar.delete(&volume.volume_id)).during("to delete")?;
        ensure(!disk.join(&name).exists(), format!("{name} is still there"))?;
    }
    pair.nothing_is_left()
}

#[test]
fn of_two_volumes_that_are_to_have_one_directory_one_is_made() -> Result<()> {
    let pair = Pair::start()?;
    for round in 0..ROUNDS {
        let directory = format!("directory-{round}");
        let class = [("onDelete", "delete"), ("nameTemplate", directory.as_str())];
        let answers = pair.ask(|number, sidecar| {
            sidecar.create(wanted(&format!("claim-{round}-{}", "x".repeat(7 * number)), &class))
        });
        let made = match &answers {
            [Ok(made), Err(refused)] | [Err(refused), Ok(made)]
                if refused.code() == Code::AlreadyExists =>
            {
                ensure(refused.message().contains("nameTemplate"), refused.message())?;
                made
            }
            _ => return Err(Failure::new(format!("round {round}: {answers:?}"))),
        };
        pair.same(|sidecar| sidecar.delete(&made.volume_id))?;
    }
    pair.nothing_is_left()
}

#[test]
fn a_copy_that_two_controllers_make_at_once_is_one_and_whole() -> Result<()> {
    let pair = Pair::start()?;
    let disk = pair.nas.disk();
    let source = pair.both[0].made(deletable("source"))?;
    plant(&disk.join("source"))?;
    for number in 0..100 {
        std::fs::write(disk.join("source/a").join(number.to_string()), "x")?;
    }
    let content = listing::of(&disk.join("source"))?;
    let is_whole = |copy: &str| {
        let held = listing::of(&disk.join(copy))?;
        let differs = held.iter().zip(&content).find(|(held, wanted)| held != wanted);
        ensure(held == content, format!("{copy}, {} entries: {differs:#?}", held.len()))
    };
    for round in 0..COPIES {
        let name = format!("clone-{round}");
        let request = || copy_of(&source.volume_id, deletable(&name));
        let clone = pair.same(|sidecar| sidecar.create(request())).during("to clone")?;
        is_whole(&name)?;
        let name = format!("snapshot-{round}");
        let snapshot = pair.same(|sidecar| ready(sidecar, &name, &source.volume_id));
        let snapshot = snapshot.during("to take a snapshot")?;
        is_whole(&format!(".alinas-csi/snapshots/{name}/data"))?;
        pair.same(|sidecar| sidecar.delete_snapshot(&snapshot)).during("to delete it")?;
        pair.same(|sidecar| sidecar.delete(&clone.volume_id)).during("to delete the clone")?;
        is_whole("source")?;
    }
    pair.both[1].delete(&source.volume_id)?;
    pair.nothing_is_left()
}

/// The id of a snapshot that can be used. One that cannot yet is asked for again.
fn ready(sidecar: &Sidecar, name: &str, volume: &str) -> Answer<String> {
    let snapshot = sidecar.snapshot(name, volume)?;
    match snapshot.ready_to_use {
        true => Ok(snapshot.snapshot_id),
        false => Err(Status::aborted("it is being copied")),
    }
}

#[test]
fn data_that_two_controllers_archive_are_archived_once() -> Result<()> {
    let pair = Pair::start()?;
    let disk = pair.nas.disk();
    for round in 0..ROUNDS {
        let name = format!("pvc-{round}");
        let volume = pair.both[round % 2].made(wanted(&name, &[("onDelete", "archive")]))?;
        plant(&disk.join(&name))?;
        let content = listing::of(&disk.join(&name))?;
        pair.same(|sidecar| sidecar.delete(&volume.volume_id))?;
        let shown = names(&disk)?;
        let kept: Vec<_> = shown.iter().filter(|one| !one.starts_with(".alinas-csi")).collect();
        let [kept] = kept[..] else { return Err(Failure::new(format!("{shown:?}"))) };
        ensure(kept.starts_with(&format!("archived-{name}.")), kept.as_str())?;
        ensure(listing::of(&disk.join(kept))? == content, "what is kept has changed")?;
        std::fs::remove_dir_all(disk.join(kept))?;
    }
    pair.nothing_is_left()
}
