//! The controller ends at every one of its failure points, as by a crash, and is followed by another one: what was
//! asked for is there when it is asked for again, and in the end nothing is left of it that nobody wants, neither
//! directory nor record, neither in the trash nor half copied, and nothing is lost.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use alinas_csi::proto::csi;
use alinas_csi::runtime::FailurePoint;
use alinas_csi::runtime::failure_point::Part;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::listing;
use e2e::listing::names;
use e2e::listing::plant;
use e2e::sidecar::GIB;
use e2e::sidecar::SWEPT;
use e2e::sidecar::Sidecar;
use e2e::sidecar::copy_of;
use e2e::sidecar::nothing_is_left;
use e2e::sidecar::wanted;

const MINUTE: Duration = Duration::from_secs(60);

/// What the controller is asked for when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create,
    Delete,
    Archive,
    Expand,
    Modify,
    Clone,
    Snapshot,
    DeleteSnapshot,
}

/// What leads to a point.
fn asked(point: FailurePoint) -> &'static [Asked] {
    use FailurePoint as At;
    match point {
        At::RecordBegun => &[Asked::Create, Asked::Expand, Asked::Snapshot],
        At::RecordAside | At::RecordReplaced => &[Asked::Expand, Asked::Modify],
        At::CreateRecorded | At::CreateOwned => &[Asked::Create, Asked::Clone],
        At::CreateMade => &[Asked::Create],
        At::DeleteMoved | At::DeleteForgotten => &[Asked::Delete, Asked::Archive],
        At::SweepLifted | At::SweepRemoved => &[Asked::Delete],
        At::CopyBegun
        | At::CopyDirectory
        | At::CopyPart
        | At::CopyKept
        | At::CopyPlaced
        | At::CopyWhole
        | At::CopyShown => &[Asked::Clone, Asked::Snapshot],
        At::SnapshotMade | At::SnapshotRecorded => &[Asked::Snapshot],
        At::SnapshotMoved => &[Asked::DeleteSnapshot],
        _ => &[],
    }
}

/// Sweeping is what is left to do after an answer.
fn is_before_the_answer(point: FailurePoint) -> bool {
    !matches!(point, FailurePoint::SweepLifted | FailurePoint::SweepRemoved)
}

/// One volume, the subject of what is asked.
struct Subject<'a> {
    nas: &'a Ganesha,
    asked: Asked,
    name: String,
    /// The volume that there is before; empty where it is to be made.
    volume: String,
    /// The snapshot that there is before.
    snapshot: String,
    /// What is in the volume.
    content: Vec<String>,
}

impl<'a> Subject<'a> {
    fn prepare(nas: &'a Ganesha, calm: &Sidecar, asked: Asked, name: String) -> Result<Self> {
        let (volume, snapshot, content) = (String::new(), String::new(), Vec::new());
        let mut subject = Self { nas, asked, name, volume, snapshot, content };
        if asked == Asked::Create {
            return Ok(subject);
        }
        subject.volume = calm.create(subject.request())?.volume_id;
        plant(&subject.directory())?;
        subject.content = listing::of(&subject.directory())?;
        if asked == Asked::DeleteSnapshot {
            let made = calm.snapshot_patiently(&subject.snapshot_name(), &subject.volume)?;
            subject.snapshot = made.snapshot_id;
        }
        Ok(subject)
    }

    fn request(&self) -> csi::CreateVolumeRequest {
        let on_delete = if self.asked == Asked::Archive { "archive" } else { "delete" };
        let parameters =
            [("dirMode", "0750"), ("uid", "1000"), ("gid", "2000"), ("onDelete", on_delete)];
        wanted(&self.name, &parameters)
    }

    fn directory(&self) -> PathBuf {
        self.nas.disk().join(&self.name)
    }

    fn copy_name(&self) -> String {
        format!("{}-copy", self.name)
    }

    fn snapshot_name(&self) -> String {
        format!("{}-snapshot", self.name)
    }

    fn copy_request(&self) -> csi::CreateVolumeRequest {
        copy_of(&self.volume, wanted(&self.copy_name(), &[("onDelete", "delete")]))
    }

    /// Asks, and answers with the id of what there is now.
    fn ask(&self, controller: &Sidecar) -> Result<String> {
        Ok(match self.asked {
            Asked::Create => controller.create(self.request())?.volume_id,
            Asked::Delete | Asked::Archive => {
                controller.delete(&self.volume)?;
                String::new()
            }
            Asked::Expand => {
                let size = controller.expand(&self.volume, 2 * GIB)?;
                ensure(size == 2 * GIB, format!("it has {size} bytes"))?;
                self.volume.clone()
            }
            Asked::Modify => {
                controller.modify(&self.volume, "onDelete", "retain")?;
                self.volume.clone()
            }
            Asked::Clone => controller.create_patiently(&self.copy_request())?.volume_id,
            Asked::Snapshot => {
                controller.snapshot_patiently(&self.snapshot_name(), &self.volume)?.snapshot_id
            }
            Asked::DeleteSnapshot => {
                controller.delete_snapshot(&self.snapshot)?;
                String::new()
            }
        })
    }

