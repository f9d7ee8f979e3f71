//! The privileges of root, where the runner was started as root: given up but for those to read and write files.

/// No privilege at all.
pub(super) const NONE: u64 = 0;
/// To read and write files of other users (`CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`): landlock says which.
pub(super) const FILES: u64 = 1 << 1 | 1 << 2;

/// Gives up every capability that is not in `kept`. Call it while there is one thread. Root keeps its user, and with the
/// rest of its privileges it could see into processes that landlock keeps apart.
pub(super) fn keep(kept: u64) {
    // Where a service manager has taken everything away there is nothing to give up, and often no way to do so.
    let permitted = permitted();
    if permitted == Some(NONE) {
        return;
    }
    let kept = permitted.unwrap_or(NONE) & kept;
    let [low, high] = [kept, kept >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or_default());
    // Version 3 of the call: two sets of 32 capabilities, each effective, permitted and inheritable.
    let (header, sets) = ([0x2008_0522_u32, 0], [low, low, 0, high, high, 0]);
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the kernel reads two values of the form that the version names.
    unsafe {
        libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr())
    };
}

fn permitted() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapPrm:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}
