//! The way to Kubernetes that a role has where it was asked to use one.

use std::path::PathBuf;
use std::sync::Arc;

use crate::kubernetes::Cluster;
use crate::kubernetes::Reporter;
use crate::kubernetes::access;
use crate::kubernetes::access::Access;
use crate::kubernetes::event::Source;
use crate::kubernetes::reporter::EventSink;
use crate::runtime::Chain;
use crate::runtime::SystemClock;

/// What is to be said to the cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Say in events of Kubernetes what a user must act on (docs/events.md)
    #[arg(long, env = "ALINAS_CSI_EVENTS")]
    pub events: bool,

    /// Where Kubernetes puts the credentials of the service account
    #[arg(
        long,
        env = "ALINAS_CSI_KUBERNETES_CREDENTIALS",
        value_name = "DIRECTORY",
        default_value = access::CREDENTIALS,
        hide = true
    )]
    pub kubernetes_credentials: PathBuf,
}

impl ClusterArgs {
    /// The API server, where this process has a service account. Without one everything goes on but what was asked
    /// of the cluster, and the log says so.
    #[expect(clippy::disallowed_methods, reason = "app is where the environment is looked up")]
    pub(super) fn connect(&self) -> Option<Cluster> {
        let look_up = |name: &str| std::env::var(name).ok();
        let Some(access) = Access::look_up(look_up, &self.kubernetes_credentials) else {
            tracing::warn!(
                directory = %self.kubernetes_credentials.display(),
                "no service account of Kubernetes: events, labels and taints are left alone"
            );
            return None;
        };
        match access.connect() {
            Ok(cluster) => {
                tracing::info!(kubernetes.url = access.url(), "using the API server");
                Some(cluster)
            }
            Err(fault) => {
                tracing::error!(
                    error = %Chain(&fault),
                    "the API server cannot be used: events, labels and taints are left alone"
                );
                None
            }
        }
    }

    /// Where events are said: by `component`, and of the node `instance` where they are.
    pub(super) fn reporter(
        &self,
        cluster: Option<&Cluster>,
        component: &str,
        instance: &str,
    ) -> Reporter {
        let Some(cluster) = cluster.filter(|_| self.events) else { return Reporter::silent() };
        let sink: Arc<dyn EventSink> = Arc::new(cluster.clone());
        let source = Source { component: component.to_owned(), instance: instance.to_owned() };
        let (reporter, speaking) = Reporter::to(sink, source, Arc::new(SystemClock));
        // What still waits when the process ends is lost: nobody waits for an event.
        tokio::spawn(speaking);
        reporter
    }
}
