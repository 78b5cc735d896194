//! What a call does when things go wrong: over a network without a wire, with time paused. What is sent and read
//! for each call is a table.
//!
//! LONG: fifteen calls, each with what it sends and reads.

use crate::nas::credentials::CredentialsSource;
use crate::nas::credentials::SourceFault;
use crate::nas::credentials::fake::FakeSource;
use crate::nas::http::HttpFault;
use crate::nas::http::fake::FakeHttp;
use crate::nas::test_clock::TestClock;
use crate::nas::types::AccessPointRef;
use crate::nas::types::AccessPointStatus;
use crate::nas::types::ClientToken;
use crate::nas::types::CreateAccessPoint;
use crate::nas::types::CreateDir;
use crate::nas::types::CreateFileSystem;
use crate::nas::types::CreateMountTarget;
use crate::nas::types::FileSystemId;
use crate::nas::types::FileSystemStatus;
use crate::nas::types::FileSystemType;
use crate::nas::types::Gibibytes;
use crate::nas::types::MountTargetStatus;
use crate::nas::types::PosixUser;
use crate::nas::types::QuotaKind;
use crate::nas::types::QuotaStatus;
use crate::nas::types::RecycleBinStatus;
use crate::nas::types::RootDirectory;
use crate::nas::types::SetDirQuota;
use crate::nas::types::Tag;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DONE: &str = r#"{"RequestId":"R"}"#;

struct Scene {
    client: NasClient,
    http: Arc<FakeHttp>,
}

fn scene() -> Scene {
    scene_with(FakeSource::default())
}

fn scene_with(source: FakeSource) -> Scene {
    let (http, clock) = (Arc::new(FakeHttp::default()), Arc::new(TestClock));
    let sources: Vec<Box<dyn CredentialsSource>> = vec![Box::new(source)];
    let holder = CredentialsHolder::new(sources, Arc::<TestClock>::clone(&clock));
    let region = Region::parse("cn-hangzhou").unwrap();
    let endpoint = Endpoint::parse("nas.example.com").unwrap();
    let network = Arc::<FakeHttp>::clone(&http);
    Scene { client: NasClient::new(network, Arc::new(holder), clock, endpoint, region), http }
}

impl Scene {
    /// Parameters of each request so far.
    fn sent(&self) -> Vec<String> {
        let asked = self.http.asked();
        asked.iter().map(|request| request.uri().query().unwrap().to_owned()).collect()
    }

