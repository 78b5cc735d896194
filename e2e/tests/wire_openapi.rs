//! Our client against the simulator of the vendor's API: over TLS, with every kind of credentials, and with faults.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alinas_csi::nas::CredentialsHolder;
use alinas_csi::nas::Deleted;
use alinas_csi::nas::Endpoint;
use alinas_csi::nas::Http;
use alinas_csi::nas::Kind;
use alinas_csi::nas::NasClient;
use alinas_csi::nas::Network;
use alinas_csi::nas::PlainNetwork;
use alinas_csi::nas::Region;
use alinas_csi::nas::SecureNetwork;
use alinas_csi::nas::credentials::CredentialSettings;
use alinas_csi::nas::types::AccessPointRef;
use alinas_csi::nas::types::AccessPointStatus;
use alinas_csi::nas::types::ClientToken;
use alinas_csi::nas::types::CreateAccessPoint;
use alinas_csi::nas::types::CreateDir;
use alinas_csi::nas::types::CreateFileSystem;
use alinas_csi::nas::types::CreateMountTarget;
use alinas_csi::nas::types::FileSystemId;
use alinas_csi::nas::types::FileSystemStatus;
use alinas_csi::nas::types::FileSystemType;
use alinas_csi::nas::types::Gibibytes;
use alinas_csi::nas::types::MountTargetStatus;
use alinas_csi::nas::types::QuotaKind;
use alinas_csi::nas::types::QuotaStatus;
use alinas_csi::nas::types::RecycleBinStatus;
use alinas_csi::nas::types::RootDirectory;
use alinas_csi::nas::types::SetDirQuota;
use alinas_csi::nas::types::Tag;
use alinas_csi::runtime::Clock;
use alinas_csi::runtime::SystemClock;
use alinas_csi::tls::Trust;
use e2e::openapi::Fault;
use e2e::openapi::Simulator;
use e2e::openapi::Timing;
use tokio::time::Instant;
use tokio::time::sleep;

const DEADLINE: Duration = Duration::from_secs(30);
const KEY: &[(&str, &str)] = &[
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI5tExample"),
    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "a secret"),
    ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"),
];
const NO_KEY: &[(&str, &str)] = &[];
const ROLE: &str = "acs:ram::1:role/alinas-csi";
const PROVIDER: &str = "acs:ram::1:oidc-provider/ack-rrsa-c0ffee";

/// With a user who may do everything.
async fn simulator() -> Simulator {
    let simulator = Simulator::start(Timing::default()).await.unwrap();
    simulator.add_user("LTAI5tExample", "a secret");
    simulator
}

async fn client(simulator: &Simulator, variables: &[(&str, &str)]) -> NasClient {
    client_with(simulator, variables, None).await
}

/// As the driver will put it together, but with the simulator in the place of STS and the metadata service.
async fn client_with(
    simulator: &Simulator,
    variables: &[(&str, &str)],
    directory: Option<&Path>,
) -> NasClient {
    let look_up = |name: &str| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    };
    let (region, directory) = (Region::parse("cn-test").unwrap(), directory.map(Path::to_owned));
    let mut settings =
        CredentialSettings::look_up(look_up, directory, Some(&region), Network::Automatic).unwrap();
    let endpoint = Endpoint::parse(&simulator.endpoint).unwrap();
    settings.sts = endpoint.clone();
    if let Some(service) = &mut settings.metadata_service {
        service.clone_from(&simulator.metadata);
    }
    let trust = Trust::new(Some(&simulator.ca_file)).unwrap();
    let secure: Arc<dyn Http> = Arc::new(SecureNetwork::new(trust.https().await.unwrap()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let plain = Arc::new(PlainNetwork::in_the_clear());
    let sources = settings.sources(Arc::clone(&secure), plain, Arc::clone(&clock));
    let credentials = CredentialsHolder::new(sources, Arc::clone(&clock));
    NasClient::new(secure, Arc::new(credentials), clock, endpoint, region)
}

fn file_system(token: &str) -> CreateFileSystem {
    CreateFileSystem {
        client_token: ClientToken::parse(token).unwrap(),
        file_system_type: FileSystemType::Standard,
        storage_type: "Capacity".to_owned(),
        capacity: None,
        zone_id: None,
        description: Some("pvc-1 of alinas-csi: ümlaut & more".to_owned()),
        encrypt_type: None,
        kms_key_id: None,
        resource_group_id: None,
        vpc_id: None,
        vswitch_id: None,
        tags: vec![Tag::parse("createdby", "alinas-csi").unwrap()],
    }
}

fn mount_target(id: &FileSystemId) -> CreateMountTarget {
    CreateMountTarget {
        file_system_id: id.clone(),
        access_group_name: "DEFAULT_VPC_GROUP_NAME".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        vswitch_id: "vsw-1".to_owned(),
        security_group_id: None,
    }
}

fn directory(id: &FileSystemId, path: &str) -> CreateDir {
    CreateDir {
        file_system_id: id.clone(),
        path: path.to_owned(),
        owner_user_id: 1000,
        owner_group_id: 1000,
        mode: 0o750,
    }
}

/// Asks again until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < DEADLINE, "{what} does not come");
        sleep(Duration::from_millis(50)).await;
    }
}

