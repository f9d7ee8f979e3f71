//! Whose turn it is on a processor that several want.
//!
//! Since 6.12 Linux lets a thread say how long its turns should be, and whoever takes short ones is let in before somebody whose
//! turns are longer, as long as it has not had more than its share. An older kernel hears the order and not the length; then
//! who is woken may wait for the kernel's next tick behind one that computes.

use std::time::Duration;

use rustix::{
    process::getpriority_process,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// How far back in the kernel's order goes what computes for long: three of four parts are the others', so that on a busy
/// host it still comes forward.
const BEHIND: i32 = 5;
/// A turn of one that only computes, the longest there is: whoever waits for something is let in before its end.
const LONG: Duration = Duration::from_millis(100);
/// A turn of one that passes on what others said: the shortest there is.
const SHORT: Duration = Duration::from_micros(100);

/// Where a thread goes that has computed for long: behind those that compute less, and off the processors that are reserved for
/// them.
#[derive(Debug, Clone, Copy)]
pub struct Behind {
    nice: i32,
    processors: Option<CpuSet>,
}

impl Behind {
    /// Behind where this thread is now, and off the first `reserved` processors that it may run on now, but for one.
    #[must_use]
    pub fn reserving(reserved: u16) -> Self {
        let left = sched_getaffinity(None).ok().map(|own| leave(own, reserved));
        let nice = getpriority_process(None).map_or(BEHIND, |own| own.max(BEHIND));
        Self { nice, processors: left.filter(|_| reserved > 0) }
    }

    /// Goes there with this thread, and with those that it starts from now on. There is no way back in the order.
    pub fn go(&self) {
        self.turns(false);
        if let Some(processors) = &self.processors {
            let _ = sched_setaffinity(None, processors);
        }
    }

    /// Takes long turns, as long as it only computes, or those that the kernel gives.
    pub fn turns(&self, long: bool) {
        // Where the kernel says no, it shares the processors evenly, as ever.
        let _ = take(self.nice, if long { LONG } else { Duration::ZERO });
    }
}

/// Has this thread, and those that it starts from now on, run in short turns: it is let in soon.
pub fn often() {
    here(SHORT);
}

/// Has this thread, and those that it starts from now on, run in the turns that the kernel gives to everybody.
pub fn evenly() {
    here(Duration::ZERO);
}

/// Stays in its place in the order, in turns of this length.
fn here(turn: Duration) {
    // Where the kernel says no, it waits for its turn, as ever.
    let _ = getpriority_process(None).map(|own| take(own, turn));
}

/// Goes to this place in the order, in turns of this length.
fn take(nice: i32, turn: Duration) -> std::io::Result<()> {
    let wish = libc::sched_attr {
        size: size_of::<libc::sched_attr>().try_into().unwrap_or_default(),
        sched_policy: 0,
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY.try_into().unwrap_or_default(),
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: turn.as_nanos().try_into().unwrap_or_default(),
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the kernel reads as many bytes as the value says that it has.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn leave(mut processors: CpuSet, mut reserved: u16) -> CpuSet {
    for one in 0..CpuSet::MAX_CPU {
        if reserved == 0 || processors.count() == 1 {
            break;
        }
        if processors.is_set(one) {
            processors.unset(one);
            reserved -= 1;
        }
    }
    processors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processors_are_left_to_others_and_one_is_kept() {
        let left = |own: &[usize], reserved| {
            let mut processors = CpuSet::new();
            own.iter().for_each(|one| processors.set(*one));
            let left = leave(processors, reserved);
            (0..CpuSet::MAX_CPU).filter(|one| left.is_set(*one)).collect::<Vec<_>>()
        };
        assert_eq!(left(&[0, 1, 2, 3], 1), [1, 2, 3]);
        assert_eq!(left(&[2, 5, 9], 2), [9]);
        assert_eq!(left(&[2, 5, 9], 7), [9]);
        assert_eq!(left(&[3], 1), [3]);
    }

    #[test]
    fn who_goes_behind_is_there_and_its_own_threads_only() {
        let place = || getpriority_process(None).unwrap();
        let before = place();
        let gone = std::thread::spawn(move || {
            Behind::reserving(0).go();
            (place(), std::thread::spawn(place).join().unwrap())
        });
        let behind = before.max(BEHIND);
        assert_eq!(gone.join().unwrap(), (behind, behind));
        often();
        assert_eq!(place(), before);
    }
}
