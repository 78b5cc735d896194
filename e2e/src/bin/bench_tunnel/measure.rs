//! One measurement: a load through one running proxy, and what it cost the proxy.

use std::error::Error;
use std::fs;
use std::time::Duration;

use crate::load;
use crate::load::Load;
use crate::peers::Running;

const WARM_UP: Duration = Duration::from_millis(500);

/// What one measurement showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) mib_per_second: f64,
    pub(crate) operations_per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    /// CPU seconds of the proxy for each GiB of data, 0 without a proxy.
    pub(crate) cpu_seconds_per_gib: f64,
    /// CPU microseconds of the proxy for each operation, 0 without a proxy.
    pub(crate) cpu_micros_per_operation: f64,
    /// The most memory that the proxy had resident so far, MiB.
    pub(crate) peak_mib: f64,
    /// Operations of the slowest connection over those of the fastest.
    pub(crate) fairness: f64,
}

/// Runs `load` through the proxy for `window`.
pub(crate) fn measure(
    proxy: &Running,
    load: Load,
    window: Duration,
) -> Result<Figures, Box<dyn Error>> {
    let address = proxy.address;
    let (done, cpu) = std::thread::scope(|scope| {
        let connections: Vec<_> = (0..load.connections)
            .map(|_| scope.spawn(move || load::run(address, load, WARM_UP, window)))
            .collect();
        std::thread::sleep(WARM_UP);
        let before = cpu_seconds(proxy.process());
        std::thread::sleep(window);
        let after = cpu_seconds(proxy.process());
        let done: Vec<_> = connections
            .into_iter()
            .map(|connection| connection.join().map_err(|_| "a load thread panicked")?.map_err(Box::<dyn Error>::from))
            .collect::<Result<_, Box<dyn Error>>>()?;
        Ok::<_, Box<dyn Error>>((done, after? - before?))
    })?;
    let operations: u64 = done.iter().map(|one| one.operations).sum();
    let fewest = done.iter().map(|one| one.operations).min().unwrap_or(0);
    let most = done.iter().map(|one| one.operations).max().unwrap_or(0);
    let mut latencies: Vec<_> = done.into_iter().flat_map(|one| one.latencies).collect();
    latencies.sort();
    if latencies.is_empty() {
        return Err(format!("{}: no operation ended within the window", load.name).into());
    }
    let at = |share: usize| latencies[latencies.len() * share / 100].as_secs_f64() * 1e6;
    let count = operations as f64;
    let gib = count * (load.call.max(load.reply)) as f64 / f64::from(1 << 30);
    Ok(Figures {
        mib_per_second: gib * 1024.0 / window.as_secs_f64(),
        operations_per_second: count / window.as_secs_f64(),
        p50_micros: at(50),
        p99_micros: at(99),
        cpu_seconds_per_gib: cpu / gib,
        cpu_micros_per_operation: cpu / count * 1e6,
        peak_mib: peak_mib(proxy.process())?,
        fairness: fewest as f64 / most as f64,
    })
}

/// proc(5), /proc/pid/schedstat: nanoseconds on a processor, summed over the threads that live.
fn cpu_seconds(process: Option<u32>) -> Result<f64, Box<dyn Error>> {
    let Some(process) = process else { return Ok(0.0) };
    let mut nanoseconds = 0_u64;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// proc(5), VmHWM of /proc/pid/status.
fn peak_mib(process: Option<u32>) -> Result<f64, Box<dyn Error>> {
    let Some(process) = process else { return Ok(0.0) };
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
