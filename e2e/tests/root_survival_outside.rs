//! What is around the driver fails while volumes are in use: the server, the network, names, the state directory, the
//! clock. `e2e::survival` says what must come of it. Each fault prints the longest pause; the lab's processor is
//! emulated, so no test asks for a figure.
//!
//! `make faults` runs the long form. Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;

use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::nas::Front;
use e2e::process::run;
use e2e::process::wait_until;
use e2e::survival::Field;
use e2e::survival::scaled;
use e2e::survival::under_steady_io;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_server_that_restarts_is_found_again_with_every_open_file() -> Result<()> {
    under_steady_io(|field| {
        field.survives("TLS restarted", |field| field.scene.nas.restart_terminator())?;
        field.survives("server restarted", |field| field.scene.nas.restart_server())
    })
}

#[test]
fn a_server_that_says_nothing_for_a_minute_only_delays() -> Result<()> {
    let silence = scaled(Duration::from_secs(25), MINUTE);
    under_steady_io(|field| {
        field.survives(&format!("{} s of silence", silence.as_secs()), |field| {
            field.scene.nas.fall_silent()?;
            thread::sleep(silence);
            field.scene.nas.speak_again()
        })
    })
}

#[test]
fn connections_whose_other_side_is_gone_untold_are_given_up() -> Result<()> {
    under_steady_io(|field| {
        field.survives("half-open connections", |field| {
            field.scene.nas.end_untold()?;
            field.works().during("while nobody is told")?;
            field.scene.nas.tell_again()
        })
    })
}

#[test]
fn a_storm_of_resets_is_ridden_out() -> Result<()> {
    under_steady_io(|field| {
        let gusts = scaled(5, 30);
        field.survives(&format!("{gusts} resets of everything"), |field| {
            for gust in 1..=gusts {
                field.scene.nas.reset_for(Duration::from_millis(100 * (gust % 7)))?;
                thread::sleep(Duration::from_millis(70 * (gust % 11)));
            }
            Ok(())
        })
    })
}

#[test]
fn a_name_that_moves_is_followed_to_its_new_address() -> Result<()> {
    under_steady_io(|field| {
        field.survives("the name has moved", |field| {
            field.scene.nas.move_away()?;
            field.works()
        })
    })
}

/// Runs faults while the state directory is a small file system of its own.
fn on_a_disk_of_its_own(
    field: &mut Field<'_>,
    faults: impl FnOnce(&mut Field<'_>, &Path) -> Result<()>,
) -> Result<()> {
    let state = field.scene.driver.state_dir();
    let kept = state.with_extension("kept");
    let copy = |from: &Path, to: &Path| -> Result<()> {
        // The records, and nothing that belongs to a process.
        let (from, to) = (from.join("tunnels/."), to.join("tunnels"));
        fs::create_dir_all(&to)?;
        run(MINUTE, "cp", &["-a", &text(&from), &text(&to)]).map(drop)
    };
    field.survives("the state directory is another file system", |field| {
        field.scene.driver.kill_all()?;
        copy(&state, &kept)?;
        run(MINUTE, "mount", &["-t", "tmpfs", "-o", "size=64k", "small", &text(&state)])?;
        copy(&kept, &state)?;
        field.scene.driver.start_all()
    })?;
    faults(field, &state)?;
    field.survives("the state directory is the first again", |field| {
        field.scene.driver.kill_all()?;
        copy(&state, &kept)?;
        run(MINUTE, "umount", &[&text(&state)])?;
        fs::remove_dir_all(state.join("tunnels"))?;
        copy(&kept, &state)?;
        field.scene.driver.start_all()
    })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// That no further volume is staged, and the words that it is refused with.
fn is_refused(field: &Field<'_>, words: &str) -> Result<()> {
    let volume = field.scene.volume("further", Front::Good.domain(), "3");
    let refused = field.scene.client.stage(&volume);
    let told = refused.as_ref().is_err_and(|status| status.message().contains(words));
    ensure(told, format!("no {words:?} in {refused:?}"))
}

/// That one is, and goes again.
fn is_possible(field: &Field<'_>) -> Result<()> {
    let volume = field.scene.volume("further", Front::Good.domain(), "3");
    field.scene.client.stage(&volume)?;
    Ok(field.scene.client.unstage(&volume)?)
}

#[test]
fn a_state_directory_that_is_full_or_read_only_ends_no_mount() -> Result<()> {
    under_steady_io(|field| {
        on_a_disk_of_its_own(field, |field, state| {
            let filler = state.join("filler");
            // It ends by an error: that is what it is for.
            let _full = fs::write(&filler, vec![1; 1 << 20]);
            field.survives("full, tunnel killed", |field| {
                is_refused(field, "failed to write the tunnel record")?;
                let former = field.scene.driver.kill_tunnel()?;
                field.scene.driver.wait_for_another_tunnel(former)
            })?;
            field.survives("full, watchdog killed", |field| {
                field.scene.driver.kill_watchdog()?;
                field.scene.driver.start_watchdog()
            })?;
            fs::remove_file(&filler)?;
            is_possible(field).during("once there is room again")?;

            // Not the file system itself, which cannot be made read-only while the watchdog holds its lock.
            field.survives("read-only, tunnel killed", |field| {
                run(MINUTE, "mount", &["--bind", &text(state), &text(state)])?;
                run(MINUTE, "mount", &["-o", "remount,bind,ro", &text(state)])?;
                is_refused(field, "failed to write the tunnel record")?;
                let former = field.scene.driver.kill_tunnel()?;
                field.scene.driver.wait_for_another_tunnel(former)
            })?;
            field.survives("read-only, tunnel killed again", |field| {
                let former = field.scene.driver.kill_tunnel()?;
                field.scene.driver.wait_for_another_tunnel(former)
            })?;
            run(MINUTE, "umount", &[&text(state)])?;
            wait_until("the tunnel process has its socket", MINUTE, || {
                UnixStream::connect(state.join("tunnel.sock")).is_ok()
            })?;
            is_possible(field).during("once it is writable again")
        })
    })
}

/// The clock of this machine, for as long as a test lasts.
struct Clock;

impl Clock {
    fn jump(seconds: i64) -> Result<()> {
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs().cast_signed();
        run(MINUTE, "date", &["--set", &format!("@{}", now + seconds)]).map(drop)
    }
}

#[test]
fn a_clock_that_jumps_moves_nothing_else() -> Result<()> {
    let guest = std::env::var("ALINAS_CSI_LAB").is_ok_and(|place| place == "guest");
    ensure(guest, "this sets the clock of the machine: run it by e2e/lab/guest")?;
    const HOUR: i64 = 3600;
    under_steady_io(|field| {
        // The certificates hold from yesterday until the day after tomorrow.
        for (what, seconds) in [
            ("an hour ahead", HOUR),
            ("back again", -HOUR),
            ("an hour back", -HOUR),
            ("ahead again", HOUR),
            ("a day ahead", 24 * HOUR),
            ("back again", -24 * HOUR),
            ("a day back", -24 * HOUR),
        ] {
            field.survives(what, |field| {
                Clock::jump(seconds)?;
                field.works()
            })?;
        }
        field.survives("a day and an hour ahead, tunnel killed", |field| {
            Clock::jump(25 * HOUR)?;
            let former = field.scene.driver.kill_tunnel()?;
            field.scene.driver.wait_for_another_tunnel(former)
        })?;
        Clock::jump(-HOUR)
            .map_err(|failure| Failure::new(format!("the clock stays wrong: {failure}")))
    })
}
