//! Artifacts: files that steps kept, and the bytes that runners brought for them; and files that people gave for options. The
//! bytes are blobs.

use remit_protocol::{
    ArtifactName, AttemptId, Digest, ExecutionId, NodeIndex, ProjectName, Size, StepIndex, Timestamp, digest,
    report::{Artifact, ArtifactForm, StepEnded},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, row};

/// Bytes that are here for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Which attempt may name them.
    pub attempt: AttemptId,
    /// Whose quota they count against.
    pub project: ProjectName,
    /// Which bytes.
    pub bytes: digest::Sized,
    /// When the last of them came.
    pub at: Timestamp,
}

/// An artifact of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptArtifact {
    /// Which step kept it.
    pub step: StepIndex,
    /// On which node.
    pub node: Option<NodeIndex>,
    /// What the step said of it.
    pub artifact: Artifact,
    /// When the step ended.
    pub at: Timestamp,
}

/// The place of an artifact among those of its execution.
pub type ArtifactPlace = (StepIndex, Option<NodeIndex>, ArtifactName);

fn number(node: Option<NodeIndex>) -> i64 {
    node.map_or(-1, |node| i64::from(node.0))
}

fn read(row: &Row<'_>) -> rusqlite::Result<KeptArtifact> {
    let form: String = row.get("form")?;
    let node: i64 = row.get("node")?;
    Ok(KeptArtifact {
        step: StepIndex(row.get("step")?),
        node: u32::try_from(node).ok().map(NodeIndex),
        artifact: Artifact {
            name: row::text(row, "name")?,
            form: if form == "text" { ArtifactForm::Text } else { ArtifactForm::Binary },
            bytes: digest::Sized { digest: row::digest(row, "digest")?, length: row.get("length")? },
        },
        at: row::time(row, "at")?,
    })
}

fn used(db: &Connection, project: &ProjectName) -> Result<u64, StoreError> {
    let sum = db
        .prepare_cached(
            "select coalesce(sum(length), 0) from (
               select digest, length from artifact where project = ?1
               union select digest, length from upload where project = ?1
               union select digest, length from file where project = ?1)",
        )?
        .query_row([project.as_str()], |row| row.get(0))?;
    Ok(sum)
}

impl Store {
    /// From here on a report of the attempt may name these bytes, which are in the blobs. False: they are more than the
    /// project may have.
    pub async fn keep_upload(&self, upload: Upload, quota: Size) -> Result<bool, StoreError> {
        self.db
            .write(move |tx| {
                let present: bool = tx
                    .prepare_cached(
                        "select exists (select 1 from artifact where project = ?1 and digest = ?2)
                             or exists (select 1 from upload where project = ?1 and digest = ?2)",
                    )?
                    .query_row(params![upload.project.as_str(), upload.bytes.digest.as_bytes()], |row| {
                        row.get(0)
                    })?;
                let used = used(tx, &upload.project)?;
                if !present && used.saturating_add(upload.bytes.length) > quota.bytes() {
                    return Ok(false);
                }
                tx.prepare_cached("insert or replace into upload values (?, ?, ?, ?, ?)")?.execute(
                    params![
                        row::key(upload.attempt.to_u128()),
                        upload.bytes.digest.as_bytes(),
                        upload.bytes.length,
                        upload.project.as_str(),
                        upload.at.as_millis()
                    ],
                )?;
                Ok(true)
            })
            .await
    }

    /// From here on options of the project's jobs may name these bytes, which are in the blobs. False: they are more than
    /// the project may have.
    pub async fn keep_file(
        &self,
        project: &ProjectName,
        bytes: digest::Sized,
        at: Timestamp,
        quota: Size,
    ) -> Result<bool, StoreError> {
        let project = project.clone();
        self.db
            .write(move |tx| {
                let known = tx
                    .prepare_cached("update file set at = ? where project = ? and digest = ?")?
                    .execute(params![at.as_millis(), project.as_str(), bytes.digest.as_bytes()])?;
                if known == 0 {
                    if used(tx, &project)?.saturating_add(bytes.length) > quota.bytes() {
                        return Ok(false);
                    }
                    tx.prepare_cached("insert into file values (?, ?, ?, ?)")?.execute(params![
                        project.as_str(),
                        bytes.digest.as_bytes(),
                        bytes.length,
                        at.as_millis()
                    ])?;
                }
                Ok(true)
            })
            .await
    }

