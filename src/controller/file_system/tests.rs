//! File systems made and removed against an account in memory, with every call cut once.

use super::*;
use crate::controller::Wanted;
use crate::controller::cloud::tests::wanted;
use crate::controller::fake::Carried;
use crate::controller::fake::Servers;
use crate::controller::fake_api::Account;
use crate::nas::Action;

const CLASS: [(&str, &str); 4] = [
    ("volumeAs", "filesystem"),
    ("vpcId", "vpc-1"),
    ("vSwitchId", "vsw-1"),
    ("onDelete", "delete"),
];

fn account() -> Account {
    Account::new(Servers::default())
}

fn class(more: &[(&str, &str)]) -> Wanted {
    wanted("pvc-1", &[&CLASS[..], more].concat())
}

async fn made(account: &Account, more: &[(&str, &str)]) -> VolumeRef {
    let made = account.controller().provision(class(more)).await.unwrap();
    VolumeRef::parse(made.id.as_str()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_a_running_file_system_with_an_active_mount_target_and_an_owner() {
    let account = account();
    let wanted = class(&[("uid", "1000"), ("dirMode", "0750"), ("options", "hard")]);
    let made = account.controller().provision(wanted.clone()).await.unwrap();
    assert_eq!(made.id.as_str(), "v1:filesystem:cn-test:1ca401:pvc-1");
    let domain = "1ca401-abc02.cn-test.nas.aliyuncs.com";
    let context = [("options", "hard"), ("path", "/"), ("server", domain)];
    let context = context.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(made.facts, Facts { capacity: 10, context, is_whole: true, origin: None });
    assert_eq!(account.servers.ownership_of_root(domain), Some((0o750, 1000, 0)));
    assert_eq!(account.tags("1ca401")["alinas-csi/volume"], "pvc-1");
    assert_eq!(account.controller().provision(wanted).await.unwrap(), made, "asked again");
    assert_eq!(account.file_systems(), [("1ca401".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn whichever_call_of_the_api_breaks_the_next_attempt_makes_the_same_file_system() {
    for carried in [Carried::Out, Carried::Not] {
        for call in 0.. {
            let account = account();
            account.break_at(call, carried);
            let first = account.controller().provision(class(&[])).await;
            if !account.has_broken() {
                assert!(first.is_ok() && call > 5, "only {call} calls");
                break;
            }
            let error = first.unwrap_err();
            // The first look finds nothing, and nothing has been made before the second call was carried out.
            let is_begun = call > 1 || (call == 1 && carried == Carried::Out);
            let said =
                matches!(error, CreateError::Cloud { is_begun: begun, .. } if begun == is_begun);
            assert!(said, "call {call}, {carried:?}: {error:?}");
            let second = account.controller().provision(class(&[])).await.unwrap();
            assert_eq!(second.id.as_str(), "v1:filesystem:cn-test:1ca401:pvc-1", "call {call}");
            assert_eq!(account.file_systems(), [("1ca401".to_owned(), 1)], "call {call}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whichever_call_of_the_api_breaks_the_next_attempt_removes_the_file_system() {
    for carried in [Carried::Out, Carried::Not] {
        for call in 0.. {
            let account = account();
            let volume = made(&account, &[]).await;
            account.break_at(call, carried);
            let first = account.controller().remove(&volume).await;
            if !account.has_broken() {
                assert!(first.is_ok() && call > 5, "only {call} calls");
                break;
            }
            account.controller().remove(&volume).await.unwrap();
            assert_eq!(account.file_systems(), [], "call {call}, {carried:?}");
            let again = account.controller().remove(&volume).await.unwrap();
            assert_eq!(again, Removed::Already);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_reach_the_new_mount_target_is_asked_again_and_makes_no_second_one() {
    let account = account();
    account.servers.silence_new_ones(true);
    let error = account.controller().provision(class(&[])).await.unwrap_err();
    assert!(matches!(error, CreateError::Cloud { is_begun: true, .. }), "{error}");
    account.servers.silence_new_ones(false);
    account.servers.speak("1ca401-abc02.cn-test.nas.aliyuncs.com");
    account.controller().provision(class(&[])).await.unwrap();
    assert_eq!(account.file_systems(), [("1ca401".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_file_system_that_does_not_carry_our_tags_is_never_removed() {
    for (key, value) in [
        ("alinas-csi/driver", Some("another.test")),
        ("alinas-csi/driver", None),
        ("alinas-csi/volume", Some("pvc-2")),
        ("alinas-csi/volume", None),
        ("alinas-csi/on-delete", Some("burn")),
        ("alinas-csi/on-delete", None),
    ] {
        let account = account();
        let volume = made(&account, &[]).await;
        account.set_tag("1ca401", key, value);
        let error = account.controller().remove(&volume).await.unwrap_err();
        assert!(matches!(error, DeleteError::Cloud(CloudFault::Foreign { .. })), "{error}");
        assert_eq!(account.file_systems(), [("1ca401".to_owned(), 1)], "{key} {value:?}");
        let changes = [Action::DeleteMountTarget, Action::DeleteFileSystem, Action::TagResources];
        assert!(!account.calls().iter().any(|call| changes.contains(call)), "{key} {value:?}");
    }
    let account = account();
    let volume = made(&account, &[]).await;
    let other = account.controller_of("other.test");
    assert!(other.remove(&volume).await.is_err(), "another install's");
    let elsewhere = VolumeRef::parse("v1:filesystem:cn-other:1ca401:pvc-1").unwrap();
    let error = account.controller().remove(&elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("region cn-other"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_the_token_alone_knows_gets_its_tags_before_it_is_a_volume() {
    let account = account();
    account.ignore_tags();
    let volume = made(&account, &[]).await;
    assert_eq!(account.tags("1ca401")["alinas-csi/on-delete"], "delete");
    let other = account.controller_of("other.test").provision(class(&[])).await.unwrap();
    assert_ne!(other.id.as_str(), volume.id().unwrap().as_str(), "of the same name, elsewhere");
    account.controller().remove(&volume).await.unwrap();
    assert_eq!(account.file_systems().len(), 1, "the other install's is still there");
}

#[tokio::test(start_paused = true)]
async fn a_file_system_that_is_to_be_retained_stays_and_is_no_volume_any_more() {
    let account = account();
    let volume = made(&account, &[("onDelete", "retain")]).await;
    let controller = account.controller();
    let removed = controller.remove(&volume).await.unwrap();
    assert_eq!(removed, Removed::Now(OnDelete::Retain));
    assert_eq!(account.file_systems(), [("1ca401".to_owned(), 1)]);
    assert_eq!(controller.remove(&volume).await.unwrap(), Removed::Already);
    assert!(matches!(controller.facts(&volume).await, Err(FindError::NotFound(_))));
    let error = controller.provision(class(&[])).await.unwrap_err();
    assert!(matches!(error, CreateError::Different { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_size_is_noted_on_the_file_system_and_another_one_is_another_volume() {
    let account = account();
    let volume = made(&account, &[]).await;
    let controller = account.controller();
    let larger = Wanted { least: 11, ..class(&[]) };
    for other in [larger, class(&[("storageType", "Capacity")])] {
        let error = controller.provision(other).await.unwrap_err();
        assert!(matches!(error, CreateError::Different { .. }), "{error}");
    }
    assert_eq!(controller.grow(&volume, 20).await.unwrap().capacity, 20);
    assert_eq!(controller.grow(&volume, 15).await.unwrap().capacity, 20);
    let facts = controller.facts(&volume).await.unwrap();
    assert_eq!((facts.capacity, facts.is_whole), (20, false));
    assert_eq!(facts.context["server"], "1ca401-abc02.cn-test.nas.aliyuncs.com");
    let missing = VolumeRef::parse("v1:filesystem:cn-test:1ca4ff:pvc-1").unwrap();
    assert!(matches!(controller.facts(&missing).await, Err(FindError::NotFound(_))));
    assert_eq!(controller.remove(&missing).await.unwrap(), Removed::Already);
}
