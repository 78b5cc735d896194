//! A server that stops reading, and a client that does: what the tunnel keeps of what is outstanding.

use std::thread;
use std::time::Duration;

use crate::bench::call::Call;
use crate::bench::call::Kind;
use crate::bench::gauge::Resident;
use crate::bench::load::Client;
use crate::bench::peer::Peer;
use crate::failure::Failure;
use crate::failure::Result;

const CALL: u32 = 1 << 20;
/// How long a side stays deaf.
const DEAF: Duration = Duration::from_millis(700);
const CONNECTIONS: usize = 4;

/// Which side takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deaf {
    /// Requests pile up.
    Server,
    /// Answers pile up.
    Client,
}

/// Resident MiB that each connection adds while so many MiB are outstanding on each.
///
/// # Errors
/// When the tunnel does not carry, or carries more than is outstanding.
pub fn measure(peer: &Peer, deaf: Deaf, outstanding: u32) -> Result<f64> {
    let id = peer.id().ok_or_else(|| Failure::new("nothing to measure"))?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(peer.address, Call { kind: Kind::Read, size: 0 })?);
    }
    let before = Resident::of(id)?.now;
    let mut most = before;
    for client in &mut clients {
        press(client, deaf, outstanding)?;
        most = most.max(Resident::of(id)?.now);
    }
    thread::sleep(DEAF / 2);
    most = most.max(Resident::of(id)?.now);
    Ok((most - before) / CONNECTIONS as f64)
}

fn press(client: &mut Client, deaf: Deaf, outstanding: u32) -> Result<()> {
    let calls = outstanding * (1 << 20) / CALL;
    match deaf {
        Deaf::Server => {
            let millis = u32::try_from(DEAF.as_millis()).unwrap_or(u32::MAX) * 4;
            client.send_all(Call { kind: Kind::Pause, size: millis })?;
            client.press(Call { kind: Kind::Write, size: CALL }, calls, DEAF)?;
        }
        Deaf::Client => {
            client.press(Call { kind: Kind::Read, size: CALL }, calls, DEAF)?;
        }
    }
    Ok(())
}
