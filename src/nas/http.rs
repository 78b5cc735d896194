//! One HTTP request and its answer, with a deadline: the only way out to the network.
//!
//! Behind [`Http`], so that everything above is tested without a socket; the fake stands at the end. A proxy
//! (`HTTPS_PROXY`) is not followed.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::Error as ClientError;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::runtime::Chain;

/// For name, TCP and TLS together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(50);
/// A page of a hundred file systems has about 200 KiB.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// Why there is no answer. It names where, never what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// The name does not resolve, nobody listens, or the handshake failed: nothing has been sent.
    #[error("failed to connect: {why}")]
    Unreached {
        /// In words of the system or of TLS.
        why: String,
    },
    /// The connection ended first. The request may have arrived.
    #[error("the connection ended before the answer: {why}")]
    Broken {
        /// In words of the HTTP library.
        why: String,
    },
    /// No answer came in time. The request may have arrived.
    #[error("no answer within {} s", .deadline.as_secs_f32())]
    Late {
        /// How long it was waited for.
        deadline: Duration,
    },
}

impl HttpFault {
    /// May the request have arrived?
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Unreached { .. } => false,
            Self::Broken { .. } | Self::Late { .. } => true,
        }
    }
}

/// Sends a request.
#[async_trait]
pub trait Http: fmt::Debug + Send + Sync {
    /// The answer, whatever its status, if it comes within `deadline`.
    ///
    /// # Errors
    /// Says why there is none.
    async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, HttpFault>;
}

/// The network, by one kind of connection.
pub struct Connections<C>(Client<TimeoutConnector<C>, Full<Bytes>>);

/// A network that is exchanged for another while it is used: what is under way ends on the former one.
#[derive(Debug)]
pub struct Exchangeable(RwLock<Arc<dyn Http>>);

impl Exchangeable {
    /// Begins with `network`.
    #[must_use]
    pub fn new(network: Arc<dyn Http>) -> Self {
        Self(RwLock::new(network))
    }

    /// From now on it is this one.
    pub fn exchange(&self, network: Arc<dyn Http>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = network;
    }

    fn now(&self) -> Arc<dyn Http> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Http for Exchangeable {
    async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, HttpFault> {
        self.now().send(request, deadline).await
    }
}

/// Over TLS alone.
pub type SecureNetwork = Connections<HttpsConnector<HttpConnector>>;
/// In the clear: for the metadata service of an instance, which has no other way.
pub type PlainNetwork = Connections<HttpConnector>;

impl SecureNetwork {
    /// Whom to trust is the caller's word; `config` must name no application protocol.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let mut tcp = tcp();
        tcp.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let secure = builder.https_only().enable_http1().wrap_connector(tcp);
        Self(client(TimeoutConnector::new(secure)))
    }
}

impl PlainNetwork {
    /// In the clear.
    #[must_use]
    pub fn in_the_clear() -> Self {
        Self(client(TimeoutConnector::new(tcp())))
    }
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp
}

fn client<C>(mut connector: TimeoutConnector<C>) -> Client<TimeoutConnector<C>, Full<Bytes>>
where
    TimeoutConnector<C>: Connect + Clone,
{
    connector.set_connect_timeout(Some(CONNECT_DEADLINE));
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

impl<C> fmt::Debug for Connections<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

#[async_trait]
impl<C> Http for Connections<C>
where
    C: Send + Sync + 'static,
    TimeoutConnector<C>: Connect + Clone + Send + Sync + 'static,
{
    async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, HttpFault> {
        let exchange = async {
            let answer =
                self.0.request(request.map(Full::new)).await.map_err(|error| fault(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await;
            let broken = |why: &(dyn std::error::Error + 'static)| HttpFault::Broken {
                why: Chain(why).to_string(),
            };
            let body = body.map_err(|error| broken(&*error))?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        timeout(deadline, exchange).await.unwrap_or(Err(HttpFault::Late { deadline }))
    }
}

fn fault(error: &ClientError) -> HttpFault {
    let why = Chain(error).to_string();
    if error.is_connect() { HttpFault::Unreached { why } } else { HttpFault::Broken { why } }
}

/// A network without a wire: answers as a test says, and remembers what was asked.
#[cfg(test)]
pub(super) mod fake {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    type Answer = Result<(u16, String), HttpFault>;

    #[derive(Debug, Default)]
    pub(crate) struct FakeHttp {
        answers: Mutex<VecDeque<(Duration, Answer)>>,
        asked: Mutex<Vec<Request<Bytes>>>,
        date: Mutex<Option<String>>,
    }

    impl FakeHttp {
        /// The next answer, in the order of these calls.
        pub(crate) fn answer(&self, status: u16, body: &str) {
            self.answer_after(Duration::ZERO, Ok((status, body.to_owned())));
        }

        pub(crate) fn fail(&self, fault: HttpFault) {
            self.answer_after(Duration::ZERO, Err(fault));
        }

        pub(crate) fn answer_after(&self, delay: Duration, answer: Answer) {
            self.answers.lock().unwrap().push_back((delay, answer));
        }

        /// What its answers say of the time from now on.
        pub(crate) fn date(&self, date: &str) {
            *self.date.lock().unwrap() = Some(date.to_owned());
        }

        pub(crate) fn asked(&self) -> Vec<Request<Bytes>> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl Http for FakeHttp {
        async fn send(
            &self,
            request: Request<Bytes>,
            deadline: Duration,
        ) -> Result<Response<Bytes>, HttpFault> {
            self.asked.lock().unwrap().push(request.clone());
            let next = self.answers.lock().unwrap().pop_front();
            let (delay, answer) = next.unwrap_or_else(|| panic!("no answer left: {request:?}"));
            if delay > deadline {
                tokio::time::sleep(deadline).await;
                return Err(HttpFault::Late { deadline });
            }
            tokio::time::sleep(delay).await;
            let (status, body) = answer?;
            let mut response = Response::builder().status(status);
            if let Some(date) = &*self.date.lock().unwrap() {
                response = response.header("Date", date);
            }
            Ok(response.body(Bytes::from(body)).unwrap())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeHttp;
    use super::*;

    #[tokio::test]
    async fn what_is_sent_after_an_exchange_goes_by_the_new_network() {
        let [former, next] = [(); 2].map(|()| Arc::new(FakeHttp::default()));
        former.answer(200, "former");
        next.answer(200, "next");
        let network = Exchangeable::new(former);
        let said = async || {
            let request = Request::new(Bytes::new());
            network.send(request, CONNECT_DEADLINE).await.unwrap().into_body()
        };
        assert_eq!(said().await, "former");
        network.exchange(next);
        assert_eq!(said().await, "next");
    }
}
