//! Makes a [`Request`] of each call that a gRPC server is asked, and says how it begins and ends.
//!
//! A layer around the services: it sees the path of a call, the id that its caller sent along, and the status of the
//! answer, and no message. What else is known of a call, its handler adds ([`super::request::note`]).

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use hyper::HeaderMap;
use hyper::Request as Call;
use hyper::Response;
use tokio::time::Instant;
use tonic::Code;
use tonic::Status;
use tower::Layer;
use tower::Service;

use crate::runtime::request::HEADER;
use crate::runtime::request::Request;
use crate::runtime::request::RequestId;

/// How much a call's beginning and end matter to who reads the log. One that fails always matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It changes something: its end is told.
    Change,
    /// It asks: told at debug.
    Question,
    /// It is made all the time: told at trace.
    Heartbeat,
}

/// From the path of a call to its name and its weight. Whoever may connect can ask for any path, so the name is one
/// that the rule knows, and not the caller's.
pub type Rule = fn(&str) -> (&'static str, Weight);

/// What every process serves beside its own: see `proto/alinas/log/v1/log.proto`.
pub const SET_LOG: (&str, (&str, Weight)) =
    ("/alinas.log.v1.Log/Set", ("SetLog", Weight::Question));

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct Requests(Rule);

impl Requests {
    /// Requests by this rule.
    #[must_use]
    pub fn by(rule: Rule) -> Self {
        Self(rule)
    }
}

impl<S> Layer<S> for Requests {
    type Service = Followed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Followed { inner, rule: self.0 }
    }
}

/// A service whose calls are requests.
#[derive(Clone, Debug)]
pub struct Followed<S> {
    inner: S,
    rule: Rule,
}

impl<S, B, R> Service<Call<B>> for Followed<S>
where
    S: Service<Call<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call<B>) -> Self::Future {
        let (name, weight) = (self.rule)(call.uri().path());
        let id = id_of(call.headers());
        let request = match weight {
            Weight::Change | Weight::Question => Request::begin(name, id),
            Weight::Heartbeat => Request::heartbeat(name, id),
        };
        let mut ending = Ending::of(request.clone(), weight);
        let answer = request.run(self.inner.call(call));
        Box::pin(async move {
            let answer = answer.await;
            // A method and no assignment: of that alone the field would be captured, as a copy.
            ending.answered(answer.as_ref().map_or(Code::Internal, code_of));
            answer
        })
    }
}

fn id_of(headers: &HeaderMap) -> Option<RequestId> {
    RequestId::parse(headers.get(HEADER)?.to_str().ok()?)
}

/// An answer that succeeds has its status behind the message; one that fails has nothing but a status.
pub fn code_of<R>(answer: &Response<R>) -> Code {
    Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code())
}

/// As gRPC writes it.
#[must_use]
pub fn code_word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Tells the end when it is dropped, however the call ends: its caller may hang up.
struct Ending {
    request: Request,
    weight: Weight,
    began: Instant,
    code: Code,
}

impl Ending {
    fn of(request: Request, weight: Weight) -> Self {
        request.say(|| match weight {
            Weight::Change | Weight::Question => tracing::debug!("begins"),
            Weight::Heartbeat => tracing::trace!("begins"),
        });
        Self { request, weight, began: Instant::now(), code: Code::Cancelled }
    }

    fn answered(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.code != Code::Ok {
            self.request.failed();
        }
        let code = code_word(self.code);
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.request.say(|| match (self.code, self.weight) {
            (Code::Ok, Weight::Question) => tracing::debug!(code, ms, "ended"),
            (Code::Ok, Weight::Heartbeat) => tracing::trace!(code, ms, "ended"),
            (Code::Cancelled, _) => {
                tracing::info!(code, ms, "the caller hung up; what it asked for may go on");
            }
            _ => tracing::info!(code, ms, "ended"),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use serde_json::Value;
    use tracing_subscriber::util::SubscriberInitExt;

    use super::*;
    use crate::runtime::captured::Captured;

    fn rule(path: &str) -> (&'static str, Weight) {
        match path {
            "/change" => ("Change", Weight::Change),
            "/ask" => ("Ask", Weight::Question),
            _ => ("Beat", Weight::Heartbeat),
        }
    }

    /// Answers with the code of the path's query, after three seconds.
    async fn answer(path: &str, id: &str, patience: Duration) -> Option<Option<RequestId>> {
        let server = |call: Call<()>| async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let mut answer = Response::new(RequestId::current());
            if let Some(code) = call.uri().query() {
                answer.headers_mut().insert("grpc-status", code.parse().unwrap());
            }
            Ok::<_, Infallible>(answer)
        };
        let mut service = Requests::by(rule).layer(tower::service_fn(server));
        let call = Call::builder().uri(path).header(HEADER, id).body(()).unwrap();
        let answer = tokio::time::timeout(patience, service.call(call)).await;
        answer.ok().map(|answer| answer.unwrap().into_body())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_told_with_its_id_its_code_and_its_time_by_its_weight() {
        let (long, short) = (Duration::from_secs(9), Duration::from_secs(1));
        for (path, patience, begins, ends, code, ms) in [
            ("/change", long, "DEBUG", "INFO", "OK", 3000),
            ("/change?14", long, "DEBUG", "INFO", "UNAVAILABLE", 3000),
            ("/ask", long, "DEBUG", "DEBUG", "OK", 3000),
            ("/ask?14", long, "DEBUG", "INFO", "UNAVAILABLE", 3000),
            ("/ask", short, "DEBUG", "INFO", "CANCELLED", 1000),
            ("/beat", long, "TRACE", "TRACE", "OK", 3000),
            ("/beat?13", long, "TRACE", "INFO", "INTERNAL", 3000),
        ] {
            let log = Captured::default();
            let lines = tracing_subscriber::fmt().json().flatten_event(true);
            let lines = lines.with_max_level(tracing::Level::TRACE).with_writer(log.clone());
            let logging = lines.set_default();
            let inside = answer(path, "an-id", patience).await;
            drop(logging);
            assert_eq!(inside.is_some(), patience == long);
            assert!(inside.is_none_or(|id| id == RequestId::parse("an-id")), "{path}");
            let log = log.text();
            let log: Vec<Value> =
                log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let [begun, ended] = log.as_slice() else { panic!("{log:?}") };
            assert_eq!(
                (&begun["level"], &ended["level"]),
                (&begins.into(), &ends.into()),
                "{path}"
            );
            assert_eq!((&ended["code"], &ended["ms"]), (&code.into(), &ms.into()), "{path}");
            assert!(log.iter().all(|line| line["span"]["request.id"] == "an-id"), "{log:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_that_cannot_stand_in_a_log_is_replaced() {
        for given in ["", "a b", &"x".repeat(65)] {
            let id = answer("/ask", given, Duration::from_secs(9)).await.flatten().unwrap();
            assert_eq!(id.to_string().len(), 12, "{given:?}");
        }
    }
}
