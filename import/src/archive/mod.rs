//! Project archives: a zip of jobs, policies and settings.
//!
//! Entries are found by what their names end in and read within limits; nothing is ever unpacked to a place that an entry
//! names. Values of settings are never told: they may be secrets.

mod properties;

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
};

use serde::Serialize;
use serde_json::{Map, Value};
use zip::ZipArchive;

use crate::{
    access::{Access, access},
    file::{self, Format, InvalidFile, MAX_FILE},
    job::{Imported, Kind, Notice},
};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes that are read of an archive, unpacked.
const MAX_READ: usize = 512 << 20;

/// Why an archive cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArchive {
    /// It is not a zip file, or is damaged.
    #[error("this is not a project archive: {0}")]
    Zip(String),
    /// It is larger than what is read.
    #[error("{0}")]
    TooLarge(String),
    /// One of its files cannot be read.
    #[error("{0}: {1}")]
    File(String, InvalidFile),
}

/// A node source as `remit nodes source apply` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// The file's text.
    #[serde(skip)]
    pub text: String,
}

/// What an archive holds.
#[derive(Debug, Serialize)]
pub struct Archive {
    /// The project's name there.
    pub project: String,
    /// Its jobs.
    pub jobs: Vec<Imported>,
    /// Its policies as roles.
    pub access: Access,
    /// Its node sources, in their order, as far as there is a counterpart.
    pub sources: Vec<Source>,
    /// What people read about the project.
    #[serde(skip)]
    pub readme: Option<String>,
    /// What is not kept.
    pub notices: Vec<Notice>,
}

/// What is of interest in an archive, as text.
#[derive(Default)]
struct Contents {
    project: String,
    jobs: Vec<(String, Format, String)>,
    policies: Vec<(String, String)>,
    readme: Option<String>,
    properties: BTreeMap<String, String>,
    /// How many entries there are of each kind that is not read.
    others: BTreeMap<&'static str, usize>,
}

/// Reads an archive. `key` is the path of the secret with which steps reach nodes over SSH.
pub fn archive(file: impl Read + Seek, key: &str) -> Result<Archive, InvalidArchive> {
    let contents = contents(file)?;
    let mut entries: Vec<Map<String, Value>> = Vec::new();
    for (name, format, text) in &contents.jobs {
        let found = file::entries(text, *format).map_err(|why| InvalidArchive::File(name.clone(), why))?;
        entries.extend(found);
    }
    let mut policies = Access { roles: Vec::new(), notices: Vec::new() };
    for (name, text) in &contents.policies {
        let found =
            access(text, Some(&contents.project)).map_err(|why| InvalidArchive::File(name.clone(), why))?;
        let short = name.rsplit('/').next().unwrap_or_default();
        policies.roles.extend(found.roles);
        policies.notices.extend(
            found
                .notices
                .into_iter()
                .map(|notice| Notice { place: format!("{short}, {}", notice.place), ..notice }),
        );
    }
    let mut notices = Vec::new();
    let sources = properties::sources(&contents.properties, &mut notices);
    properties::settings(&contents.properties, &mut notices);
    for (what, number) in contents.others {
        notices.push(Notice {
            kind: Kind::Lost,
            place: what.to_owned(),
            message: format!("{number} of them: not imported"),
        });
    }
    let jobs = file::import(&entries, key);
    Ok(Archive {
        project: contents.project,
        jobs,
        access: policies,
        sources,
        readme: contents.readme,
        notices,
    })
}

fn contents(file: impl Read + Seek) -> Result<Contents, InvalidArchive> {
    let bad = |error: zip::result::ZipError| InvalidArchive::Zip(error.to_string());
    let mut zip = ZipArchive::new(file).map_err(bad)?;
    if zip.len() > MAX_ENTRIES {
        let message = format!("{} entries, at most {MAX_ENTRIES} are looked at", zip.len());
        return Err(InvalidArchive::TooLarge(message));
    }
    let mut contents = Contents::default();
    let mut left = MAX_READ;
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).map_err(bad)?;
        if entry.is_dir() {
            continue;
        }
        let name = entry.name().map_err(bad)?.into_owned();
        let what = What::of(&name);
        if let What::Other(kind) = what {
            *contents.others.entry(kind).or_default() += 1;
            continue;
        }
        if matches!(what, What::Unknown) {
            continue;
        }
        let text = read(&mut entry, &name, &mut left)?;
        match what {
            What::Manifest => contents.project = project_of(&text),
            What::Job(format) => contents.jobs.push((name, format, text)),
            What::Policy => contents.policies.push((name, text)),
            What::Readme => contents.readme = Some(text),
            What::Properties => contents.properties = properties::read(&text),
            What::Other(_) | What::Unknown => {}
        }
    }
    if contents.project.is_empty() {
        let message = "it has no META-INF/MANIFEST.MF that names a project of Rundeck";
        return Err(InvalidArchive::Zip(message.to_owned()));
    }
    // An archive's order is that of nothing in particular.
    contents.jobs.sort_by(|a, b| a.0.cmp(&b.0));
    contents.policies.sort();
    Ok(contents)
}

