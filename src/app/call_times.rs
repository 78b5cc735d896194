//! How long calls of CSI take, by method and code, for every service of a socket in one place.
//!
//! A layer around the services: it sees the path of a request and the status of its answer, and no message. A call whose
//! caller hangs up is counted as cancelled; what it asked for may go on.

use std::task::Context;
use std::task::Poll;

use hyper::Request;
use hyper::Response;
use tokio::time::Instant;
use tonic::Code;
use tower::Layer;
use tower::Service;

use crate::runtime::Histogram;
use crate::runtime::Histograms;
use crate::runtime::histogram;
use crate::runtime::request_layer::code_of;
use crate::runtime::request_layer::code_word;

/// The methods of the services that we serve. Whoever may connect could ask for any name, and each would be a series.
const METHODS: [&str; 30] = [
    "GetPluginInfo",
    "GetPluginCapabilities",
    "Probe",
    "CreateVolume",
    "DeleteVolume",
    "ControllerPublishVolume",
    "ControllerUnpublishVolume",
    "ValidateVolumeCapabilities",
    "ListVolumes",
    "ControllerListVolumeHealth",
    "ControllerGetVolumeHealth",
    "GetCapacity",
    "ControllerGetCapabilities",
    "CreateSnapshot",
    "DeleteSnapshot",
    "ListSnapshots",
    "GetSnapshot",
    "ControllerExpandVolume",
    "ControllerGetVolume",
    "ControllerModifyVolume",
    "NodeStageVolume",
    "NodeUnstageVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "NodeGetVolumeStats",
    "NodeGetVolumeHealth",
    "NodeGetStorageHealth",
    "NodeExpandVolume",
    "NodeGetCapabilities",
    "NodeGetInfo",
];
/// What is in none of them.
const OTHER: &str = "other";

/// How long calls took. A clone is the same.
#[derive(Clone, Debug)]
pub struct CallTimes(Histograms<(&'static str, &'static str)>);

impl Default for CallTimes {
    fn default() -> Self {
        Self(Histograms::new(&histogram::CALLS))
    }
}

impl CallTimes {
    /// By method and code.
    #[must_use]
    pub fn all(&self) -> Vec<((&'static str, &'static str), Histogram)> {
        self.0.all()
    }

    fn begin(&self, path: &str) -> Call {
        Call {
            times: self.clone(),
            method: method_of(path),
            began: Instant::now(),
            code: Code::Cancelled,
        }
    }
}

/// The method of a call, from the path of its request.
pub(super) fn method_of(path: &str) -> &'static str {
    let name = path.strip_prefix("/csi.v1.").and_then(|path| path.split_once('/'));
    let known = name.and_then(|(_, name)| METHODS.into_iter().find(|known| *known == name));
    known.unwrap_or(OTHER)
}

impl<S> Layer<S> for CallTimes {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timed { inner, times: self.clone() }
    }
}

/// A service whose calls are timed.
#[derive(Clone, Debug)]
pub struct Timed<S> {
    inner: S,
    times: CallTimes,
}

impl<S, B, R> Service<Request<B>> for Timed<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut call = self.times.begin(request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            // A method and no assignment: of that alone the field would be captured, as a copy.
            call.answered(answer.as_ref().map_or(Code::Internal, code_of));
            answer
        })
    }
}

/// Counts when it is dropped, however the call ends.
struct Call {
    times: CallTimes,
    method: &'static str,
    began: Instant,
    code: Code,
}

impl Call {
    fn answered(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.times.0.observe((self.method, code_word(self.code)), self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_methods_are_those_of_the_services_that_are_served() {
        let mut service = "";
        let mut expected = Vec::new();
        for line in include_str!("../../proto/csi/v1/csi.proto").lines() {
            if let Some(name) = line.strip_prefix("service ") {
                service = name.split(' ').next().unwrap();
            }
            if let Some(rpc) = line.trim_start().strip_prefix("rpc ")
                && ["Identity", "Controller", "Node"].contains(&service)
            {
                expected.push(rpc.split([' ', '(']).next().unwrap().to_owned());
            }
        }
        assert_eq!(METHODS.as_slice(), expected);
    }

    #[test]
    fn a_name_that_nobody_serves_makes_no_series_of_its_own() {
        let times = CallTimes::default();
        for path in ["/csi.v1.Node/Whatever", "/other.Node/NodeStageVolume", "/", ""] {
            drop(times.begin(path));
        }
        drop(times.begin("/csi.v1.Node/NodeStageVolume"));
        let keys: Vec<_> = times.all().into_iter().map(|(key, all)| (key, all.count())).collect();
        assert_eq!(keys, [(("NodeStageVolume", "CANCELLED"), 1), ((OTHER, "CANCELLED"), 4)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_counted_by_its_code_and_one_that_nobody_waits_for_as_cancelled() {
        let times = CallTimes::default();
        let mut service = times.layer(tower::service_fn(|request: Request<u64>| async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let mut answer = Response::new(());
            if *request.body() > 0 {
                answer.headers_mut().insert("grpc-status", (*request.body()).into());
            }
            Ok::<_, std::convert::Infallible>(answer)
        }));
        let request =
            |code: u64| Request::builder().uri("/csi.v1.Node/NodeStageVolume").body(code).unwrap();
        for code in [0, 14, 0] {
            service.call(request(code)).await.unwrap();
        }
        let hung_up = tokio::time::timeout(Duration::from_secs(1), service.call(request(0)));
        hung_up.await.unwrap_err();
        let said: Vec<_> = times
            .all()
            .into_iter()
            .map(|((_, code), all)| (code, all.count(), all.sum.as_secs()))
            .collect();
        assert_eq!(said, [("CANCELLED", 1, 1), ("OK", 2, 6), ("UNAVAILABLE", 1, 3)]);
    }
}
