//! nginx as a TLS server: a quick one, for tests with thousands of connections.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use tokio::time::sleep;

use crate::tls_lab::ANY_PORT;
use crate::tls_lab::DEADLINE;
use crate::tls_lab::Lab;
use crate::tls_lab::free_port;
use crate::tunnel_program::Killed;
use crate::tunnel_program::program;

/// Ends when dropped.
pub struct Nginx {
    _process: Killed,
    /// Where it listens.
    pub port: u16,
}

impl Nginx {
    /// With a good certificate, in front of a port of this machine.
    pub async fn start(lab: &Lab, backend: u16) -> Self {
        let port = u16::try_from(free_port()).unwrap();
        let folder = lab.folder.path();
        fs::write(folder.join("nginx.pem"), lab.certificate(|_| {})).unwrap();
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
             daemon off; master_process off; pid {0}/nginx.pid; error_log stderr;\n\
             events {{ worker_connections 4096; }}\n\
             stream {{ server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {0}/nginx.pem;\n\
             ssl_certificate_key {0}/nginx.pem; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n\
             ssl_session_cache shared:nas:1m; proxy_half_close on; proxy_pass 127.0.0.1:{backend}; }} }}\n",
            folder.display()
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let (file, prefix) = (file.to_str().unwrap(), folder.to_str().unwrap());
        let mut process =
            Killed(program("/usr/sbin/nginx", &["-e", "stderr", "-c", file, "-p", prefix]));
        // So that it never waits for somebody to read its log.
        drop(process.0.stderr.take());
        let start = Instant::now();
        while TcpStream::connect((*ANY_PORT.ip(), port)).is_err() {
            assert!(start.elapsed() < DEADLINE, "nginx does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Self { _process: process, port }
    }
}
