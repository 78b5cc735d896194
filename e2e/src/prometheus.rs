//! A Prometheus of Debian's package: it scrapes what a test serves, and answers questions about it.
//!
//! e2e/tools/prometheus says where it is. It listens on loopback alone and keeps what it has read in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::process::Process;
use crate::process::run;

/// Between two scrapes, in seconds.
pub const INTERVAL: u64 = 2;
/// What Grafana puts for `$__rate_interval` at the least: four times the interval of scrapes.
pub const RATE_INTERVAL: &str = "8s";
/// To be fetched, too.
const START: Duration = Duration::from_secs(120);
const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/prometheus");

/// Who is scraped.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The name of its job.
    pub job: &'static str,
    /// Where it serves `/metrics`.
    pub address: SocketAddr,
    /// The label `node`, which the chart's PodMonitor adds.
    pub node: Option<&'static str>,
}

/// A series at a moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What tells it from others.
    pub labels: BTreeMap<String, String>,
    /// May be NaN.
    pub value: f64,
}

/// Ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one with its files in `folder`. The call blocks.
    ///
    /// # Errors
    /// When it cannot be had or does not come up, with the end of its log.
    pub fn start(folder: &Path, endpoints: &[Endpoint]) -> Result<Self> {
        let program = program("prometheus")?;
        let config = folder.join("prometheus.json");
        // What is JSON is YAML.
        fs::write(&config, serde_json::to_vec(&settings(endpoints))?)?;
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.env("GOMAXPROCS", "1");
        let log = folder.join("prometheus.log");
        let mut process = Process::start("prometheus", &mut command, &log)?;
        process.wait_until("it is ready", START, || is_ready(address).unwrap_or(false))?;
        Ok(Self { address, _process: process })
    }

    /// What an expression says now.
    ///
    /// # Errors
    /// When it is none of PromQL's, in Prometheus' words.
    pub async fn ask(&self, expression: &str) -> Result<Vec<Sample>> {
        let data = self.read(&format!("/api/v1/query?query={}", escaped(expression))).await?;
        let result = data["result"].as_array().into_iter().flatten();
        Ok(result.filter_map(sample).collect())
    }

    /// The values that a label has in the series of a metric.
    ///
    /// # Errors
    /// When Prometheus does not say so.
    pub async fn values(&self, metric: &str, label: &str) -> Result<Vec<String>> {
        let path = format!("/api/v1/label/{label}/values?match[]={}", escaped(metric));
        let data = self.read(&path).await?;
        let values = data.as_array().into_iter().flatten();
        Ok(values.filter_map(|value| value.as_str().map(str::to_owned)).collect())
    }

    async fn read(&self, path: &str) -> Result<Value> {
        let mut stream = tokio::net::TcpStream::connect(self.address).await?;
        // The older protocol has no chunks.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let said: Value = serde_json::from_str(body).during("no answer of Prometheus")?;
        match said["status"].as_str() {
            Some("success") => Ok(said["data"].clone()),
            _ => Err(Failure::new(said["error"].to_string())),
        }
    }
}

/// It listens before it answers.
fn is_ready(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.0 200 "))
}

fn settings(endpoints: &[Endpoint]) -> Value {
    let job = |endpoint: &Endpoint| {
        let labels = endpoint.node.map(|node| json!({"node": node}));
        json!({
            "job_name": endpoint.job,
            "static_configs": [{
                "targets": [endpoint.address.to_string()],
                "labels": labels.unwrap_or_else(|| json!({})),
            }],
        })
    };
    json!({
        "global": {"scrape_interval": format!("{INTERVAL}s"), "scrape_timeout": format!("{INTERVAL}s")},
        "scrape_configs": endpoints.iter().map(job).collect::<Vec<_>>(),
    })
}

fn sample(series: &Value) -> Option<Sample> {
    let labels = series["metric"].as_object()?.iter();
    let labels =
        labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()));
    let value = series["value"][1].as_str()?.parse().ok()?;
    Some(Sample { labels: labels.collect(), value })
}

/// For an address: what is neither a letter nor a digit by its bytes.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// What `promtool check metrics` finds wrong with the text of an endpoint; nothing is well. The call blocks.
///
/// # Errors
/// When it cannot be had.
pub fn lint(folder: &Path, text: &str) -> Result<String> {
    let file = folder.join("metrics.txt");
    fs::write(&file, in_the_older_form(text))?;
    let (found, mut command) = (folder.join("lint.txt"), Command::new(program("promtool")?));
    command.args(["check", "metrics"]).stdin(Stdio::from(File::open(&file)?));
    command.stdout(File::create(&found)?).stderr(File::options().append(true).open(&found)?);
    let ended = command.status().during("failed to start promtool")?;
    let said = fs::read_to_string(found)?;
    Ok(if ended.success() { said } else { format!("{ended}\n{said}") })
}

/// promtool reads the form before OpenMetrics, in which a counter is described by the name of its series.
fn in_the_older_form(text: &str) -> String {
    let is_counter = |name: &str| text.contains(&format!("# TYPE {name} counter\n"));
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest))
                if is_counter(name) =>
            {
                format!("# {what} {name}_total {rest}\n")
            }
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

fn program(name: &str) -> Result<String> {
    Ok(run(START, TOOL, &[name])?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_described_by_the_name_of_its_series() {
        let text = "# HELP a_bytes Bytes of it.\n# TYPE a_bytes counter\na_bytes_total 1\n# TYPE b gauge\nb 2\n";
        let older = "# HELP a_bytes_total Bytes of it.\n# TYPE a_bytes_total counter\na_bytes_total 1\n# TYPE b gauge\nb 2\n";
        assert_eq!(in_the_older_form(text), older);
    }

    #[test]
    fn an_expression_is_part_of_an_address() {
        assert_eq!(escaped("a{b=~\"c|d\"} > 1"), "a%7Bb%3D%7E%22c%7Cd%22%7D%20%3E%201");
    }
}
