//! What may listen where NFS was expected: programs that are silent, hang up, or speak another language.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::thread;

use crate::failure::During;
use crate::failure::Result;
use crate::lab;

/// Accepts, and says nothing.
pub const SILENT_PORT: u16 = 3001;
/// Accepts, and closes.
pub const CLOSING_PORT: u16 = 3002;
/// Answers as a web server.
pub const FOREIGN_PORT: u16 = 3003;

/// Listens on all three ports of a network namespace. The threads end with this process: a listener that
/// nobody talks to is nothing that must be undone.
pub(super) fn listen(network: &Path) -> Result<()> {
    let services: [(u16, fn(TcpStream)); 3] =
        [(SILENT_PORT, keep), (CLOSING_PORT, drop), (FOREIGN_PORT, answer_as_web_server)];
    let listeners = lab::inside_network(network, || {
        let bind = |(port, service)| {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
            Ok((listener.during(format!("failed to bind port {port}"))?, service))
        };
        services.into_iter().map(bind).collect::<Result<Vec<(_, fn(_))>>>()
    })?;
    for (listener, service) in listeners {
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || service(client));
            }
        });
    }
    Ok(())
}

fn keep(mut client: TcpStream) {
    let mut sink = [0; 4096];
    while client.read(&mut sink).is_ok_and(|read| read > 0) {}
}

fn answer_as_web_server(mut client: TcpStream) {
    let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let _ = client.shutdown(Shutdown::Write);
    keep(client);
}
