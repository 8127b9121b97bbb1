//! What there is of memory to be shared out: the machine's, or the container's if that is
//! less.

use std::{fs, path::Path};

/// Memory that this process may count on, in bytes; `None` where the system does not tell.
pub(crate) fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total(&text));
    // A container sees its own group as the root; version 2 of control groups, then 1.
    let container = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| fs::read_to_string(Path::new(path)).ok())
    .and_then(|text| text.trim().parse().ok());
    match (machine, container) {
        (Some(machine), Some(container)) => Some(u64::min(machine, container)),
        (machine, container) => machine.or(container),
    }
}

/// `MemTotal` of /proc/meminfo (proc(5)), which is in KiB whatever the unit says.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_and_nonsense_is_none() {
        assert_eq!(
            total("MemTotal:       24 kB\nMemFree: 1 kB\n"),
            Some(24 << 10)
        );
        assert_eq!(total("MemTotal: many kB\n"), None);
        assert_eq!(total(""), None);
    }
}
