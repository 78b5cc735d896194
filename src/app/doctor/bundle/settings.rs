//! The settings that hold here, without any that may hold a secret: known names alone are looked at.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

use clap::Command;
use serde_json::Value;
use serde_json::json;

use crate::app::alinas_conf::AlinasConf;
use crate::app::doctor::bundle::Places;

/// Variables of the vendor's with secrets, which are looked for in every text.
pub(super) const SECRET: [&str; 2] =
    ["ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"];

/// Variables of the vendor's. Of them it is told that they are set, and no more.
const VENDORS: [&str; 11] = [
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
    "ALIBABA_CLOUD_ROLE_ARN",
    "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
    "ALIBABA_CLOUD_STS_REGION",
    "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED",
    "ALIBABA_CLOUD_ECS_METADATA",
    "ALIBABA_CLOUD_ECS_METADATA_DISABLED",
    "HTTPS_PROXY",
];

const MOST_PROCESSES: usize = 64;
/// As the kernel names processes of this binary.
const NAME: &str = "alinas-csi";

/// All of them.
pub(super) fn of(places: &Places) -> Value {
    let names = variables(&crate::app::command_line());
    let set: BTreeMap<_, _> =
        names.iter().filter_map(|name| Some((name, (places.look_up)(name)?))).collect();
    let vendors: Vec<_> = VENDORS.iter().filter(|name| (places.look_up)(name).is_some()).collect();
    json!({
        "variables": set,
        "variablesWhoseValuesAreLeftOut": vendors,
        "settingsFile": file(places),
        "processes": processes(places),
    })
}

/// That the command line knows. None of them holds a secret itself: where one is needed, they name a directory.
fn variables(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env());
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// What is understood of it. What is not is only counted: it might be anything.
fn file(places: &Places) -> Value {
    if !places.settings_file.is_file() {
        return Value::Null;
    }
    let conf = AlinasConf::load(&places.settings_file);
    json!({
        "file": places.settings_file.display().to_string(),
        "loggingLevel": conf.level,
        "loggingMaxBytes": conf.log_bytes,
        "loggingFileCount": conf.log_files,
        "stunnelDebugEnabled": conf.tunnel_debug,
        "stunnelCheckCertHostname": conf.check_host_name,
        "stunnelCheckCertValidity": conf.check_validity,
        "proxyPort": conf.proxy_port,
        "unmountGraceSeconds": conf.unmount_grace.as_secs(),
        "hostsEntries": conf.hosts_entries,
        "warnings": conf.warnings.len(),
    })
}

/// The command lines of this binary's processes, as far as they can be seen: no flag takes a secret.
fn processes(places: &Places) -> Vec<Value> {
    let entries = fs::read_dir(&places.processes).into_iter().flatten().flatten();
    let ours = entries.filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let read = |name: &str| fs::read(entry.path().join(name)).ok();
        let name = read("comm")?;
        (name.trim_ascii_end() == NAME.as_bytes()).then_some(())?;
        let line = String::from_utf8_lossy(&read("cmdline")?).replace('\0', " ");
        Some(json!({"id": id, "commandLine": line.trim_end()}))
    });
    ours.take(MOST_PROCESSES).collect()
}
