//! What an operator asks on the command line: `doctor` before the simulator of the vendor's API, its support archive, and
//! `status --watch`.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use e2e::driver::binary;
use e2e::openapi::Simulator;
use e2e::openapi::Timing;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;

const ID: &str = "LTAI5tExample";
const SECRET: &str = "secret-of-a-user";

async fn doctor(simulator: &Simulator, secret: Option<&str>, more: &[&str]) -> Output {
    let mut command = Command::new(binary().unwrap());
    command
        .env_clear()
        .env("ALINAS_CSI_NAS_REGION", "cn-test")
        .env("ALINAS_CSI_NAS_ENDPOINT", &simulator.endpoint)
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .args(["doctor", "-o", "json", "--state-dir", "/nonexistent", "--ca-file"])
        .arg(&simulator.ca_file)
        .args(more);
    if let Some(secret) = secret {
        command
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", ID)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn finding(output: &Output, check: &str) -> (String, String) {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = said["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    (text("verdict"), format!("{}; {}", text("found"), text("remedy")))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_who_we_are_to_the_api_and_whether_we_may_read() {
    let simulator = Simulator::start(Timing::default()).await.unwrap();
    simulator.add_user(ID, SECRET);
    for (secret, verdict, words) in [
        (Some(SECRET), "ok", "with credentials from the environment, localhost:"),
        (Some("another-secret"), "failed", "with credentials from the environment: failed to call"),
        (None, "failed", "no credentials were found (ALIBABA_CLOUD_ACCESS_KEY_ID is not set"),
    ] {
        let output = doctor(&simulator, secret, &[]).await;
        let (said, found) = finding(&output, "api");
        assert!(said == verdict && found.starts_with(words), "{said}: {found}");
        let (said, found) = finding(&output, "clock");
        assert!(said == "ok" && found.contains(" the Date that localhost:"), "{said}: {found}");
    }
    simulator.deny(ID, "nas:DescribeFileSystems");
    let (said, found) = finding(&doctor(&simulator, Some(SECRET), &[]).await, "api");
    println!("{found}");
    assert!(said == "failed" && found.contains("nas:DescribeFileSystems"), "{said}: {found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_archive_has_the_findings_and_no_secret() {
    let simulator = Simulator::start(Timing::default()).await.unwrap();
    simulator.add_user(ID, SECRET);
    let home = tempfile::tempdir().unwrap();
    let logs = home.path().join("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("node.log"), format!("INFO it is {SECRET}\n")).unwrap();
    let file = home.path().join("bundle.tar");
    let (at_logs, at_file) = (logs.display().to_string(), file.display().to_string());
    let to = async |bundle: &str| {
        doctor(&simulator, Some(SECRET), &["--log-dir", &at_logs, "--bundle", bundle]).await.stdout
    };
    to(&at_file).await;
    let has = |archive: &[u8], text: &str| {
        archive.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    };
    let written = fs::read(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for archive in [written, to("-").await] {
        assert!(!has(&archive, SECRET));
        for text in ["INFO it is <left out>", "\"advice\": ", "\"kernel\": ", "alinas-csi-bundle/"]
        {
            assert!(has(&archive, text), "{text}");
        }
    }
}

#[test]
fn status_is_watched_until_an_interrupt_also_where_nothing_answers() {
    let mut watching = Command::new(binary().unwrap())
        .args(["status", "--state-dir", "/nonexistent", "--watch", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let failures = lines.filter(|line| line.starts_with("alinas-csi: failed to ask the watchdog"));
    assert_eq!(failures.take(2).count(), 2);
    kill_process(Pid::from_child(&watching), Signal::INT).unwrap();
    let ended = watching.wait().unwrap();
    // By the interrupt, or because its reader is gone: whichever is first.
    assert!(ended.signal() == Some(2) || ended.success(), "{ended:?}");
}
