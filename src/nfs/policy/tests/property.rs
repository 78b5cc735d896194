//! What holds whatever anybody answers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rustix::io::Errno;

use super::*;
use crate::nfs::class::CLASSES;
use crate::nfs::class::Fallback;
use crate::nfs::class::Finally;

const REQUESTS: [&str; 9] = [
    "addr=203.0.113.66",
    "vers=4",
    "vers=3,addr=203.0.113.66",
    "bg,retry=3",
    "bg,vers=4.1,retry=20",
    "retry=0,sec=krb5",
    "mounthost=other,retry=5",
    "vers=3,proto=udp,nolock",
    "vers=4.0,proto=rdma",
];

/// A number that the answers are drawn from, one after the other.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        // Knuth's multiplier; the upper bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn rpc<T>(&mut self, good: T) -> Result<T, RpcFault> {
        match self.throw(14) {
            0 => Err(RpcFault::Refused),
            1 => Err(SILENCE),
            2 => Err(RpcFault::Unreachable("no route".to_owned())),
            3 => Err(RpcFault::NotRegistered),
            4 => Err(RpcFault::NoSuchProgram),
            5 => Err(RpcFault::NoSuchVersion { low: 2, high: 3 }),
            6 => Err(RpcFault::Denied),
            7 => Err(RpcFault::Garbage("HTTP".to_owned())),
            _ => Ok(good),
        }
    }

    fn failure(&mut self) -> Failure {
        let calls = [
            call::CREATE,
            call::CREATE,
            call::CREATE,
            call::MOUNT,
            call::OPEN_TARGET,
            call::MOUNT_TABLE,
            call::MOVE_MOUNT,
            call::FSOPEN,
            "fsconfig(vers)",
            "fsconfig(rsize)",
        ];
        let pick = |number: u64| usize::try_from(number).unwrap();
        let errno = CLASSES[pick(self.throw(CLASSES.len() as u64))].0;
        match self.throw(20) {
            0 => Failure::Worker("gone".to_owned()),
            1 => Failure::Deadline(Duration::MAX),
            _ => refused(calls[pick(self.throw(calls.len() as u64))], errno),
        }
    }
}

fn world_of(seed: u64) -> World {
    let mut dice = Dice(seed);
    let mut facts = Dice(seed ^ 0xffff);
    let count = usize::try_from(facts.throw(3)).unwrap() + 1;
    let addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(address)[..count].to_vec();
    let (mut ports, mut pings) = (Dice(seed ^ 1), Dice(seed ^ 2));
    let mut world = World {
        facts: KernelFacts { nfs_over_udp: facts.throw(2) == 0 },
        addresses: match facts.throw(12) {
            0 => Err(ResolveFault::TryAgain("silence".to_owned())),
            1 => Err(ResolveFault::NoSuchName("no such name".to_owned())),
            _ => Ok(addresses),
        },
        target: if facts.throw(12) == 0 {
            Err(refused(call::OPEN_TARGET, Errno::NOENT))
        } else {
            Ok(Done::Done)
        },
        daemons: match facts.throw(6) {
            0 => Presence::Missing("not there".to_owned()),
            1 => Presence::Unknown("not to be seen".to_owned()),
            _ => Presence::Runs,
        },
        cancelled_at: (facts.throw(8) == 0).then(|| usize::try_from(facts.throw(40)).unwrap()),
        ..World::default()
    };
    world = world.port(move |_, _, _| ports.rpc(2049)).ping(move |_, _, _| pings.rpc(()));
    world.kernel = Box::new(move |_, _| {
        let answer = if dice.throw(12) == 0 { Ok(Done::Done) } else { Err(dice.failure()) };
        (answer, Duration::from_millis(dice.throw(3000)))
    });
    world
}

/// What the machine gives away of a run, with the versions and addresses of each round.
fn check(run: &Run, patience: Duration) {
    assert!(matches!(run.end, Step::Finish(_) | Step::GiveUp(_)));
    assert!(run.took <= patience, "{:?} of {patience:?}: {:?}", run.took, run.journal);
    let mut tried = BTreeSet::new();
    let mut restarts = 0;
    for line in &run.journal {
        assert!(!line.contains("203.0.113.66"), "the user's addr= is sent: {line}");
        // A round begins with the target; the server that was up after all is tried once more within one.
        if line.starts_with("directory") {
            tried.clear();
            restarts = 0;
        }
        if let Some(options) = line.strip_prefix("mount with ") {
            let key: Vec<_> = options.split(',').take(3).map(str::to_owned).collect();
            if !tried.insert(key) {
                restarts += 1;
                assert!(restarts == 1, "tried twice in one round: {line}, {:?}", run.journal);
                tried.clear();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_mount_ends_in_time_and_tries_nothing_twice_in_a_round(
        seed in any::<u64>(),
        request in 0..REQUESTS.len(),
        seconds in 0..200_u64,
    ) {
        let patience = Duration::from_secs(seconds);
        let request = MountRequest {
            patience: Patience::Deadline(patience),
            ..direct(REQUESTS[request])
        };
        check(&world_of(seed).run(request), patience);
    }

    #[test]
    fn without_a_deadline_a_mount_ends_with_the_round_that_retry_lets_begin(
        seed in any::<u64>(),
        request in 0..REQUESTS.len(),
    ) {
        let request = direct(REQUESTS[request]);
        let retry = request.options.retry().unwrap_or(Duration::from_secs(120));
        // Three addresses, four versions, twice; each with all of its questions and the kernel at its limit.
        let round = 2 * 12 * (KERNEL + 8 * CALL_OVER_TCP);
        check(&world_of(seed).run(request), retry + round);
    }

    #[test]
    fn through_a_tunnel_nobody_is_asked_and_nothing_goes_elsewhere(
        seed in any::<u64>(),
        seconds in 0..100_u64,
        fourth in any::<bool>(),
    ) {
        let patience = Duration::from_secs(seconds);
        let options = if fourth { "vers=4.0" } else { "" };
        let request = MountRequest { patience: Patience::Deadline(patience), ..tunnel(options) };
        let run = world_of(seed).run(request);
        prop_assert!(run.took <= patience);
        for line in &run.journal {
            let known = ["wait ", "what is mounted", "given up", "mounted "];
            let to_tunnel = line.starts_with("mount with ") && line.contains(",addr=127.0.1.1,port=12049,");
            prop_assert!(to_tunnel || known.iter().any(|known| line.starts_with(known)), "{line}");
        }
    }
}

/// A table of classes in which nothing is ever given up would make the properties above hold for nothing.
#[test]
fn the_table_has_every_kind_of_class() {
    for wanted in [Finally::Permanent, Finally::Temporary, Finally::Doubtful] {
        assert!(CLASSES.iter().any(|(.., finally)| *finally == wanted), "{wanted:?}");
    }
    for wanted in [Fallback::None, Fallback::Lower, Fallback::Three, Fallback::ThreeAndBack] {
        assert!(CLASSES.iter().any(|(_, _, fallback, _)| *fallback == wanted), "{wanted:?}");
    }
}
