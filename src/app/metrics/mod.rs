//! Metrics for Prometheus: what a role knows at the moment of a scrape. One endpoint for each role that has any.
//!
//! Nothing is counted here. The tables of [`family`], [`node_family`] and
//! [`controller_family`] say what there is; docs/metrics.md is
//! written from them. Whoever reaches the address may read: which mount targets are used, how much, and how well
//! protected.
//!
//! A scrape must never harm a mount: there are few at a time, each has a deadline, and an address that cannot be
//! had is tried again while everything else goes on.

pub mod controller_family;
pub mod family;
pub mod node_family;
mod text;
mod value;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::watchdog::report;
use crate::watchdog::tunnels::Tunnels;

/// Where the text is.
const PATH: &str = "/metrics";
/// OpenMetrics 1.0, which Prometheus has read since 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Before an address that is not to be had is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);
/// After accept(2) has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// From the first byte of a request to the last of the answer.
const SCRAPE_DEADLINE: Duration = Duration::from_secs(10);
const _: () = assert!(
    report::STATUS_DEADLINE.as_secs() < SCRAPE_DEADLINE.as_secs(),
    "a tunnel process that does not answer could not be told"
);
/// At once; further ones wait.
const MOST_SCRAPES: usize = 4;

/// Where a role serves its metrics.
#[derive(Clone, Debug, Args)]
pub struct MetricsArgs {
    /// Serve metrics for Prometheus at this address, for whoever reaches it; left out, not at all
    #[arg(
        long,
        env = "ALINAS_CSI_METRICS_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = parse_address
    )]
    pub metrics_listen: Option<SocketAddr>,
}

/// Reads `ADDRESS:PORT`. An IPv6 address may come without brackets, as Kubernetes hands out a node's.
///
/// # Errors
/// When it is none.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let parts = text.rsplit_once(':');
    let parsed = parts.and_then(|(address, port)| {
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port.parse().ok()?))
    });
    parsed.ok_or_else(|| "expected ADDRESS:PORT, as in 127.0.0.1:29665".to_owned())
}

/// A role that can be scraped.
#[async_trait]
pub trait Scraped: Send + Sync {
    /// The text of OpenMetrics at this moment, within [`report::STATUS_DEADLINE`] or so.
    async fn text(&self) -> String;
}

#[async_trait]
impl Scraped for Tunnels {
    async fn text(&self) -> String {
        text::of(&family::FAMILIES, &report::with_listeners(self).await)
    }
}

/// Serves at `address` until `stop`, as soon as that address is free.
pub async fn run(address: SocketAddr, scraped: Arc<dyn Scraped>, stop: CancellationToken) {
    let serving = async {
        let listener = bind_when_free(address).await;
        serve(listener, scraped).await;
    };
    stop.run_until_cancelled(serving).await;
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, scraped: Arc<dyn Scraped>) {
    let slots = Arc::new(Semaphore::new(MOST_SCRAPES));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, Arc::clone(&scraped), slot));
            }
            Err(error) => {
                tracing::debug!(%error, "failed to accept a scrape");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn bind_when_free(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !said => {
                tracing::error!(
                    metrics.address = %address, %error,
                    "failed to serve metrics; mounts are not affected; trying again until the address is free"
                );
                said = true;
            }
            Err(_) => {}
        }
        sleep(BIND_AGAIN).await;
    }
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(metrics.address = %listener.local_addr()?, "metrics are served");
    Ok(listener)
}

/// One request, one answer.
async fn answer(stream: TcpStream, scraped: Arc<dyn Scraped>, _slot: Option<OwnedSemaphorePermit>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let scraped = Arc::clone(&scraped);
        async move { Ok::<_, Infallible>(respond(&request, scraped.as_ref()).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.keep_alive(false);
    let served = timeout(SCRAPE_DEADLINE, server.serve_connection(TokioIo::new(stream), service));
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scrape broke"),
        Err(_) => tracing::debug!("a scrape took too long and was cut"),
    }
}

async fn respond(request: &Request<Incoming>, scraped: &dyn Scraped) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, PATH) => with_type(OPEN_METRICS, scraped.text().await),
        (_, PATH) => refusal(StatusCode::METHOD_NOT_ALLOWED),
        _ => refusal(StatusCode::NOT_FOUND),
    }
}

fn with_type(content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("metrics are at GET {PATH}\n")));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_an_ipv6_one_as_kubernetes_writes_it() {
        for (text, expected) in [
            ("127.0.0.1:29665", Some("127.0.0.1:29665")),
            ("[fd00::1]:29665", Some("[fd00::1]:29665")),
            ("fd00::1:29665", Some("[fd00::1]:29665")),
            ("29665", None),
            ("node:29665", None),
            ("127.0.0.1:70000", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            let parsed = parse_address(text).ok().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
