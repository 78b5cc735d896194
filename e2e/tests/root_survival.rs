//! The driver's own processes end, stop and are replaced, at random and at every failure point, while volumes are in
//! use: `e2e::survival` says what must come of it. Each fault prints the longest pause; the lab's processor is
//! emulated, so no test asks for a figure.
//!
//! `make faults` runs the long form. Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::runtime::FailurePoint;
use alinas_csi::runtime::failure_point;
use e2e::csi_client::Access;
use e2e::csi_client::Volume;
use e2e::driver;
use e2e::driver::Driver;
use e2e::driver::Part;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::nas::Front;
use e2e::process::Process;
use e2e::survival::Dice;
use e2e::survival::Field;
use e2e::survival::long_run;
use e2e::survival::scaled;
use e2e::survival::under_steady_io;
use rustix::process::Signal;
use rustix::process::kill_process;

const MINUTE: Duration = Duration::from_secs(60);
/// For one hand-over.
const ATTEMPTS: u32 = 4;
/// For how long everything is frozen.
const FROZEN: Duration = Duration::from_secs(3);

/// What happens to a process.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    Stop,
}

/// Whom it hits.
#[derive(Clone, Copy, Debug)]
enum Victim {
    One(Part),
    All,
}

const VICTIMS: [Victim; 4] =
    [Victim::One(Part::Tunnel), Victim::One(Part::Watchdog), Victim::One(Part::Node), Victim::All];

/// The kubelet's part is played here: it starts again what has ended, and lets go what was stopped.
fn strike(field: &mut Field<'_>, blow: Blow, victim: Victim) -> Result<()> {
    let driver = &mut field.scene.driver;
    match (blow, victim) {
        (Blow::Kill, Victim::One(Part::Tunnel)) => {
            let former = driver.kill_tunnel()?;
            driver.wait_for_another_tunnel(former)
        }
        (Blow::Kill, Victim::One(Part::Watchdog)) => {
            driver.kill_watchdog()?;
            field.works().during("without a watchdog")?;
            field.scene.driver.start_watchdog()
        }
        (Blow::Kill, Victim::One(Part::Node)) => {
            driver.kill_node()?;
            driver.start_node()?;
            field.node_answers()
        }
        (Blow::Kill, Victim::All) => {
            driver.kill_all()?;
            driver.start_all()?;
            field.node_answers()
        }
        (Blow::Stop, Victim::One(Part::Tunnel)) => {
            let former = driver.process(Part::Tunnel)?;
            kill_process(former, Signal::STOP)?;
            driver.wait_for_another_tunnel(former.as_raw_nonzero().get().cast_unsigned())
        }
        (Blow::Stop, Victim::One(part)) => {
            let process = driver.process(part)?;
            kill_process(process, Signal::STOP)?;
            field.works().during("while it is stopped")?;
            kill_process(process, Signal::CONT)?;
            field.scene.driver.tunnels()?;
            field.node_answers()
        }
        (Blow::Stop, Victim::All) => {
            let parts = [Part::Tunnel, Part::Watchdog, Part::Node];
            let processes = parts.map(|part| driver.process(part));
            let processes = processes.into_iter().collect::<Result<Vec<_>>>()?;
            processes.iter().try_for_each(|process| kill_process(*process, Signal::STOP))?;
            thread::sleep(FROZEN);
            processes.iter().try_for_each(|process| kill_process(*process, Signal::CONT))?;
            field.node_answers()
        }
    }
}

#[test]
fn whichever_process_is_killed_or_stopped_the_work_goes_on() -> Result<()> {
    let mut dice = Dice::seeded()?;
    let kinds =
        || [Blow::Kill, Blow::Stop].into_iter().flat_map(|blow| VICTIMS.map(|one| (blow, one)));
    let all = kinds().count();
    under_steady_io(|field| {
        let mut order = Vec::new();
        for number in 1..=long_run().unwrap_or(all) {
            if order.is_empty() {
                order = dice.shuffled(kinds().collect());
            }
            let Some((blow, victim)) = order.pop() else { continue };
            let what = format!("{number}: {blow:?} {victim:?}");
            field.survives(&what, |field| strike(field, blow, victim))?;
        }
        Ok(())
    })
}

