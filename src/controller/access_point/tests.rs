//! Access points made and removed against an account in memory, with every call cut once.

use super::*;
use crate::controller::Wanted;
use crate::controller::cloud::tests::wanted;
use crate::controller::fake::Carried;
use crate::controller::fake::Servers;
use crate::controller::fake_api::Account;

const CLASS: [(&str, &str); 5] = [
    ("volumeAs", "accesspoint"),
    ("fileSystemId", "31a8e4"),
    ("vpcId", "vpc-1"),
    ("vSwitchId", "vsw-1"),
    ("path", "/k8s"),
];
const GIB: i64 = 1 << 30;

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
async fn a_volume_is_an_active_access_point_by_its_domain() {
    let account = account();
    let made = account.controller().provision(class(&[])).await.unwrap();
    assert_eq!(made.id.as_str(), "v1:accesspoint:cn-test:31a8e4:ap-01:pvc-1");
    let server = "ap-01.31a8e4.cn-test.nas.aliyuncs.com";
    assert_eq!(made.facts.context["server"], server);
    assert_eq!(made.facts.context["path"], "/");
    assert_eq!(account.controller().provision(class(&[])).await.unwrap(), made, "asked again");
    let error = account.controller().provision(class(&[("nameTemplate", "x")])).await.unwrap_err();
    assert!(matches!(error, CreateError::Different { .. }), "{error}");
    let volume = VolumeRef::parse(made.id.as_str()).unwrap();
    assert_eq!(account.controller().facts(&volume).await.unwrap().context["server"], server);
    assert_eq!(account.controller().grow(&volume, 20).await.unwrap().capacity, 20, "unbounded");
}

#[tokio::test(start_paused = true)]
async fn whichever_call_of_the_api_breaks_the_next_attempt_makes_the_same_access_point() {
    for more in [&[][..], &[("volumeCapacity", "true")]] {
        for carried in [Carried::Out, Carried::Not] {
            for call in 0.. {
                let account = account();
                account.break_at(call, carried);
                let first = account.controller().provision(class(more)).await;
                if !account.has_broken() {
                    assert!(first.is_ok() && call > 3, "only {call} calls");
                    break;
                }
                // What is only said in a log does not fail.
                let made = account.controller().provision(class(more)).await.unwrap();
                let volume = VolumeRef::parse(made.id.as_str()).unwrap();
                assert_eq!(account.access_points_held(), ["ap-01"], "call {call}, {carried:?}");
                let quotas = vec![("/k8s/pvc-1".to_owned(), 1); more.len()];
                assert_eq!(account.quotas(), quotas, "call {call}");
                account.controller().remove(&volume).await.unwrap();
                assert_eq!((account.access_points_held(), account.quotas()), (vec![], vec![]));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whichever_call_of_the_api_breaks_the_next_attempt_removes_the_access_point() {
    for carried in [Carried::Out, Carried::Not] {
        for call in 0.. {
            let account = account();
            let volume = made(&account, &[("volumeCapacity", "true")]).await;
            account.break_at(call, carried);
            let first = account.controller().remove(&volume).await;
            if !account.has_broken() {
                assert!(first.is_ok() && call > 3, "only {call} calls");
                break;
            }
            account.controller().remove(&volume).await.unwrap();
            assert_eq!(
                (account.access_points_held(), account.quotas()),
                (vec![], vec![]),
                "{call}"
            );
            assert_eq!(account.controller().remove(&volume).await.unwrap(), Removed::Already);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_one_that_a_lost_answer_has_left_is_removed_with_the_first() {
    let account = account();
    let volume = made(&account, &[]).await;
    account.plant_access_point("ap-ff", "alinas-csi-pvc-1", "/k8s/pvc-1", Some("driver.test"));
    account.plant_access_point("ap-fe", "somebody", "/k8s/pvc-1", Some("driver.test"));
    assert_eq!(made(&account, &[]).await, volume, "always the same of the two");
    account.controller().remove(&volume).await.unwrap();
    assert_eq!(account.access_points_held(), ["ap-fe"]);
}

#[tokio::test(start_paused = true)]
async fn an_access_point_of_another_name_or_another_install_is_never_removed() {
    for (name, driver) in [
        ("somebody", Some("driver.test")),
        ("alinas-csi-pvc-1", Some("another.test")),
        ("alinas-csi-pvc-1", None),
    ] {
        let account = account();
        account.plant_access_point("ap-fe", name, "/", driver);
        let volume = VolumeRef::parse("v1:accesspoint:cn-test:31a8e4:ap-fe:pvc-1").unwrap();
        let controller = account.controller();
        let error = controller.remove(&volume).await.unwrap_err();
        assert!(matches!(error, DeleteError::Cloud(CloudFault::Foreign { .. })), "{error}");
        assert_eq!(account.access_points_held(), ["ap-fe"], "{name} of {driver:?}");
        let error = controller.facts(&volume).await.unwrap_err();
        assert!(matches!(error, FindError::NotFound(_)), "{error}");
        let error = controller.grow(&volume, 20).await.unwrap_err();
        assert!(matches!(error, FindError::NotFound(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_installs_on_one_file_system_leave_each_other_s_access_points_alone() {
    let account = account();
    let of = |driver: &str| account.controller_of(driver);
    let first = of("first.test").provision(class(&[])).await.unwrap();
    let error = of("second.test").provision(class(&[])).await.unwrap_err();
    assert!(matches!(error, CreateError::Cloud { is_begun: false, .. }), "{error}");
    for said in ["/k8s/pvc-1", "ap-01", "first.test", "nameTemplate"] {
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    let elsewhere = class(&[("path", "/second")]);
    let second = of("second.test").provision(elsewhere.clone()).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(of("second.test").provision(elsewhere).await.unwrap(), second, "asked again");
    let second = VolumeRef::parse(second.id.as_str()).unwrap();
    of("second.test").remove(&second).await.unwrap();
    assert_eq!(account.access_points_held(), ["ap-01"]);
    assert_eq!(of("first.test").provision(class(&[])).await.unwrap(), first, "it is still whole");
}

#[tokio::test(start_paused = true)]
async fn a_quota_bounds_the_directory_of_an_access_point_and_grows() {
    let account = account();
    let volume = made(&account, &[("volumeCapacity", "true")]).await;
    let controller = account.controller();
    assert_eq!(controller.facts(&volume).await.unwrap().capacity, GIB);
    assert_eq!(controller.grow(&volume, GIB + 1).await.unwrap().capacity, 2 * GIB);
    assert_eq!(account.quotas(), [("/k8s/pvc-1".to_owned(), 2)]);
    let other = Wanted { least: 3 * GIB, ..class(&[("volumeCapacity", "true")]) };
    let error = controller.provision(other).await.unwrap_err();
    assert!(matches!(error, CreateError::Different { .. }), "{error}");
}
