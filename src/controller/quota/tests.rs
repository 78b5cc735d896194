//! Quotas of directories against an account in memory, with every call cut once.

use super::*;
use crate::controller::CreateError;
use crate::controller::Wanted;
use crate::controller::cloud::tests::wanted;
use crate::controller::fake::Carried;
use crate::controller::fake::Servers;
use crate::controller::fake_api::Account;
use crate::model::VolumeRef;

const DOMAIN: &str = "31a8e4-abc12.cn-test.nas.aliyuncs.com";
const GIB: i64 = 1 << 30;

fn account() -> Account {
    Account::new(Servers::default().with(DOMAIN))
}

fn class() -> Wanted {
    wanted("pvc-1", &[("server", DOMAIN), ("volumeCapacity", "true")])
}

async fn made(account: &Account) -> VolumeRef {
    let made = account.controller().provision(class()).await.unwrap();
    VolumeRef::parse(made.id.as_str()).unwrap()
}

fn one(gibibytes: u64) -> Vec<(String, u64)> {
    vec![("/pvc-1".to_owned(), gibibytes)]
}

#[test]
fn a_quota_is_of_whole_gibibytes_between_what_is_asked_for() {
    assert_eq!(size_of_quota(1, 0), Ok(GIB));
    assert_eq!(size_of_quota(GIB, GIB), Ok(GIB));
    assert_eq!(size_of_quota(GIB + 1, 3 * GIB), Ok(2 * GIB));
    assert_eq!(size_of_quota(0, 0), Err(SizeError::Missing));
    assert!(matches!(size_of_quota(1, 2), Err(SizeError::NoGibibyte { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_claim_bounds_its_directory_grows_with_it_and_goes_with_it() {
    let account = account();
    let controller = account.controller();
    let made = controller.provision(class()).await.unwrap();
    assert_eq!((made.facts.capacity, account.quotas()), (GIB, one(1)));
    assert_eq!(controller.provision(class()).await.unwrap(), made, "asked again");
    let volume = VolumeRef::parse(made.id.as_str()).unwrap();
    assert_eq!(controller.grow(&volume, GIB + 1).await.unwrap().capacity, 2 * GIB);
    assert_eq!(account.quotas(), one(2));
    assert_eq!(controller.grow(&volume, GIB).await.unwrap().capacity, 2 * GIB, "never smaller");
    assert_eq!(account.quotas(), one(2));
    let without = wanted("pvc-1", &[("server", DOMAIN)]);
    let error = controller.provision(without).await.unwrap_err();
    assert!(matches!(error, CreateError::Different { what: "quota", .. }), "{error}");
    controller.remove(&volume).await.unwrap();
    assert_eq!(account.quotas(), []);
}

#[tokio::test(start_paused = true)]
async fn whichever_call_of_the_api_breaks_the_next_attempt_sets_the_same_quota() {
    for carried in [Carried::Out, Carried::Not] {
        for call in 0.. {
            let account = account();
            account.break_at(call, carried);
            let first = account.controller().provision(class()).await;
            if !account.has_broken() {
                assert!(first.is_ok() && call > 3, "only {call} calls");
                break;
            }
            account.controller().provision(class()).await.unwrap();
            assert_eq!(account.quotas(), one(1), "call {call}, {carried:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whichever_call_breaks_under_way_the_next_attempt_grows_or_cancels_the_quota() {
    for carried in [Carried::Out, Carried::Not] {
        for call in 0.. {
            let account = account();
            let volume = made(&account).await;
            account.break_at(call, carried);
            let grown = account.controller().grow(&volume, 2 * GIB).await;
            let removed = account.controller().remove(&volume).await;
            if !account.has_broken() {
                assert!(grown.is_ok() && removed.is_ok() && call > 3, "only {call} calls");
                break;
            }
            if removed.is_err() {
                let again = account.controller().grow(&volume, 2 * GIB).await.unwrap();
                assert_eq!((again.capacity, account.quotas()), (2 * GIB, one(2)));
                account.controller().remove(&volume).await.unwrap();
            }
            assert_eq!(account.quotas(), [], "call {call}, {carried:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_quota_nobody_can_cancel_is_not_removed() {
    let account = account();
    let volume = made(&account).await;
    let error = account.servers.controller().remove(&volume).await.unwrap_err().to_string();
    assert!(error.contains("nas:CancelDirQuota"), "{error}");
    assert!(account.servers.paths(DOMAIN).contains(&"pvc-1/".to_owned()));
}
