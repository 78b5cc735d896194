//! How much of their quotas volumes use, as the service counts it: asked in the background, for metrics alone.
//!
//! ```text
//! PersistentVolumes (every five minutes) -> their file systems -> the quotas of each -> those of the volumes
//! ```
//!
//! No record is read: a PersistentVolume says server and path, and the server's domain says the file system. So the
//! quota of a volume with a private name for a server, or behind an access point, is not found; one that an
//! administrator has set is. Of a file system that does not answer nothing is shown until it does.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::controller::domain::region::region_of;
use crate::kubernetes::Volumes;
use crate::kubernetes::volumes::UsedVolume;
use crate::model::VolumeAttributes;
use crate::model::mount_target::MountTargetKind;
use crate::nas::NasClient;
use crate::nas::NasFault;
use crate::nas::Region;
use crate::nas::types::DirQuota;
use crate::nas::types::FileSystemId;

/// Between two rounds. The service itself counts some time later.
const EVERY: Duration = Duration::from_secs(300);
/// Volumes that are named: those that are nearest to their limits.
pub const MOST: usize = 500;

/// Lists the quotas of a file system.
#[async_trait]
pub trait Quotas: Send + Sync + fmt::Debug {
    /// All of them.
    ///
    /// # Errors
    /// When the API does not say.
    async fn of(&self, file_system_id: &FileSystemId) -> Result<Vec<DirQuota>, NasFault>;
}

#[async_trait]
impl Quotas for NasClient {
    async fn of(&self, file_system_id: &FileSystemId) -> Result<Vec<DirQuota>, NasFault> {
        self.dir_quotas(file_system_id).await
    }
}

/// What is known, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaReport {
    /// Volumes with a quota, [`MOST`] at most, the fullest first.
    pub volumes: Vec<QuotaUse>,
    /// How many there are besides.
    pub beyond: u64,
    /// How often the cluster or the API has not said.
    pub failures: u64,
}

/// What a volume may use, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// The PersistentVolume.
    pub volume: String,
    /// Its mount target.
    pub target: String,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that are allowed.
    pub limit: u64,
}

impl QuotaUse {
    /// Of 1,000.
    fn fullness(&self) -> u128 {
        u128::from(self.used) * 1000 / u128::from(self.limit.max(1))
    }
}

/// Where the report is read.
#[derive(Clone, Debug, Default)]
pub struct QuotaBoard(Arc<Mutex<QuotaReport>>);

impl QuotaBoard {
    /// What is known now.
    #[must_use]
    pub fn report(&self) -> QuotaReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut QuotaReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Asks for quotas.
#[derive(Debug)]
pub struct QuotaWatcher {
    driver: String,
    volumes: Arc<dyn Volumes>,
    region: Region,
    quotas: Arc<dyn Quotas>,
    board: QuotaBoard,
}

/// The volumes of a file system, by the path that each one is.
type ByPath = HashMap<String, Vec<(String, String)>>;

impl QuotaWatcher {
    /// Knows of none yet. `quotas` is the API of `region`.
    #[must_use]
    pub fn new(
        driver: &str,
        volumes: Arc<dyn Volumes>,
        region: Region,
        quotas: Arc<dyn Quotas>,
    ) -> Self {
        let board = QuotaBoard::default();
        Self { driver: driver.to_owned(), volumes, region, quotas, board }
    }

    /// Where what is known is read.
    #[must_use]
    pub fn board(&self) -> QuotaBoard {
        self.board.clone()
    }

    /// Asks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let asking = async {
            loop {
                self.ask().await;
                sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(asking).await;
    }

