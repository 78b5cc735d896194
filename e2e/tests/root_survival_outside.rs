//! What is around the driver fails while volumes are in use: the server, the network, names, the state directory, the
//! clock. `e2e::survival` says what must come of it. Each fault prints the longest pause; the lab's processor is
//! emulated, so no test asks for a figure.
//!
//! `make faults` runs the long form. Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;

use e2e::driver::Driver;
use e2e::driver::Part;
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
use rustix::process::Signal;
use rustix::process::kill_process;

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
        end_all(&mut field.scene.driver)?;
        copy(&state, &kept)?;
        run(MINUTE, "mount", &["-t", "tmpfs", "-o", "size=64k", "small", &text(&state)])?;
        copy(&kept, &state)?;
        start_all(&mut field.scene.driver)
    })?;
    faults(field, &state)?;
    field.survives("the state directory is the first again", |field| {
        end_all(&mut field.scene.driver)?;
        copy(&state, &kept)?;
        run(MINUTE, "umount", &[&text(&state)])?;
        fs::remove_dir_all(state.join("tunnels"))?;
        copy(&kept, &state)?;
        start_all(&mut field.scene.driver)
    })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The watchdog first: else it would start another tunnel process.
fn end_all(driver: &mut Driver) -> Result<()> {
    let tunnel = driver.process(Part::Tunnel)?;
    driver.kill_watchdog()?;
    kill_process(tunnel, Signal::KILL)?;
    driver.kill_node()
}

fn start_all(driver: &mut Driver) -> Result<()> {
    driver.start_watchdog()?;
    driver.start_node()
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

            // The whole file system cannot be made read-only while the watchdog holds its lock.
            let records = text(&state.join("tunnels"));
            field.survives("records read-only, tunnel killed", |field| {
                run(MINUTE, "mount", &["--bind", &records, &records])?;
                run(MINUTE, "mount", &["-o", "remount,bind,ro", &records])?;
                is_refused(field, "failed to write the tunnel record")?;
                let former = field.scene.driver.kill_tunnel()?;
                field.scene.driver.wait_for_another_tunnel(former)
            })?;
            run(MINUTE, "umount", &[&records])?;
            is_possible(field).during("once it is writable again")
        })
    })
}

#[test]
fn damaged_records_and_those_of_other_versions_harm_no_other_mount() -> Result<()> {
    under_steady_io(|field| {
        let records = field.scene.driver.state_dir().join("tunnels");
        let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("records");
        let alien = [
            ("127.0.9.1.json", "{\"version\": 1, \"addr"),
            ("127.0.9.2.json", "{\"version\": 99}"),
        ];
        field.survives("damaged, later and older records", |field| {
            field.scene.driver.kill_watchdog()?;
            for (name, content) in alien {
                fs::write(records.join(name), content)?;
            }
            for old in ["v1/127.0.255.254.json", "v2/127.0.1.3.json", "v3/127.0.1.4.json"] {
                let (from, name) = (released.join(old), PathBuf::from(old));
                fs::copy(from, records.join(name.file_name().unwrap_or_default()))?;
            }
            as_the_first_release_wrote_it(&records.join("127.0.1.1.json"))?;
            field.scene.driver.start_watchdog()?;
            is_possible(field)
        })?;
        // Nobody uses the old ones, so they go; what cannot be read stays until somebody has looked.
        wait_until("the records that nobody uses are gone", MINUTE, || {
            fs::read_dir(&records).is_ok_and(|left| left.count() == 2 + alien.len())
        })?;
        alien.iter().try_for_each(|(name, content)| {
            let kept = fs::read_to_string(records.join(name))?;
            fs::remove_file(records.join(name))?;
            ensure(kept == *content, format!("{name} has been changed"))
        })
    })
}

/// Version 1: 2049 stands for a port that was not said, and there is no policy but the strict one.
fn as_the_first_release_wrote_it(record: &Path) -> Result<()> {
    let mut fields: serde_json::Map<_, _> = serde_json::from_slice(&fs::read(record)?)?;
    fields.insert("version".to_owned(), 1.into());
    fields.insert("remote_port".to_owned(), 2049.into());
    fields.remove("policy");
    fs::write(record, serde_json::to_vec(&fields)?)?;
    Ok(())
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