/// One that can have mount targets.
async fn running(client: &NasClient, token: &str) -> FileSystemId {
    let id = client.create_file_system(&file_system(token)).await.unwrap();
    until("a running file system", async || {
        let found = client.file_system(&id).await.unwrap().unwrap();
        found.status == Some(FileSystemStatus::Running)
    })
    .await;
    id
}

#[tokio::test]
async fn a_file_system_is_made_mountable_and_deleted_again() {
    let simulator = simulator().await;
    let client = client(&simulator, KEY).await;
    let id = client.create_file_system(&file_system("pvc-1")).await.unwrap();
    assert_eq!(
        client.file_system(&id).await.unwrap().unwrap().status,
        Some(FileSystemStatus::Pending)
    );
    assert_eq!(running(&client, "pvc-1").await, id, "the same token is the same file system");
    assert!(simulator.root_of(id.as_str()).is_dir());
    let domain = client.create_mount_target(&mount_target(&id)).await.unwrap();
    assert!(
        domain.starts_with(id.as_str()) && domain.ends_with(".cn-test.nas.aliyuncs.com"),
        "{domain}"
    );
    let status =
        async || client.mount_target(&id, &domain).await.unwrap().and_then(|one| one.status);
    assert_eq!(status().await, Some(MountTargetStatus::Pending));
    until("an active mount target", async || status().await == Some(MountTargetStatus::Active))
        .await;
    let tag = Tag::parse("ack.aliyun.com", "c0ffee").unwrap();
    client.tag_file_system(&id, std::slice::from_ref(&tag)).await.unwrap();
    let ours = client.file_systems(&[tag]).await.unwrap();
    assert_eq!((ours.len(), ours[0].tags.len(), ours[0].mount_targets.len()), (1, 2, 1));
    assert!(client.file_systems(&[Tag::parse("k", "other").unwrap()]).await.unwrap().is_empty());
    assert_eq!(client.recycle_bin(&id).await.unwrap().status, RecycleBinStatus::Disable);
    let in_use = client.ensure_file_system_deleted(&id).await.unwrap_err();
    assert_eq!(in_use.kind(), Some(Kind::Busy), "{in_use}");
    assert_eq!(client.ensure_mount_target_deleted(&id, &domain).await.unwrap(), Deleted::Now);
    assert_eq!(status().await, Some(MountTargetStatus::Deleting));
    until("the end of the mount target", async || status().await.is_none()).await;
    assert_eq!(client.ensure_mount_target_deleted(&id, &domain).await.unwrap(), Deleted::Already);
    assert_eq!(client.ensure_file_system_deleted(&id).await.unwrap(), Deleted::Now);
    assert_eq!(client.ensure_file_system_deleted(&id).await.unwrap(), Deleted::Already);
    assert_eq!(client.file_system(&id).await.unwrap(), None);
    assert_eq!((simulator.file_systems(), simulator.root_of(id.as_str()).exists()), (0, false));
}

#[tokio::test]
async fn a_directory_is_made_bounded_measured_and_freed() {
    let simulator = simulator().await;
    let client = client(&simulator, KEY).await;
    let id = running(&client, "pvc-1").await;
    client.ensure_dir(&directory(&id, "/k8s/pvc 1")).await.unwrap();
    client.ensure_dir(&directory(&id, "/k8s/pvc 1")).await.unwrap();
    let folder = simulator.root_of(id.as_str()).join("k8s/pvc 1");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o750);
    let quota = |path: &str, gibibytes| SetDirQuota {
        file_system_id: id.clone(),
        path: path.to_owned(),
        kind: QuotaKind::Enforcement,
        size_limit: Some(Gibibytes(gibibytes)),
        file_count_limit: None,
    };
    let missing = client.set_dir_quota(&quota("/k8s/other", 1)).await.unwrap_err();
    assert_eq!(missing.kind(), Some(Kind::NotFound), "{missing}");
    client.set_dir_quota(&quota("/k8s/pvc 1", 20)).await.unwrap();
    let described = async || client.dir_quota(&id, "/k8s/pvc 1").await.unwrap().unwrap();
    assert_eq!(described().await.status, QuotaStatus::Initializing);
    until("a quota in force", async || described().await.status == QuotaStatus::Normal).await;
    std::fs::write(folder.join("data"), [0; 4096]).unwrap();
    client.set_dir_quota(&quota("/k8s/pvc 1", 30)).await.unwrap();
    let all = client.dir_quotas(&id).await.unwrap();
    let ours = all[0].of_all_users().unwrap();
    assert_eq!((ours.size_limit, ours.size_real_in_byte), (Some(Gibibytes(30)), Some(4096)));
    assert_eq!(client.ensure_dir_quota_cancelled(&id, "/k8s/pvc 1").await.unwrap(), Deleted::Now);
    assert_eq!(
        client.ensure_dir_quota_cancelled(&id, "/k8s/pvc 1").await.unwrap(),
        Deleted::Already
    );
    let outside = client.ensure_dir(&directory(&id, "/../x")).await.unwrap_err();
    assert_eq!(outside.kind(), Some(Kind::Wrong), "{outside}");
}

