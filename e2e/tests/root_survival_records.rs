//! Records that are lost, damaged or of another release, and mounts whose creator died half way and never came back,
//! while volumes are in use. `e2e::survival` says what must come of it. Each fault prints the longest pause.
//!
//! `make faults` runs the long form. Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use alinas_csi::runtime::FailurePoint;
use e2e::csi_client::Volume;
use e2e::driver::Part;
use e2e::failure::During;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::nas::Front;
use e2e::process::wait_until;
use e2e::survival::Field;
use e2e::survival::under_steady_io;

const MINUTE: Duration = Duration::from_secs(60);

/// That a further volume is staged, and goes again.
fn is_possible(field: &Field<'_>) -> Result<()> {
    let volume = field.scene.volume("further", Front::Good.domain(), "3");
    field.scene.client.stage(&volume)?;
    Ok(field.scene.client.unstage(&volume)?)
}

fn records(field: &Field<'_>) -> Result<Vec<PathBuf>> {
    let folder = field.scene.driver.state_dir().join("tunnels");
    Ok(fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

/// Has all processes end, something happen to the records meanwhile, and the processes come back.
fn while_all_are_dead(
    field: &mut Field<'_>,
    happens: impl Fn(&Path) -> std::io::Result<()>,
) -> Result<()> {
    field.scene.driver.kill_all()?;
    for record in records(field)? {
        happens(&record)?;
    }
    field.scene.driver.start_all()
}

#[test]
fn mounts_whose_records_are_lost_or_damaged_go_on() -> Result<()> {
    under_steady_io(|field| {
        field.survives("records lost, all killed", |field| {
            while_all_are_dead(field, |record| fs::remove_file(record))
        })?;
        field.survives("records damaged, all killed", |field| {
            while_all_are_dead(field, |record| {
                let whole = fs::read(record)?;
                fs::write(record, &whole[..whole.len() / 2])
            })
        })?;
        is_possible(field)?;
        let damaged: Vec<_> = records(field)?
            .into_iter()
            .filter(|record| record.extension().is_some_and(|extension| extension == "damaged"))
            .collect();
        ensure(damaged.len() == 2, format!("{damaged:?} are kept"))?;
        Ok(damaged.iter().try_for_each(fs::remove_file)?)
    })
}

/// A volume whose staging was begun by a node plugin that has died at a point of it.
fn half_staged(field: &mut Field<'_>, point: FailurePoint, name: &str) -> Result<Volume> {
    let volume = field.scene.volume(name, Front::Second.domain(), "3");
    field.scene.driver.kill_node()?;
    field.scene.driver.start_node_that_fails(Some(point))?;
    let answer = field.scene.client.stage(&volume);
    ensure(answer.is_err(), "it never came to the point")?;
    field.scene.driver.wait_for_end_of(Part::Node)?;
    Ok(volume)
}

#[test]
fn what_a_creator_that_died_has_mounted_is_served_by_whoever_comes_next() -> Result<()> {
    use FailurePoint as At;
    under_steady_io(|field| {
        for (point, keeps_record) in
            [(At::StageAcquired, true), (At::StageMounted, true), (At::StageMounted, false)]
        {
            let name = format!("{}-{keeps_record}", point.word());
            field.survives(&name.clone(), |field| {
                let volume = half_staged(field, point, &name)?;
                let address = field.scene.driver.address_of(Front::Second.domain())?;
                while_all_are_dead(field, |record| match keeps_record {
                    false if record.ends_with(format!("{address}.json")) => fs::remove_file(record),
                    _ => Ok(()),
                })?;
                let mounted = !lab::mounts_below(&volume.staging)?.is_empty();
                ensure(mounted == (point == At::StageMounted), format!("mounted: {mounted}"))?;
                if mounted {
                    fs::write(volume.staging.join(&name), &name).during("it does not answer")?;
                    let arrived = fs::read_to_string(field.scene.nas.disk().join(&name))?;
                    ensure(arrived == name, format!("{arrived:?} has arrived"))?;
                }
                field.scene.client.unstage(&volume)?;
                let left = lab::mounts_below(&volume.staging)?;
                ensure(left.is_empty(), format!("left behind: {left:?}"))
            })?;
        }
        Ok(())
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
