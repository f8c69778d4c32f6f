//! Clocks of a running member that go wrong: for any program, however it was built, without its knowledge.
//!
//! On Linux, programs do not ask the kernel for the time. They call a function that the kernel maps into every process,
//! `__vdso_clock_gettime`: the C library does, Rust's and Go's do. This module stops the process, writes another
//! function over that one (through `/proc/<pid>/mem`; the page is copied for this process alone), and lets it go on.
//! The new function asks the kernel and bends the answer:
//!
//! ```text
//! shown = true + (true - since) * rate / 2^20 + offset
//! ```
//!
//! with a set of these three numbers for the time of day and one for the clocks that never go back. All processor-time
//! clocks stay as they are. What this is, and what it is not:
//!
//! - The time of day *jumps*, by up to hours, in both directions, as an administrator or a broken time server makes it.
//! - All clocks *run* too fast or too slow, up to twice and down to half, far more than a broken oscillator does. The
//!   clock that never goes back never does: it runs on from what it had shown.
//! - The kernel's own timers keep true time: a program that sleeps for a second sleeps for a second. It may then find
//!   that two have passed, or that it has to sleep once more.
//! - A member that is started again has true clocks.
//!
//! It takes the right to trace the process, which a parent has, and an x86-64 processor.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// The clocks of one process, which can be set at will.
#[derive(Debug)]
pub struct Clocks {
    pid: Pid,
    /// Where the numbers stand in its memory.
    numbers: u64,
    /// The pages that the kernel mapped into it.
    pages: std::ops::Range<u64>,
    real: Bend,
    steady: Bend,
}

/// How one kind of clock is bent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bend {
    since: i64,
    rate: i64,
    offset: i64,
}

impl Bend {
    fn shown(self, now: i64) -> i64 {
        let gained = i128::from(now - self.since) * i128::from(self.rate) / i128::from(ONE);
        now + i64::try_from(gained).unwrap_or(0) + self.offset
    }

    /// Runs at another rate from now on, without a jump.
    fn run_at(&mut self, rate: i64, now: i64) {
        *self = Bend { since: now, rate, offset: self.shown(now) - now };
    }
}

impl Clocks {
    /// Takes over the clocks of a process; they stay true until they are bent.
    pub fn of(pid: Pid) -> io::Result<Clocks> {
        if !cfg!(target_arch = "x86_64") {
            return Err(io::Error::other("clocks can be bent on x86-64 only"));
        }
        let number = pid.as_raw_nonzero();
        let maps = fs::read_to_string(format!("/proc/{number}/maps"))?;
        let pages = maps.lines().find(|line| line.ends_with("[vdso]")).and_then(|line| {
            let (from, to) = line.split_once(' ')?.0.split_once('-')?;
            Some(u64::from_str_radix(from, 16).ok()?..u64::from_str_radix(to, 16).ok()?)
        });
        let pages = pages.ok_or_else(|| io::Error::other("it has no page for the time"))?;
        let mut image = vec![0; usize::try_from(pages.end - pages.start).unwrap_or(0)];
        File::open(format!("/proc/{number}/mem"))?.read_exact_at(&mut image, pages.start)?;
        let (at, room) = find(&image, b"__vdso_clock_gettime")
            .ok_or_else(|| io::Error::other("the page for the time has no __vdso_clock_gettime"))?;
        let mut code = FUNCTION.to_vec();
        code.resize(FUNCTION.len() + NUMBERS, 0);
        // Instructions that are followed by data must not straddle it: the numbers are aligned as the function is.
        if room < code.len() as u64 || at % 8 != 0 {
            return Err(io::Error::other("the function for the time has another shape than is known here"));
        }
        let clocks = Clocks {
            pid,
            numbers: pages.start + at + FUNCTION.len() as u64,
            pages: pages.clone(),
            real: Bend::default(),
            steady: Bend::default(),
        };
        clocks.write(pages.start + at, &code)?;
        Ok(clocks)
    }