#[tokio::test]
async fn an_access_point_is_made_active_and_deleted_again() {
    let simulator = simulator().await;
    let client = client(&simulator, KEY).await;
    let id = running(&client, "pvc-1").await;
    let made = client
        .create_access_point(&CreateAccessPoint {
            file_system_id: id.clone(),
            access_group: "DEFAULT_VPC_GROUP_NAME".to_owned(),
            name: Some("pvc-1".to_owned()),
            vpc_id: "vpc-1".to_owned(),
            vswitch_id: "vsw-1".to_owned(),
            root_directory: "/k8s/pvc-1".to_owned(),
            root: Some(RootDirectory { owner_user_id: 0, owner_group_id: 0, mode: 0o755 }),
            posix_user: None,
            enabled_ram: true,
            tags: Vec::new(),
        })
        .await
        .unwrap();
    let which = AccessPointRef { file_system_id: &id, access_point_id: &made.access_point_id };
    let described = async || client.access_point(which).await.unwrap().unwrap();
    assert_eq!(described().await.status, AccessPointStatus::Pending);
    until("an access point", async || described().await.status == AccessPointStatus::Active).await;
    let found = described().await;
    assert_eq!(found.domain_name.as_ref(), Some(&made.access_point_domain));
    assert_eq!((found.root_path.as_deref(), found.enabled_ram), (Some("/k8s/pvc-1"), Some(true)));
    let listed = async || client.access_points(&id).await.unwrap();
    let ours = &listed().await[0];
    assert_eq!(ours.access_point_name.as_deref(), Some("pvc-1"));
    assert_eq!((&ours.root_path, &ours.domain_name), (&found.root_path, &found.domain_name));
    assert_eq!(client.ensure_access_point_deleted(which).await.unwrap(), Deleted::Now);
    assert!(listed().await.is_empty());
    assert_eq!(client.ensure_access_point_deleted(which).await.unwrap(), Deleted::Already);
    assert_eq!(client.access_point(which).await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_file_system() {
    let simulator = simulator().await;
    let client = client(&simulator, KEY).await;
    simulator.fail("CreateFileSystem", 1, Fault::DropAnswer);
    simulator.fail("CreateFileSystem", 1, Fault::Drop);
    simulator.fail("CreateFileSystem", 1, Fault::trouble());
    client.create_file_system(&file_system("pvc-1")).await.unwrap();
    assert_eq!((simulator.file_systems(), simulator.times_served("CreateFileSystem")), (1, 2));
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_mount_target() {
    let simulator = simulator().await;
    let client = client(&simulator, KEY).await;
    let id = running(&client, "pvc-1").await;
    simulator.fail("CreateMountTarget", 1, Fault::DropAnswer);
    let fault = client.create_mount_target(&mount_target(&id)).await.unwrap_err();
    assert!(fault.may_have_been_done(), "{fault}");
    assert_eq!(client.mount_targets(&id).await.unwrap().len(), 1, "whoever asked looks first");
}

#[tokio::test]
async fn a_slow_service_and_a_throttling_one_are_waited_for() {
    let simulator = simulator().await;
    let client = client(&simulator, KEY).await;
    simulator.fail("CreateFileSystem", 2, Fault::throttled());
    simulator.fail("CreateFileSystem", 1, Fault::Delay(Duration::from_millis(500)));
    let began = Instant::now();
    client.create_file_system(&file_system("pvc-1")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(3500), "{:?}", began.elapsed());
    assert_eq!(simulator.file_systems(), 1);
}

#[tokio::test]
async fn a_service_account_s_role_is_assumed_and_assumed_again_when_its_session_has_ended() {
    let simulator = simulator().await;
    simulator.add_role(ROLE, PROVIDER, "ey.token");
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "ey.token").unwrap();
    let variables = [
        ("ALIBABA_CLOUD_ROLE_ARN", ROLE),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", PROVIDER),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.path().to_str().unwrap()),
    ];
    let client = client(&simulator, &variables).await;
    let id = client.create_file_system(&file_system("pvc-1")).await.unwrap();
    client.file_system(&id).await.unwrap();
    assert_eq!(simulator.times_served("AssumeRoleWithOIDC"), 1, "one session for both calls");
    simulator.end_sessions();
    client.file_system(&id).await.unwrap();
    assert_eq!(simulator.times_served("AssumeRoleWithOIDC"), 2);
    let with: Vec<_> = simulator.served().into_iter().map(|(_, key)| key).collect();
    assert_eq!(with, ["", "STS.1", "STS.1", "", "STS.2"]);
    std::fs::write(token.path(), "ey.old").unwrap();
    simulator.end_sessions();
    let fault = client.file_system(&id).await.unwrap_err().to_string();
    let said = "credentials from the role for the service account (RRSA) cannot be had";
    assert!(fault.contains(said) && fault.contains("the kubelet should have renewed"), "{fault}");
    assert!(!fault.contains("ey.old"), "{fault}");
}

#[tokio::test]
async fn the_role_of_the_instance_is_used_where_nothing_else_is_set_up() {
    let simulator = simulator().await;
    let client = client(&simulator, NO_KEY).await;
    let fault = client.file_systems(&[]).await.unwrap_err().to_string();
    assert!(
        fault.contains("; the ECS instance has no RAM role); what needs none goes on"),
        "{fault}"
    );
    simulator.give_instance_role("node-role");
    let client = client_with(&simulator, NO_KEY, None).await;
    assert!(client.file_systems(&[]).await.unwrap().is_empty());
    assert_eq!(simulator.served(), [("DescribeFileSystems".to_owned(), "STS.1".to_owned())]);
}

#[tokio::test]
async fn a_mounted_secret_that_was_corrected_is_read_again_by_the_next_call() {
    let simulator = simulator().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("id"), "LTAI5tExample\n").unwrap();
    std::fs::write(folder.path().join("secret"), "a wrong one\n").unwrap();
    let client = client_with(&simulator, NO_KEY, Some(folder.path())).await;
    let fault = client.file_systems(&[]).await.unwrap_err();
    assert_eq!(fault.kind(), Some(Kind::WrongSecret));
    let line = fault.to_string();
    let advice = "; the secret from the mounted Secret is not the one of access key LTAI5tExample: put the right \
         one there (HTTP 400, request id 98696EF0-";
    assert!(line.contains(advice) && !line.contains("a wrong one"), "{line}");
    std::fs::write(folder.path().join("secret"), "a secret").unwrap();
    assert!(client.file_systems(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_granted_is_said_with_the_permission_to_grant() {
    let simulator = simulator().await;
    simulator.deny("LTAI5tExample", "nas:CreateFileSystem");
    let client = client(&simulator, KEY).await;
    let line = client.create_file_system(&file_system("pvc-1")).await.unwrap_err().to_string();
    let begin =
        format!("failed to call CreateFileSystem at {}: Forbidden.RAM: ", simulator.endpoint);
    let advice = "; grant nas:CreateFileSystem to the RAM user or role of access key LTAI5tExample, which is from \
         the environment (all that is needed: deploy/ram-policy.json) (HTTP 403, request id 98696EF0-";
    assert!(line.starts_with(&begin) && line.contains(advice), "{line}");
    assert_eq!(simulator.times_served("CreateFileSystem"), 0);
}

#[tokio::test]
async fn a_server_that_we_do_not_trust_gets_no_request() {
    let simulator = simulator().await;
    let other = Simulator::start(Timing::default()).await.unwrap();
    let client = client_of_another_authority(&simulator, &other).await;
    let line = client.file_systems(&[]).await.unwrap_err().to_string();
    assert!(line.contains("failed to connect: ") && line.contains("certificate"), "{line}");
    assert!(simulator.served().is_empty());
}

/// It speaks to `simulator` and trusts the authority of `other`.
async fn client_of_another_authority(simulator: &Simulator, other: &Simulator) -> NasClient {
    let trust = Trust::new(Some(&other.ca_file)).unwrap();
    let secure: Arc<dyn Http> = Arc::new(SecureNetwork::new(trust.https().await.unwrap()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let look_up =
        |name: &str| KEY.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let settings = CredentialSettings::look_up(look_up, None, None, Network::Public).unwrap();
    let plain = Arc::new(PlainNetwork::in_the_clear());
    let sources = settings.sources(Arc::clone(&secure), plain, Arc::clone(&clock));
    let credentials = Arc::new(CredentialsHolder::new(sources, Arc::clone(&clock)));
    let endpoint = Endpoint::parse(&simulator.endpoint).unwrap();
    NasClient::new(secure, credentials, clock, endpoint, Region::parse("cn-test").unwrap())
}