    fn refuse(&self, status: u16, code: &str) {
        let body = format!(r#"{{"Code":"{code}","Message":"no","RequestId":"R-9"}}"#);
        self.http.answer(status, &body);
    }
}

fn id() -> FileSystemId {
    FileSystemId::parse("1ca404").unwrap()
}

fn file_system() -> CreateFileSystem {
    CreateFileSystem {
        client_token: ClientToken::parse("pvc-1").unwrap(),
        file_system_type: FileSystemType::Standard,
        storage_type: "Capacity".to_owned(),
        capacity: None,
        zone_id: Some("cn-hangzhou-b".to_owned()),
        description: None,
        encrypt_type: Some(1),
        kms_key_id: None,
        resource_group_id: None,
        vpc_id: None,
        vswitch_id: None,
        tags: vec![Tag::parse("createdby", "alinas-csi").unwrap()],
    }
}

fn mount_target() -> CreateMountTarget {
    CreateMountTarget {
        file_system_id: id(),
        access_group_name: "DEFAULT_VPC_GROUP_NAME".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        vswitch_id: "vsw-1".to_owned(),
        security_group_id: None,
    }
}

fn directory() -> CreateDir {
    CreateDir {
        file_system_id: id(),
        path: "/a/b".to_owned(),
        owner_user_id: 0,
        owner_group_id: 7,
        mode: 0o755,
    }
}

#[tokio::test]
async fn a_call_is_sent_as_the_vendor_s_clients_send_it() {
    let scene = scene();
    scene.http.answer(200, DONE);
    scene.client.ensure_dir(&directory()).await.unwrap();
    let request = scene.http.asked().remove(0);
    assert_eq!(
        (request.method().as_str(), request.uri().host()),
        ("POST", Some("nas.example.com"))
    );
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-acs-action"), "CreateDir");
    assert_eq!(header("x-acs-version"), "2017-06-26");
    assert_eq!(header("accept"), "application/json");
    let date = header("x-acs-date");
    assert!(date.starts_with("2027-01-15T") && date.ends_with('Z') && date.len() == 20, "{date}");
    assert_eq!(header("x-acs-signature-nonce").len(), 32);
    let signed = "SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,";
    let authorization = header("authorization");
    assert!(
        authorization.starts_with(&format!("ACS3-HMAC-SHA256 Credential=K1,{signed}")),
        "{authorization}"
    );
}

#[tokio::test]
async fn each_call_says_what_its_documentation_asks_for() {
    let scene = scene();
    let (client, http) = (&scene.client, &scene.http);
    let which = AccessPointRef { file_system_id: &id(), access_point_id: "ap-1" };
    let quota = SetDirQuota {
        file_system_id: id(),
        path: "/a/b".to_owned(),
        kind: QuotaKind::Enforcement,
        size_limit: Some(Gibibytes(20)),
        file_count_limit: None,
    };
    let access_point = CreateAccessPoint {
        file_system_id: id(),
        access_group: "g".to_owned(),
        name: None,
        vpc_id: "vpc-1".to_owned(),
        vswitch_id: "vsw-1".to_owned(),
        root_directory: "/a".to_owned(),
        root: Some(RootDirectory { owner_user_id: 1, owner_group_id: 2, mode: 0o700 }),
        posix_user: Some(PosixUser {
            posix_user_id: 3,
            posix_group_id: 4,
            posix_secondary_group_ids: vec![5, 6],
        }),
        enabled_ram: false,
        tags: Vec::new(),
    };
    http.answer(200, r#"{"FileSystemId":"1ca404","RequestId":"R"}"#);
    assert_eq!(client.create_file_system(&file_system()).await.unwrap(), id());
    http.answer(
        200,
        r#"{"MountTargetDomain":"1ca404-x.cn-hangzhou.nas.aliyuncs.com","MountTargetExtra":{}}"#,
    );
    let domain = client.create_mount_target(&mount_target()).await.unwrap();
    assert_eq!(domain, "1ca404-x.cn-hangzhou.nas.aliyuncs.com");
    for _ in 0..3 {
        http.answer(200, r#"{"RequestId":"R","Success":true}"#);
    }
    client.ensure_dir(&directory()).await.unwrap();
    client.set_dir_quota(&quota).await.unwrap();
    assert_eq!(client.ensure_dir_quota_cancelled(&id(), "/a/b").await.unwrap(), Deleted::Now);
    http.answer(200, r#"{"AccessPoint":{"AccessPointId":"ap-1","AccessPointDomain":"ap-1.x"}}"#);
    assert_eq!(client.create_access_point(&access_point).await.unwrap().access_point_id, "ap-1");
    for _ in 0..4 {
        http.answer(200, DONE);
    }
    client.ensure_access_point_deleted(which).await.unwrap();
    client.ensure_mount_target_deleted(&id(), &domain).await.unwrap();
    client.ensure_file_system_deleted(&id()).await.unwrap();
    client.tag_file_system(&id(), &[Tag::parse("k", "v").unwrap()]).await.unwrap();
    assert_eq!(
        scene.sent(),
        [
            "ClientToken=pvc-1&EncryptType=1&FileSystemType=standard&ProtocolType=NFS&RegionId=cn-hangzhou\
         &StorageType=Capacity&Tag.1.Key=createdby&Tag.1.Value=alinas-csi&ZoneId=cn-hangzhou-b",
            "AccessGroupName=DEFAULT_VPC_GROUP_NAME&FileSystemId=1ca404&NetworkType=Vpc&RegionId=cn-hangzhou\
         &VSwitchId=vsw-1&VpcId=vpc-1",
            "FileSystemId=1ca404&OwnerGroupId=7&OwnerUserId=0&Permission=0755&Recursion=true&RegionId=cn-hangzhou\
         &RootDirectory=%2Fa%2Fb",
            "FileSystemId=1ca404&Path=%2Fa%2Fb&QuotaType=Enforcement&RegionId=cn-hangzhou&SizeLimit=20&UserType=AllUsers",
            "FileSystemId=1ca404&Path=%2Fa%2Fb&RegionId=cn-hangzhou&UserType=AllUsers",
            "AccessGroup=g&EnabledRam=false&FileSystemId=1ca404&OwnerGroupId=2&OwnerUserId=1&Permission=0700\
         &PosixGroupId=4&PosixSecondaryGroupIds=5%2C6&PosixUserId=3&RegionId=cn-hangzhou&RootDirectory=%2Fa\
         &VpcId=vpc-1&VswId=vsw-1",
            "AccessPointId=ap-1&FileSystemId=1ca404&RegionId=cn-hangzhou",
            "FileSystemId=1ca404&MountTargetDomain=1ca404-x.cn-hangzhou.nas.aliyuncs.com&RegionId=cn-hangzhou",
            "FileSystemId=1ca404&RegionId=cn-hangzhou",
            "RegionId=cn-hangzhou&ResourceId.1=1ca404&ResourceType=filesystem&Tag.1.Key=k&Tag.1.Value=v",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_counted_by_what_came_of_it() {
    let scene = scene();
    let (client, http) = (&scene.client, &scene.http);
    scene.refuse(400, "Throttling.User");
    http.answer(200, DONE);
    client.ensure_dir(&directory()).await.unwrap();
    scene.refuse(403, "NoPermission");
    client.ensure_file_system_deleted(&id()).await.unwrap_err();
    http.answer(200, "none of ours");
    client.create_file_system(&file_system()).await.unwrap_err();
    let counted: Vec<_> = client
        .counts()
        .all()
        .into_iter()
        .map(|((action, outcome), count)| (action, outcome.word(), count))
        .collect();
    assert_eq!(
        counted,
        [
            ("CreateDir", "ok", 1),
            ("CreateDir", "throttled", 1),
            ("CreateFileSystem", "failed", 1),
            ("DeleteFileSystem", "refused", 1),
        ]
    );
}

/// In the shape of the examples on the vendor's pages.
#[tokio::test]
async fn descriptions_are_read_as_the_service_writes_them() {
    let scene = scene();
    let (client, http) = (&scene.client, &scene.http);
    http.answer(200, r#"{"TotalCount":1,"PageSize":1,"PageNumber":1,"RequestId":"R","FileSystems":{"FileSystem":[
        {"FileSystemId":"1ca404","Status":"Running","FileSystemType":"standard","Capacity":10995116277760,
         "MeteredSize":4096,"ZoneId":"cn-hangzhou-b","New":{"x":1},"Ldap":null,
         "Tags":{"Tag":[{"Key":"k","Value":"v"}]},
         "MountTargets":{"MountTarget":[{"MountTargetDomain":"d","Status":"Active","AccessGroupName":"g"}]}}]}}"#);
    let found = client.file_system(&id()).await.unwrap().unwrap();
    assert_eq!((found.status, found.metered_size), (Some(FileSystemStatus::Running), Some(4096)));
    assert_eq!(found.tags, [Tag::parse("k", "v").unwrap()]);
    assert_eq!(found.mount_targets[0].access_group.as_deref(), Some("g"));
    http.answer(200, r#"{"TotalCount":1,"MountTargets":{"MountTarget":[{"MountTargetDomain":"d","Status":"Pending",
        "AccessGroup":"g","VpcId":"vpc-1","VswId":"vsw-1","ClientMasterNodes":{"ClientMasterNode":[]}}]}}"#);
    let found = client.mount_target(&id(), "d").await.unwrap().unwrap();
    assert_eq!(
        (found.status, found.vswitch_id.as_deref()),
        (Some(MountTargetStatus::Pending), Some("vsw-1"))
    );
    http.answer(200, r#"{"TotalCount":1,"DirQuotaInfos":[{"Path":"/a","DirInode":"7","Status":"Normal","UserQuotaInfos":[
        {"UserType":"AllUsers","QuotaType":"Enforcement","SizeLimit":20,"SizeReal":1,"SizeRealInByte":5,
         "FileCountReal":2}]}]}"#);
    let found = client.dir_quota(&id(), "/a").await.unwrap().unwrap();
    assert_eq!(found.status, QuotaStatus::Normal);
    let quota = found.of_all_users().unwrap();
    assert_eq!((quota.size_limit, quota.size_real_in_byte), (Some(Gibibytes(20)), Some(5)));
    http.answer(200, r#"{"AccessPoint":{"AccessPointId":"ap-1","FileSystemId":"1ca404","Status":"Active",
        "DomainName":"ap-1.x","RootPath":"/a","RootPathStatus":"2","VSwitchId":"vsw-1","EnabledRam":false}}"#);
    let which = AccessPointRef { file_system_id: &id(), access_point_id: "ap-1" };
    let found = client.access_point(which).await.unwrap().unwrap();
    assert_eq!(
        (found.status, found.domain_name.as_deref()),
        (AccessPointStatus::Active, Some("ap-1.x"))
    );
    http.answer(200, r#"{"RecycleBinAttribute":{"Status":"Enable","ReservedDays":3,"Size":100}}"#);
    let bin = client.recycle_bin(&id()).await.unwrap();
    assert_eq!((bin.status, bin.reserved_days), (RecycleBinStatus::Enable, 3));
    assert_eq!(http.asked().last().unwrap().method(), "GET");
}

