//! Through a tunnel: one version, one address, nothing asked, nothing in plain text.

use rustix::io::Errno;

use super::*;
use crate::model::nfs_option::LONGEST_TEXT;
use crate::nfs::once;

fn job_of(request: &MountRequest) -> Job {
    let now = Instant::now();
    let mut policy = Policy::new(request.clone(), KernelFacts::default(), now);
    let Step::Mount { job, .. } = policy.next(Answer::Begin, now) else { panic!() };
    job
}

fn text(request: &MountRequest) -> String {
    job::text(&job_of(request))
}

#[test]
fn the_kernel_is_told_every_address_and_port_then_the_options() {
    for (options, told) in [
        (
            "rsize=65536",
            "vers=3,proto=tcp,addr=127.0.1.1,port=12049,mountaddr=127.0.1.1,mountproto=tcp,\
             mountport=12049,mountvers=3,hard,timeo=600,retrans=2,rsize=65536,wsize=1048576,\
             noresvport,nolock",
        ),
        (
            "vers=4.0,noresvport,soft",
            "vers=4.0,proto=tcp,addr=127.0.1.1,port=12049,clientaddr=10.0.0.7,soft,timeo=600,\
             retrans=2,rsize=1048576,wsize=1048576,noresvport",
        ),
    ] {
        assert_eq!(text(&tunnel(options)), told);
    }
}

#[test]
fn a_client_address_of_the_users_goes_before_ours_and_may_be_missing() {
    let told = text(&tunnel("vers=4,clientaddr=0.0.0.0"));
    assert!(told.contains(",clientaddr=0.0.0.0,"), "{told}");
    let way = Way::Tunnel { endpoint: TUNNEL.into(), client_address: None };
    assert!(!text(&MountRequest { way, ..tunnel("vers=4") }).contains("clientaddr"));
}

#[test]
fn attributes_go_to_the_mount_and_not_to_the_nfs_client() {
    let request = tunnel("ro,nosuid");
    let Job::MountNfs { attributes, .. } = job_of(&request) else { panic!() };
    assert_eq!(attributes, ["ro", "nosuid"]);
    assert!(!text(&request).contains("ro,nosuid"));
}

#[test]
fn the_longest_options_still_fit_into_a_page() {
    let longest = format!("context={}", "a".repeat(LONGEST_TEXT - 9));
    let endpoint = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
    let way = Way::Tunnel { endpoint, client_address: None };
    let length = text(&MountRequest { way, ..tunnel(&longest) }).len();
    assert!(length < 4096, "{length}");
}

#[test]
fn nothing_is_asked_but_the_kernel() {
    for options in ["", "vers=4.0"] {
        let run = World::default().run(tunnel(options));
        assert_eq!(run.journal.len(), 2, "{:?}", run.journal);
        assert_eq!(run.mounted().server, TUNNEL.into());
    }
}

#[test]
fn a_tunnel_that_is_not_there_yet_is_waited_for_and_no_other_version_or_way_is_tried() {
    for errno in [Errno::CONNREFUSED, Errno::IO, Errno::PIPE, Errno::TIMEDOUT] {
        let patience = Patience::Deadline(Duration::from_secs(45));
        let mut failures = 4;
        let run = World::default()
            .kernel(move |_| {
                failures -= 1;
                if failures > 0 { Err(server_says(errno)) } else { Ok(Done::Done) }
            })
            .run(MountRequest { patience, ..tunnel("vers=4.0") });
        assert_eq!(run.versions(), ["4.0"; 4]);
        assert_eq!(run.waits(), [1, 2, 4]);
        let to_the_tunnel = |line: &&String| line.contains(",addr=127.0.1.1,port=12049,");
        assert_eq!(run.journal.iter().filter(to_the_tunnel).count(), 4);
    }
}

#[test]
fn faults_speak_of_the_tunnel_and_the_mount_target() {
    for (errno, words) in [
        (
            Errno::CONNREFUSED,
            "no connection through the tunnel at 127.0.1.1:12049; see the tunnel's log",
        ),
        (
            Errno::ACCESS,
            "the mount target denied access; allow this node's address in the permission group",
        ),
        (
            Errno::NOENT,
            "the mount target has no such directory; create it there, or correct the path of the volume",
        ),
        (Errno::PROTONOSUPPORT, "try the mount option vers=4.0"),
    ] {
        let fault = once::diagnose(&server_says(errno), &tunnel(""));
        assert!(fault.to_string().contains(words), "{fault}");
    }
}
