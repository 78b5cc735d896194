//! How the kubelet learns of the driver: it calls whoever listens in its folder `plugins_registry`, and then us.
//!
//! The socket appears under its name only once it listens, and takes the place of one that is there: the kubelet sees a
//! new one and registers anew. So the next pod of a DaemonSet can register while the former one still runs. The socket is
//! removed at the end, on which the kubelet forgets the driver, but only as long as it is ours.
//!
//! The kubelet is a client of gRPC that says the path of the socket, percent-encoded, for `:authority`, and h2 takes no
//! percent sign in a host. It takes one before an `@`; so our socket has an `@` in its name.
//!
//! Source: Kubernetes, pkg/kubelet/pluginmanager; RFC 3986, section 3.2.1.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::async_trait;
use tonic::transport::Server;

use crate::csi::DriverName;
use crate::proto::kubelet;
use crate::proto::kubelet::registration_server::Registration;
use crate::proto::kubelet::registration_server::RegistrationServer;
use crate::runtime::Chain;

/// What the kubelet calls drivers of CSI.
const KIND: &str = "CSIPlugin";
/// Of CSI; the kubelet speaks any 1.x.
const VERSION: &str = "1.0.0";
/// How often it is looked whether the socket is still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After a refusal of the kubelet's, or a failure of ours.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Who registers, and where.
#[derive(Clone, Debug)]
pub struct Registrar {
    /// The kubelet's `plugins_registry`, as it is seen here.
    pub folder: PathBuf,
    /// Which driver.
    pub driver: DriverName,
    /// Where its CSI socket is, as the kubelet sees it.
    pub endpoint: PathBuf,
}

/// Why serving ended.
enum Ended {
    Told,
    /// The kubelet has refused us, or the socket is gone: it is to be said anew.
    Again,
    /// Another process has put its own in the place of ours.
    Succeeded,
}

impl Registrar {
    /// Registers, and keeps registered, until `stop`; then the kubelet is to forget the driver. Where `succeeded` is
    /// cancelled first it is not, because another process registers the same.
    pub async fn run(self, stop: CancellationToken, succeeded: CancellationToken) {
        loop {
            match self.serve(&stop, &succeeded).await {
                Ok(Ended::Told | Ended::Succeeded) => return,
                Ok(Ended::Again) => {}
                Err(error) => tracing::error!(
                    registration.socket = %self.socket().display(), error = %Chain(&error),
                    "failed to register with the kubelet; check that its folder plugins_registry is mounted here"
                ),
            }
            if stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await.is_none() {
                return;
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(format!("reg@{}.sock", self.driver))
    }

    async fn serve(
        &self,
        stop: &CancellationToken,
        succeeded: &CancellationToken,
    ) -> io::Result<Ended> {
        let socket = self.socket();
        let refused = Arc::new(Notify::new());
        let service = Service { registrar: self.clone(), refused: Arc::clone(&refused) };
        let (listener, ours) = listen(&socket)?;
        let server = Server::builder()
            .add_service(RegistrationServer::new(service))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let ended = tokio::select! {
            biased;
            () = succeeded.cancelled() => return Ok(Ended::Succeeded),
            () = stop.cancelled() => Ended::Told,
            () = refused.notified() => Ended::Again,
            ended = replaced(&socket, ours) => ended,
            failed = server => return Err(io::Error::other(failed.map_or_else(
                |error| Chain(&error).to_string(),
                |()| "the server ended".to_owned(),
            ))),
        };
        if matches!(ended, Ended::Told | Ended::Again) && inode(&socket) == Some(ours) {
            std::fs::remove_file(&socket)?;
        }
        Ok(ended)
    }
}

/// Waits until the socket is not ours any more.
async fn replaced(socket: &Path, ours: Inode) -> Ended {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match inode(socket) {
            Some(found) if found == ours => {}
            Some(_) => {
                tracing::info!("another process has registered the driver");
                return Ended::Succeeded;
            }
            None => {
                tracing::warn!(
                    registration.socket = %socket.display(),
                    "somebody removed the socket that the kubelet registers the driver by; it is made again"
                );
                return Ended::Again;
            }
        }
    }
}

type Inode = (u64, u64);

fn inode(path: &Path) -> Option<Inode> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The kubelet takes no notice of names that begin with a dot.
fn listen(socket: &Path) -> io::Result<(UnixListener, Inode)> {
    let name = socket.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unfinished = socket.with_file_name(format!(".{name}"));
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unfinished)?;
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o600))?;
    let ours = inode(&unfinished).ok_or(io::ErrorKind::NotFound)?;
    std::fs::rename(&unfinished, socket)?;
    Ok((listener, ours))
}

struct Service {
    registrar: Registrar,
    refused: Arc<Notify>,
}