#[test]
fn the_tunnel_process_is_replaced_on_request_under_load() -> Result<()> {
    under_steady_io(|field| {
        for number in 1..=scaled(2, 20) {
            field.survives(&format!("hand-over {number}"), |field| {
                let driver = &field.scene.driver;
                let former = driver.process(Part::Tunnel)?;
                let watchdog = driver.process(Part::Watchdog)?;
                // One that the emulated processor does not get to serve in time is given up, and the former stays.
                let handed_over = (0..ATTEMPTS).any(|_| {
                    kill_process(watchdog, Signal::HUP).is_ok()
                        && driver
                            .wait_for_another_tunnel(former.as_raw_nonzero().get().cast_unsigned())
                            .is_ok()
                });
                ensure(handed_over, "no next process has come to serve")
            })?;
        }
        ensure(field.scene.driver.tunnels()?.restarts == 0, "a hand-over counts as a restart")
    })
}

#[test]
fn a_second_watchdog_is_refused_and_one_with_a_directory_of_its_own_takes_other_addresses()
-> Result<()> {
    under_steady_io(|field| {
        field.survives("a second watchdog", |field| {
            let driver = &field.scene.driver;
            let log = driver.state_dir().join("second.log");
            let mut command = Command::new(driver::binary()?);
            command.arg("watchdog").arg("--state-dir").arg(driver.state_dir());
            let ended = Process::start("second watchdog", &mut command, &log)?.wait_for_end(MINUTE);
            let said = fs::read_to_string(&log)?;
            fs::remove_file(&log)?;
            ensure(ended.is_err() && said.contains("watchdog.lock"), format!("it says {said:?}"))
        })?;
        field.survives("another install", |field| {
            let other = Driver::start(field.scene.nas.ca_file())?;
            let volume = Volume::new(&other.kubelet_dir(), "other", Front::Good.domain(), "3");
            let client = other.client()?;
            client.stage(&volume)?;
            let address = other.address_of(Front::Good.domain())?;
            let taken = field.scene.driver.address_of(Front::Good.domain())?;
            fs::read_dir(&volume.staging)?.count();
            client.unstage(&volume)?;
            ensure(address != taken, format!("both have {taken}"))
        })
    })
}

#[test]
fn many_volumes_outlive_the_end_of_all_processes() -> Result<()> {
    under_steady_io(|field| {
        let many = scaled(12, 300);
        let volumes: Vec<_> = (0..many)
            .map(|number| {
                let folder = format!("many/{number}");
                fs::create_dir_all(field.scene.nas.disk().join(&folder))?;
                let front = if number % 2 == 0 { Front::Good } else { Front::Second };
                let version = if number % 3 == 0 { "4.0" } else { "3" };
                let volume = field.scene.volume(&format!("many-{number}"), front.domain(), version);
                Ok(volume.with("path", &format!("/{folder}")))
            })
            .collect::<Result<_>>()?;
        timed(&format!("staging {many} volumes"), || {
            in_parallel(&volumes, field, |client, volume| Ok(client.stage(volume)?))
        })?;
        field.survives(&format!("{many} mounts, and all killed"), |field| {
            field.scene.driver.kill_all()?;
            field.scene.driver.start_all()
        })?;
        timed(&format!("writing to {many} volumes"), || {
            volumes
                .iter()
                .try_for_each(|volume| Ok(fs::write(volume.staging.join("written"), &volume.id)?))
        })?;
        timed(&format!("unstaging {many} volumes"), || {
            in_parallel(&volumes, field, |client, volume| Ok(client.unstage(volume)?))
        })?;
        for (number, volume) in volumes.iter().enumerate() {
            let file = field.scene.nas.disk().join(format!("many/{number}/written"));
            ensure(fs::read_to_string(&file)? == volume.id, format!("{}", file.display()))?;
        }
        Ok(())
    })
}

