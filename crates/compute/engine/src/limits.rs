//! How much memory this process may take: the machine's, the control group's (version 1 or 2) and the limits on its address
//! space (`ulimit -v`).

use std::path::Path;

/// A limit in bytes, and how much of it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    bytes: usize,
    used: usize,
}

impl Limit {
    fn free(self) -> usize {
        self.bytes.saturating_sub(self.used)
    }
}

/// Bytes that the process may take at all; `None` where no limit is known.
pub(crate) fn total_bytes() -> Option<usize> {
    limits().map(|l| l.bytes).min()
}

/// Bytes that the process may take in addition to what it has; `None` where no limit is known.
pub(crate) fn free_bytes() -> Option<usize> {
    limits().map(Limit::free).min()
}

fn limits() -> impl Iterator<Item = Limit> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let control = control_groups(Path::new("/sys/fs/cgroup"), &groups);
    machine().into_iter().chain(address_space()).chain(control)
}

/// Address space that a thread takes: its allocations come from a heap of its own, which the system's C library reserves in one
/// piece of 64 MiB, and its stack.
const THREAD: usize = 72 << 20;

/// How many threads a limit on the address space (`ulimit -v`) has room for, half of it left to the work; `None` without one.
pub fn thread_room() -> Option<usize> {
    address_space().filter(|l| l.bytes < usize::MAX / 2).map(threads_within)
}

fn threads_within(limit: Limit) -> usize {
    (limit.bytes / 2 / THREAD).max(1)
}

/// The value in bytes of the line `KEY: N kB` of a file such as `/proc/meminfo`.
fn kilobytes(file: &str, key: &str) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    let count: usize = line.split_whitespace().next()?.parse().ok()?;
    count.checked_mul(1024)
}

/// The machine's memory. What others use of it may be given back, so that all of it counts as free.
fn machine() -> Option<Limit> {
    kilobytes("/proc/meminfo", "MemTotal").map(|bytes| Limit { bytes, used: 0 })
}

#[cfg(unix)]
fn address_space() -> Option<Limit> {
    use rustix::process::{Resource, getrlimit};
    let bytes = getrlimit(Resource::As).current.and_then(|n| usize::try_from(n).ok())?;
    Some(Limit { bytes, used: kilobytes("/proc/self/status", "VmSize").unwrap_or(0) })
}

#[cfg(not(unix))]
fn address_space() -> Option<Limit> {
    None
}

/// The limits of the control groups in `groups` (the text of `/proc/self/cgroup`) and of those above them, whose files
/// lie below `root`.
fn control_groups(root: &Path, groups: &str) -> Vec<Limit> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (base, names) = match controllers {
            "" => (root.to_path_buf(), ["memory.max", "memory.current"]),
            _ if controllers.split(',').any(|c| c == "memory") => {
                (root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes"])
            }
            _ => continue,
        };
        // In a container the group's own path may not be visible; then the root is the group.
        for folder in Path::new(group).ancestors() {
            let folder = base.join(folder.strip_prefix("/").unwrap_or(folder));
            let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
            let Some(bytes) = number(names[0]) else { continue };
            let used = number(names[1]).unwrap_or(0usize).saturating_sub(reclaimable(&folder));
            found.push(Limit { bytes, used });
        }
    }
    found
}

/// Bytes of cached files, which the system gives back when memory is short.
fn reclaimable(folder: &Path) -> usize {
    let text = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let line = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse::<usize>().ok());
    line("total_inactive_file ").or_else(|| line("inactive_file ")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let folder = root.join(path);
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn the_groups_above_limit_too() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        group(root, "a", &[("memory.max", "1000\n"), ("memory.current", "700\n")]);
        group(root, "a/b", &[("memory.max", "max\n"), ("memory.current", "10\n")]);
        let found = control_groups(root, "0::/a/b\n");
        assert_eq!(found, [Limit { bytes: 1000, used: 700 }]);
        group(root, "a", &[("memory.stat", "anon 5\ninactive_file 600\n")]);
        assert_eq!(control_groups(root, "0::/a/b\n")[0].free(), 900);
    }

    #[test]
    fn the_first_version_of_groups_and_containers_are_read() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        group(root, "memory", &[("memory.limit_in_bytes", "5000"), ("memory.usage_in_bytes", "4000")]);
        group(root, "memory", &[("memory.stat", "inactive_file 1\ntotal_inactive_file 500\n")]);
        // The group's own folder is outside the container.
        let found = control_groups(root, "5:cpu:/x\n4:cpuset,memory:/docker/1234\n");
        assert_eq!(found, [Limit { bytes: 5000, used: 3500 }]);
    }

    #[test]
    fn half_of_the_address_space_is_for_threads() {
        let within = |megabytes: usize| threads_within(Limit { bytes: megabytes << 20, used: 0 });
        assert_eq!([1, 100, 288, 350, 1024].map(within), [1, 1, 2, 2, 7]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        let (total, free) = (total_bytes().unwrap(), free_bytes().unwrap());
        assert!(total > 1 << 26 && free <= total, "{total} {free}");
        assert!(control_groups(Path::new("/no/such"), "0::/a\nnonsense\n1:memory\n").is_empty());
    }
}
