//! An API server of Kubernetes: the real one with etcd where it has been built, else one of our own that speaks the few
//! calls that the driver makes.
//!
//! The real one is looked for where e2e/tools/build keeps what it builds, or where `ALINAS_CSI_KUBE_APISERVER` says. Ours
//! stores what it is given, knows names and versions, and merges patches; it knows no rights and checks no object.
//!
//! LONG: two servers, and how a test asks them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::Config;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::process::Process;

/// Under emulation or load it takes its time.
const START: Duration = Duration::from_secs(180);
/// May do everything.
pub const ADMIN: &str = "the-admin";

/// Who is known, by the token, with user and groups.
const WHO: [(&str, &str, &str); 3] = [
    (ADMIN, "admin", "system:masters"),
    ("the-node", "system:serviceaccount:kube-system:alinas-csi-node", "system:serviceaccounts"),
    (
        "the-controller",
        "system:serviceaccount:kube-system:alinas-csi-controller",
        "system:serviceaccounts",
    ),
];

/// Ends when dropped.
pub struct ApiServer {
    /// Whether it is Kubernetes' own.
    pub is_real: bool,
    port: u16,
    folder: tempfile::TempDir,
    admin: Client,
    // In this order: the API server ends before its store.
    processes: Vec<Process>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("is_real", &self.is_real).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts the real one if it is there, else ours, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up, with the end of its log.
    pub async fn start() -> Result<Self> {
        Self::of(real_one()).await
    }

    /// Starts ours, for a test that asks nothing of it that only the real one knows.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_stand_in() -> Result<Self> {
        Self::of(None).await
    }

    async fn of(program: Option<PathBuf>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("alinas-csi-api.").tempdir()?;
        certify(folder.path())?;
        let (port, processes) = match program {
            Some(program) => start_real(&program, folder.path())?,
            None => (stand_in(folder.path()).await?, Vec::new()),
        };
        let is_real = !processes.is_empty();
        println!("the API server is {}", if is_real { "Kubernetes' own" } else { "a stand-in" });
        let admin = client(port, &credentials(folder.path(), ADMIN)?)?;
        let mut server = Self { is_real, port, folder, admin, processes };
        server.wait().await?;
        Ok(server)
    }

    /// A directory with the credentials of `the-node`, `the-controller` or the admin, as Kubernetes makes one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn credentials(&self, who: &str) -> Result<PathBuf> {
        credentials(self.folder.path(), who)
    }

    /// The variables that Kubernetes sets.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1".to_owned()),
            ("KUBERNETES_SERVICE_PORT", self.port.to_string()),
        ]
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Makes an object as the admin.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<()> {
        let body = serde_json::to_vec(object)?;
        self.ask(Method::POST, collection, body).await.map(drop)
    }

    /// Reads an object or a list as the admin.
    ///
    /// # Errors
    /// When there is none.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, Vec::new()).await
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .during("failed to write a request")?;
        self.admin.request(request).await.during("the API server refuses")
    }

    async fn wait(&mut self) -> Result<()> {
        let by = tokio::time::Instant::now() + START;
        loop {
            // The roles that are there from the beginning are made after it has begun to serve.
            match self.read("/api/v1/namespaces/default").await {
                Ok(_) => return Ok(()),
                Err(failure) if self.is_over() || tokio::time::Instant::now() > by => {
                    let log = crate::process::log_tail(&self.folder.path().join("apiserver.log"));
                    return Err(Failure::new(format!("{failure}\n{log}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn is_over(&mut self) -> bool {
        self.processes.iter_mut().any(Process::has_ended)
    }
}

fn real_one() -> Option<PathBuf> {
    if let Some(said) = std::env::var_os("ALINAS_CSI_KUBE_APISERVER") {
        return Some(PathBuf::from(said));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from)?;
    let cache = std::env::var_os("ALINAS_CSI_CACHE").map(PathBuf::from);
    let tools = cache.unwrap_or_else(|| home.join(".cache/alinas-csi")).join("tools");
    let has_etcd = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|one| one.join("etcd").is_file()));
    let folders = fs::read_dir(tools).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders.map(|folder| folder.join("kube-apiserver")).find(|file| has_etcd && file.is_file())
}

fn certify(folder: &Path) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "an API server");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, key)?;
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, &authority)?;
    for (file, text) in [
        ("ca.crt", authority.pem()),
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        fs::write(folder.join(file), text)?;
    }
    Ok(())
}

fn credentials(folder: &Path, who: &str) -> Result<PathBuf> {
    let directory = folder.join(format!("credentials-{who}"));
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("token"), who)?;
    fs::copy(folder.join("ca.crt"), directory.join("ca.crt"))?;
    Ok(directory)
}