    /// A copy is seen whole or not at all.
    fn shows_nothing_half_done(&self) -> Result<()> {
        let disk = self.nas.disk();
        let snapshot = disk.join(".alinas-csi/snapshots").join(self.snapshot_name()).join("data");
        for copy in [disk.join(self.copy_name()), snapshot] {
            if copy.exists() {
                self.is_copy(&copy)?;
            }
        }
        Ok(())
    }

    fn is_copy(&self, copy: &Path) -> Result<()> {
        let found = listing::of(copy)?;
        let differs = || format!("{found:#?} instead of {:#?}", self.content);
        ensure(found == self.content, differs())
    }

    /// What was asked for is as it is to be; then everything goes.
    fn check_and_clean(&self, controller: &Sidecar, made: &str) -> Result<()> {
        let disk = self.nas.disk();
        match self.asked {
            Asked::Create => {
                let found = fs::metadata(self.directory())?;
                let held = (found.mode() & 0o7777, found.uid(), found.gid());
                ensure(held == (0o750, 1000, 2000), format!("{held:?}"))?;
                controller.delete(made)?;
            }
            Asked::Delete => ensure(!self.directory().exists(), "it is still there")?,
            Asked::Archive => {
                ensure(!self.directory().exists(), "it is still there")?;
                let start = format!("archived-{}.", self.name);
                let names = names(&disk)?;
                let kept: Vec<_> = names.iter().filter(|name| name.starts_with(&start)).collect();
                let [kept] = kept[..] else { return Err(Failure::new(format!("{names:?}"))) };
                self.is_copy(&disk.join(kept))?;
                fs::remove_dir_all(disk.join(kept))?;
            }
            Asked::Expand => controller.delete(made)?,
            Asked::Modify => {
                controller.delete(made)?;
                self.is_copy(&self.directory())?;
                fs::remove_dir_all(self.directory())?;
            }
            Asked::Clone => {
                self.is_copy(&disk.join(self.copy_name()))?;
                controller.delete(made)?;
                controller.delete(&self.volume)?;
            }
            Asked::Snapshot => {
                self.shows_nothing_half_done()?;
                controller.delete_snapshot(made)?;
                controller.delete(&self.volume)?;
            }
            Asked::DeleteSnapshot => {
                let left = names(&disk.join(".alinas-csi/snapshots"))?;
                ensure(left.is_empty(), format!("{left:?}"))?;
                controller.delete(&self.volume)?;
            }
        }
        controller.wait_for_empty_trash(self.nas, SWEPT)?;
        nothing_is_left(&disk)
    }
}

fn is_survived(nas: &Ganesha, calm: &Sidecar, point: FailurePoint, asked: Asked) -> Result<()> {
    let name = format!("{asked:?}-{point}").to_lowercase().replace('.', "-");
    let subject = Subject::prepare(nas, calm, asked, name.clone())?;
    let mut victim = Sidecar::start_until(nas, &format!("{name}-victim"), Some(point))?;
    let answered = subject.ask(&victim);
    let is_late = answered.is_ok() && is_before_the_answer(point);
    ensure(!is_late, "it never came to the point")?;
    let ended = victim.process.wait_for_end(MINUTE);
    let ended = ended.err().map(|failure| failure.to_string()).unwrap_or_default();
    ensure(ended.contains("SIGABRT"), format!("{ended}; {answered:?}\n{}", victim.log()))?;
    subject.shows_nothing_half_done().during("after the crash")?;
    let next = Sidecar::start(nas, &format!("{name}-next"))?;
    let made =
        subject.ask(&next).map_err(|failure| Failure::new(format!("{failure}\n{}", next.log())))?;
    subject.check_and_clean(&next, &made)
}

#[test]
fn a_controller_that_ends_at_any_step_is_followed_by_one_that_finishes_it_and_leaves_nothing()
-> Result<()> {
    let nas = Ganesha::start()?;
    let calm = Sidecar::start(&nas, "calm")?;
    for point in FailurePoint::of(Part::Export) {
        ensure(!asked(point).is_empty(), format!("nothing leads to {point}"))?;
        for asked in asked(point) {
            println!("{point}: {asked:?}");
            is_survived(&nas, &calm, point, *asked).during(format!("{point}, {asked:?}"))?;
        }
    }
    Ok(())
}
