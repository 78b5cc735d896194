//! Clones and snapshots through the whole controller: what is copied, where it may be cut, and what is never shown.

use std::time::Duration;

use crate::controller::Controller;
use crate::controller::CopyError;
use crate::controller::CreateError;
use crate::controller::CreateRequest;
use crate::controller::Origin;
use crate::controller::SnapshotError;
use crate::controller::create::tests::request;
use crate::controller::fake::Carried;
use crate::controller::fake::Servers;
use crate::controller::home::Home;
use crate::controller::origin::Source;
use crate::controller::tree::Exports;
use crate::controller::work::Work;
use crate::model::SnapshotHandle;
use crate::model::VolumeHandle;
use crate::nfs::client::Kind;
use crate::nfs::client::Name;
use crate::nfs::client::Status;

const HOME: [&str; 3] = [".alinas-csi/", ".alinas-csi/trash/", ".alinas-csi/volumes/"];

/// A volume with everything that can be in one.
async fn with_volume(servers: &Servers) -> VolumeHandle {
    let created =
        servers.controller().create(request("pvc-1", &[("onDelete", "delete")])).await.unwrap();
    // Deeper than pages are kept, and each level with more entries than a page has.
    let mut path = "pvc-1".to_owned();
    for level in 0..11 {
        for number in 0..4 {
            servers.plant("a.test", &format!("{path}/{number}"), Kind::File);
        }
        path = format!("{path}/level {level}");
    }
    servers.plant("a.test", &path, Kind::Directory);
    servers.plant("a.test", "pvc-1/link", Kind::Link);
    servers.fill("a.test", "pvc-1/link", b"../../outside");
    servers.plant("a.test", "pvc-1/level 0/pipe", Kind::Other);
    servers.fill("a.test", "pvc-1/0", b"some words that are longer than a portion");
    servers.fill("a.test", "pvc-1/1", b"\0\0\0\0\0\0\0\0words\0\0\0\0\0\0\0\0\0\0\0");
    servers.fill("a.test", "pvc-1/2", b"\0\0\0\0\0");
    servers.link("a.test", "pvc-1/0", "pvc-1/level 0/the same");
    servers.link("a.test", "pvc-1/0", "pvc-1/level 0/level 1/the same");
    VolumeHandle::parse(created.id.as_str()).unwrap()
}

fn clone_of(origin: Origin, name: &str) -> CreateRequest {
    let class = request(name, &[("onDelete", "delete")]);
    CreateRequest { origin: Some(origin), ..class }
}

fn of_volume(handle: &VolumeHandle) -> Origin {
    Origin::Volume(handle.to_string())
}

fn work_left(servers: &Servers) -> Vec<String> {
    let is_work = |path: &String| {
        let inner = path.strip_prefix(".alinas-csi/").unwrap_or_default();
        inner.strip_prefix("copies/").is_some_and(|rest| !rest.is_empty())
            || inner.strip_prefix("trash/").is_some_and(|rest| !rest.is_empty())
    };
    servers.paths("a.test").into_iter().filter(is_work).collect()
}

async fn until_swept(controller: &Controller) {
    controller.sweeper.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_clone_has_everything_as_it_is_in_its_source_and_is_a_volume_of_its_own() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let before = servers.tree("a.test", "pvc-1");
    assert!(before.len() > 55, "{before:#?}");
    let controller = servers.controller();
    let wanted = clone_of(of_volume(&source), "pvc-2");
    let created = controller.create(wanted.clone()).await.unwrap();
    assert_eq!(servers.tree("a.test", "pvc-2"), before);
    assert_eq!(servers.ownership("a.test", "pvc-2"), Some((0o777, 0, 0)));
    assert_eq!(controller.create(wanted).await.unwrap(), created);
    until_swept(&controller).await;
    assert_eq!(work_left(&servers), Vec::<String>::new());
    controller.delete(&source).await.unwrap();
    until_swept(&controller).await;
    assert_eq!(servers.tree("a.test", "pvc-2"), before, "the source went alone");
}

#[tokio::test(start_paused = true)]
async fn a_clone_may_be_made_on_another_mount_target() {
    let servers = Servers::default().with("a.test").with("b.test");
    let source = with_volume(&servers).await;
    let class = request("pvc-2", &[("server", "b.test")]);
    let wanted = CreateRequest { origin: Some(of_volume(&source)), ..class };
    let controller = servers.controller();
    controller.create(wanted).await.unwrap();
    let without_numbers = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().map(|line| line.rsplit_once(" =").unwrap().0.to_owned()).collect()
    };
    let copied = servers.tree("b.test", "pvc-2");
    assert_eq!(without_numbers(copied), without_numbers(servers.tree("a.test", "pvc-1")));
}

