//! A file for the node that a step is run for, over SFTP version 3: what the built-in steps that write one share.
//!
//! *Invariant:* the old file stays as it is until the new one is whole.

use remit_sdk::{Context, Fail, JsonSchema, log, ssh};
use serde::Serialize;

mod client;
mod packet;

use client::Sftp;

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Written {
    /// Where it is now.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Where a file goes.
#[derive(Debug)]
pub struct Target {
    path: String,
    mode: u32,
    make_folders: bool,
}

/// Gives the next bytes of a file, at most so many; none at the end.
pub type Next<'a> = dyn FnMut(u32) -> Result<Vec<u8>, Fail> + 'a;

/// What `serde(default = "remit_sdk_sftp::usual_mode")` gives.
pub fn usual_mode() -> String {
    "0644".to_owned()
}

/// Most parts of the path on the node.
const MAX_DEPTH: usize = 64;

impl Target {
    /// An absolute path, permissions in octal, and whether folders on the way that are missing are made.
    ///
    /// # Errors
    /// A path that is not absolute, ends without a name, or holds `.` or `..`; permissions that are none.
    pub fn new(path: String, mode: &str, make_folders: bool) -> Result<Self, Fail> {
        parts(&path)?;
        Ok(Self { mode: self::mode(mode)?, path, make_folders })
    }

    /// Writes the file on the node that the step is run for.
    ///
    /// # Errors
    /// What the node or the remit refuses; `next`'s. What was written is taken away then.
    pub fn write(self, next: &mut Next<'_>, context: &Context) -> Result<Written, Fail> {
        let node = context.target()?;
        let inside = |fail: Fail| fail.while_doing(format_args!("{} on {}", self.path, node.name));
        let (folder, name) = parts(&self.path)?;
        let mut sftp = Sftp::new(ssh::sftp().map_err(|refusal| inside(refusal.into()))?).map_err(inside)?;
        if self.make_folders {
            make_folders(&mut sftp, folder).map_err(inside)?;
        }
        // The same for every try, so that one that was cut off leaves nothing that the next one does not replace.
        let aside = format!("{folder}/.{name}.remit");
        let written = write(&mut sftp, &aside, self.mode, next, context);
        let done = written.and_then(|bytes| sftp.rename(&aside, &self.path).map(|()| bytes));
        let bytes = done.map_err(|fail| {
            if !fail.is_cancelled() {
                // The failure that is told is the first one.
                let _ = sftp.remove(&aside);
            }
            inside(fail)
        })?;
        log::info!("written", path = self.path, bytes = bytes);
        Ok(Written { path: self.path, bytes })
    }
}

/// The folder and the name of an absolute path.
fn parts(path: &str) -> Result<(&str, &str), Fail> {
    let bad = |why: &str| Fail::new(format!("`to` is {path:?}: {why}"));
    if !path.starts_with('/') {
        return Err(bad("write an absolute path, such as /etc/app/app.conf"));
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    if name.is_empty() || path.split('/').any(|part| matches!(part, "." | "..")) || path.contains('\0') {
        return Err(bad("it ends with the file's own name and holds no `.` or `..`"));
    }
    if path.len() > 4000 || path.split('/').count() > MAX_DEPTH {
        return Err(bad("it is too long"));
    }
    Ok((folder, name))
}

fn mode(text: &str) -> Result<u32, Fail> {
    let digits = (3..=5).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = if digits { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| Fail::new(format!("`mode` is {text:?}: write permissions in octal, such as 0644")))
}

fn make_folders(sftp: &mut Sftp, folder: &str) -> Result<(), Fail> {
    let ends = folder.match_indices('/').map(|(at, _)| at).skip(1).chain([folder.len()]);
    for end in ends {
        if let Some(part) = folder.get(..end).filter(|part| !part.is_empty())
            && !sftp.exists(part)?
        {
            sftp.make_folder(part)?;
        }
    }
    Ok(())
}

fn write(
    sftp: &mut Sftp,
    path: &str,
    mode: u32,
    next: &mut Next<'_>,
    context: &Context,
) -> Result<u64, Fail> {
    let file = sftp.create(path, mode)?;
    let mut at = 0;
    loop {
        let bytes = next(client::WRITE)?;
        if bytes.is_empty() {
            break;
        }
        context.check_cancelled()?;
        sftp.write(&file, at, &bytes)?;
        at += bytes.len() as u64;
    }
    sftp.settle()?;
    // What is there is looked at before it takes the old file's place.
    let size = sftp.size(&file)?;
    if size != at {
        return Err(Fail::new(format!("{at} bytes were sent and {size} arrived")));
    }
    sftp.permit(&file, mode)?;
    sftp.close(&file)?;
    Ok(at)
}

#[cfg(test)]
mod tests;
