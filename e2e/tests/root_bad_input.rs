//! What a user or operator can get wrong: each mistake has a message and a code of its own, and leaves nothing.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;
use std::time::Instant;

use e2e::csi_client::Access;
use e2e::csi_client::Volume;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::nas::Front;
use e2e::nas::TlsProfile;
use e2e::nas::UNKNOWN_DOMAIN;
use e2e::scene::CLEARED;
use e2e::scene::Scene;
use tonic::Code;
use tonic::Status;

/// The kubelet gives up after 120 s; ours must come before.
const PATIENCE: Duration = Duration::from_secs(110);

/// A mistake and the answer to it.
struct Mistake {
    name: &'static str,
    volume: Volume,
    code: Code,
    /// Each of these groups: one of its words stands in the message, in any case.
    words: &'static [&'static [&'static str]],
}

/// One row of [`FRONTS`]: what the mistake is called, where it is met, then as in [`Mistake`].
type FrontRow = (&'static str, Front, Code, &'static [&'static [&'static str]]);

/// The mistakes that are met at a front of the NAS.
const FRONTS: [FrontRow; 8] = [
    (
        "certificate of an unknown authority",
        Front::Untrusted,
        Code::FailedPrecondition,
        &[&["unt20"], &["trust", "authority", "issuer"], &["ca"]],
    ),
    (
        "certificate of another name",
        Front::WrongName,
        Code::FailedPrecondition,
        &[&["wro21"], &["name"], &["elsewhere.test", "tlsservername"]],
    ),
    (
        "certificate that has expired",
        Front::Expired,
        Code::FailedPrecondition,
        &[&["exp22"], &["expired"]],
    ),
    // nfsd hangs up on a ClientHello. That may also be an accident, so it may be tried again; but who
    // reads it must learn that TLS may be missing there.
    (
        "NFS without TLS",
        Front::Plain,
        Code::Unavailable,
        &[
            &["pla23"],
            &["speak tls", "speaks tls", "no tls", "without tls", "encryption in transit"],
        ],
    ),
    (
        "another protocol",
        Front::Foreign,
        Code::FailedPrecondition,
        &[&["for28"], &["not with tls", "no tls"], &["port"]],
    ),
    ("closed port", Front::Closed, Code::Unavailable, &[&["clo24"], &["2049"], &["refused"]]),
    (
        "address without a route",
        Front::Unreachable,
        Code::Unavailable,
        &[&["unr27"], &["route", "unreachable"]],
    ),
    (
        "export that is denied",
        Front::Denied,
        Code::PermissionDenied,
        &[&["den14"], &["denied", "permission", "refused"]],
    ),
];

fn mistakes(scene: &Scene) -> Vec<Mistake> {
    let mut found = wrong_texts(scene);
    for (index, vers) in ["3", "4.0"].into_iter().enumerate() {
        for (name, front, code, words) in FRONTS {
            // What is wrong before NFS begins is the same for both versions.
            if index == 0 || front == Front::Denied {
                let volume = scene.volume(&format!("front-{front:?}-{vers}"), front.domain(), vers);
                found.push(Mistake { name, volume, code, words });
            }
        }
        let missing = scene.volume(&format!("missing-{vers}"), Front::Good.domain(), vers);
        found.push(Mistake {
            name: "path that is not there",
            volume: missing.with("path", "/missing"),
            code: Code::NotFound,
            words: &[&["/missing"], &["no such", "not exist", "not found"]],
        });
    }
    found
}

fn wrong_texts(scene: &Scene) -> Vec<Mistake> {
    let good = |id: &str| scene.volume(id, Front::Good.domain(), "3");
    let extreme = "0123456789-abc12.cn-hangzhou.extreme.nas.aliyuncs.com";
    let cpfs = "cpfs-0123456789-abc12.cn-hangzhou.cpfs.aliyuncs.com";
    vec![
        Mistake {
            name: "unknown attribute",
            volume: good("attribute").with("pth", "/a"),
            code: Code::InvalidArgument,
            words: &[&["\"pth\""], &["\"path\""]],
        },
        Mistake {
            name: "unknown mount option",
            volume: good("option").with_option("rsise=65536"),
            code: Code::InvalidArgument,
            words: &[&["rsise"], &["rsize"]],
        },
        Mistake {
            name: "unknown version",
            volume: scene.volume("version", Front::Good.domain(), "5"),
            code: Code::InvalidArgument,
            words: &[&["5"], &["vers"], &["4.0"]],
        },
        Mistake {
            name: "Extreme NAS",
            volume: scene.volume("extreme", extreme, "3"),
            code: Code::InvalidArgument,
            words: &[&["extreme nas"], &["general-purpose"]],
        },
        Mistake {
            name: "CPFS",
            volume: scene.volume("cpfs", cpfs, "3"),
            code: Code::InvalidArgument,
            words: &[&["is the domain of cpfs"], &["general-purpose"]],
        },
        Mistake {
            name: "name that no name service knows",
            volume: scene.volume("name", UNKNOWN_DOMAIN, "3"),
            code: Code::Unavailable,
            words: &[&["nil00"], &["resolve", "name", "dns"]],
        },
    ]
}

#[test]
fn each_mistake_has_its_own_message_and_leaves_nothing_behind() -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    let mut trouble = Vec::new();
    let mut heard: HashMap<String, &str> = HashMap::new();
    for mistake in mistakes(&scene) {
        let Err(status) = scene.client.stage(&mistake.volume) else {
            trouble.push(format!("{}: was accepted", mistake.name));
            scene.client.unstage(&mistake.volume)?;
            continue;
        };
        trouble.extend(faults(&mistake, &status));
        // Two mistakes with one message could not be told apart.
        if let Some(other) = heard.insert(status.message().to_owned(), mistake.name)
            && other != mistake.name
        {
            trouble.push(format!("{}: same message as {other}", mistake.name));
        }
        if let Err(failure) = scene.driver.nothing_is_left(CLEARED) {
            trouble.push(format!("{}: {failure}", mistake.name));
        }
    }
    let logs = scene.driver.logs();
    ensure(trouble.is_empty(), format!("{}\n{logs}", trouble.join("\n")))
}

