//! What Linux knows of this process, with the names of Prometheus' client libraries.

use std::fs;

use super::Text;

pub(super) fn render(text: &mut Text) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(parse_stat) {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let help = "Total user and system CPU time spent in seconds.";
        text.counter("process_cpu_seconds_total", help, stat.cpu_ticks as f64 / ticks);
        let resident = stat.resident_pages * rustix::param::page_size() as u64;
        text.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident);
        text.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", stat.virtual_bytes);
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(parse_boot_time) {
            let start = boot as f64 + stat.start_ticks as f64 / ticks;
            let help = "Start time of the process since unix epoch in seconds.";
            text.gauge("process_start_time_seconds", help, start);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory being read.
        let open = open.count().saturating_sub(1);
        text.gauge("process_open_fds", "Number of open file descriptors.", open);
        text.gauge("os_fd_used", "The number of used file descriptors.", open);
    }
    if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        text.gauge("process_max_fds", "Maximum number of open file descriptors.", max);
        text.gauge("os_fd_limit", "The file descriptor limit.", max);
    }
}

/// The fields of `/proc/self/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// See proc(5). The second field is the program's name in parentheses and may hold anything.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    // The list begins with the third field.
    let field = |number: usize| fields.get(number - 3)?.trim().parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// When the machine started, in seconds since 1970.
fn parse_boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 7 3 0 0 20 0 9 0 12345 1000000 250 18446744073709551615 1";
        let read = Stat { cpu_ticks: 10, start_ticks: 12345, virtual_bytes: 1_000_000, resident_pages: 250 };
        assert_eq!(parse_stat(stat), Some(read));
        assert_eq!(parse_stat("42 (short) S 1"), None);
        assert_eq!(parse_boot_time("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
    }
}
