//! The Node service: one short handler for each call.
//!
//! LONG: half of it are tests, one for each thing that a kubelet is told.

use std::error::Error;
use std::fmt;

use tokio::sync::watch;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::async_trait;

use crate::csi::code;
use crate::csi::defaults::VolumeDefaults;
use crate::csi::node_event;
use crate::csi::refusal::Call;
use crate::csi::refusal::OrRefuse;
use crate::csi::refusal::not_served;
use crate::csi::request;
use crate::csi::topology::TopologyKey;
use crate::csi::troubles::Troubles;
use crate::host::worker::FsStats;
use crate::kubernetes::About;
use crate::kubernetes::Reason;
use crate::kubernetes::Report;
use crate::kubernetes::Reporter;
use crate::node::Node;
use crate::node::UnpublishError;
use crate::node::UnstageError;
use crate::node::claim_notes::ClaimNotes;
use crate::node::zone::ZoneSources;
use crate::proto::csi;
use crate::proto::csi::node_service_capability;
use crate::proto::csi::node_service_capability::rpc::Type;
use crate::proto::csi::volume_usage::Unit;
use crate::runtime::Chain;
use crate::runtime::request::Field;
use crate::runtime::request::note;

/// What the kubelet may call beside publishing.
///
/// `SINGLE_NODE_MULTI_WRITER` is what makes the kubelet tell ReadWriteOncePod from ReadWriteOnce.
const CAPABILITIES: [Type; 3] =
    [Type::StageUnstageVolume, Type::GetVolumeStats, Type::SingleNodeMultiWriter];

/// What the cluster calls this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeId(String);

/// A text is no node id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node id must have 1 to 256 bytes, not {0}")]
pub struct NodeIdError(usize);

impl NodeId {
    /// Reads an id (CSI 1.13, NodeGetInfo: at most 256 bytes).
    ///
    /// # Errors
    /// Says the rule.
    pub fn parse(text: &str) -> Result<Self, NodeIdError> {
        let length = text.len();
        if (1..=256).contains(&length) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NodeIdError(length))
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Serves `csi.v1.Node`.
#[derive(Debug)]
pub struct NodeService {
    node: Node,
    id: NodeId,
    defaults: VolumeDefaults,
    most_volumes: i64,
    topology: Option<(TopologyKey, ZoneSources)>,
    events: Reporter,
    troubles: Troubles,
    claims: Option<ClaimNotes>,
    asked: watch::Sender<bool>,
}

impl NodeService {
    /// Serves `node` under `id`.
    #[must_use]
    pub fn new(node: Node, id: NodeId) -> Self {
        Self {
            node,
            id,
            defaults: VolumeDefaults::default(),
            most_volumes: 0,
            topology: None,
            events: Reporter::silent(),
            troubles: Troubles::default(),
            claims: None,
            asked: watch::Sender::default(),
        }
    }

    /// What holds for volumes that do not say it themselves.
    #[must_use]
    pub fn with_defaults(self, defaults: VolumeDefaults) -> Self {
        Self { defaults, ..self }
    }

    /// How many volumes the scheduler may put on this node; 0 for any number.
    #[must_use]
    pub fn with_most_volumes(self, most_volumes: i64) -> Self {
        Self { most_volumes, ..self }
    }

    /// Says in which zone this node is.
    #[must_use]
    pub fn with_topology(self, key: TopologyKey, zones: ZoneSources) -> Self {
        Self { topology: Some((key, zones)), ..self }
    }

    /// Where it is said what a user must act on.
    #[must_use]
    pub fn with_events(self, events: Reporter) -> Self {
        Self { events, ..self }
    }

    /// Where what a user must act on is counted.
    #[must_use]
    pub fn with_troubles(self, troubles: Troubles) -> Self {
        Self { troubles, ..self }
    }

    /// Where it is noted whose a volume is, for `status`.
    #[must_use]
    pub fn with_claims(self, claims: ClaimNotes) -> Self {
        Self { claims: Some(claims), ..self }
    }

    /// Turns true when the kubelet has asked who we are, as it does when it registers a driver.
    #[must_use]
    pub fn asked(&self) -> watch::Receiver<bool> {
        self.asked.subscribe()
    }

    fn own_node(&self) -> About {
        About::node(&self.id.0)
    }