/// Prints how long something took: under emulation that is for people alone.
fn timed(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    work()?;
    println!("{what} took {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Calls of the kubelet for many volumes, some at once.
fn in_parallel(
    volumes: &[Volume],
    field: &Field<'_>,
    call: impl Fn(&e2e::csi_client::CsiClient, &Volume) -> Result<()> + Sync,
) -> Result<()> {
    const AT_ONCE: usize = 4;
    let clients = (0..AT_ONCE).map(|_| field.scene.driver.client()).collect::<Result<Vec<_>>>()?;
    let call = &call;
    thread::scope(|scope| {
        let callers: Vec<_> = (0..AT_ONCE)
            .zip(&clients)
            .map(|(first, client)| {
                scope.spawn(move || {
                    let mut mine = volumes.iter().skip(first).step_by(AT_ONCE);
                    mine.try_for_each(|volume| call(client, volume).during(&volume.id))
                })
            })
            .collect();
        callers.into_iter().try_for_each(|caller| {
            caller.join().unwrap_or_else(|_| Err(Failure::new("a caller panicked")))
        })
    })
}

/// What the kubelet asks of a volume, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Stage,
    Publish,
    Unpublish,
    Unstage,
}

/// Which volume comes to a point, and by which call.
fn way_to(point: FailurePoint) -> Option<(Kind, Call)> {
    use FailurePoint as At;
    Some(match point {
        At::StageAcquired | At::StageMounted | At::WorkerPlaced => (Kind::Encrypted, Call::Stage),
        At::StageUndone => (Kind::Denied, Call::Stage),
        At::StageRemembered => (Kind::Plain, Call::Stage),
        At::PublishDirectory | At::PublishBound | At::WorkerBound => {
            (Kind::Encrypted, Call::Publish)
        }
        At::UnpublishUnmounted | At::UnpublishRemoved => (Kind::Encrypted, Call::Unpublish),
        At::UnstageUnmounted | At::UnstageReleased => (Kind::Encrypted, Call::Unstage),
        At::UnstageForgotten => (Kind::Plain, Call::Unstage),
        _ => return None,
    })
}

/// A volume that comes to a failure point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Encrypted,
    Plain,
    /// The server refuses to have it mounted.
    Denied,
}

impl Kind {
    fn volume(self, field: &Field<'_>, point: FailurePoint) -> Volume {
        let version = if (point as usize).is_multiple_of(2) { "3" } else { "4.0" };
        let volume =
            |front: Front, version| field.scene.volume(point.word(), front.domain(), version);
        match self {
            Self::Encrypted => volume(Front::Second, version),
            Self::Denied => volume(Front::Denied, "3"),
            Self::Plain => {
                let volume = volume(Front::Plain, "3").with("mountProtocol", "nfs");
                ["port=2049", "mountport=2049", "nolock"]
                    .into_iter()
                    .fold(volume, Volume::with_option)
            }
        }
    }
}

/// The life of a volume, one call of which ends the process at a point and is made again.
struct Life {
    volume: Volume,
    target: PathBuf,
    kind: Kind,
    point: FailurePoint,
    fatal: Call,
}

impl Life {
    fn lead(&self, field: &mut Field<'_>) -> Result<()> {
        for call in [Call::Stage, Call::Publish, Call::Unpublish, Call::Unstage] {
            let refused = self.kind == Kind::Denied;
            if refused && matches!(call, Call::Publish | Call::Unpublish) {
                continue;
            }
            if call == self.fatal {
                self.die(field, call).during(format!("{call:?}"))?;
            }
            let answer = self.make(field, call);
            let wanted = answer.is_ok() != (refused && call == Call::Stage);
            ensure(wanted, format!("{call:?} is answered {answer:?}"))?;
        }
        let left = lab::mounts_below(&self.volume.staging)?;
        ensure(left.is_empty(), format!("left behind: {left:?}"))
    }

    fn die(&self, field: &mut Field<'_>, call: Call) -> Result<()> {
        field.scene.driver.kill_node()?;
        field.scene.driver.start_node_that_fails(Some(self.point))?;
        let answer = self.make(field, call);
        ensure(answer.is_err(), "it never came to the point")?;
        if matches!(self.point, FailurePoint::WorkerPlaced | FailurePoint::WorkerBound) {
            // The worker has ended, and the node plugin has undone what it left.
            field.scene.driver.kill_node()?;
        } else {
            field.scene.driver.wait_for_end_of(Part::Node)?;
        }
        field.scene.driver.start_node()
    }

    fn make(&self, field: &Field<'_>, call: Call) -> Result<(), tonic::Status> {
        // Read-only, because that takes one step more.
        let (client, access) = (&field.scene.client, Access::ReadOnly);
        match call {
            Call::Stage => client.stage(&self.volume),
            Call::Publish => client.publish(&self.volume, &self.target, access),
            Call::Unpublish => client.unpublish(&self.volume, &self.target),
            Call::Unstage => client.unstage(&self.volume),
        }
    }
}

#[test]
fn a_node_plugin_that_ends_at_any_step_leaves_nothing_and_the_call_may_be_repeated() -> Result<()> {
    under_steady_io(|field| {
        for point in FailurePoint::of(failure_point::Part::Node) {
            let way = way_to(point);
            let (kind, fatal) =
                way.ok_or_else(|| Failure::new(format!("nothing leads to {point}")))?;
            let volume = kind.volume(field, point);
            let target = field.scene.target(point.word());
            let life = Life { volume, target, kind, point, fatal };
            field.survives(point.word(), |field| life.lead(field))?;
        }
        Ok(())
    })
}