#[tokio::test(start_paused = true)]
async fn wherever_a_copy_is_cut_it_is_not_shown_and_the_next_attempt_ends_it() {
    for carried in [Carried::Out, Carried::Not] {
        for call in (0..).step_by(3) {
            let servers = Servers::default().with("a.test");
            let source = with_volume(&servers).await;
            let wanted = clone_of(of_volume(&source), "pvc-2");
            servers.break_at("a.test", call, carried);
            let first = servers.controller();
            let cut = first.create(wanted.clone()).await;
            first.stopped().await;
            if !servers.has_broken("a.test") {
                assert!(cut.is_ok() && call > 300, "only {call} calls");
                break;
            }
            let whole = servers.tree("a.test", "pvc-1");
            if servers.paths("a.test").contains(&"pvc-2/".to_owned()) {
                assert_eq!(servers.tree("a.test", "pvc-2"), whole, "call {call}");
            }
            let next = servers.controller();
            next.create(wanted).await.unwrap();
            assert_eq!(servers.tree("a.test", "pvc-2"), whole, "call {call}, {carried:?}");
            until_swept(&next).await;
            assert_eq!(work_left(&servers), Vec::<String>::new(), "call {call}, {carried:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_has_copied_the_next_one_does_not_copy_again() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let wanted = clone_of(of_volume(&source), "pvc-2");
    servers.break_at("a.test", 400, Carried::Out);
    servers.controller().create(wanted.clone()).await.unwrap_err();
    assert!(servers.has_broken("a.test"));
    let calls = servers.calls("a.test");
    servers.controller().create(wanted).await.unwrap();
    let second = servers.calls("a.test") - calls;
    assert!(second < 400, "{second} calls");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_takes_long_is_told_of_and_goes_on_and_ends_with_its_volume() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let controller = servers.controller();
    let all = controller.copier.slots_taken().await;
    let wanted = clone_of(of_volume(&source), "pvc-2");
    for _ in 0..2 {
        let error = controller.create(wanted.clone()).await.unwrap_err();
        let is_under_way = matches!(error, CreateError::Copy(CopyError::UnderWay { .. }));
        assert!(is_under_way, "{error}");
        assert!(error.to_string().contains("being copied: 0 files"), "{error}");
    }
    drop(all);
    tokio::time::sleep(Duration::from_secs(1)).await;
    controller.create(wanted).await.unwrap();
    let all = controller.copier.slots_taken().await;
    let third = clone_of(of_volume(&source), "pvc-3");
    controller.create(third).await.unwrap_err();
    controller.delete(&VolumeHandle::parse("v1:a.test:/:pvc-3").unwrap()).await.unwrap();
    drop(all);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!servers.paths("a.test").iter().any(|path| path.contains("pvc-3")));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_followed_by_another_one_can_put_nothing_in_its_place() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let mut tree = servers.open(&source.export).await.unwrap();
    let tree = tree.as_mut();
    let home = Home::ensure(tree).await.unwrap();
    let name = |text: &str| Name::parse(text).unwrap();
    let (work, part) = (name("volume.pvc-2"), name("part"));
    let first = Work::begin(tree, &home, &work, &name("1.a")).await.unwrap();
    assert!(tree.create_file(&first.parts, &part).await.unwrap());
    let second = Work::begin(tree, &home, &work, &name("2.b")).await.unwrap();
    let placed = tree.rename((&first.parts, &part), (&first.data, &part)).await;
    assert_eq!(placed.unwrap_err().status(), Some(Status::STALE));
    let made = tree.create_file(&first.parts, &part).await;
    assert_eq!(made.unwrap_err().status(), Some(Status::STALE));
    let root = tree.root();
    first.show(tree, (&root, &name("pvc-2"))).await.unwrap_err();
    second.show(tree, (&root, &name("pvc-2"))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_what_went_away_meanwhile_is_refused() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let origin = of_volume(&source);
    let mut open = Source::open(&servers, &origin).await.unwrap();
    open.ensure_still_there(&origin).await.unwrap();
    let controller = servers.controller();
    controller.delete(&source).await.unwrap();
    let gone = open.ensure_still_there(&origin).await.unwrap_err();
    assert!(matches!(gone, CopyError::SourceDeleted { .. }), "{gone}");
    let wanted = clone_of(origin, "pvc-2");
    let error = controller.create(wanted).await.unwrap_err();
    assert!(matches!(error, CreateError::Copy(CopyError::NoSource { .. })), "{error}");
    assert!(!servers.paths("a.test").iter().any(|path| path.contains("pvc-2")));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_nobody_can_make_any_more_leaves_nothing() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let controller = servers.controller();
    let all = controller.copier.slots_taken().await;
    controller.create(clone_of(of_volume(&source), "pvc-2")).await.unwrap_err();
    let snapshot = controller.create_snapshot("snapshot-1", &source).await.unwrap();
    assert!(!snapshot.is_ready);
    controller.delete(&source).await.unwrap();
    drop(all);
    let error = controller.create(clone_of(of_volume(&source), "pvc-2")).await.unwrap_err();
    assert!(matches!(error, CreateError::Copy(CopyError::NoSource { .. })), "{error}");
    let error = controller.create_snapshot("snapshot-1", &source).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Copy(CopyError::NoSource { .. })), "{error}");
    until_swept(&controller).await;
    let left = servers.paths("a.test");
    let is_of_it = |path: &String| path.contains("pvc-2") || path.contains("snapshot-1");
    assert!(!left.iter().any(is_of_it), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_takes_nobody_s_place_and_another_source_is_another_volume() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let controller = servers.controller();
    servers.plant("a.test", "pvc-2", Kind::Directory);
    let error = controller.create(clone_of(of_volume(&source), "pvc-2")).await.unwrap_err();
    assert!(matches!(error, CreateError::Occupied { .. }), "{error}");
    controller.create(clone_of(of_volume(&source), "pvc-3")).await.unwrap();
    let other = Origin::Volume("v1:a.test:/:pvc-3".to_owned());
    for origin in [Some(other), None] {
        let wanted = CreateRequest { origin, ..request("pvc-3", &[("onDelete", "delete")]) };
        let error = controller.create(wanted).await.unwrap_err();
        assert!(matches!(error, CreateError::Different { what: "source", .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_stays_as_it_was_and_outlives_its_volume() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let controller = servers.controller();
    let snapshot = controller.create_snapshot("snapshot-1", &source).await.unwrap();
    assert_eq!((snapshot.id.as_str(), snapshot.is_ready), ("s1:a.test:/:snapshot-1", true));
    assert_eq!(snapshot.record.capacity, 10);
    let before = servers.tree("a.test", "pvc-1");
    servers.fill("a.test", "pvc-1/3", b"changed");
    controller.delete(&source).await.unwrap();
    let wanted = clone_of(Origin::Snapshot(snapshot.id.clone()), "pvc-2");
    controller.create(wanted).await.unwrap();
    assert_eq!(servers.tree("a.test", "pvc-2"), before);
    let handle = SnapshotHandle::parse(&snapshot.id).unwrap();
    assert_eq!(controller.snapshot(&handle).await.unwrap(), snapshot);
    for _ in 0..2 {
        controller.delete_snapshot(&handle).await.unwrap();
    }
    let gone = controller.snapshot(&handle).await.unwrap_err();
    assert!(matches!(gone, SnapshotError::NotFound(_)), "{gone}");
    let second = VolumeHandle::parse("v1:a.test:/:pvc-2").unwrap();
    controller.delete(&second).await.unwrap();
    until_swept(&controller).await;
    let folders = [".alinas-csi/copies/", ".alinas-csi/snapshots/"];
    let mut left: Vec<&str> = HOME.into_iter().chain(folders).collect();
    left.sort_unstable();
    assert_eq!(servers.paths("a.test"), left);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_whole_is_not_ready_and_not_copied() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let controller = servers.controller();
    let all = controller.copier.slots_taken().await;
    let snapshot = controller.create_snapshot("snapshot-1", &source).await.unwrap();
    assert!(!snapshot.is_ready);
    let wanted = clone_of(Origin::Snapshot(snapshot.id.clone()), "pvc-2");
    let error = controller.create(wanted).await.unwrap_err();
    assert!(matches!(error, CreateError::Copy(CopyError::NotReady(_))), "{error}");
    drop(all);
    let again = controller.create_snapshot("snapshot-1", &source).await.unwrap();
    assert!(again.is_ready && again.record == snapshot.record);
}

#[tokio::test(start_paused = true)]
async fn wherever_a_snapshot_is_cut_the_next_attempt_makes_the_same_one_and_deletes_it_once() {
    for carried in [Carried::Out, Carried::Not] {
        for call in (0..).step_by(7) {
            let servers = Servers::default().with("a.test");
            let source = with_volume(&servers).await;
            servers.break_at("a.test", call, carried);
            let first = servers.controller();
            let cut = first.create_snapshot("snapshot-1", &source).await;
            first.stopped().await;
            let has_broken = servers.has_broken("a.test");
            let next = servers.controller();
            let made = next.create_snapshot("snapshot-1", &source).await.unwrap();
            assert!(made.is_ready, "call {call}");
            until_swept(&next).await;
            let data = servers.tree("a.test", ".alinas-csi/snapshots/snapshot-1/data");
            assert_eq!(data, servers.tree("a.test", "pvc-1"), "call {call}");
            assert_eq!(work_left(&servers), Vec::<String>::new(), "call {call}");
            let handle = SnapshotHandle::parse(&made.id).unwrap();
            servers.break_at("a.test", call / 7, carried);
            let _cut = next.delete_snapshot(&handle).await;
            next.stopped().await;
            servers.has_broken("a.test");
            let last = servers.controller();
            last.delete_snapshot(&handle).await.unwrap();
            until_swept(&last).await;
            let left = servers.paths("a.test");
            assert!(!left.iter().any(|path| path.contains("snapshot-1")), "call {call}: {left:?}");
            assert_eq!(work_left(&servers), Vec::<String>::new(), "call {call}");
            if !has_broken {
                assert!(cut.is_ok() && call > 300, "only {call} calls");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn snapshots_are_listed_in_order_of_a_volume_and_page_by_page() {
    let servers = Servers::default().with("a.test");
    let controller = servers.controller();
    let mut handles = Vec::new();
    for name in ["pvc-1", "pvc-2"] {
        let created = controller.create(request(name, &[])).await.unwrap();
        handles.push(VolumeHandle::parse(created.id.as_str()).unwrap());
    }
    for number in [3, 1, 4, 2, 5] {
        let of = &handles[usize::from(number == 5)];
        controller.create_snapshot(&format!("snapshot-{number}"), of).await.unwrap();
    }
    servers.plant("a.test", ".alinas-csi/snapshots/some folder", Kind::Directory);
    servers.plant("a.test", ".alinas-csi/snapshots/begun", Kind::Directory);
    let numbers = |listing: &crate::controller::snapshot::Listing| -> Vec<String> {
        let last = |id: &str| id.rsplit('-').next().unwrap().to_owned();
        listing.snapshots.iter().map(|snapshot| last(&snapshot.id)).collect()
    };
    let all = controller.list_snapshots(None, "", 0).await.unwrap();
    assert_eq!(numbers(&all), ["1", "2", "3", "4", "5"]);
    let of_first = controller.list_snapshots(Some(&handles[0]), "", 3).await.unwrap();
    assert_eq!(numbers(&of_first), ["1", "2", "3"]);
    let next = of_first.next.unwrap();
    let rest = controller.list_snapshots(Some(&handles[0]), &next, 3).await.unwrap();
    assert_eq!((numbers(&rest), rest.next), (vec!["4".to_owned()], None));
    let wrong = controller.list_snapshots(None, "invalid-token", 0).await.unwrap_err();
    assert!(matches!(wrong, SnapshotError::Token(_)), "{wrong}");
    let other = controller.create_snapshot("snapshot-1", &handles[1]).await.unwrap_err();
    assert!(matches!(other, SnapshotError::Different { .. }), "{other}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_somebody_changed_leads_nowhere() {
    let servers = Servers::default().with("a.test");
    let source = with_volume(&servers).await;
    let controller = servers.controller();
    let snapshot = controller.create_snapshot("snapshot-1", &source).await.unwrap();
    let handle = SnapshotHandle::parse(&snapshot.id).unwrap();
    let file = ".alinas-csi/snapshots/snapshot-1/record.json";
    let text = String::from_utf8(servers.content("a.test", file).unwrap()).unwrap();
    for (from, to, said) in [
        ("\"version\":1", "\"version\":2", "upgrade"),
        ("\"name\":\"snapshot-1\"", "\"name\":\"../pvc-1\"", "another file"),
        ("\"created\"", "\"craeted\"", "cannot be read"),
    ] {
        servers.tamper("a.test", file, text.replacen(from, to, 1).as_bytes());
        let error = controller.snapshot(&handle).await.unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("snapshot-1"), "{error}");
    }
    servers.tamper("a.test", file, text.as_bytes());
    servers.replace_by_link("a.test", ".alinas-csi/snapshots/snapshot-1/data");
    let error = controller.snapshot(&handle).await.unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
}
