//! From a report to the text that is scraped.

use std::fmt;
use std::fmt::Debug;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::app::metrics::family::Family;
use crate::app::metrics::family::Kind;
use crate::app::metrics::value::Value;

/// The text of OpenMetrics.
pub(super) fn of<R>(families: &'static [Family<R>], report: &R) -> String
where
    R: Clone + Debug + Send + Sync + 'static,
{
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { families, report: report.clone() }));
    let mut text = String::new();
    // Writing into a string fails only where a value cannot be written, and ours are numbers.
    match encode(&mut text, &registry) {
        Ok(()) => text,
        Err(fmt::Error) => String::new(),
    }
}

#[derive(Debug)]
struct Scrape<R: 'static> {
    families: &'static [Family<R>],
    report: R,
}

impl<R: Debug + Send + Sync + 'static> Collector for Scrape<R> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.families {
            let (name, kind) = match family.kind {
                // The encoder adds it to each series.
                Kind::Counter => (family.name.trim_end_matches("_total"), MetricType::Counter),
                Kind::Gauge => (family.name, MetricType::Gauge),
                Kind::Histogram => (family.name, MetricType::Histogram),
            };
            let help = format!("{}.", family.help);
            let mut metric = encoder.encode_descriptor(name, &help, None, kind)?;
            let samples = family.samples(&self.report);
            if family.labels.is_empty() {
                let only = samples.first().map_or(&Value::Number(0), |(_, value)| value);
                write(family.kind, only, metric)?;
                continue;
            }
            for (values, value) in samples {
                let labels: Vec<_> = family.labels.iter().copied().zip(values).collect();
                write(family.kind, &value, metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn write(kind: Kind, value: &Value, mut series: MetricEncoder<'_>) -> fmt::Result {
    match (value, kind) {
        (Value::Number(value), Kind::Counter) => ConstCounter::new(*value).encode(series),
        (Value::Number(value), _) => ConstGauge::new(*value).encode(series),
        (Value::Time(time), Kind::Counter) => ConstCounter::new(time.as_secs_f64()).encode(series),
        (Value::Time(time), _) => ConstGauge::new(time.as_secs_f64()).encode(series),
        (Value::Histogram(histogram), _) => {
            let bound = |(bound, count): &(Duration, u64)| (bound.as_secs_f64(), *count);
            let mut buckets: Vec<_> = histogram.buckets.iter().map(bound).collect();
            // The encoder adds up.
            buckets.push((f64::INFINITY, histogram.longer));
            let (sum, count) = (histogram.sum.as_secs_f64(), histogram.count());
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::metrics::family::FAMILIES;
    use crate::app::status;

    #[test]
    fn each_family_is_described_and_values_stand_with_their_labels() {
        let text = of(&FAMILIES, &status::example());
        for family in &FAMILIES {
            let name = family.name.trim_end_matches("_total");
            assert!(
                text.contains(&format!("# HELP {name} {}.\n", family.help)),
                "{name} in {text}"
            );
        }
        let a = "target=\"a.nas.example.com\",address=\"127.0.1.1\"";
        for line in [
            "alinas_csi_tunnel_up 1".to_owned(),
            "alinas_csi_tunnel_process_restarts_total{reason=\"unanswering\"} 1".to_owned(),
            "alinas_csi_tunnels{state=\"unreachable\"} 1".to_owned(),
            "alinas_csi_tunnels{state=\"waiting\"} 0".to_owned(),
            format!("alinas_csi_tunnel_volumes{{{a}}} 2"),
            format!("alinas_csi_tunnel_bytes_total{{{a},direction=\"to_server\"}} 3145728"),
            format!("alinas_csi_tunnel_session_weak{{{a},reason=\"static-rsa\"}} 1"),
            format!("alinas_csi_tunnel_session_weak{{{a},reason=\"any-name\"}} 0"),
            format!("alinas_csi_tunnel_handshake_duration_seconds_bucket{{le=\"0.005\",{a}}} 0"),
            format!("alinas_csi_tunnel_handshake_duration_seconds_bucket{{le=\"+Inf\",{a}}} 1"),
            format!("alinas_csi_tunnel_handshake_duration_seconds_sum{{{a}}} 0.007"),
            format!("alinas_csi_tunnel_round_trip_seconds_bucket{{le=\"0.005\",{a}}} 1"),
            format!("alinas_csi_tunnel_last_round_trip_seconds{{{a}}} 0.001234"),
            format!("alinas_csi_tunnel_address_changes_total{{{a}}} 3"),
            "alinas_csi_tunnel_dial_failures_total{target=\"b.nas.example.com\",address=\"127.0.1.2\",\
             kind=\"connection-refused\"} 5"
                .to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(!text.contains("pv-1"), "a volume is in a label: {text}");
    }

    #[test]
    fn a_tunnel_process_that_does_not_answer_is_down_and_counts_nothing() {
        let mut report = status::example();
        report.listeners_missing_because = "no answer".to_owned();
        report.tunnels.iter_mut().for_each(|tunnel| tunnel.listener = None);
        let text = of(&FAMILIES, &report);
        assert!(text.contains("\nalinas_csi_tunnel_up 0\n"), "{text}");
        assert!(text.contains("\nalinas_csi_tunnels{state=\"unknown\"} 2\n"), "{text}");
        assert!(!text.contains("alinas_csi_tunnel_bytes_total{"), "{text}");
    }
}
