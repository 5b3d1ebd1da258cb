//! What processes use, as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::Context;

/// Ticks of a process's times per second, which the kernel shows everybody alike.
const TICKS_PER_SECOND: u64 = 100;

/// The processor time of this thread.
///
/// # Errors
/// If the kernel does not count it.
pub(super) fn thread_cpu() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")
        .context("/proc/thread-self/schedstat cannot be read")?;
    let nanoseconds = text.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// The processor time of a process with all its threads, those that ended included; to 10 ms.
///
/// # Errors
/// If there is no such process.
pub(super) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    // The name may hold anything but ends at the last parenthesis; utime and stime are fields 14, 15.
    let (_, fields) = text.rsplit_once(") ").context("no process status")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(
        ticks.saturating_mul(1000 / TICKS_PER_SECOND),
    ))
}

/// The resident memory of a process, in KiB.
///
/// # Errors
/// If there is no such process.
pub(super) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse()?)
}

/// What machine this is, as it says itself: the processor's name.
pub(super) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|rest| rest.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}