    /// Says of a failed call what a user must act on: about the volume's claim or pod, else about this node.
    fn say(
        &self,
        reason: Option<Reason>,
        about: Option<&About>,
        call: Call<'_>,
        error: &(dyn Error + 'static),
    ) {
        let Some(reason) = reason else { return };
        let about = about.filter(|_| !node_event::is_of_the_node(reason));
        let message = match about {
            Some(_) => Chain(error).to_string(),
            None => format!("volume {}: {}", call.volume, Chain(error)),
        };
        let about = about.cloned().unwrap_or_else(|| self.own_node());
        self.report(Report { about, reason, message });
    }

    fn report(&self, report: Report) {
        self.troubles.count(report.reason);
        self.events.report(report);
    }

    async fn accessible_topology(&self) -> Option<csi::Topology> {
        let (key, zones) = self.topology.as_ref()?;
        match zones.zone().await {
            Ok(zone) => Some(key.topology(&zone)),
            // Volumes without a zone can be mounted here as anywhere: the node is registered all the same.
            Err(fault) => {
                tracing::warn!(error = %fault, "registered without a zone");
                let (about, message) = (self.own_node(), fault.to_string());
                self.report(Report { about, reason: Reason::ZoneUnknown, message });
                None
            }
        }
    }
}

#[async_trait]
impl csi::node_server::Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<csi::NodeStageVolumeRequest>,
    ) -> Result<Response<csi::NodeStageVolumeResponse>, Status> {
        let mut message = request.into_inner();
        message.volume_context = self.defaults.fill(message.volume_context);
        let call = Call::on("NodeStageVolume", &message.volume_id);
        note(Field::MountTarget, &message.staging_target_path);
        let claim = node_event::claim(&message.volume_context);
        let wanted = request::stage(&message)
            .inspect_err(|error| {
                self.say(node_event::malformed(error), claim.as_ref(), call, error);
            })
            .or_refuse(call, request::code_of)?;
        note(Field::MountSource, &wanted.attributes.source());
        let staged = self.node.stage(wanted).await;
        let staged = staged
            .inspect_err(|error| self.say(node_event::staging(error), claim.as_ref(), call, error))
            .or_refuse(call, code::stage)?;
        if let Some((notes, claim)) =
            self.claims.as_ref().zip(node_event::claim_name(&message.volume_context))
        {
            notes.note(call.volume, claim).await;
        }
        tracing::info!(found = ?staged, "staged");
        Ok(Response::new(csi::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<csi::NodeUnstageVolumeRequest>,
    ) -> Result<Response<csi::NodeUnstageVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("NodeUnstageVolume", &message.volume_id);
        note(Field::MountTarget, &message.staging_target_path);
        let wanted = request::unstage(&message).or_refuse(call, request::code_of)?;
        let unstaged = self.node.unstage(wanted).await.inspect_err(|error| {
            if let UnstageError::Unmount(fault) = error {
                self.say(node_event::unmounting(fault), None, call, error);
            }
        });
        unstaged.or_refuse(call, code::unstage)?;
        if let Some(notes) = &self.claims {
            notes.forget(call.volume).await;
        }
        tracing::info!("unstaged");
        Ok(Response::new(csi::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Result<Response<csi::NodePublishVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("NodePublishVolume", &message.volume_id);
        note(Field::MountTarget, &message.target_path);
        let wanted = request::publish(&message).or_refuse(call, request::code_of)?;
        let about = node_event::pod(&message.volume_context);
        let published = self.node.publish(wanted).await;
        let published = published
            .inspect_err(|error| {
                self.say(node_event::publishing(error), about.as_ref(), call, error);
            })
            .or_refuse(call, code::publish)?;
        tracing::info!(found = ?published, "published");
        Ok(Response::new(csi::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<csi::NodeUnpublishVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("NodeUnpublishVolume", &message.volume_id);
        note(Field::MountTarget, &message.target_path);
        let wanted = request::unpublish(&message).or_refuse(call, request::code_of)?;
        let unpublished = self.node.unpublish(wanted).await.inspect_err(|error| {
            if let UnpublishError::Unmount(fault) = error {
                self.say(node_event::unmounting(fault), None, call, error);
            }
        });
        unpublished.or_refuse(call, code::unpublish)?;
        tracing::info!("unpublished");
        Ok(Response::new(csi::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<csi::NodeGetVolumeStatsResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("NodeGetVolumeStats", &message.volume_id);
        note(Field::MountTarget, &message.volume_path);
        let wanted = request::stats(&message).or_refuse(call, request::code_of)?;
        let stats = self.node.stats(wanted).await.or_refuse(call, code::stats)?;
        Ok(Response::new(csi::NodeGetVolumeStatsResponse { usage: usage(&stats) }))
    }

    async fn node_get_volume_health(
        &self,
        _request: Request<csi::NodeGetVolumeHealthRequest>,
    ) -> Result<Response<csi::NodeGetVolumeHealthResponse>, Status> {
        Err(not_served("NodeGetVolumeHealth"))
    }

    async fn node_get_storage_health(
        &self,
        _request: Request<csi::NodeGetStorageHealthRequest>,
    ) -> Result<Response<csi::NodeGetStorageHealthResponse>, Status> {
        Err(not_served("NodeGetStorageHealth"))
    }

    async fn node_expand_volume(
        &self,
        _request: Request<csi::NodeExpandVolumeRequest>,
    ) -> Result<Response<csi::NodeExpandVolumeResponse>, Status> {
        Err(not_served("NodeExpandVolume"))
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<csi::NodeGetCapabilitiesResponse>, Status> {
        let capabilities = CAPABILITIES.map(node_capability).into();
        Ok(Response::new(csi::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _request: Request<csi::NodeGetInfoRequest>,
    ) -> Result<Response<csi::NodeGetInfoResponse>, Status> {
        let accessible_topology = self.accessible_topology().await;
        self.asked.send_replace(true);
        Ok(Response::new(csi::NodeGetInfoResponse {
            node_id: self.id.to_string(),
            max_volumes_per_node: self.most_volumes,
            accessible_topology,
        }))
    }
}

fn node_capability(capability: Type) -> csi::NodeServiceCapability {
    let rpc = node_service_capability::Rpc { r#type: capability.into() };
    csi::NodeServiceCapability { r#type: Some(node_service_capability::Type::Rpc(rpc)) }
}

/// Inodes are left out where the server counts none, rather than shown as a full file system.
fn usage(stats: &FsStats) -> Vec<csi::VolumeUsage> {
    let bytes = csi::VolumeUsage {
        unit: Unit::Bytes.into(),
        total: figure(stats.total_bytes),
        available: figure(stats.available_bytes),
        used: figure(stats.total_bytes.saturating_sub(stats.free_bytes)),
    };
    let inodes = csi::VolumeUsage {
        unit: Unit::Inodes.into(),
        total: figure(stats.total_inodes),
        available: figure(stats.free_inodes),
        used: figure(stats.total_inodes.saturating_sub(stats.free_inodes)),
    };
    if stats.total_inodes == 0 { vec![bytes] } else { vec![bytes, inodes] }
}

/// A NAS file system says that it has 10 PiB, and others say 2^64 - 1: CSI's figures are signed.
fn figure(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tonic::Code;
    use tracing_subscriber::util::SubscriberInitExt;

    use super::*;
    use crate::csi::identity::DriverName;
    use crate::csi::request::tests::publish_message;
    use crate::csi::request::tests::stage_message;
    use crate::kubernetes::reporter::fake::FakeSink;
    use crate::model::Zone;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::refused;
    use crate::proto::csi::node_server::Node as _;
    use crate::runtime::captured::Captured;
    use crate::runtime::request as request_of_log;
    use crate::runtime::request::RequestId;

    fn service(world: &World) -> NodeService {
        NodeService::new(world.node(), NodeId::parse("node-1").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_line_of_a_call_says_of_which_volume_and_none_has_a_secret() {
        const SECRET: &str = "a-secret-that-nobody-logs";
        let log = Captured::default();
        let lines = tracing_subscriber::fmt().json().with_writer(log.clone());
        let _logging = lines.with_max_level(tracing::Level::TRACE).set_default();
        let home = tempfile::tempdir().unwrap();
        let stage = below(home.path(), "stage");
        std::fs::create_dir(&stage).unwrap();
        let world = World::default();
        world.answer(1, Answer::Fail(refused()));
        let mut message = stage_message();
        message.staging_target_path.clone_from(&stage);
        message.secrets.insert("password".to_owned(), SECRET.to_owned());
        message.publish_context.insert("ticket".to_owned(), SECRET.to_owned());
        let (volume, id) = (message.volume_id.clone(), RequestId::parse("from-outside"));
        let begun = request_of_log::Request::begin("NodeStageVolume", id);
        let service = service(&world);
        begun.run(service.node_stage_volume(Request::new(message))).await.unwrap_err();
        let log = log.text();
        assert!(!log.contains(SECRET), "{log}");
        let ours = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let ours = ours.filter(|line| line["target"].as_str().unwrap().starts_with("alinas_csi"));
        let mut seen = Vec::new();
        for line in ours {
            let request = &line["spans"][0];
            let field = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(field("request.id"), "from-outside", "{line}");
            assert_eq!(
                (field("volume.id"), field("mount.target")),
                (volume.clone(), stage.clone())
            );
            assert!(field("mount.source").contains(":/"), "{line}");
            seen.push(line["fields"]["message"].as_str().unwrap().to_owned());
        }
        // From the task of the operation, from that of the engine, and from the handler.
        for message in ["tried", "not mounted", "NodeStageVolume failed"] {
            assert!(seen.iter().any(|seen| seen == message), "{seen:?}");
        }
    }

    fn below(home: &Path, name: &str) -> String {
        home.canonicalize().unwrap().join(name).to_string_lossy().into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_goes_from_staging_to_the_pod_and_back() {
        let home = tempfile::tempdir().unwrap();
        let (stage, target) = (below(home.path(), "stage"), below(home.path(), "target"));
        std::fs::create_dir(&stage).unwrap();
        let world = World::default();
        let service = service(&world);
        let mut message = stage_message();
        message.staging_target_path.clone_from(&stage);
        let volume_id = message.volume_id.clone();
        service.node_stage_volume(Request::new(message)).await.unwrap();
        let mut message = publish_message();
        message.staging_target_path.clone_from(&stage);
        message.target_path.clone_from(&target);
        service.node_publish_volume(Request::new(message)).await.unwrap();
        let message = csi::NodeGetVolumeStatsRequest {
            volume_id: volume_id.clone(),
            volume_path: target.clone(),
            staging_target_path: stage.clone(),
        };
        let stats = service.node_get_volume_stats(Request::new(message)).await.unwrap();
        let used: Vec<i64> = stats.into_inner().usage.iter().map(|usage| usage.used).collect();
        assert_eq!(used, [300, 6]);
        let message =
            csi::NodeUnpublishVolumeRequest { volume_id: volume_id.clone(), target_path: target };
        service.node_unpublish_volume(Request::new(message)).await.unwrap();
        let message = csi::NodeUnstageVolumeRequest { volume_id, staging_target_path: stage };
        service.node_unstage_volume(Request::new(message)).await.unwrap();
        assert!(world.mounts().is_empty() && world.users().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_answered_with_its_code_and_its_whole_text() {
        let home = tempfile::tempdir().unwrap();
        let stage = below(home.path(), "stage");
        std::fs::create_dir(&stage).unwrap();
        let world = World::default();
        world.answer(0, Answer::Fail(refused()));
        let message = csi::NodeStageVolumeRequest { staging_target_path: stage, ..stage_message() };
        let status = service(&world).node_stage_volume(Request::new(message)).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "connection refused [connection-refused]")
        );
    }

    #[tokio::test]
    async fn figures_of_an_unknown_volume_or_path_are_not_found() {
        let message = csi::NodeGetVolumeStatsRequest {
            volume_id: "fake-vol-id-0123456789".to_owned(),
            volume_path: "some/path".to_owned(),
            staging_target_path: String::new(),
        };
        let answer = service(&World::default()).node_get_volume_stats(Request::new(message)).await;
        assert_eq!(answer.unwrap_err().code(), Code::NotFound);
    }

    #[tokio::test]
    async fn it_says_who_it_is_and_what_it_can() {
        let service = service(&World::default());
        let info = service
            .node_get_info(Request::new(csi::NodeGetInfoRequest {}))
            .await
            .unwrap()
            .into_inner();
        assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), ("node-1", 0));
        let answer = service
            .node_get_capabilities(Request::new(csi::NodeGetCapabilitiesRequest {}))
            .await
            .unwrap();
        assert_eq!(answer.into_inner().capabilities.len(), CAPABILITIES.len());
        let status = service
            .node_expand_volume(Request::new(csi::NodeExpandVolumeRequest::default()))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(!status.message().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_mount_is_said_once_on_the_claim_with_its_reason_and_its_whole_sentence() {
        let home = tempfile::tempdir().unwrap();
        let stage = below(home.path(), "stage");
        std::fs::create_dir(&stage).unwrap();
        let world = World::default();
        let sink = Arc::<FakeSink>::default();
        let troubles = Troubles::default();
        let service = service(&world).with_events(sink.reporter()).with_troubles(troubles.clone());
        let mut message =
            csi::NodeStageVolumeRequest { staging_target_path: stage, ..stage_message() };
        let refuse = || world.answer(world.journal().len(), Answer::Fail(refused()));
        for _ in 0..3 {
            refuse();
            service.node_stage_volume(Request::new(message.clone())).await.unwrap_err();
        }
        for (key, value) in [
            ("pvc/namespace", "shop"),
            ("pvc/name", "data"),
            ("pv/name", "pvc-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"),
        ] {
            let key = format!("csi.storage.k8s.io/{key}");
            message.volume_context.insert(key, value.to_owned());
        }
        refuse();
        service.node_stage_volume(Request::new(message)).await.unwrap_err();
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let volume = stage_message().volume_id;
        assert_eq!(
            sink.said(),
            [
                format!(
                    "Node node-1 MountTargetUnreachable 1: volume {volume}: connection refused [connection-refused]"
                ),
                "PersistentVolumeClaim data MountTargetUnreachable 1: connection refused [connection-refused]"
                    .to_owned(),
            ]
        );
        let counted: Vec<_> = troubles.all().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("MountTargetUnreachable", 4)], "each call is counted");
    }

    #[tokio::test]
    async fn the_claim_of_a_volume_is_on_note_for_as_long_as_it_is_staged() {
        let home = tempfile::tempdir().unwrap();
        let stage = below(home.path(), "stage");
        std::fs::create_dir(&stage).unwrap();
        let notes = || ClaimNotes::below(home.path());
        let service = service(&World::default()).with_claims(notes());
        let mut message =
            csi::NodeStageVolumeRequest { staging_target_path: stage.clone(), ..stage_message() };
        service.node_stage_volume(Request::new(message.clone())).await.unwrap();
        assert!(notes().read().is_empty(), "nobody has said whose it is");
        for (key, value) in [("namespace", "shop"), ("name", "data")] {
            let key = format!("csi.storage.k8s.io/pvc/{key}");
            message.volume_context.insert(key, value.to_owned());
        }
        service.node_stage_volume(Request::new(message)).await.unwrap();
        let volume_id = stage_message().volume_id;
        assert_eq!(notes().read()[&volume_id], "shop/data");
        let message = csi::NodeUnstageVolumeRequest { volume_id, staging_target_path: stage };
        service.node_unstage_volume(Request::new(message)).await.unwrap();
        assert!(notes().read().is_empty());
    }

    #[tokio::test]
    async fn a_node_says_its_zone_and_how_many_volumes_it_takes_and_is_known_to_have_been_asked() {
        let key = || TopologyKey::of(&DriverName::parse("alinas.csi.alibabacloud.com").unwrap());
        let zone = Zone::parse("cn-hangzhou-b").unwrap();
        let service = service(&World::default())
            .with_most_volumes(100)
            .with_topology(key(), ZoneSources::new(Some(zone.clone()), None, None));
        let asked = service.asked();
        assert!(!*asked.borrow());
        let info = |service: NodeService| async move {
            let request = Request::new(csi::NodeGetInfoRequest {});
            service.node_get_info(request).await.unwrap().into_inner()
        };
        let answer = info(service).await;
        assert!(*asked.borrow());
        assert_eq!(answer.max_volumes_per_node, 100);
        assert_eq!(answer.accessible_topology, Some(key().topology(&zone)));
        let unknown =
            super::tests::service(&World::default()).with_topology(key(), ZoneSources::default());
        assert_eq!(info(unknown).await.accessible_topology, None, "and it is registered");
    }

    #[test]
    fn a_node_id_has_at_most_256_bytes() {
        NodeId::parse(&"n".repeat(256)).unwrap();
        NodeId::parse(&"n".repeat(257)).unwrap_err();
        NodeId::parse("").unwrap_err();
    }

    #[test]
    fn a_server_that_counts_no_inodes_is_not_shown_as_full() {
        let stats = FsStats { total_bytes: u64::MAX, ..FsStats::default() };
        let usage = usage(&stats);
        assert_eq!(usage.len(), 1);
        assert_eq!((usage[0].total, usage[0].used), (i64::MAX, i64::MAX));
    }
}