    /// The time of day jumps.
    pub fn jump(&mut self, by: Duration, back: bool) -> io::Result<()> {
        let by = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX / 4);
        self.real.offset += if back { -by } else { by };
        self.set()
    }

    /// All clocks run at so many thousandths of the true rate.
    pub fn run_at(&mut self, thousandths: u32) -> io::Result<()> {
        let rate = (i64::from(thousandths) - 1000) * ONE / 1000;
        self.real.run_at(rate, now(ClockId::Realtime));
        self.steady.run_at(rate, now(ClockId::Monotonic));
        self.set()
    }

    /// The time of day is true, and all clocks run as they should.
    pub fn heal(&mut self) -> io::Result<()> {
        self.real = Bend::default();
        self.steady.run_at(0, now(ClockId::Monotonic));
        self.set()
    }

    fn set(&self) -> io::Result<()> {
        let bytes: Vec<u8> = [self.real, self.steady]
            .into_iter()
            .flat_map(|bend| [bend.since, bend.rate, bend.offset])
            .flat_map(i64::to_le_bytes)
            .collect();
        self.write(self.numbers, &bytes)
    }

    /// Writes while no thread is between reading one number and the next, or inside a function that changes.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let memory = File::options().write(true).open(format!("/proc/{}/mem", self.pid.as_raw_nonzero()))?;
        let was_stopped = state(self.pid) == Some('T');
        let outcome = (0..ATTEMPTS).find_map(|_| {
            let stopped = self.stop();
            let written = match stopped {
                Err(error) => Some(Err(error)),
                Ok(()) if self.is_telling_the_time() => None,
                Ok(()) => Some(memory.write_all_at(bytes, at)),
            };
            if !was_stopped {
                // It may have ended meanwhile.
                let _ = kill_process(self.pid, Signal::CONT);
            }
            if written.is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            written
        });
        outcome.unwrap_or_else(|| Err(io::Error::other("it asks for the time without a pause")))
    }

    /// Stops all threads.
    fn stop(&self) -> io::Result<()> {
        kill_process(self.pid, Signal::STOP)?;
        for _ in 0..ATTEMPTS {
            if self.threads().all(|thread| {
                let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
                matches!(state_in(&stat), None | Some('T' | 't' | 'Z' | 'X'))
            }) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Err(io::Error::other("it does not stop"))
    }

    /// Whether a thread has stopped inside the kernel's pages.
    fn is_telling_the_time(&self) -> bool {
        self.threads().any(|thread| {
            let text = fs::read_to_string(thread.join("syscall")).unwrap_or_default();
            let place = text.split_whitespace().last().and_then(|word| word.strip_prefix("0x"));
            let place = place.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            place.is_some_and(|place| self.pages.contains(&place))
        })
    }

    fn threads(&self) -> impl Iterator<Item = std::path::PathBuf> + use<> {
        let folder = fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero()));
        folder.into_iter().flatten().flatten().map(|entry| entry.path())
    }
}

