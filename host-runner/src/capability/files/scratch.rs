//! The scratch directory of one run: `wasi:filesystem` with a quota.
//!
//! Every call goes to the engine's implementation; what makes something grow is charged first. The charge counts up; when it
//! reaches the limit the directory is measured, so that removed files are given back. Links are refused: scratch holds files
//! and directories, and nothing in it leads anywhere else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use remit_protocol::report::Limit;
use tempfile::TempDir;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    FsPerms, WasiCtxBuilder,
    filesystem::{WasiFilesystem, WasiFilesystemCtxView, WasiFilesystemView},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult, OutputStream, Pollable, StreamError,
        StreamResult,
        bindings::filesystem::{
            preopens,
            types::{
                self, Descriptor, DirectoryEntryStream, ErrorCode, HostDescriptor, HostDirectoryEntryStream,
            },
        },
    },
};

use crate::sandbox::{Account, HostFault, OverLimit, State};

/// What a file or directory costs beside its bytes.
const ENTRY: u64 = 4096;

/// A directory for one run: fresh, its own, removed at the end.
pub(crate) struct Scratch {
    directory: TempDir,
    gauge: Arc<Gauge>,
}

impl Scratch {
    /// Makes a directory below `base` and opens it as `/scratch`.
    pub(crate) fn open(
        base: &Path,
        wasi: &mut WasiCtxBuilder,
        account: Arc<Account>,
    ) -> Result<Self, HostFault> {
        let fault = |error: &dyn std::fmt::Display| {
            HostFault(format!("no scratch directory could be made in {}: {error}", base.display()))
        };
        let directory = TempDir::with_prefix_in("scratch-", base).map_err(|error| fault(&error))?;
        wasi.preopened_dir(directory.path(), "/scratch", FsPerms::ReadWrite)
            .map_err(|error| fault(&error))?;
        let root = directory.path().to_owned();
        let (removed, streams) = (AtomicBool::new(false), AtomicUsize::new(0));
        Ok(Self { directory, gauge: Arc::new(Gauge { account, root, removed, streams }) })
    }

    /// Removes it, off the threads that run steps.
    pub(crate) async fn remove(self) {
        let directory = self.directory;
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || directory.close()).await {
            tracing::warn!(%error, "a scratch directory could not be removed");
        }
    }
}

/// How much of the quota is used.
struct Gauge {
    account: Arc<Account>,
    root: PathBuf,
    /// Something was removed while files were open: its bytes may live on where no walk finds them.
    removed: AtomicBool,
    streams: AtomicUsize,
}

impl Gauge {
    /// Takes `amount` of the quota; `open` says whether files are open beside the streams.
    fn claim(&self, amount: u64, open: bool) -> Result<(), OverLimit> {
        if self.account.left(Limit::Scratch) >= amount {
            return self.account.charge(Limit::Scratch, amount);
        }
        if self.removed.load(Ordering::Relaxed) && (open || self.streams.load(Ordering::Relaxed) > 0) {
            return Err(self.account.over(Limit::Scratch));
        }
        self.removed.store(false, Ordering::Relaxed);
        match measure(&self.root) {
            Ok(used) => self.account.set(Limit::Scratch, used),
            Err(_) => return Err(self.account.over(Limit::Scratch)),
        }
        self.account.charge(Limit::Scratch, amount)
    }
}

/// Bytes below `directory`, each entry with its [`ENTRY`].
fn measure(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            sum += ENTRY;
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else {
                sum += metadata.len();
            }
        }
    }
    Ok(sum)
}

/// A stream into a file, charged as it is written.
struct GaugedStream {
    inner: DynOutputStream,
    gauge: Arc<Gauge>,
}

impl GaugedStream {
    fn new(inner: DynOutputStream, gauge: Arc<Gauge>) -> Self {
        gauge.streams.fetch_add(1, Ordering::Relaxed);
        Self { inner, gauge }
    }
}

impl Drop for GaugedStream {
    fn drop(&mut self) {
        self.gauge.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Pollable for GaugedStream {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for GaugedStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.gauge.claim(length, true).map_err(|_| {
            StreamError::LastOperationFailed(io::Error::from(io::ErrorKind::StorageFull).into())
        })?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// Links `wasi:filesystem`.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, Gauged<'static>>(linker, |state| {
        let gauge = state.scratch.as_ref().map(|scratch| scratch.gauge.clone());
        Gauged { wasi: state.filesystem(), gauge }
    })?;
    preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)
}

/// The engine's filesystem behind the gauge. Without one there is no directory, and nothing to charge.
struct Gauged<'a> {
    wasi: WasiFilesystemCtxView<'a>,
    gauge: Option<Arc<Gauge>>,
}

impl HasData for Gauged<'static> {
    type Data<'a> = Gauged<'a>;
}

type Fd = Resource<Descriptor>;

impl Gauged<'_> {
    fn claim(&mut self, amount: u64) -> FsResult<()> {
        let Some(gauge) = &self.gauge else { return Ok(()) };
        gauge.claim(amount, files_open(self.wasi.table)).map_err(|_| ErrorCode::InsufficientSpace.into())
    }

    /// Takes what a file of `size` bytes has more than the file has now.
    fn grow(&mut self, fd: &Fd, size: u64) -> FsResult<()> {
        let now = match self.wasi.table.get(fd)? {
            Descriptor::File(file) => file.file.metadata().map_err(|error| ErrorCode::from(&error))?.len(),
            Descriptor::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        self.claim(size.saturating_sub(now))
    }

    /// To be called when something was removed or replaced.
    fn note_removal(&mut self) {
        if let Some(gauge) = &self.gauge
            && (files_open(self.wasi.table) || gauge.streams.load(Ordering::Relaxed) > 0)
        {
            gauge.removed.store(true, Ordering::Relaxed);
        }
    }

    fn gauged(&mut self, stream: Resource<DynOutputStream>) -> FsResult<Resource<DynOutputStream>> {
        let Some(gauge) = &self.gauge else { return Ok(stream) };
        let inner = self.wasi.table.delete(stream)?;
        let stream: DynOutputStream = Box::new(GaugedStream::new(inner, gauge.clone()));
        Ok(self.wasi.table.push(stream)?)
    }
}

