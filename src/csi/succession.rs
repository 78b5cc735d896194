//! The door for the node plugin that follows this one on the same socket: it may ask this one to make way.

use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::async_trait;

use crate::node::Node;
use crate::proto::tunnel::YieldRequest;
use crate::proto::tunnel::YieldResponse;
use crate::proto::tunnel::succession_server::Succession;

/// Serves `alinas.tunnel.v1.Succession`.
#[derive(Debug)]
pub struct SuccessionService {
    node: Node,
    succeeded: CancellationToken,
}

impl SuccessionService {
    /// Agrees, by cancelling `succeeded`, on which no further call is to be taken.
    #[must_use]
    pub fn new(node: Node, succeeded: CancellationToken) -> Self {
        Self { node, succeeded }
    }
}

#[async_trait]
impl Succession for SuccessionService {
    /// Answers once nothing is under way: two must not work on one volume.
    async fn r#yield(&self, _: Request<YieldRequest>) -> Result<Response<YieldResponse>, Status> {
        tracing::info!("another node plugin takes over");
        self.succeeded.cancel();
        self.node.drained().await;
        Ok(Response::new(YieldResponse { agreed: true }))
    }
}
