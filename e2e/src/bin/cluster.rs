//! Starts a Kubernetes and the embedded NAS in the lab, runs a command beside them, and ends as the command does.
//!
//!     e2e/run-tests cluster-shell COMMAND...

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use e2e::beside;
use e2e::cluster::Cluster;
use e2e::failure::Result;

#[derive(Parser)]
struct Arguments {
    /// What to run while the cluster runs; kubectl is told of it by $KUBECONFIG.
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    beside::ended("cluster", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let begin = Instant::now();
    let cluster = Cluster::start()?;
    println!("cluster: ready after {} s", begin.elapsed().as_secs());
    beside::run(&arguments.command, |command| {
        command.env("KUBECONFIG", cluster.client().kubeconfig());
        command.env("NAS_CA_FILE", cluster.nas().ca_file());
    })
}
