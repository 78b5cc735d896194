//! gRPC over one Unix stream that is connected already.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

/// A channel over `stream` and no other: once that has ended, every call fails. Nothing is waited for before the first
/// call.
#[must_use]
pub fn one_connection(stream: UnixStream) -> Channel {
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().ok().and_then(|mut once| once.take());
        async move {
            let gone = || io::Error::new(io::ErrorKind::NotConnected, "it closed the connection");
            stream.map(TokioIo::new).ok_or_else(gone)
        }
    });
    // The URI is a form that HTTP/2 wants; the connector above decides where to.
    Endpoint::from_static("http://unix").connect_with_connector_lazy(connector)
}
