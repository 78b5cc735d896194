//! A TLS server that answers every RPC call with an empty success, as NFS answers NULL: a thread for each connection.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::failure::Result;

/// Starts to listen at any port, until the process ends, with a certificate and key in one file.
///
/// # Errors
/// When the certificate cannot be used or nothing bound.
pub fn start(address: Ipv4Addr, certificate: &Path) -> Result<SocketAddr> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = Arc::new(
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?,
    );
    let listener = TcpListener::bind((address, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            if let Ok(connection) = rustls::ServerConnection::new(Arc::clone(&config)) {
                let stream = rustls::StreamOwned::new(connection, stream);
                thread::spawn(move || answer_calls(stream));
            }
        }
    });
    Ok(address)
}

/// RFC 5531, sections 9 and 11: a reply with the call's xid, accepted, success, no verifier.
fn answer_calls(mut stream: impl Read + Write) -> io::Result<()> {
    loop {
        let mut mark = [0; 4];
        stream.read_exact(&mut mark)?;
        let length = u32::from_be_bytes(mark) & 0x7fff_ffff;
        let mut call = vec![0; length as usize];
        stream.read_exact(&mut call)?;
        let mut reply = vec![0x80, 0, 0, 24];
        reply.extend_from_slice(call.get(..4).unwrap_or(&[0; 4]));
        reply.extend_from_slice(&[0, 0, 0, 1]);
        reply.extend_from_slice(&[0; 16]);
        stream.write_all(&reply)?;
        stream.flush()?;
    }
}
