//! The bars around a process that runs components: what is left when a component has taken it over altogether.
//!
//! Namespaces without a network where the host gives them, landlock without a single file (or with the scratch directory
//! alone), and a list of the system calls that running loaded code takes: nothing to open, to connect, to start, to look
//! into, and no memory that becomes executable. What only an attacker would call ends the process at once.
//!
//! *Invariant:* [`seal`] is called when the code is loaded and before any of it runs.

use std::{collections::BTreeMap, path::PathBuf};

use seccompiler::{SeccompAction, SeccompCmpOp, apply_filter_all_threads};

use super::{
    CannotConfine, Confinement, Ports, Reach, capabilities, files,
    syscalls::{NAMESPACES, Rules, program, when},
};

/// Whether a worker may use files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// None at all.
    None,
    /// Those below its scratch directory.
    Below(PathBuf),
}

/// What running takes: memory, threads, time, random numbers, and descriptors that are open already.
const NEEDED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a scratch directory takes beside that.
const FOR_FILES: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_readlinkat,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_utimensat,
    libc::SYS_fadvise64,
];

/// What nothing in a worker calls unless it was taken over: the process ends with SIGSYS.
const DEADLY: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_shmget,
    libc::SYS_reboot,
    libc::SYS_clock_settime,
];

/// What a thread of this process shares with the others; without all of these it would be another process.
const THREAD: libc::c_int =
    libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
/// `ioctl` that tells which pages were touched: how a sandbox is cleared quickly (Linux 6.7 and later).
const PAGEMAP_SCAN: u64 = 0xc060_6610;
/// `prctl` that names a mapping.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// The first thing in the process: it ends with its parent, it is the first to go where memory is short, nobody looks into
/// its memory, and it holds no descriptor but its three.
///
/// # Errors
/// The kernel says no.
pub fn begin() -> std::io::Result<()> {
    // Where this is not to be had the kernel chooses by size, as ever.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    super::begin()
}

/// Leaves the host's network, its users, names and mounts behind, and every capability, as far as the host lets it. The bars
/// that follow do not depend on it. Call it while there is one thread.
pub fn leave_namespaces() {
    let all = NAMESPACES.iter().fold(0, |all, flag| all | flag) & !libc::CLONE_NEWPID;
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: there is one thread, and it holds nothing of the former namespaces but its descriptors.
    unsafe {
        libc::unshare(all)
    };
    capabilities::keep(capabilities::NONE);
}

/// Whether this kernel ends a process for a system call that its filter does not let through.
pub(super) fn kills() -> bool {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the call reads one number.
    let available =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    available == 0
}

/// Takes everything away from this process that running loaded code does not need. The files are barred for this thread
/// and those that it starts; call [`seal`] when they are started.
///
/// # Errors
/// [`CannotConfine::Files`], where confinement is required.
pub fn bar_files(allowed: &Files, confinement: Confinement) -> Result<(), CannotConfine> {
    let write = match allowed {
        Files::None => Vec::new(),
        Files::Below(directory) => vec![directory.clone()],
    };
    let reach = Reach { write, read: Vec::new(), ports: Ports::None };
    excused(files::confine(&reach).map_err(CannotConfine::Files), confinement)
}

/// Leaves all threads of this process with the system calls that they need.
///
/// # Errors
/// [`CannotConfine::Calls`], where confinement is required.
pub fn seal(allowed: &Files, confinement: Confinement) -> Result<(), CannotConfine> {
    excused(filter(allowed).map_err(CannotConfine::Calls), confinement)
}

fn excused(outcome: Result<(), CannotConfine>, confinement: Confinement) -> Result<(), CannotConfine> {
    match confinement {
        Confinement::Required => outcome,
        // The runner has told of it when it began.
        Confinement::WherePossible => Ok(()),
    }
}

fn filter(allowed: &Files) -> Result<(), String> {
    let errno = |number: libc::c_int| SeccompAction::Errno(number.cast_unsigned());
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let deadly = DEADLY.iter().map(|call| (*call, Vec::new())).collect();
    for filter in [
        // Of several filters the strictest answer counts; the list comes last, since it lets nobody add another one.
        program(unknown, SeccompAction::Allow, errno(libc::ENOSYS))?,
        program(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?,
        program(needed(allowed)?, errno(libc::EPERM), SeccompAction::Allow)?,
    ] {
        apply_filter_all_threads(&filter).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn needed(allowed: &Files) -> Result<Rules, String> {
    let files = if *allowed == Files::None { &[] } else { FOR_FILES };
    let mut rules: Rules = NEEDED.iter().chain(files).map(|call| (*call, Vec::new())).collect();
    // The other two filters decide on these.
    rules.extend(DEADLY.iter().chain(&[libc::SYS_clone3]).map(|call| (*call, Vec::new())));
    let executable = u64::from(libc::PROT_EXEC.cast_unsigned());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![when(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    let threads = u64::from(THREAD.cast_unsigned());
    let others = NAMESPACES.iter().fold(0, |all, flag| all | u64::from(flag.cast_unsigned()));
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(threads | others), threads)?]);
    rules.insert(libc::SYS_ioctl, vec![when(1, SeccompCmpOp::Eq, PAGEMAP_SCAN)?]);
    let names = [u64::from(libc::PR_SET_NAME.cast_unsigned()), PR_SET_VMA];
    rules.insert(libc::SYS_prctl, each(0, &names)?);
    let flags = [libc::F_GETFL, libc::F_GETFD, libc::F_SETFD, libc::F_DUPFD_CLOEXEC, libc::F_SETFL];
    let flags = flags.map(|flag| u64::from(flag.cast_unsigned()));
    rules.insert(libc::SYS_fcntl, each(1, &flags)?);
    // Giving way: this thread alone, and the kernel lets its place in the order go back only.
    rules.insert(libc::SYS_sched_setattr, each(0, &[0])?);
    rules.insert(libc::SYS_sched_setaffinity, each(0, &[0])?);
    // Breaking off signals the process itself.
    rules.insert(libc::SYS_tgkill, each(0, &[u64::from(std::process::id())])?);
    Ok(rules)
}

fn each(argument: u8, values: &[u64]) -> Result<Vec<seccompiler::SeccompRule>, String> {
    values.iter().map(|value| when(argument, SeccompCmpOp::Eq, *value)).collect()
}
