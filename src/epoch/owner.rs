//! Who this process is, and whether another one still lives.

use super::Owner;
use std::fmt;
use std::fs;

impl Owner {
    /// This process, with a new id: whoever starts again is somebody else.
    pub fn this_process() -> Owner {
        let pid = std::process::id();
        Owner {
            id: uuid::Uuid::new_v4().simple().to_string(),
            host: host(),
            boot_id: boot_id(),
            pid,
            started: process(pid).map_or(0, |process| process.started),
        }
    }

    /// Whether this owner is gone beyond doubt. Only a process on the same machine, since the same boot, in the same pid namespace can
    /// tell; anybody else has to go by the heartbeat.
    pub fn is_provably_dead(&self, me: &Owner) -> bool {
        let same_machine =
            !me.boot_id.is_empty() && self.boot_id == me.boot_id && self.host == me.host;
        same_machine && !lives(self)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}, pid {}", self.host, self.pid)
    }
}

fn lives(owner: &Owner) -> bool {
    if let Some(process) = process(owner.pid) {
        return !process.ended && process.started == owner.started;
    }
    // Where processes of other users are hidden, the system still tells whether there is one.
    let pid = i32::try_from(owner.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

struct Process {
    /// In clock ticks since the machine's boot.
    started: u64,
    /// It has ended, and its parent has not asked how.
    ended: bool,
}

/// What Linux says about a process; None where there is none, or no `/proc`.
fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, so the fields are counted from the last bracket.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let started = fields.nth(18)?.parse().ok()?;
    Some(Process { started, ended })
}

fn host() -> String {
    let read = |path| {
        fs::read_to_string(path)
            .ok()
            .map(|name| name.trim().to_string())
    };
    read("/proc/sys/kernel/hostname")
        .or_else(|| read("/etc/hostname"))
        .or_else(|| std::env::var("HOSTNAME").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_string())
}

fn boot_id() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_on_this_machine_is_dead_when_it_is_gone_or_its_pid_has_another() {
        let me = Owner::this_process();
        let twin = Owner::this_process();
        assert_ne!(me.id, twin.id);
        assert!(!twin.is_provably_dead(&me));
        let reused = Owner {
            started: twin.started + 1,
            ..twin.clone()
        };
        let gone = Owner {
            pid: u32::MAX >> 2,
            ..twin.clone()
        };
        let elsewhere = Owner {
            host: "elsewhere".into(),
            ..gone.clone()
        };
        let before_boot = Owner {
            boot_id: "other".into(),
            ..gone.clone()
        };
        let dead = |owner: &Owner| owner.is_provably_dead(&me);
        assert_eq!(
            [
                dead(&reused),
                dead(&gone),
                dead(&elsewhere),
                dead(&before_boot)
            ],
            [true, true, false, false]
        );
        let nowhere = Owner {
            boot_id: String::new(),
            ..me.clone()
        };
        assert!(
            !Owner {
                boot_id: String::new(),
                ..gone
            }
            .is_provably_dead(&nowhere)
        );
    }

    #[test]
    fn a_child_that_has_ended_is_dead_before_it_is_asked_for() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let started = process(child.id()).unwrap().started;
        let owner = Owner {
            pid: child.id(),
            started,
            ..Owner::this_process()
        };
        let end = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), end).unwrap();
        assert!(owner.is_provably_dead(&Owner::this_process()));
        child.wait().unwrap();
        assert!(owner.is_provably_dead(&Owner::this_process()));
    }
}