fn files_open(table: &mut ResourceTable) -> bool {
    table.iter_mut().any(|entry| matches!(entry.downcast_ref(), Some(Descriptor::File(_))))
}

impl types::Host for Gauged<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.filesystem_error_code(error)
    }
}

/// Methods that go to the engine as they are.
macro_rules! pass {
    ($(async fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(async fn $name(&mut self, $($argument: $type),*) -> $result {
            self.wasi.$name($($argument),*).await
        })*
    };
}

impl HostDescriptor for Gauged<'_> {
    pass! {
        async fn advise(fd: Fd, offset: u64, length: u64, advice: types::Advice) -> FsResult<()>;
        async fn sync_data(fd: Fd) -> FsResult<()>;
        async fn sync(fd: Fd) -> FsResult<()>;
        async fn get_flags(fd: Fd) -> FsResult<types::DescriptorFlags>;
        async fn get_type(fd: Fd) -> FsResult<types::DescriptorType>;
        async fn set_times(fd: Fd, atime: types::NewTimestamp, mtime: types::NewTimestamp) -> FsResult<()>;
        async fn read(fd: Fd, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)>;
        async fn read_directory(fd: Fd) -> FsResult<Resource<DirectoryEntryStream>>;
        async fn stat(fd: Fd) -> FsResult<types::DescriptorStat>;
        async fn stat_at(fd: Fd, flags: types::PathFlags, path: String) -> FsResult<types::DescriptorStat>;
        async fn set_times_at(
            fd: Fd,
            flags: types::PathFlags,
            path: String,
            atime: types::NewTimestamp,
            mtime: types::NewTimestamp
        ) -> FsResult<()>;
        async fn readlink_at(fd: Fd, path: String) -> FsResult<String>;
        async fn remove_directory_at(fd: Fd, path: String) -> FsResult<()>;
        async fn is_same_object(one: Fd, other: Fd) -> wasmtime::Result<bool>;
        async fn metadata_hash(fd: Fd) -> FsResult<types::MetadataHashValue>;
        async fn metadata_hash_at(
            fd: Fd,
            flags: types::PathFlags,
            path: String
        ) -> FsResult<types::MetadataHashValue>;
    }

    async fn set_size(&mut self, fd: Fd, size: u64) -> FsResult<()> {
        self.grow(&fd, size)?;
        self.wasi.set_size(fd, size).await
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let end = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.grow(&fd, end)?;
        self.wasi.write(fd, bytes, offset).await
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.claim(ENTRY)?;
        self.wasi.create_directory_at(fd, path).await
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Fd> {
        if open_flags.contains(types::OpenFlags::CREATE) {
            self.claim(ENTRY)?;
        }
        self.wasi.open_at(fd, path_flags, path, open_flags, flags).await
    }

    async fn link_at(&mut self, _: Fd, _: types::PathFlags, _: String, _: Fd, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn symlink_at(&mut self, _: Fd, _: String, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn rename_at(&mut self, fd: Fd, old: String, new_fd: Fd, new: String) -> FsResult<()> {
        self.note_removal();
        self.wasi.rename_at(fd, old, new_fd, new).await
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.note_removal();
        self.wasi.unlink_file_at(fd, path).await
    }

    fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> {
        self.wasi.read_via_stream(fd, offset)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        // A hole before the offset is not written, and still a part of the file.
        self.grow(&fd, offset)?;
        let stream = self.wasi.write_via_stream(fd, offset)?;
        self.gauged(stream)
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.append_via_stream(fd)?;
        self.gauged(stream)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.wasi, fd)
    }
}

impl HostDirectoryEntryStream for Gauged<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.wasi.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::{Limits, Size};

    use super::*;

    fn gauge(limit: u64) -> (TempDir, Gauge) {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { scratch: Size::from_bytes(limit), ..Limits::default() };
        let gauge = Gauge {
            account: Arc::new(Account::new(limits)),
            root: directory.path().to_owned(),
            removed: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
        };
        (directory, gauge)
    }

    #[test]
    fn what_was_removed_is_given_back() {
        let (directory, gauge) = gauge(10_000);
        gauge.claim(9_000, false).unwrap();
        gauge.claim(9_000, false).unwrap();
        fs::write(directory.path().join("a"), vec![0; 3000]).unwrap();
        assert!(gauge.claim(9_000, false).is_err());
        assert_eq!(gauge.account.used(Limit::Scratch), ENTRY + 3000);
    }

    #[test]
    fn a_file_that_was_removed_while_open_is_not_given_back() {
        let (_directory, gauge) = gauge(10_000);
        gauge.claim(9_000, true).unwrap();
        gauge.removed.store(true, Ordering::Relaxed);
        assert!(gauge.claim(9_000, true).is_err());
        assert!(gauge.claim(9_000, false).is_ok());
    }

    #[test]
    fn directories_are_measured_with_all_that_is_below() {
        let (directory, _) = gauge(1);
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/c"), "12345").unwrap();
        assert_eq!(measure(directory.path()).unwrap(), 3 * ENTRY + 5);
    }
}
