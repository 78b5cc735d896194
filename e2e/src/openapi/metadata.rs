//! The metadata service of ECS, version 2: a token first, then what it is shown for.

use std::sync::Arc;

use hyper::Method;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::openapi::Shared;
use crate::openapi::locked;
use crate::openapi::server::Always;
use crate::openapi::server::answered;

const TOKEN: &str = "a-token-of-the-metadata-service";
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";

pub(super) async fn serve(listener: TcpListener, state: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(async |request| answer(&request, &state));
            // How a connection ends is the client's affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn answer(request: &Request<Incoming>, state: &Shared) -> Always {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let life = header("x-aliyun-ecs-metadata-token-ttl-seconds").and_then(|life| life.parse().ok());
    let path = request.uri().path();
    let (status, body) = match (request.method(), path) {
        (&Method::PUT, "/latest/api/token") if life.is_some_and(|life: u32| life <= 21600) => {
            (200, TOKEN.to_owned())
        }
        (&Method::GET, _) if header("x-aliyun-ecs-metadata-token") != Some(TOKEN) => {
            (403, "403 - Forbidden".to_owned())
        }
        (&Method::GET, _) => described(path, state),
        _ => (400, "400 - Bad Request".to_owned()),
    };
    Ok(answered(status, "text/plain", body))
}

fn described(path: &str, state: &Shared) -> (u16, String) {
    let mut identities = locked(&state.identities);
    let role = identities.instance_role.clone();
    match (path.strip_prefix(ROLES), role) {
        (Some(""), Some(role)) => (200, role),
        (Some(asked), Some(role)) if asked == role => {
            let mut session = identities.give_out();
            if let Some(fields) = session.as_object_mut() {
                fields.insert("Code".to_owned(), json!("Success"));
                fields.insert("LastUpdated".to_owned(), json!("2026-01-02T03:04:05Z"));
            }
            (200, session.to_string())
        }
        _ => (404, "404 - Not Found".to_owned()),
    }
}
