//! The watcher over a cluster and a network that are as a test says; time is paused.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::time::sleep;

use super::*;
use crate::kubernetes::KubernetesFault;
use crate::kubernetes::reporter::fake::FakeSink;
use crate::runtime::SystemClock;

#[derive(Debug, Default)]
struct World {
    volumes: Mutex<Vec<UsedVolume>>,
    sights: Mutex<HashMap<String, Sight>>,
    lists_fail: Mutex<bool>,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[async_trait]
impl Volumes for World {
    async fn of_driver(&self, driver: &str) -> Result<Vec<UsedVolume>, KubernetesFault> {
        assert_eq!(driver, "d");
        if *self.lists_fail.lock().unwrap() {
            let (action, why) = ("list", "no right".to_owned());
            return Err(KubernetesFault::Forbidden { action, why });
        }
        Ok(self.volumes.lock().unwrap().clone())
    }
}

#[async_trait]
impl Sights for World {
    async fn look(&self, spec: &TunnelSpec) -> Sight {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        sleep(Duration::from_secs(1)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let sight = self.sights.lock().unwrap().get(spec.host.as_str()).cloned();
        sight.unwrap_or_else(|| fine(1))
    }
}

fn fine(address: u8) -> Sight {
    Sight::Answers {
        addresses: [IpAddr::from([192, 0, 2, address])].into(),
        certificate_ends: Some(SystemClock.now().epoch_seconds() + 90 * 86_400),
    }
}

fn volume(number: u8, server: &str) -> UsedVolume {
    let attributes = [("server".to_owned(), server.to_owned())].into();
    UsedVolume {
        about: About::volume(&format!("pv-{number}"), "u"),
        claim: (number > 0).then(|| About::claim("shop", &format!("data-{number}"), "u")),
        handle: format!("handle-{number}"),
        attributes,
        mount_options: Vec::new(),
    }
}

impl World {
    fn with(volumes: Vec<UsedVolume>) -> Arc<Self> {
        let world = Self::default();
        *world.volumes.lock().unwrap() = volumes;
        Arc::new(world)
    }

    fn show(&self, server: &str, sight: Sight) {
        self.sights.lock().unwrap().insert(server.to_owned(), sight);
    }
}

fn watch(world: &Arc<World>) -> (Board, Arc<FakeSink>) {
    let sink = Arc::<FakeSink>::default();
    let watcher = Watcher::new(
        "d",
        Arc::<World>::clone(world),
        Arc::<World>::clone(world),
        sink.reporter(),
        Arc::new(SystemClock),
    );
    let board = watcher.board();
    tokio::spawn(watcher.run(CancellationToken::new()));
    (board, sink)
}

async fn minutes(number: u64) {
    sleep(Duration::from_secs(60 * number)).await;
}

#[tokio::test(start_paused = true)]
async fn a_mount_target_that_is_deleted_and_made_again_is_said_once_each_on_every_volume_of_it() {
    let world = World::with(vec![volume(0, "a.test"), volume(1, "a.test"), volume(2, "b.test")]);
    let (board, sink) = watch(&world);
    minutes(30).await;
    assert_eq!(sink.said(), [""; 0]);
    world.show("a.test", Sight::Said(Trouble::Deleted, "it is gone; make another".to_owned()));
    minutes(30).await;
    let said = |name: &str| {
        format!("{name} MountTargetDeleted 1: mount target a.test: it is gone; make another")
    };
    let claim = "PersistentVolumeClaim data-1";
    let expected = [said("PersistentVolume pv-0"), said("PersistentVolume pv-1"), said(claim)];
    assert_eq!(sink.said(), expected);
    let lives: Vec<_> = board.report().targets.iter().map(|target| target.life).collect();
    assert_eq!(lives, ["deleted", "fine"]);
    world.show("a.test", fine(7));
    minutes(30).await;
    let said = sink.said();
    let reasons: Vec<_> = said[3..].iter().filter_map(|line| line.split(' ').nth(2)).collect();
    let (back, moved) = ("MountTargetBack", "MountTargetMoved");
    assert_eq!(reasons, [back, back, back, moved, moved, moved]);
    assert!(
        said[8]
            .ends_with("moved from 192.0.2.1 to 192.0.2.7; mounts follow at their next connection")
    );
}

#[tokio::test(start_paused = true)]
async fn a_hundred_mount_targets_are_looked_at_a_few_at_a_time() {
    let volumes = (1..=100).map(|number| volume(number, &format!("nas-{number}.test"))).collect();
    let world = World::with(volumes);
    let (board, _sink) = watch(&world);
    minutes(2).await;
    assert!(board.report().targets.iter().all(|target| target.looks == 1));
    assert_eq!(world.most_at_once.load(Ordering::SeqCst), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_any_more_is_forgotten_and_what_cannot_be_listed_is_not() {
    let world = World::with(vec![volume(1, "a.test")]);
    let (board, _sink) = watch(&world);
    minutes(1).await;
    *world.lists_fail.lock().unwrap() = true;
    minutes(10).await;
    let report = board.report();
    assert!(report.targets.len() == 1 && report.list_failures > 3, "{report:?}");
    *world.lists_fail.lock().unwrap() = false;
    world.volumes.lock().unwrap().clear();
    minutes(10).await;
    assert_eq!(board.report().targets, []);
}

#[tokio::test(start_paused = true)]
async fn volumes_without_encryption_and_those_that_cannot_be_mounted_are_not_watched() {
    let mut plain = volume(1, "a.test");
    plain.attributes.insert("mountProtocol".to_owned(), "nfs".to_owned());
    let mut wrong = volume(2, "b.test");
    wrong.attributes.insert("sever".to_owned(), "c.test".to_owned());
    let world = World::with(vec![plain, wrong]);
    let (board, _sink) = watch(&world);
    minutes(5).await;
    assert_eq!(board.report().targets, []);
}