    async fn ask(&self) {
        let volumes = match self.volumes.of_driver(&self.driver).await {
            Ok(volumes) => volumes,
            Err(fault) => {
                tracing::debug!(error = %fault, "quotas are not known anew");
                return self.board.change(|report| {
                    *report = QuotaReport { failures: report.failures + 1, ..Default::default() };
                });
            }
        };
        let (mut found, mut failures) = (Vec::new(), 0);
        for (id, paths) in self.by_file_system(&volumes) {
            let Ok(id) = FileSystemId::parse(&id) else { continue };
            match self.quotas.of(&id).await {
                Ok(quotas) => found.extend(quotas.iter().flat_map(|quota| used(quota, &paths))),
                Err(fault) => {
                    tracing::debug!(file_system.id = %id, error = %fault, "its quotas are not known");
                    failures += 1;
                }
            }
        }
        found.sort_by(|one, other| {
            (other.fullness(), &one.volume).cmp(&(one.fullness(), &other.volume))
        });
        let beyond = found.len().saturating_sub(MOST) as u64;
        found.truncate(MOST);
        self.board.change(|report| {
            let failures = report.failures + failures;
            *report = QuotaReport { volumes: found, beyond, failures };
        });
    }

    /// Where there may be quotas: a file system has none as a whole.
    fn by_file_system(&self, volumes: &[UsedVolume]) -> BTreeMap<String, ByPath> {
        let mut all: BTreeMap<String, ByPath> = BTreeMap::new();
        for volume in volumes {
            let parsed = VolumeAttributes::parse(&volume.attributes, &volume.mount_options);
            let Ok(VolumeAttributes { server, path, .. }) = parsed else { continue };
            let MountTargetKind::GeneralPurpose { file_system, .. } = server.kind() else {
                continue;
            };
            if path.as_str() == "/" || region_of(&server).as_ref() != Some(&self.region) {
                continue;
            }
            let named = (volume.about.name().to_owned(), server.name().to_string());
            let paths = all.entry(file_system.clone()).or_default();
            paths.entry(path.as_str().to_owned()).or_default().push(named);
        }
        all
    }
}

/// Of every volume that is the directory.
fn used(quota: &DirQuota, paths: &ByPath) -> Vec<QuotaUse> {
    let ours = quota.of_all_users().filter(|ours| ours.quota_type == "Enforcement");
    let both = ours.and_then(|ours| Some((ours.size_real_in_byte?, ours.size_limit?.bytes())));
    let (Some((used, limit)), Some(volumes)) = (both, paths.get(&quota.path)) else {
        return Vec::new();
    };
    let of = |(volume, target): &(String, String)| QuotaUse {
        volume: volume.clone(),
        target: target.clone(),
        used,
        limit,
    };
    volumes.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::About;
    use crate::kubernetes::KubernetesFault;
    use crate::nas::Action;
    use crate::nas::Endpoint;
    use crate::nas::NasCause;

    const GIB: u64 = 1 << 30;

    /// Quotas by file system and path, with what is used; a file system that is not there does not answer.
    #[derive(Debug, Default)]
    struct World {
        volumes: Mutex<Vec<UsedVolume>>,
        quotas: Mutex<BTreeMap<String, Vec<(String, u64)>>>,
        asked: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Volumes for World {
        async fn of_driver(&self, _: &str) -> Result<Vec<UsedVolume>, KubernetesFault> {
            Ok(self.volumes.lock().unwrap().clone())
        }
    }

    #[async_trait]
    impl Quotas for World {
        async fn of(&self, id: &FileSystemId) -> Result<Vec<DirQuota>, NasFault> {
            self.asked.lock().unwrap().push(id.to_string());
            let quotas = self.quotas.lock().unwrap();
            let quotas = quotas.get(&id.to_string()).ok_or_else(silent)?;
            Ok(quotas.iter().map(|(path, used)| quota(path, "Enforcement", *used)).collect())
        }
    }

    fn silent() -> NasFault {
        NasFault {
            action: Action::DescribeDirQuotas,
            endpoint: Endpoint::parse("nas.test").unwrap(),
            attempts: 1,
            cause: NasCause::Crowded { per_minute: 1, wait: Duration::from_secs(1) },
        }
    }

    fn quota(path: &str, kind: &str, used: u64) -> DirQuota {
        let user = json!({
            "UserType": "AllUsers", "QuotaType": kind, "SizeLimit": 2, "SizeRealInByte": used,
        });
        let quota = json!({ "Path": path, "Status": "Normal", "UserQuotaInfos": [user] });
        serde_json::from_value(quota).unwrap()
    }

    fn volume(name: &str, server: &str, path: &str) -> UsedVolume {
        let attributes = [("server", server), ("path", path)];
        UsedVolume {
            about: About::volume(name, "u"),
            claim: None,
            handle: name.to_owned(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            mount_options: Vec::new(),
        }
    }

    fn watch(world: &Arc<World>) -> QuotaBoard {
        let region = Region::parse("cn-test").unwrap();
        let volumes: Arc<dyn Volumes> = Arc::<World>::clone(world);
        let quotas: Arc<dyn Quotas> = Arc::<World>::clone(world);
        let watcher = QuotaWatcher::new("d", volumes, region, quotas);
        let board = watcher.board();
        tokio::spawn(watcher.run(CancellationToken::new()));
        board
    }

    fn shown(report: &QuotaReport) -> Vec<(&str, u64, u64)> {
        report.volumes.iter().map(|one| (one.volume.as_str(), one.used, one.limit)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_volumes_use_of_their_quotas_is_found_by_server_and_path_the_fullest_first() {
        let world = Arc::<World>::default();
        let one = "0123456789-abc12.cn-test.nas.aliyuncs.com";
        *world.volumes.lock().unwrap() = vec![
            volume("pv-a", one, "/a"),
            volume("pv-b", one, "/k8s/b"),
            volume("whole", "1111111111-abc12.cn-test.nas.aliyuncs.com", "/"),
            volume("elsewhere", "2222222222-abc12.cn-hangzhou.nas.aliyuncs.com", "/a"),
            volume("private", "nas.example.com", "/a"),
            volume("silent", "3333333333-abc12.cn-test.nas.aliyuncs.com", "/a"),
        ];
        let all = vec![("/a".to_owned(), 5), ("/k8s/b".to_owned(), GIB), ("/other".to_owned(), 7)];
        world.quotas.lock().unwrap().insert("0123456789".to_owned(), all);
        let board = watch(&world);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(*world.asked.lock().unwrap(), ["0123456789", "3333333333"]);
        let report = board.report();
        assert_eq!(shown(&report), [("pv-b", GIB, 2 * GIB), ("pv-a", 5, 2 * GIB)]);
        assert_eq!((report.failures, report.volumes[0].target.as_str()), (1, one));
        world.quotas.lock().unwrap().clear();
        sleep(EVERY).await;
        let nothing = QuotaReport { volumes: Vec::new(), beyond: 0, failures: 3 };
        assert_eq!(board.report(), nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn more_volumes_than_are_named_are_counted_and_the_fullest_are_named() {
        let world = Arc::<World>::default();
        let server = "0123456789-abc12.cn-test.nas.aliyuncs.com";
        let numbers = || 0..MOST as u64 + 2;
        let all =
            numbers().map(|number| volume(&format!("pv-{number}"), server, &format!("/{number}")));
        *world.volumes.lock().unwrap() = all.collect();
        let all = numbers().map(|number| (format!("/{number}"), number << 22)).collect();
        world.quotas.lock().unwrap().insert("0123456789".to_owned(), all);
        let board = watch(&world);
        sleep(Duration::from_secs(1)).await;
        let report = board.report();
        assert_eq!((report.volumes.len(), report.beyond), (MOST, 2));
        assert_eq!(report.volumes[0].volume, format!("pv-{}", MOST + 1));
        assert!(!report.volumes.iter().any(|one| ["pv-0", "pv-1"].contains(&one.volume.as_str())));
    }

    #[test]
    fn what_is_only_counted_is_no_limit() {
        let paths: ByPath = [("/a".to_owned(), vec![("pv".to_owned(), "t".to_owned())])].into();
        assert!(used(&quota("/a", "Accounting", 5), &paths).is_empty());
        assert!(used(&quota("/b", "Enforcement", 5), &paths).is_empty());
        assert_eq!(used(&quota("/a", "Enforcement", 5), &paths).len(), 1);
    }
}
