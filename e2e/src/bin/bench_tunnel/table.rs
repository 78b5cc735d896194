//! The table that `make bench` prints: medians, and ratios against stunnel.

use crate::load::Load;
use crate::measure::Figures;
use crate::peers::Peer;

/// Prints one block for each load, one line for each peer.
pub(crate) fn print(all: &[(Peer, Load, Figures)]) {
    for load in Load::ALL {
        println!("\n{}", load.name);
        println!(
            "  {:<22} {:>9} {:>10} {:>9} {:>9} {:>9} {:>8} {:>8} {:>5}   against stunnel",
            "", "MiB/s", "op/s", "p50 us", "p99 us", "CPU s/GiB", "us/op", "peak MiB", "fair"
        );
        let stunnel = median(all, Peer::Stunnel, load);
        for peer in Peer::ALL {
            if let Some(figures) = median(all, peer, load) {
                line(peer, &figures, stunnel.as_ref(), load.small);
            }
        }
    }
}

fn line(peer: Peer, figures: &Figures, stunnel: Option<&Figures>, small: bool) {
    let ratio = match stunnel {
        Some(stunnel) if peer != Peer::Stunnel => format!(
            "{:.2}x {}, {:.2}x CPU",
            figures.operations_per_second / stunnel.operations_per_second,
            if small { "op/s" } else { "MiB/s" },
            figures.cpu_micros_per_operation / stunnel.cpu_micros_per_operation,
        ),
        _ => String::new(),
    };
    println!(
        "  {:<22} {:>9.0} {:>10.0} {:>9.1} {:>9.1} {:>9.3} {:>8.2} {:>8.1} {:>5.2}   {ratio}",
        peer.name(),
        figures.mib_per_second,
        figures.operations_per_second,
        figures.p50_micros,
        figures.p99_micros,
        figures.cpu_seconds_per_gib,
        figures.cpu_micros_per_operation,
        figures.peak_mib,
        figures.fairness,
    );
}

/// The median of each figure by itself.
fn median(all: &[(Peer, Load, Figures)], peer: Peer, load: Load) -> Option<Figures> {
    let of: Vec<&Figures> = all
        .iter()
        .filter(|(one, of_load, _)| *one == peer && *of_load == load)
        .map(|(_, _, figures)| figures)
        .collect();
    let middle = |figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = of.iter().map(|figures| figure(figures)).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (!of.is_empty()).then(|| Figures {
        mib_per_second: middle(|figures| figures.mib_per_second),
        operations_per_second: middle(|figures| figures.operations_per_second),
        p50_micros: middle(|figures| figures.p50_micros),
        p99_micros: middle(|figures| figures.p99_micros),
        cpu_seconds_per_gib: middle(|figures| figures.cpu_seconds_per_gib),
        cpu_micros_per_operation: middle(|figures| figures.cpu_micros_per_operation),
        peak_mib: middle(|figures| figures.peak_mib),
        fairness: middle(|figures| figures.fairness),
    })
}
