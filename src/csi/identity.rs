//! The Identity service: who we are, and whether we can work.

use std::fmt;
use std::sync::Arc;

use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::async_trait;

use crate::node::Tunnels;
use crate::proto::csi;
use crate::proto::csi::identity_server::Identity;
use crate::proto::csi::plugin_capability;
use crate::proto::csi::plugin_capability::service;
use crate::proto::csi::plugin_capability::volume_expansion;
use crate::runtime::Chain;

/// The name that StorageClasses, PersistentVolumes and the kubelet know this driver by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverName(String);

/// A text is no driver name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "driver name {0:?} must have 2 to 63 letters, digits, \"-\", \".\" or \"_\", and begin and end with a letter"
)]
pub struct DriverNameError(String);

impl DriverName {
    /// Reads a name by the rule of csi-sanity, which is narrower than the specification's.
    ///
    /// # Errors
    /// Says the rule.
    pub fn parse(text: &str) -> Result<Self, DriverNameError> {
        let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_letter = |end: Option<char>| end.is_some_and(|end| end.is_ascii_alphabetic());
        let is_name = (2..=63).contains(&text.len())
            && text.bytes().all(is_inside)
            && is_letter(text.chars().next())
            && is_letter(text.chars().next_back());
        if is_name { Ok(Self(text.to_owned())) } else { Err(DriverNameError(text.to_owned())) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Serves `csi.v1.Identity`.
#[derive(Debug)]
pub struct IdentityService {
    name: DriverName,
    capabilities: Vec<service::Type>,
    expansion: Option<volume_expansion::Type>,
    tunnels: Option<Arc<dyn Tunnels>>,
}

impl IdentityService {
    /// Announces `capabilities`. Ready while `tunnels` answers.
    #[must_use]
    pub fn new(
        name: DriverName,
        capabilities: Vec<service::Type>,
        tunnels: Arc<dyn Tunnels>,
    ) -> Self {
        Self { name, capabilities, expansion: None, tunnels: Some(tunnels) }
    }

    /// Announces `capabilities`. Always ready: it depends on nobody of this machine.
    #[must_use]
    pub fn of_controller(name: DriverName, capabilities: Vec<service::Type>) -> Self {
        Self { name, capabilities, expansion: None, tunnels: None }
    }

    /// Announces, too, when a volume can be expanded.
    #[must_use]
    pub fn with_expansion(self, expansion: volume_expansion::Type) -> Self {
        Self { expansion: Some(expansion), ..self }
    }
}

#[async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _request: Request<csi::GetPluginInfoRequest>,
    ) -> Result<Response<csi::GetPluginInfoResponse>, Status> {
        Ok(Response::new(csi::GetPluginInfoResponse {
            name: self.name.to_string(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: std::collections::HashMap::new(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _request: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<csi::GetPluginCapabilitiesResponse>, Status> {
        let capabilities = self.capabilities.iter().copied().map(plugin_capability);
        let capabilities = capabilities.chain(self.expansion.map(expansion_capability)).collect();
        Ok(Response::new(csi::GetPluginCapabilitiesResponse { capabilities }))
    }

    /// Never touches a mount: it must answer within a probe's deadline whatever the servers do.
    async fn probe(
        &self,
        _request: Request<csi::ProbeRequest>,
    ) -> Result<Response<csi::ProbeResponse>, Status> {
        let answer = match &self.tunnels {
            Some(tunnels) => tunnels.answers().await,
            None => Ok(()),
        };
        let ready =
            answer.inspect_err(|fault| tracing::warn!(error = %Chain(fault), "not ready")).is_ok();
        Ok(Response::new(csi::ProbeResponse { ready: Some(ready) }))
    }
}

fn plugin_capability(capability: service::Type) -> csi::PluginCapability {
    let service = plugin_capability::Service { r#type: capability.into() };
    csi::PluginCapability { r#type: Some(plugin_capability::Type::Service(service)) }
}

fn expansion_capability(expansion: volume_expansion::Type) -> csi::PluginCapability {
    let expansion = plugin_capability::VolumeExpansion { r#type: expansion.into() };
    csi::PluginCapability { r#type: Some(plugin_capability::Type::VolumeExpansion(expansion)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::worker::Failure;
    use crate::node::fake::Answer;
    use crate::node::fake::World;

    fn service(world: &World) -> IdentityService {
        let name = DriverName::parse("alinas.csi.alibabacloud.com").unwrap();
        let capabilities = vec![service::Type::ControllerService];
        IdentityService::new(name, capabilities, Arc::new(world.clone()))
    }

    #[test]
    fn a_driver_name_is_what_csi_sanity_takes() {
        for name in ["alinas.csi.alibabacloud.com", "a.B-c_d", "aa", &"a".repeat(63)] {
            DriverName::parse(name).unwrap();
        }
        for name in ["", "a", "1a", "a1", ".a", "a-", "a/b", "a b", "ää", &"a".repeat(64)] {
            DriverName::parse(name).unwrap_err();
        }
    }

    #[tokio::test]
    async fn it_says_its_name_its_version_and_its_capabilities() {
        let service = service(&World::default());
        let info = service
            .get_plugin_info(Request::new(csi::GetPluginInfoRequest {}))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(info.name, "alinas.csi.alibabacloud.com");
        assert_eq!(info.vendor_version, env!("CARGO_PKG_VERSION"));
        let answer = service
            .get_plugin_capabilities(Request::new(csi::GetPluginCapabilitiesRequest {}))
            .await
            .unwrap();
        let expected = plugin_capability(service::Type::ControllerService);
        assert_eq!(answer.into_inner().capabilities, [expected]);
        let online = volume_expansion::Type::Online;
        let service = service.with_expansion(online);
        let request = Request::new(csi::GetPluginCapabilitiesRequest {});
        let answer = service.get_plugin_capabilities(request).await.unwrap().into_inner();
        assert_eq!(answer.capabilities, [expected, expansion_capability(online)]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_while_the_watchdog_answers_and_says_so_in_time() {
        let world = World::default();
        world.answer(1, Answer::Fail(Failure::Worker("gone".to_owned())));
        world.answer(2, Answer::Hang);
        let service = service(&world);
        let start = tokio::time::Instant::now();
        for expected in [true, false, false, true] {
            let answer =
                service.probe(Request::new(csi::ProbeRequest {})).await.unwrap().into_inner();
            assert_eq!(answer.ready, Some(expected));
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(3));
    }
}
