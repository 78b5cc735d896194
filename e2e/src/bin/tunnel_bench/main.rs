//! What a tunnel costs beside its peers, and whether it is what was promised.
//!
//! All peers stand between the same load and the same server, and take their turns within each round, so that
//! whatever else the machine does hits all of them. Medians over rounds; processor time is that of the proxy
//! alone. `docs/benchmarks.md` says how to read it.

mod rows;
mod runs;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::failure::Result;
use rustix::process::Resource;

#[derive(Parser)]
struct Arguments {
    /// One round with short windows: a minute in all
    #[arg(long)]
    quick: bool,
    /// Rounds over all peers
    #[arg(long)]
    rounds: Option<usize>,
    /// Only loads whose name contains this, and no crowd, slow server or cold connect
    #[arg(long)]
    only: Option<String>,
    /// Only the crowd, the slow server and the cold connect
    #[arg(long, conflicts_with = "only")]
    rest: bool,
    /// The driver's binary
    #[arg(long, default_value = "target/release/alinas-csi")]
    binary: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tunnel_bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    raise_descriptors();
    let (rounds, window) = match arguments.quick {
        true => (1, Duration::from_millis(400)),
        false => (5, Duration::from_millis(800)),
    };
    let bench = runs::Bench::open(&arguments.binary)?;
    if arguments.rest {
        table::print_rest(&bench.rest()?);
        return Ok(());
    }
    let only = arguments.only.as_deref();
    let found = bench.loads(arguments.rounds.unwrap_or(rounds), window, only)?;
    table::print_loads(&found);
    if only.is_none() {
        let rest = bench.rest()?;
        table::print_rest(&rest);
        rows::print(&found, &rest);
    }
    Ok(())
}

/// A thousand tunnels need three descriptors each, and their children inherit the limit.
fn raise_descriptors() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}
