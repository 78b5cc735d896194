//! The far end: one TLS server for every proxy, and the same without TLS for the plain ones.
//!
//! A thread for each connection. One cipher suite, so that all proxies do the same work.

use std::error::Error;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::pki_types::PrivateKeyDer;

use crate::load::LAST_FRAGMENT;
use crate::load::mark;

/// The name in the certificate.
pub(crate) const NAME: &str = "bench-nas.cn-hangzhou.nas.aliyuncs.com";

/// A running server. Its threads end with the process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let config = Arc::new(tls_config(&folder.path().join("ca.pem"))?);
        let tls = listen(move |stream| {
            let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            serve(rustls::StreamOwned::new(connection, stream))
        })?;
        let plain = listen(serve)?;
        Ok(Self { tls, plain, folder })
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A folder for the peers' configuration files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn tls_config(ca_file: &Path) -> Result<ServerConfig, Box<dyn Error>> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(ca_file, ca.self_signed(&ca_key)?.pem())?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![NAME.to_owned()])?
        .signed_by(&key, &Issuer::new(ca, ca_key))?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites =
        vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Ok(ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?)
}

fn listen(
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                // A proxy that closes its connection ends the thread; that is how a measurement ends.
                let _ = serve(stream);
            });
        }
    });
    Ok(address)
}

/// Answers calls until the other end closes.
fn serve(stream: impl Read + Write) -> io::Result<()> {
    let mut stream = io::BufReader::with_capacity(256 << 10, stream);
    let mut call = vec![0; 2 << 20];
    let reply = vec![0xa5; 2 << 20];
    let mut answer = Vec::with_capacity(2 << 20);
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let length = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]) & !LAST_FRAGMENT) as usize;
        let wanted = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        stream.read_exact(&mut call[..length - 4])?;
        answer.clear();
        answer.extend_from_slice(&mark(wanted).to_be_bytes());
        answer.extend_from_slice(&reply[..wanted]);
        stream.get_mut().write_all(&answer)?;
        stream.get_mut().flush()?;
    }
}