fn state(pid: Pid) -> Option<char> {
    state_in(&fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
}

/// The letter behind the name, which may hold anything but ends with the last bracket.
fn state_in(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

fn now(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Where a function is in an image of ELF, and how long. An image of the kernel's own, but read with care: nothing
/// here panics, whatever it holds.
fn find(image: &[u8], name: &[u8]) -> Option<(u64, u64)> {
    let number = |at: u64, length: u64| -> Option<u64> {
        let (at, end) = (usize::try_from(at).ok()?, usize::try_from(at.checked_add(length)?).ok()?);
        Some(image.get(at..end)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    // Places lie within the image, so that sums of them are small.
    let place = |at| number(at, 8).filter(|place| *place <= image.len() as u64);
    let (headers, count) = (place(32)?, number(56, 2)?);
    let header = |at| headers + 56 * at;
    let dynamic = (0..count).map(header).find(|at| number(*at, 4) == Some(PT_DYNAMIC))?;
    let mut entry = place(dynamic + 8)?;
    let (mut symbols, mut names) = (None, None);
    while number(entry, 8)? != 0 {
        match number(entry, 8)? {
            DT_SYMTAB => symbols = place(entry + 8),
            DT_STRTAB => names = place(entry + 8),
            _ => {}
        }
        entry += 16;
    }
    // The names stand behind the symbols: nobody says how many symbols there are.
    let (symbols, names) = (symbols?, names?);
    let symbol = (symbols..names).step_by(24).find(|at| {
        let from = number(*at, 4).and_then(|place| usize::try_from(names + place).ok());
        from.and_then(|from| image.get(from..)?.split(|byte| *byte == 0).next()) == Some(name)
    })?;
    Some((number(symbol + 8, 8)?, number(symbol + 16, 8)?))
}

const PT_DYNAMIC: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;

/// A rate of one.
const ONE: i64 = 1 << 20;
/// How often it is tried to catch a process at a good moment.
const ATTEMPTS: u32 = 2000;
/// Six numbers of eight bytes follow the function: since, rate and offset, of the time of day and of the steady clocks.
const NUMBERS: usize = 48;

/// The function, with the arguments and registers of C: a clock in `edi`, room for seconds and nanoseconds at `rsi`.
#[rustfmt::skip]
const FUNCTION: [u8; 104] = [
    0xb8, 0xe4, 0x00, 0x00, 0x00,             // mov eax, 228            clock_gettime
    0x0f, 0x05,                               // syscall
    0x85, 0xc0,                               // test eax, eax
    0x75, 0x59,                               // jne done                it was refused
    0x83, 0xff, 0x07,                         // cmp edi, 7
    0x77, 0x54,                               // ja done
    0xb9, 0xf3, 0x00, 0x00, 0x00,             // mov ecx, 0b1111_0011    all but processor time
    0x0f, 0xa3, 0xf9,                         // bt ecx, edi
    0x73, 0x4a,                               // jnc done
    0x4c, 0x8d, 0x05, 0x47, 0x00, 0x00, 0x00, // lea r8, [numbers]
    0xb9, 0x21, 0x00, 0x00, 0x00,             // mov ecx, 0b0010_0001    the time of day, fine and coarse
    0x0f, 0xa3, 0xf9,                         // bt ecx, edi
    0x72, 0x04,                               // jc bend
    0x49, 0x83, 0xc0, 0x18,                   // add r8, 24
    0x41, 0xb9, 0x00, 0xca, 0x9a, 0x3b,       // bend: mov r9d, 1000000000
    0x48, 0x8b, 0x06,                         // mov rax, [rsi]
    0x49, 0x0f, 0xaf, 0xc1,                   // imul rax, r9
    0x48, 0x03, 0x46, 0x08,                   // add rax, [rsi + 8]      true
    0x48, 0x89, 0xc1,                         // mov rcx, rax
    0x49, 0x2b, 0x08,                         // sub rcx, [r8]           true - since
    0x49, 0x0f, 0xaf, 0x48, 0x08,             // imul rcx, [r8 + 8]      * rate
    0x48, 0xc1, 0xf9, 0x14,                   // sar rcx, 20             / 2^20
    0x48, 0x01, 0xc8,                         // add rax, rcx
    0x49, 0x03, 0x40, 0x10,                   // add rax, [r8 + 16]      + offset
    0x48, 0x99,                               // cqo
    0x49, 0xf7, 0xf9,                         // idiv r9
    0x48, 0x89, 0x06,                         // mov [rsi], rax
    0x48, 0x89, 0x56, 0x08,                   // mov [rsi + 8], rdx
    0x31, 0xc0,                               // xor eax, eax
    0xc3,                                     // done: ret
    0x0f, 0x1f, 0x00,                         // (aligns the numbers)
];

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Set in the process that only tells the time.
    const TELL: &str = "QUORATE_TEST_TELLS_THE_TIME";

    /// Not a test of its own but the process that the other one torments: says the time whenever it is asked to.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the clocks are what is tested")]
    fn tells_the_time() {
        if std::env::var_os(TELL).is_none() {
            return;
        }
        let begun = std::time::Instant::now();
        for _ in std::io::stdin().lines() {
            let day = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is late");
            println!("\ntime {} {}", day.as_nanos(), begun.elapsed().as_nanos());
        }
    }

    struct Clock {
        child: Child,
        answers: BufReader<std::process::ChildStdout>,
    }

    impl Clock {
        fn start() -> Clock {
            let program = std::env::current_exe().expect("a running program has a path");
            let mut command = Command::new(program);
            command.args(["--exact", "clock::tests::tells_the_time", "--nocapture"]).env(TELL, "1");
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
            let answers = BufReader::new(child.stdout.take().expect("it is piped"));
            Clock { child, answers }
        }

        /// Its time of day and its steady time, in nanoseconds.
        fn ask(&mut self) -> (i64, i64) {
            writeln!(self.child.stdin.as_mut().expect("it is piped")).expect("it listens");
            loop {
                let mut line = String::new();
                assert!(self.answers.read_line(&mut line).expect("it answers") > 0, "it has ended");
                if let Some((_, numbers)) = line.split_once("time ") {
                    let mut numbers = numbers.split_whitespace().map(|number| number.parse().expect(number));
                    return (numbers.next().expect("two"), numbers.next().expect("two"));
                }
            }
        }
    }

    impl Drop for Clock {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    const SECOND: i64 = 1_000_000_000;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn clocks_of_a_running_process_jump_and_run_fast_and_are_healed() {
        let mut clock = Clock::start();
        let (_, first) = clock.ask();
        let pid = Pid::from_child(&clock.child);
        let mut bent = Clocks::of(pid).expect("the process is a child");
        // Far more than this test can take, so that a busy machine does not matter.
        bent.jump(Duration::from_secs(1_000_000), true).expect("it runs");
        let (day, steady) = clock.ask();
        let ahead = day - now(ClockId::Realtime);
        assert!((-1_001_000 * SECOND..-999_000 * SECOND).contains(&ahead), "{ahead}");
        assert!(steady >= first, "the steady clock has gone back: {first}, {steady}");
        // At a thousand times the rate, whatever little time passes is much.
        bent.run_at(1_000_000).expect("it runs");
        std::iter::repeat_with(|| clock.ask().1).find(|later| later - steady > 100 * SECOND);
        let (_, fast) = clock.ask();
        bent.heal().expect("it runs");
        let (day, healed) = clock.ask();
        let ahead = (now(ClockId::Realtime) - day) / SECOND;
        assert!((-1..1000).contains(&ahead), "the time of day is {ahead} s behind");
        assert!(healed >= fast, "the steady clock has gone back: {fast}, {healed}");
    }

    #[test]
    fn a_change_of_rate_is_no_jump() {
        let mut bend = Bend { since: 100, rate: ONE, offset: 7 };
        assert_eq!(bend.shown(150), 207);
        bend.run_at(-ONE / 2, 150);
        assert_eq!(bend.shown(150), 207);
        assert_eq!(bend.shown(250), 257);
        bend.run_at(0, 250);
        assert_eq!(bend.shown(300), 307);
    }

    #[test]
    fn what_is_no_image_has_no_function() {
        for image in [&[][..], &[0; 64], &[0xff; 200]] {
            assert_eq!(find(image, b"__vdso_clock_gettime"), None);
        }
    }
}