/// An entry's text, if it is not too large: what its header says counts for nothing.
fn read(entry: &mut impl Read, name: &str, left: &mut usize) -> Result<String, InvalidArchive> {
    let most = MAX_FILE.min(*left);
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    entry
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| InvalidArchive::Zip(format!("{name}: {error}")))?;
    if bytes.len() > most {
        let message =
            format!("{name}: at most {MAX_FILE} bytes of one file and {MAX_READ} of all are read, unpacked");
        return Err(InvalidArchive::TooLarge(message));
    }
    *left -= bytes.len();
    String::from_utf8(bytes).map_err(|_| InvalidArchive::Zip(format!("{name} is not UTF-8 text")))
}

/// What an entry is.
enum What {
    Manifest,
    Job(Format),
    Policy,
    Readme,
    Properties,
    /// It is known, and not read.
    Other(&'static str),
    Unknown,
}

impl What {
    fn of(name: &str) -> Self {
        let inside = |folder: &str| name.contains(&format!("/{folder}/"));
        match name {
            "META-INF/MANIFEST.MF" => Self::Manifest,
            _ if inside("jobs") && name.ends_with(".xml") => Self::Job(Format::Xml),
            _ if inside("jobs") && (name.ends_with(".yaml") || name.ends_with(".yml")) => {
                Self::Job(Format::Yaml)
            }
            _ if inside("jobs") && name.ends_with(".json") => Self::Job(Format::Json),
            _ if name.ends_with(".aclpolicy") => Self::Policy,
            _ if name.ends_with("/files/readme.md") => Self::Readme,
            _ if name.ends_with("/files/etc/project.properties") => Self::Properties,
            _ if inside("executions") => Self::Other("executions and their logs"),
            _ if inside("reports") => Self::Other("reports"),
            _ if inside("webhooks") => Self::Other("webhooks"),
            _ if inside("scm") => Self::Other("settings of version control"),
            _ if name.ends_with("/files/motd.md") => Self::Other("messages of the day"),
            _ => Self::Unknown,
        }
    }
}

fn project_of(manifest: &str) -> String {
    let line = manifest.lines().find_map(|line| line.strip_prefix("Rundeck-Archive-Project-Name:"));
    line.map(str::trim).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    const MANIFEST: (&str, &str) =
        ("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nRundeck-Archive-Project-Name: demo\r\n");

    fn zipped(files: &[(&str, &str)]) -> Cursor<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap()
    }

    const JOB: &str = "<joblist><job><name>one</name><sequence><command><exec>uptime</exec></command></sequence></job></joblist>";

    #[test]
    fn an_archive_gives_jobs_roles_sources_and_a_report() {
        let properties = "project.description=Our demo\nresources.source.1.type=file\n\
                          resources.source.1.config.file=/etc/nodes.yaml\nresources.source.2.type=aws-ec2\n\
                          resources.source.2.config.secretKey=hunter2\nproject.ssh-keypath=/etc/rundeck/key\nproject.globals.site=eu\n";
        let files = [
            MANIFEST,
            ("rundeck-demo/jobs/job-2.xml", JOB),
            ("rundeck-demo/jobs/job-1.yaml", "- {name: one, sequence: {commands: [{exec: x}]}}"),
            (
                "rundeck-demo/files/acls/ops.aclpolicy",
                "for: {job: [{allow: read}], node: [{allow: read}]}\nby: {group: ops}",
            ),
            ("rundeck-demo/files/readme.md", "# Demo"),
            ("rundeck-demo/files/etc/project.properties", properties),
            ("rundeck-demo/executions/execution-1.xml", "<executions/>"),
            ("rundeck-demo/executions/output-1.rdlog", "log"),
            ("../../etc/passwd", "root"),
        ];
        let found = archive(zipped(&files), "keys/k").unwrap();
        assert_eq!((found.project.as_str(), found.readme.as_deref()), ("demo", Some("# Demo")));
        assert_eq!(found.jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["one", "one_2"]);
        assert_eq!(found.access.roles.len(), 1);
        assert_eq!(found.sources.len(), 1);
        assert!(found.sources[0].text.contains("remit/file-nodes@1"), "{}", found.sources[0].text);
        let told: Vec<_> = found.notices.iter().map(|notice| notice.place.as_str()).collect();
        for place in [
            "resources.source.1",
            "resources.source.2",
            "project.ssh-keypath",
            "project.globals.site",
            "executions and their logs",
        ] {
            assert!(told.contains(&place), "{place}: {told:?}");
        }
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn hostile_archives_are_refused() {
        fn check(file: Cursor<Vec<u8>>, part: &str) {
            let error = archive(file, "keys/k").expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        }
        check(Cursor::new(b"PK\x03\x04 and nothing more".to_vec()), "not a project archive");
        check(zipped(&[("a", "b")]), "names a project");
        let entity = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><joblist>&x;</joblist>";
        check(zipped(&[MANIFEST, ("rundeck-demo/jobs/job-1.xml", entity)]), "DOCTYPE");
        check(zipped(&[MANIFEST, ("rundeck-demo/jobs/job-1.xml", &" ".repeat(MAX_FILE + 1))]), "at most");
    }
}
