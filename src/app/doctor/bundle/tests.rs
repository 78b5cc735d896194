//! An archive of a node that has secrets in every place that can hold one.

use super::*;
use crate::app::doctor::bundle::archive::tests::unpacked;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAkeymaterial\n-----END PRIVATE KEY-----\n";
/// Each is in a place of its own, and in a log, too.
const SECRETS: [&str; 8] = [
    "environment-secret",
    "environment/token+==",
    "mounted-secret",
    "mounted-token",
    "oidc.token.of-a-service-account",
    "kubernetes.token.of-a-service-account",
    "ram-secret-of-the-usual-file",
    "ram-secret-of-a-volume",
];

struct Node {
    home: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { home: tempfile::tempdir().unwrap() };
        for folder in
            ["state/tunnels", "state/plain", "logs", "nas", "kubernetes", "proc/7", "proc/self"]
        {
            fs::create_dir_all(node.path(folder)).unwrap();
        }
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn places(&self, variables: Vec<(&'static str, String)>) -> Places {
        let look_up = move |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        };
        Places {
            state_dir: self.path("state"),
            logs: self.path("logs"),
            mounts: self.path("mountinfo"),
            processes: self.path("proc"),
            settings_file: self.path("alinas-utils.conf"),
            credentials: self.path("ram"),
            look_up: Box::new(look_up),
        }
    }
}

async fn archive(places: Places) -> Vec<(String, String)> {
    let (bytes, _) = gather(places, "{}".to_owned(), Err("no watchdog".to_owned())).await.unwrap();
    for secret in SECRETS.iter().chain(&["keymaterial"]) {
        let is_there = bytes.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!is_there, "{secret}");
    }
    unpacked(&bytes)
}

fn text<'a>(archive: &'a [(String, String)], name: &str) -> &'a str {
    &archive.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// A node that keeps a secret wherever there is a place for one.
fn with_secrets() -> (Node, Places) {
    let node = Node::new();
    node.write("nas/id", "LTAI");
    node.write("nas/secret", "mounted-secret\n");
    node.write("nas/token", "mounted-token");
    node.write("oidc", "oidc.token.of-a-service-account");
    node.write("kubernetes/token", "kubernetes.token.of-a-service-account");
    node.write("ram", "[NASCredentials]\naccessKeySecret=ram-secret-of-the-usual-file\n");
    node.write("ram-of-a-volume", "[NASCredentials]\naccessKeySecret = ram-secret-of-a-volume\n");
    node.write("state/client.key", KEY);
    node.write("logs/client.pem", KEY);
    node.write("alinas-utils.conf", "[mount]\naccess_key_secret = mounted-secret\n");
    let ram = node.path("ram-of-a-volume");
    node.write(
        "state/tunnels/127.0.1.1.json",
        &json!({"version": 3, "policy": {"identity": {"ram": ram}}}).to_string(),
    );
    node.write("state/tunnels/127.0.1.2.json.damaged", KEY);
    let mut log = SECRETS.map(|secret| format!("INFO it is {secret} said=\"{secret}\"\n")).concat();
    log += &json!({"key": KEY, "secrets": SECRETS}).to_string();
    node.write("logs/mount.log", &log);
    node.write("proc/7/comm", "alinas-csi\n");
    node.write("proc/7/cmdline", "alinas-csi\0tunnel\0--token=environment-secret\0");
    node.write("proc/7/environ", &SECRETS.join("\0"));
    let path = |name: &str| node.path(name).display().to_string();
    let places = node.places(vec![
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI".to_owned()),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "environment-secret".to_owned()),
        ("ALIBABA_CLOUD_SECURITY_TOKEN", "environment/token+==".to_owned()),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", path("oidc")),
        ("ALINAS_CSI_NAS_CREDENTIALS", path("nas")),
        ("ALINAS_CSI_KUBERNETES_CREDENTIALS", path("kubernetes")),
        ("ALINAS_CSI_LOG", "info".to_owned()),
        ("HTTPS_PROXY", "http://user:environment-secret@proxy".to_owned()),
    ]);
    (node, places)
}

#[tokio::test]
async fn no_secret_is_found_in_the_archive_whatever_place_it_is_in() {
    let (node, places) = with_secrets();
    let archive = archive(places).await;
    let log = text(&archive, "logs/mount.log");
    assert_eq!(log.matches("INFO it is <left out> said=").count(), SECRETS.len(), "{log}");
    assert!(archive.iter().all(|(name, _)| !name.ends_with(".pem") && !name.ends_with(".key")));
    assert!(text(&archive, "state-directory.txt").contains(" client.key\n"));
    assert_eq!(text(&archive, "records/tunnels/127.0.1.2.json.damaged"), "<left out>\n");
    let settings: Value = serde_json::from_str(text(&archive, "settings.json")).unwrap();
    assert_eq!(settings["variables"]["ALINAS_CSI_LOG"], "info");
    let folder = node.path("nas").display().to_string();
    assert_eq!(settings["variables"]["ALINAS_CSI_NAS_CREDENTIALS"], folder);
    assert_eq!(settings["variablesWhoseValuesAreLeftOut"].as_array().unwrap().len(), 5);
    assert_eq!(settings["settingsFile"]["warnings"], 1);
    assert_eq!(settings["processes"][0]["commandLine"], "alinas-csi tunnel --token=<left out>");
}

#[tokio::test]
async fn what_helps_is_in_it_and_what_is_missing_is_said() {
    let node = Node::new();
    let nfs = "412 29 0:52 / /stage rw shared:7 - nfs4 nas:/ rw,vers=4.0,addr=127.0.1.1";
    node.write("mountinfo", &format!("22 27 0:21 / /proc ro - proc  rw\n{nfs}\n"));
    node.write("state/plain/0a1b.json", "{\"version\": 1}\n");
    node.write("state/watchdog.lock", "pid 1");
    node.write("proc/7/comm", "sh\n");
    let archive = archive(node.places(Vec::new())).await;
    let names: Vec<_> = archive.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "about.json",
            "doctor.json",
            "mounts.txt",
            "settings.json",
            "state-directory.txt",
            "records/plain/0a1b.json",
            "notes.txt"
        ]
    );
    assert_eq!(text(&archive, "mounts.txt"), format!("{nfs}\n"));
    let about: Value = serde_json::from_str(text(&archive, "about.json")).unwrap();
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    let notes = text(&archive, "notes.txt");
    assert!(notes.contains("status.json: no watchdog\n"), "{notes}");
    assert!(notes.contains("logs: no log files in "), "{notes}");
}

#[test]
fn of_a_long_log_the_last_whole_lines_are_read() {
    let node = Node::new();
    let lines: Vec<_> = (0..40_000).map(|number| format!("line {number:05}\n")).collect();
    node.write("logs/node.log", &lines.concat());
    let text = tail(&node.path("logs/node.log")).unwrap();
    assert!(text.starts_with("line ") && text.ends_with("line 39999\n"));
    assert!(u64::try_from(text.len()).unwrap() <= LONGEST_TAIL && text.lines().count() > 10_000);
    std::os::unix::fs::symlink("/etc/passwd", node.path("logs/link.log")).unwrap();
    let names = regular_files(&node.path("logs"), |name| name.ends_with(".log"));
    assert_eq!(names, ["node.log"], "no link is followed");
}