fn client(port: u16, credentials: &Path) -> Result<Client> {
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse()?);
    let ca = CertificateDer::from_pem_file(credentials.join("ca.crt"))?;
    config.root_cert = Some(vec![ca.to_vec()]);
    config.auth_info.token_file = Some(credentials.join("token").to_string_lossy().into_owned());
    Client::try_from(config).during("failed to make a client")
}

/// A port that nobody has at this moment.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn start_real(program: &Path, folder: &Path) -> Result<(u16, Vec<Process>)> {
    let [port, store, peers] = [free_port()?, free_port()?, free_port()?];
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(folder.join("etcd"));
    etcd.args(["--listen-client-urls", &at(store), "--advertise-client-urls", &at(store)]);
    etcd.args(["--listen-peer-urls", &at(peers), "--initial-advertise-peer-urls", &at(peers)]);
    etcd.args(["--initial-cluster", &format!("default={}", at(peers)), "--unsafe-no-fsync"]);
    let etcd = Process::start("etcd", &mut etcd, &folder.join("etcd.log"))?;
    let tokens = WHO.map(|(token, user, groups)| format!("{token},{user},{user},\"{groups}\"\n"));
    fs::write(folder.join("tokens.csv"), tokens.concat())?;
    let mut server = Command::new(program);
    server.args([
        "--authorization-mode=RBAC",
        "--bind-address=127.0.0.1",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/24",
    ]);
    server.arg(format!("--secure-port={port}")).arg(format!("--etcd-servers={}", at(store)));
    for (flag, file) in [
        ("--cert-dir", "certificates"),
        ("--tls-cert-file", "server.crt"),
        ("--tls-private-key-file", "server.key"),
        ("--service-account-key-file", "server.crt"),
        ("--service-account-signing-key-file", "server.key"),
        ("--token-auth-file", "tokens.csv"),
    ] {
        server.arg(format!("{flag}={}", folder.join(file).display()));
    }
    let server = Process::start("kube-apiserver", &mut server, &folder.join("apiserver.log"))?;
    Ok((port, vec![server, etcd]))
}

/// What the stand-in holds, by path.
#[derive(Debug, Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    version: u64,
}

async fn stand_in(folder: &Path) -> Result<u16> {
    let chain = vec![CertificateDer::from_pem_file(folder.join("server.crt"))?];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let store = Arc::<Mutex<Store>>::default();
    let namespace = json!({"metadata": {"name": "default"}});
    lock(&store).create("/api/v1/namespaces", namespace);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, store) = (acceptor.clone(), Arc::clone(&store));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| answer(request, Arc::clone(&store)));
                // How a connection ends is the client's affair.
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    Ok(port)
}

fn lock(store: &Mutex<Store>) -> std::sync::MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    request: Request<Incoming>,
    store: Arc<Mutex<Store>>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    let path = head.uri.path();
    let (status, answer) = match head.method {
        Method::POST => lock(&store).create(path, body),
        Method::PATCH => lock(&store).merge(path, &body),
        Method::GET => lock(&store).read(path),
        _ => refusal(405, "MethodNotAllowed"),
    };
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}

impl Store {
    fn create(&mut self, collection: &str, mut object: Value) -> (u16, Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{collection}/{name}");
        if self.objects.contains_key(&path) {
            return refusal(409, "AlreadyExists");
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        self.objects.insert(path, object.clone());
        (201, object)
    }

    fn merge(&mut self, path: &str, patch: &Value) -> (u16, Value) {
        let Some(object) = self.objects.get_mut(path) else { return refusal(404, "NotFound") };
        let expected = &patch["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != object["metadata"]["resourceVersion"] {
            return refusal(409, "Conflict");
        }
        merge(object, patch);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        (200, object.clone())
    }

    /// An object, or all of a collection.
    fn read(&self, path: &str) -> (u16, Value) {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        let in_it = |key: &str| key.rsplit_once('/').is_some_and(|(folder, _)| folder == path);
        let items: Vec<_> =
            self.objects.iter().filter(|(key, _)| in_it(key)).map(|(_, object)| object).collect();
        let is_collection = ["events", "nodes", "csinodes", "persistentvolumes"]
            .iter()
            .any(|kind| path.ends_with(kind));
        if is_collection {
            (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
        } else {
            refusal(404, "NotFound")
        }
    }
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            if let Value::Object(own) = object {
                own.remove(key);
            }
        } else {
            merge(&mut object[key], value);
        }
    }
}

fn refusal(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code,
    });
    (code, status)
}