fn faults(mistake: &Mistake, status: &Status) -> Vec<String> {
    let message = status.message().to_lowercase();
    let shown = format!("{}: {:?} {:?}", mistake.name, status.code(), status.message());
    println!("{shown}");
    let mut faults = Vec::new();
    if status.code() != mistake.code {
        faults.push(format!("{shown}: expected {:?}", mistake.code));
    }
    for words in mistake.words {
        if !words.iter().any(|word| message.contains(&word.to_lowercase())) {
            faults.push(format!("{shown}: says none of {words:?}"));
        }
    }
    faults
}

#[test]
fn a_staging_path_with_another_mount_is_refused_and_that_mount_stays() -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    let volume = scene.volume("occupied", Front::Good.domain(), "3");
    fs::create_dir_all(&volume.staging)?;
    let point = volume.staging.display().to_string();
    let minute = Duration::from_secs(60);
    e2e::process::run(minute, "mount", &["-t", "tmpfs", "occupier", &point])?;
    let refused = scene.client.stage(&volume);
    let mounts = e2e::lab::mounts_below(&volume.staging)?;
    e2e::process::run(minute, "umount", &[&point])?;
    let Err(status) = refused else {
        return Err(Failure::new("the occupied staging path was accepted"));
    };
    ensure(status.code() == Code::FailedPrecondition, format!("{status:?}"))?;
    let said = ["occupier", "tmpfs"].iter().any(|word| status.message().contains(word));
    ensure(said && status.message().contains(&point), format!("{status:?}"))?;
    ensure(mounts.len() == 1 && mounts[0].fs_type == "tmpfs", format!("{mounts:?}"))?;
    scene.driver.nothing_is_left(CLEARED)
}

#[test]
fn a_target_that_is_a_file_or_holds_another_mount_is_refused_and_stays() -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    let volume = scene.volume("volume", Front::Good.domain(), "3");
    scene.client.stage(&volume)?;
    let file = scene.target("file");
    fs::create_dir_all(file.parent().unwrap_or(&file))?;
    fs::write(&file, "kept")?;
    refused_with_path(&scene, &volume, &file)?;
    ensure(fs::read_to_string(&file)? == "kept", "the file at the target was touched")?;

    let occupied = scene.target("occupied");
    fs::create_dir_all(&occupied)?;
    let point = occupied.display().to_string();
    let minute = Duration::from_secs(60);
    e2e::process::run(minute, "mount", &["-t", "tmpfs", "occupier", &point])?;
    let refused = refused_with_path(&scene, &volume, &occupied);
    let mounts = e2e::lab::mounts_below(&occupied)?;
    e2e::process::run(minute, "umount", &[&point])?;
    refused?;
    ensure(mounts.len() == 1 && mounts[0].fs_type == "tmpfs", format!("{mounts:?}"))?;
    scene.client.unstage(&volume)?;
    fs::remove_dir_all(scene.driver.kubelet_dir().join("pods"))?;
    scene.driver.nothing_is_left(CLEARED)
}

fn refused_with_path(scene: &Scene, volume: &Volume, target: &std::path::Path) -> Result<()> {
    let Err(status) = scene.client.publish(volume, target, Access::ReadWrite) else {
        return Err(Failure::new(format!("{} was accepted as a target", target.display())));
    };
    let path = target.display().to_string();
    ensure(status.code() == Code::FailedPrecondition, format!("{status:?}"))?;
    ensure(status.message().contains(&path), format!("{status:?}"))
}

#[test]
fn a_silent_server_is_reported_before_the_kubelet_gives_up_and_the_next_call_starts_clean()
-> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    for front in [Front::SilentTls, Front::SilentNfs] {
        let volume = scene.volume(&format!("{front:?}"), front.domain(), "3");
        for attempt in 0..2 {
            let start = Instant::now();
            let Err(status) = scene.client.stage(&volume) else {
                return Err(Failure::new(format!("{front:?}: a silent server was mounted")));
            };
            let shown = format!("{front:?}, attempt {attempt}: {status:?}");
            ensure(start.elapsed() < PATIENCE, format!("{shown}: too late"))?;
            let codes = [Code::Unavailable, Code::DeadlineExceeded];
            ensure(codes.contains(&status.code()), shown.clone())?;
            ensure(status.message().contains(front.domain()), shown.clone())?;
            scene.driver.nothing_is_left(CLEARED)?;
        }
    }
    // A dead neighbour harms nobody.
    let volume = scene.volume("good", Front::Good.domain(), "3");
    scene.client.stage(&volume)?;
    scene.client.unstage(&volume)?;
    scene.driver.nothing_is_left(CLEARED)
}

#[test]
fn a_server_that_dies_before_the_mount_is_reported_and_mounts_once_it_is_back() -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    for vers in ["3", "4.0"] {
        let volume = scene.volume("volume", Front::Good.domain(), vers);
        scene.nas.fall_silent()?;
        let start = Instant::now();
        let refused = scene.client.stage(&volume);
        let took = start.elapsed();
        scene.nas.speak_again()?;
        ensure(refused.is_err(), "a dead server was mounted")?;
        ensure(took < PATIENCE, format!("it took {} s", took.as_secs()))?;
        scene.client.stage(&volume)?;
        scene.client.unstage(&volume)?;
        scene.driver.nothing_is_left(CLEARED)?;
    }
    Ok(())
}