#[tokio::test]
async fn what_is_not_there_is_an_answer_and_no_failure() {
    let scene = scene();
    let client = &scene.client;
    let which = AccessPointRef { file_system_id: &id(), access_point_id: "ap-1" };
    scene.refuse(404, "InvalidFileSystem.NotFound");
    assert_eq!(client.file_system(&id()).await.unwrap(), None);
    scene.http.answer(200, r#"{"TotalCount":0,"FileSystems":{"FileSystem":[]}}"#);
    assert_eq!(client.file_system(&id()).await.unwrap(), None);
    scene.refuse(404, "InvalidFilesystem.NotFound");
    assert_eq!(client.ensure_file_system_deleted(&id()).await.unwrap(), Deleted::Already);
    scene.refuse(404, "InvalidParam.MountTargetDomain");
    assert_eq!(client.ensure_mount_target_deleted(&id(), "d").await.unwrap(), Deleted::Already);
    scene.refuse(400, "InvalidParameter.QuotaNotExistOnPath");
    assert_eq!(client.ensure_dir_quota_cancelled(&id(), "/a").await.unwrap(), Deleted::Already);
    scene.refuse(404, "NotFound");
    assert_eq!(client.access_point(which).await.unwrap(), None);
    scene.refuse(404, "InvalidAccessGroup.NotFound");
    let fault = client.create_mount_target(&mount_target()).await.unwrap_err();
    assert_eq!(fault.kind(), Some(Kind::NotFound), "{fault}");
}

#[tokio::test]
async fn a_list_is_read_page_by_page_to_its_end() {
    let scene = scene();
    let page = |from: u32, to: u32| {
        let items: Vec<_> =
            (from..to).map(|n| format!(r#"{{"Path":"/{n}","Status":"Normal"}}"#)).collect();
        format!(r#"{{"TotalCount":150,"DirQuotaInfos":[{}]}}"#, items.join(","))
    };
    scene.http.answer(200, &page(0, 100));
    scene.http.answer(200, &page(100, 150));
    let quotas = scene.client.dir_quotas(&id()).await.unwrap();
    assert_eq!((quotas.len(), quotas[149].path.as_str()), (150, "/149"));
    let sent = scene.sent();
    assert!(sent[1].contains("PageNumber=2&PageSize=100&"), "{sent:?}");
    assert_eq!(sent.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_waits_and_comes_through() {
    let scene = scene();
    for _ in 0..2 {
        scene.refuse(400, "Throttling.User");
    }
    scene.http.answer(200, DONE);
    let began = Instant::now();
    scene.client.ensure_dir(&directory()).await.unwrap();
    let took = began.elapsed();
    assert!(took >= 3 * SECOND && took < 4 * SECOND, "1 s and 2 s of pause: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_throttles_for_ever_ends_the_call_in_time_with_the_reason() {
    let scene = scene();
    for _ in 0..20 {
        scene.refuse(400, "Throttling");
    }
    let began = Instant::now();
    let fault = scene.client.ensure_dir(&directory()).await.unwrap_err();
    assert!(began.elapsed() <= CALL_DEADLINE, "{:?}", began.elapsed());
    assert_eq!(fault.kind(), Some(Kind::Throttled), "{fault}");
    assert!(
        fault
            .to_string()
            .contains("(9 attempts): Throttling: no; the account makes too many calls"),
        "{fault}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_with_the_same_token_and_another_nonce() {
    let scene = scene();
    scene.http.fail(HttpFault::Broken { why: "reset".to_owned() });
    scene.http.answer(503, "<html>");
    scene.http.answer(200, r#"{"FileSystemId":"1ca404"}"#);
    scene.client.create_file_system(&file_system()).await.unwrap();
    let sent = scene.sent();
    assert!(sent.len() == 3 && sent.iter().all(|query| *query == sent[0]), "{sent:?}");
    let asked = scene.http.asked();
    let nonce = |number: usize| asked[number].headers()["x-acs-signature-nonce"].clone();
    assert_ne!(nonce(0), nonce(1));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_token_is_not_asked_for_again_when_its_answer_is_lost() {
    let scene = scene();
    scene.http.fail(HttpFault::Broken { why: "reset".to_owned() });
    let fault = scene.client.create_mount_target(&mount_target()).await.unwrap_err();
    assert!(fault.may_have_been_done());
    assert_eq!(
        fault.to_string(),
        "failed to call CreateMountTarget at nas.example.com: the connection ended before the answer: reset; \
         whether it was done is not known"
    );
    scene.http.fail(HttpFault::Unreached { why: "refused".to_owned() });
    scene.http.answer(200, r#"{"MountTargetDomain":"d"}"#);
    assert_eq!(scene.client.create_mount_target(&mount_target()).await.unwrap(), "d");
    assert_eq!(scene.sent().len(), 3, "what never arrived is sent again");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_silent_ends_the_call_in_time() {
    let scene = scene();
    for _ in 0..9 {
        scene.http.answer_after(3600 * SECOND, Ok((200, DONE.to_owned())));
    }
    let began = Instant::now();
    let fault = scene.client.ensure_dir(&directory()).await.unwrap_err();
    assert!(began.elapsed() <= CALL_DEADLINE, "{:?}", began.elapsed());
    assert_eq!(fault.attempts, 3);
    assert!(fault.may_have_been_done(), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_have_ended_at_the_service_are_renewed_once() {
    let scene = scene();
    scene.refuse(400, "InvalidSecurityToken.Expired");
    scene.http.answer(200, DONE);
    scene.client.ensure_dir(&directory()).await.unwrap();
    let asked = scene.http.asked();
    let key = |number: usize| asked[number].headers()["authorization"].to_str().unwrap().to_owned();
    assert!(key(0).contains("Credential=K1,") && key(1).contains("Credential=K2,"));
    scene.refuse(404, "InvalidAccessKeyId.NotFound");
    scene.refuse(404, "InvalidAccessKeyId.NotFound");
    let fault = scene.client.ensure_dir(&directory()).await.unwrap_err();
    assert_eq!((fault.kind(), fault.attempts), (Some(Kind::KeyUnknown), 2), "{fault}");
}

#[tokio::test]
async fn without_credentials_nothing_is_sent_and_it_is_said_where_they_were_looked_for() {
    let source = FakeSource::default();
    source.fail(Some(SourceFault::Absent("X is not set".to_owned())));
    let scene = scene_with(source);
    let fault = scene.client.ensure_dir(&directory()).await.unwrap_err().to_string();
    assert_eq!(
        fault,
        "failed to call CreateDir at nas.example.com: no credentials were found (X is not set); what needs none \
         goes on"
    );
    assert!(scene.http.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_calls_at_once_those_that_would_come_too_late_are_told_at_once() {
    let scene = scene();
    let quota = SetDirQuota {
        file_system_id: id(),
        path: "/a".to_owned(),
        kind: QuotaKind::Accounting,
        size_limit: None,
        file_count_limit: None,
    };
    // 10 at once, then 2 each second for 50 s.
    let fit = 110;
    for _ in 0..fit {
        scene.http.answer(200, DONE);
    }
    let client = Arc::new(scene.client);
    let began = Instant::now();
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let (client, quota) = (Arc::clone(&client), quota.clone());
            tokio::spawn(async move { (client.set_dir_quota(&quota).await, began.elapsed()) })
        })
        .collect();
    let (mut done, mut crowded) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            (Ok(()), _) => done += 1,
            (Err(fault), after) => {
                assert!(fault.to_string().contains("at 120 a minute this one's turn"), "{fault}");
                assert_eq!(after, Duration::ZERO);
                crowded += 1;
            }
        }
    }
    assert_eq!((done, crowded), (fit, 1000 - fit));
}

#[tokio::test]
async fn an_order_that_says_that_it_failed_has_failed() {
    let scene = scene();
    scene.http.answer(200, r#"{"RequestId":"R-3","Success":false}"#);
    let fault = scene.client.ensure_dir_quota_cancelled(&id(), "/a").await.unwrap_err().to_string();
    assert!(
        fault.contains("it says that the request has failed") && fault.contains("R-3"),
        "{fault}"
    );
}

#[tokio::test]
async fn the_clock_of_the_service_is_told_without_credentials() {
    let (scene, source) = (scene(), "Sun, 06 Nov 1994 08:49:37 GMT");
    scene.refuse(400, "MissingAction");
    assert_eq!(scene.client.date().await, Ok(None));
    scene.http.date(source);
    scene.refuse(400, "MissingAction");
    assert_eq!(scene.client.date().await, Ok(Some(Duration::from_secs(784_111_777))));
    scene.http.date("yesterday");
    scene.refuse(400, "MissingAction");
    assert_eq!(scene.client.date().await, Ok(None));
    let asked = scene.http.asked();
    assert!(asked.iter().all(|request| request.headers().is_empty()), "{asked:?}");
}

#[tokio::test]
async fn file_systems_are_counted_by_asking_for_one() {
    let scene = scene();
    scene.http.answer(200, r#"{"RequestId":"R","TotalCount":7,"FileSystems":{"FileSystem":[]}}"#);
    assert_eq!(scene.client.number_of_file_systems().await.unwrap(), 7);
    assert!(scene.sent()[0].contains("PageNumber=1&PageSize=1&RegionId=cn-hangzhou"));
}
