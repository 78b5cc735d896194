//! `kubectl alinas status`: the tunnels of all nodes.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::app::plugin::PluginError;
use crate::app::plugin::cluster::Cluster;
use crate::app::plugin::names::Names;
use crate::app::plugin::runtime;
use crate::app::plugin::seconds;
use crate::app::plugin::view::Filter;
use crate::app::plugin::view::Lasts;
use crate::app::plugin::view::View;
use crate::app::print;
use crate::app::status::Output;
use crate::app::status::report::date;
use crate::app::status::table::Shown;
use crate::app::status::watch::WIPE;
use crate::runtime::Clock;
use crate::runtime::SystemClock;

/// So long the names of a cluster are believed while it is watched: there may be many.
const NAMES_AGE: Duration = Duration::from_secs(60);

/// What to ask for.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// This node alone; may be said more than once.
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// This volume alone: its id, or the name of its PersistentVolume.
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// The volume of this claim alone.
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    claim: Option<String>,
    /// Names the pods of each volume, too: lists all pods of the cluster.
    #[arg(long)]
    pods: bool,
    /// Each node looks twice, a second apart, and shows what was carried meanwhile.
    #[arg(long, conflicts_with = "watch")]
    rate: bool,
    /// For people, or for machines.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Looks again and again, every five seconds or every so many, and shows what is carried meanwhile.
    #[arg(
        long,
        short,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "5",
        value_parser = clap::value_parser!(u32).range(1..=86400)
    )]
    watch: Option<u32>,
    /// For each node to answer.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 15,
        value_parser = clap::value_parser!(u32).range(1..=600)
    )]
    timeout: u32,
}

/// Asks and prints. It fails where a node has not answered.
pub(super) fn run(cluster: &Cluster, arguments: &StatusArgs) -> Result<ExitCode, PluginError> {
    let runtime = runtime()?;
    if let Some(every) = arguments.watch {
        // A reader that has seen enough, as `head` has, is no error.
        let _ = runtime.block_on(watch(cluster, arguments, seconds(every), &mut io::stdout()));
        return Ok(ExitCode::SUCCESS);
    }
    let view = runtime.block_on(look(cluster, arguments, &mut Known::default(), None))?;
    print(&write(&view, arguments.output)?);
    Ok(if view.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of the cluster, and when they were asked for.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: Names,
    notices: Vec<String>,
    at: Option<Instant>,
}

pub(super) async fn look(
    cluster: &Cluster,
    arguments: &StatusArgs,
    known: &mut Known,
    lasts: Option<&mut Lasts>,
) -> Result<View, PluginError> {
    let pods = cluster.pods(&arguments.node).await?;
    let timeout = seconds(arguments.timeout);
    let are_old = known.at.is_none_or(|at| at.elapsed() >= NAMES_AGE);
    let names = async { if are_old { Some(cluster.names(arguments.pods).await) } else { None } };
    let (seen, names) = tokio::join!(cluster.ask(pods, arguments.rate, timeout), names);
    if let Some((names, notices)) = names {
        *known = Known { names, notices, at: Some(Instant::now()) };
    }
    let filter = Filter { volume: arguments.volume.clone(), claim: arguments.claim.clone() };
    let rates = arguments.rate || lasts.is_some();
    let shown = Shown { node: true, claim: true, pods: arguments.pods, rates };
    let now = SystemClock.now().epoch_seconds();
    Ok(View::of(seen, (&known.names, &known.notices), &filter, shown, lasts, now))
}

fn write(view: &View, output: Output) -> Result<String, PluginError> {
    let written = match output {
        Output::Table => return Ok(view.table()),
        Output::Json | Output::Yaml => output.of(&view.json(), |_| String::new()),
    };
    written.map_err(PluginError::Unwritable)
}

/// Ends when nobody reads any more.
async fn watch(
    cluster: &Cluster,
    arguments: &StatusArgs,
    every: Duration,
    out: &mut dyn Write,
) -> io::Result<()> {
    let is_in_place = arguments.output == Output::Table && io::stdout().is_terminal();
    let (mut known, mut lasts) = (Known::default(), Lasts::default());
    loop {
        let looked = look(cluster, arguments, &mut known, Some(&mut lasts)).await;
        let text = match (looked, arguments.output) {
            // A line each: a reader of a stream takes them apart by that.
            (Ok(view), Output::Json) => format!("{}\n", view.json()),
            (looked, output) => {
                let text = looked.and_then(|view| write(&view, output));
                let text = text.unwrap_or_else(|error| format!("kubectl alinas: {error}\n"));
                framed(&text, output, every, is_in_place)
            }
        };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        sleep(every).await;
    }
}

fn framed(text: &str, output: Output, every: Duration, is_in_place: bool) -> String {
    if output != Output::Table {
        return format!("---\n{text}");
    }
    let (before, after) = if is_in_place { (WIPE, "") } else { ("", "\n") };
    let now = date(SystemClock.now().epoch_seconds());
    format!("{before}{now}, every {} s\n{text}{after}", every.as_secs())
}
