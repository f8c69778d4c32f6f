//! What the servers' processes use: CPU time and memory, as Linux tells it under `/proc`.

use std::fs;

use crate::failure::Failure;

/// What some processes have used so far, together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of CPU, user and system.
    pub cpu_seconds: f64,
    /// Bytes of resident memory.
    pub resident_bytes: u64,
}

impl Usage {
    /// Adds up the processes with these ids.
    pub fn of(pids: &[u32]) -> Result<Self, Failure> {
        let mut usage = Self::default();
        for pid in pids {
            let stat = read(*pid, "stat")?;
            usage.cpu_seconds += cpu_seconds(&stat)
                .ok_or_else(|| Failure::error(format!("/proc/{pid}/stat has an unknown form")))?;
            usage.resident_bytes += resident_bytes(&read(*pid, "status")?);
        }
        Ok(usage)
    }

    /// What this process has used; zero where there is no `/proc`.
    pub fn own() -> Self {
        Self::of(&[std::process::id()]).unwrap_or_default()
    }
}

fn read(pid: u32, file: &str) -> Result<String, Failure> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(|error| {
        Failure::arguments(format!(
            "--server-pids: cannot read {path}: {error}; is {pid} a server on this machine?"
        ))
    })
}

/// Fields 14 and 15 of proc_pid_stat(5). The command before them may contain anything, so that the count begins
/// behind its closing parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn resident_bytes(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_of_a_process_with_a_strange_name() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 {} {} 0 0 20 0", 3 * ticks, 2 * ticks);
        assert_eq!(cpu_seconds(&stat), Some(5.0));
        assert_eq!(cpu_seconds("7 (short) S 1"), None);
    }

    #[test]
    fn reads_resident_memory() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    12 kB\n"), 12 * 1024);
        assert_eq!(resident_bytes("Name:\tx\n"), 0);
    }
}
