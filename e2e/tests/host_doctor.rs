//! `alinas-csi doctor` before a real NFS server behind stunnel, and before what can be wrong with one.
//!
//! Needs root for the server, but no NFS in the kernel: it runs on the machine itself.

use std::fs;

use e2e::driver::binary;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::ganesha::Target;
use serde_json::Value;

/// What doctor says of a subject, and whether it ended well.
fn doctor(nas: &Ganesha, subject: &str) -> Result<(Value, bool)> {
    let mut command = nas.enter(&binary()?);
    let output = command
        .args(["doctor", subject, "-o", "json", "--ca-file"])
        .arg(nas.ca_file())
        .arg("--state-dir")
        .arg(nas.folder().join("no-watchdog"))
        .args(["--kubelet-dir", "/nonexistent"])
        .output()?;
    let said = serde_json::from_slice(&output.stdout).map_err(|error| {
        e2e::failure::Failure::new(format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    })?;
    Ok((said, output.status.success()))
}

fn finding<'a>(said: &'a Value, check: &str) -> &'a Value {
    let findings = said["findings"].as_array().into_iter().flatten();
    findings.into_iter().find(|finding| finding["check"] == check).unwrap_or(&Value::Null)
}

#[test]
fn nothing_of_a_good_mount_target_fails_and_all_of_it_is_looked_at() -> Result<()> {
    let nas = Ganesha::start()?;
    fs::create_dir(nas.disk().join("k8s"))?;
    let (said, well) = doctor(&nas, &format!("{}:/k8s", Target::Good.domain()))?;
    ensure(well, said.to_string())?;
    for (check, words) in [
        ("mount-target", "the file system 0123456789 in cn-hangzhou"),
        ("name", "127.0.2.10"),
        ("route", "from 127.0."),
        ("connect", "127.0.2.10:2049 in "),
        ("tls", "TLSv1.3 with "),
        ("tls-versions", "TLS 1.3"),
        ("certificate", " ends in "),
        ("client-certificate", "asks for none"),
        ("nfs-versions", "NFS 3"),
        ("round-trip", " us, the longest of 9 "),
        ("export", "lets this node mount /k8s"),
    ] {
        let finding = finding(&said, check);
        let found = finding["found"].as_str().unwrap_or_default();
        ensure(found.contains(words), format!("{check}: {finding}"))?;
        ensure(finding["verdict"] != "failed", finding.to_string())?;
    }
    Ok(())
}

#[test]
fn each_trouble_of_a_mount_target_is_told_from_the_others_with_its_remedy() -> Result<()> {
    let nas = Ganesha::start()?;
    fs::create_dir(nas.disk().join("k8s"))?;
    let at = |target: Target, path: &str| format!("{}:{path}", target.domain());
    for (subject, check, found, advice) in [
        ("0-nil1.cn-x.nas.aliyuncs.com:/".to_owned(), "name", "failed to resolve", "DNS"),
        (
            "x.cn-x.extreme.nas.aliyuncs.com:/".to_owned(),
            "mount-target",
            "Extreme NAS",
            "General-purpose",
        ),
        (at(Target::Closed, "/"), "connect", "Connection refused", "security groups"),
        (at(Target::Untrusted, "/"), "tls", "failed to set up TLS", "mend \"tls\": "),
        (at(Target::WrongName, "/"), "tls", "failed to set up TLS", "mend \"tls\": "),
        (at(Target::Good, "/nowhere"), "export", "has no directory /nowhere", "make it"),
    ] {
        let (said, well) = doctor(&nas, &subject)?;
        println!("{subject}\n  {}", said["advice"]);
        ensure(!well, format!("{subject}: it ended well: {said}"))?;
        let failed = finding(&said, check);
        ensure(failed["verdict"] == "failed", format!("{subject}: {said}"))?;
        let text = failed["found"].as_str().unwrap_or_default();
        ensure(text.contains(found), format!("{subject}: {found:?} is not in {text:?}"))?;
        let last = said["advice"].as_str().unwrap_or_default();
        ensure(last.contains(advice), format!("{subject}: {advice:?} is not in {last:?}"))?;
    }
    Ok(())
}