    /// True if options of the project's jobs may name these bytes.
    pub async fn has_file(&self, project: &ProjectName, bytes: digest::Sized) -> Result<bool, StoreError> {
        let project = project.clone();
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached("select 1 from file where project = ? and digest = ? and length = ?")?
                    .query_row(params![project.as_str(), bytes.digest.as_bytes(), bytes.length], |_| Ok(()))
                    .optional()?;
                Ok(found.is_some())
            })
            .await
    }

    /// True if a report of the attempt may name these bytes already.
    pub async fn has_upload(&self, attempt: AttemptId, digest: Digest) -> Result<bool, StoreError> {
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached("select 1 from upload where attempt = ? and digest = ?")?
                    .query_row(params![row::key(attempt.to_u128()), digest.as_bytes()], |_| Ok(()))
                    .optional()?;
                Ok(found.is_some())
            })
            .await
    }

    /// How many bytes the artifacts of a project have, with those on their way; what stands in several counts once.
    pub async fn artifact_bytes(&self, project: &ProjectName) -> Result<u64, StoreError> {
        let project = project.clone();
        self.db.read(move |db| used(db, &project)).await
    }

    /// Artifacts of an execution behind the place `after`, by step, node and name; at most `limit`.
    pub async fn artifacts(
        &self,
        id: ExecutionId,
        name: Option<ArtifactName>,
        after: Option<ArtifactPlace>,
        limit: u32,
    ) -> Result<Vec<KeptArtifact>, StoreError> {
        self.db
            .read(move |db| {
                let (step, node, behind) = match &after {
                    Some((step, node, name)) => (i64::from(step.0), number(*node), name.as_str()),
                    None => (-1, -1, ""),
                };
                let mut query = db.prepare_cached(
                    "select * from artifact where execution = ?1 and (step, node, name) > (?2, ?3, ?4)
                       and (?5 is null or name = ?5)
                     order by step, node, name limit ?6",
                )?;
                let name = name.as_ref().map(ArtifactName::as_str);
                let found = query
                    .query_map(params![row::key(id.to_u128()), step, node, behind, name, limit], read)?;
                Ok(found.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// One artifact.
    pub async fn artifact(
        &self,
        id: ExecutionId,
        (step, node, name): ArtifactPlace,
    ) -> Result<Option<KeptArtifact>, StoreError> {
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached(
                        "select * from artifact where execution = ? and step = ? and node = ? and name = ?",
                    )?
                    .query_row(params![row::key(id.to_u128()), step.0, number(node), name.as_str()], read);
                Ok(found.optional()?)
            })
            .await
    }

    /// Forgets the artifacts of a project that were kept before `before`, files that were last given before then, and what
    /// was brought for attempts that have ended since; gives the number of artifacts.
    pub async fn forget_artifacts(
        &self,
        project: &ProjectName,
        before: Timestamp,
    ) -> Result<u64, StoreError> {
        let project = project.clone();
        self.db
            .write(move |tx| {
                let gone = tx
                    .prepare_cached("delete from artifact where project = ? and at < ?")?
                    .execute(params![project.as_str(), before.as_millis()])?;
                tx.prepare_cached("delete from file where project = ? and at < ?")?
                    .execute(params![project.as_str(), before.as_millis()])?;
                // No report of an attempt that ended counts any more.
                tx.prepare_cached(
                    "delete from upload where project = ? and not exists
                       (select 1 from attempt where id = upload.attempt and ended is null)",
                )?
                .execute([project.as_str()])?;
                Ok(gone as u64)
            })
            .await
    }
}

/// The artifacts of a step that ended take the place of those of an earlier attempt. What the attempt did not bring is not
/// taken: who names the digest of bytes that others brought does not come to them.
pub(super) fn take(
    tx: &Connection,
    id: ExecutionId,
    attempt: Option<AttemptId>,
    ended: &StepEnded,
) -> Result<(), StoreError> {
    let (id, node) = (row::key(id.to_u128()), number(ended.node));
    tx.prepare_cached("delete from artifact where execution = ? and step = ? and node = ?")?
        .execute(params![id, ended.step.0, node])?;
    let Some(attempt) = attempt else { return Ok(()) };
    for artifact in &ended.artifacts {
        let form = match artifact.form {
            ArtifactForm::Text => "text",
            ArtifactForm::Binary => "binary",
        };
        let taken = tx
            .prepare_cached(
                "insert or replace into artifact
                 select ?1, ?2, ?3, ?4, ?5, digest, length, project, ?6 from upload
                 where attempt = ?7 and digest = ?8 and length = ?9",
            )?
            .execute(params![
                id,
                ended.step.0,
                node,
                artifact.name.as_str(),
                form,
                ended.ended.as_millis(),
                row::key(attempt.to_u128()),
                artifact.bytes.digest.as_bytes(),
                artifact.bytes.length
            ])?;
        if taken == 0 {
            tracing::warn!(%attempt, name = %artifact.name, "an artifact whose bytes were not brought is not kept");
        }
    }
    Ok(())
}
