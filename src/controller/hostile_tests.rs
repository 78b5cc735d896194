//! Names and ids that somebody chose in order to get elsewhere: whatever they are, what lies beside a volume is as it was.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::controller::CreateRequest;
use crate::controller::Origin;
use crate::controller::create::tests::request;
use crate::controller::fake::Servers;
use crate::model::SnapshotHandle;
use crate::model::StorageClass;
use crate::model::VolumeHandle;
use crate::nfs::client::Kind;

/// What leads elsewhere in one language or another, and whatever else there is.
fn hostile() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "..",
        "../outside",
        "outside",
        "outside/precious",
        ".alinas-csi",
        ".alinas-csi/volumes",
        "volumes",
        "trash",
        "data",
        "pvc-1.json",
        ".pvc-1.new",
        "pvc-1/../outside",
        "..=2Foutside",
        "%2e%2e",
        "archived-pvc-1",
        "/",
        "a\0b",
        "link",
        "h-00000000000000000000000000000000",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "\\PC{0,60}", "[./a-z=:-]{1,30}"]
}

fn with_neighbours() -> Servers {
    let servers = Servers::default().with("a.test");
    servers.plant("a.test", "outside/precious", Kind::File);
    servers.fill("a.test", "outside/precious", b"words");
    servers.plant("a.test", "link", Kind::Link);
    servers
}

fn ensure_neighbours_are_well(servers: &Servers) -> Result<(), TestCaseError> {
    let held = servers.content("a.test", "outside/precious");
    prop_assert_eq!(held.as_deref(), Some(&b"words"[..]));
    prop_assert!(servers.paths("a.test").contains(&"link".to_owned()));
    Ok(())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_a_volume_is_called_it_is_one_directory_of_its_own(name in hostile(), path in hostile()) {
        let servers = with_neighbours();
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let parameters: HashMap<String, String> =
            [("server", "a.test"), ("nameTemplate", &name), ("onDelete", "delete")].map(own).into();
        let with_path: HashMap<String, String> =
            [("server", "a.test"), ("path", &path)].map(own).into();
        if let Ok(class) = StorageClass::parse(&with_path, &[], "pvc-1") {
            prop_assert!(!class.places[0].export.path.as_str().split('/').any(|part| part == ".."));
        }
        if let Ok(class) = StorageClass::parse(&parameters, &[], "pvc-1") {
            let wanted = CreateRequest {
                name: "pvc-1".to_owned(), least: 1, most: 0, class, origin: None,
            };
            run(async {
                let controller = servers.controller();
                if let Ok(created) = controller.create(wanted).await {
                    let handle = VolumeHandle::parse(created.id.as_str()).unwrap();
                    controller.delete(&handle).await.unwrap();
                }
                controller.sweeper.idle().await;
            });
        }
        ensure_neighbours_are_well(&servers)?;
    }

    #[test]
    fn whatever_a_snapshot_is_called_it_is_one_directory_among_snapshots(name in hostile()) {
        let servers = with_neighbours();
        let left = run(async {
            let controller = servers.controller();
            let created = controller.create(request("pvc-1", &[])).await.unwrap();
            let volume = VolumeHandle::parse(created.id.as_str()).unwrap();
            let before = servers.paths("a.test").len();
            if let Ok(made) = controller.create_snapshot(&name, &volume).await {
                controller.sweeper.idle().await;
                // Its directory, record and data, and the folders of snapshots and copies.
                assert_eq!(servers.paths("a.test").len(), before + 5, "{name:?}");
                let handle = SnapshotHandle::parse(&made.id).unwrap();
                controller.delete_snapshot(&handle).await.unwrap();
                controller.sweeper.idle().await;
                assert_eq!(servers.paths("a.test").len(), before + 2, "{name:?}");
            }
            controller.find(&volume).await.is_ok()
        });
        prop_assert!(left);
        ensure_neighbours_are_well(&servers)?;
    }

    #[test]
    fn an_id_that_is_none_reaches_nothing_and_one_of_another_kind_neither(
        key in hostile(),
        path in hostile(),
        prefix in prop::sample::select(vec!["v1", "s1"]),
    ) {
        let servers = with_neighbours();
        let kept = run(async {
            let controller = servers.controller();
            let created = controller.create(request("pvc-1", &[])).await.unwrap();
            let volume = VolumeHandle::parse(created.id.as_str()).unwrap();
            let snapshot = controller.create_snapshot("snapshot-1", &volume).await.unwrap();
            for id in [format!("{prefix}:a.test:/:{key}"), format!("{prefix}:a.test:{path}:pvc-2")] {
                if let Some(handle) = VolumeHandle::parse(&id).filter(|handle| *handle != volume) {
                    let _ = controller.delete(&handle).await;
                }
                let handle = SnapshotHandle::parse(&id).filter(|handle| handle.to_string() != snapshot.id);
                if let Some(handle) = handle {
                    let _ = controller.delete_snapshot(&handle).await;
                }
                for origin in [Origin::Volume(id.clone()), Origin::Snapshot(id.clone())] {
                    if id != created.id.as_str() && id != snapshot.id {
                        let wanted = CreateRequest { origin: Some(origin), ..request("pvc-9", &[]) };
                        assert!(controller.create(wanted).await.is_err(), "{id}");
                    }
                }
            }
            controller.sweeper.idle().await;
            let handle = SnapshotHandle::parse(&snapshot.id).unwrap();
            controller.find(&volume).await.is_ok() && controller.snapshot(&handle).await.is_ok()
        });
        prop_assert!(kept);
        prop_assert!(!servers.paths("a.test").iter().any(|path| path.contains("pvc-9")));
        ensure_neighbours_are_well(&servers)?;
    }
}
