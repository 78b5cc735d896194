//! `make bench`: what a tunnel costs, ours and its peers' side by side in one run.
//!
//! Record-marked RPC over loopback: load -> proxy -> TLS server, with the same server, cipher and load for every
//! proxy. Rounds are interleaved, so that a busy moment of the machine hits all of them; medians are shown, and
//! ratios against stunnel. CPU is that of the proxy process alone.
//!
//! Not a test: figures depend on the machine. Everything talks to 127.0.0.1 and ends by itself.

mod load;
mod measure;
mod peers;
mod server;
mod table;

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use load::Load;
use measure::Figures;
use peers::Peer;

/// Compares tunnels.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long one measurement takes, milliseconds.
    #[arg(long, default_value_t = 1500)]
    window: u64,
    /// Only peers whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let server = server::Server::start()?;
    let window = Duration::from_millis(arguments.window);
    let kinds: Vec<_> =
        Peer::ALL.iter().copied().filter(|peer| peer.name().contains(&arguments.only)).collect();
    let mut all: Vec<(Peer, Load, Figures)> = Vec::new();
    for round in 1..=arguments.rounds {
        for peer in &kinds {
            eprintln!("round {round} of {}: {}", arguments.rounds, peer.name());
            // A fresh process for every round: what one run leaves behind must not favour the next.
            let running = peer.start(&server)?;
            for load in Load::ALL {
                all.push((*peer, load, measure::measure(&running, load, window)?));
            }
        }
    }
    table::print(&all);
    Ok(())
}