#[async_trait]
impl Registration for Service {
    async fn get_info(
        &self,
        _: Request<kubelet::InfoRequest>,
    ) -> Result<Response<kubelet::PluginInfo>, Status> {
        Ok(Response::new(kubelet::PluginInfo {
            r#type: KIND.to_owned(),
            name: self.registrar.driver.to_string(),
            endpoint: self.registrar.endpoint.display().to_string(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<kubelet::RegistrationStatus>,
    ) -> Result<Response<kubelet::RegistrationStatusResponse>, Status> {
        let kubelet::RegistrationStatus { plugin_registered, error } = request.into_inner();
        let driver = &self.registrar.driver;
        if plugin_registered {
            tracing::info!(driver.name = %driver, "the kubelet has registered the driver");
        } else {
            tracing::error!(driver.name = %driver, error, "the kubelet refused the driver; it is asked again");
            self.refused.notify_one();
        }
        Ok(Response::new(kubelet::RegistrationStatusResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    use super::*;
    use crate::proto::kubelet::registration_client::RegistrationClient;
    use crate::runtime::one_connection;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn registrar(folder: &tempfile::TempDir) -> Registrar {
        Registrar {
            folder: folder.path().to_owned(),
            driver: DriverName::parse("alinas.csi.alibabacloud.com").unwrap(),
            endpoint: "/var/lib/kubelet/plugins/alinas/csi.sock".into(),
        }
    }

    struct Running {
        socket: PathBuf,
        stop: CancellationToken,
        succeeded: CancellationToken,
        role: tokio::task::JoinHandle<()>,
    }

    fn start(registrar: Registrar) -> Running {
        let (stop, succeeded) = (CancellationToken::new(), CancellationToken::new());
        let socket = registrar.socket();
        let role = tokio::spawn(registrar.run(stop.clone(), succeeded.clone()));
        Running { socket, stop, succeeded, role }
    }

    async fn kubelet(socket: &Path) -> RegistrationClient<tonic::transport::Channel> {
        let connect = async {
            loop {
                match UnixStream::connect(socket).await {
                    Ok(stream) => return RegistrationClient::new(one_connection(stream)),
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(PATIENCE, connect).await.unwrap()
    }

    async fn other_inode(socket: &Path, former: Option<Inode>) {
        let change = async {
            while inode(socket).is_none() || inode(socket) == former {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, change).await.unwrap();
    }

    #[tokio::test]
    async fn the_kubelet_is_told_where_the_driver_is_and_forgets_it_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let running = start(registrar(&folder));
        let mut kubelet = kubelet(&running.socket).await;
        let info = kubelet.get_info(kubelet::InfoRequest {}).await.unwrap().into_inner();
        assert_eq!(
            (info.r#type.as_str(), info.name.as_str()),
            (KIND, "alinas.csi.alibabacloud.com")
        );
        assert_eq!(info.endpoint, "/var/lib/kubelet/plugins/alinas/csi.sock");
        let registered =
            kubelet::RegistrationStatus { plugin_registered: true, error: String::new() };
        kubelet.notify_registration_status(registered).await.unwrap();
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing unfinished is left"
        );
        running.stop.cancel();
        timeout(PATIENCE, running.role).await.unwrap().unwrap();
        assert!(!running.socket.exists());
    }

    #[tokio::test]
    async fn a_kubelet_that_calls_us_by_the_path_of_the_socket_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let running = start(registrar(&folder));
        kubelet(&running.socket).await;
        let name = running.socket.file_name().unwrap().to_string_lossy().into_owned();
        let authority = format!("http://%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2F{name}");
        let path = running.socket.clone();
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://unix")
            .origin(authority.parse().unwrap())
            .connect_with_connector_lazy(connect);
        let asked = RegistrationClient::new(channel).get_info(kubelet::InfoRequest {}).await;
        assert_eq!(asked.unwrap().into_inner().r#type, KIND);
        running.stop.cancel();
        timeout(PATIENCE, running.role).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_comes_next_takes_the_place_and_the_former_one_leaves_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = start(registrar(&folder));
        kubelet(&first.socket).await;
        let former = inode(&first.socket);
        first.succeeded.cancel();
        timeout(PATIENCE, first.role).await.unwrap().unwrap();
        assert!(first.socket.exists(), "the kubelet would forget the driver");
        let second = start(registrar(&folder));
        other_inode(&second.socket, former).await;
        // One that was not told of its successor removes what is its own, and no more.
        let third = start(registrar(&folder));
        other_inode(&third.socket, inode(&second.socket)).await;
        second.stop.cancel();
        timeout(PATIENCE, second.role).await.unwrap().unwrap();
        kubelet(&third.socket).await;
        third.stop.cancel();
        timeout(PATIENCE, third.role).await.unwrap().unwrap();
        assert!(!third.socket.exists());
    }

    #[tokio::test]
    async fn a_kubelet_that_refuses_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let running = start(registrar(&folder));
        let mut asked = kubelet(&running.socket).await;
        let former = inode(&running.socket);
        let refused =
            kubelet::RegistrationStatus { plugin_registered: false, error: "because".to_owned() };
        asked.notify_registration_status(refused).await.unwrap();
        other_inode(&running.socket, former).await;
        running.stop.cancel();
        timeout(PATIENCE, running.role).await.unwrap().unwrap();
    }
}
