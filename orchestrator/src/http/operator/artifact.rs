//! Artifacts of executions: listed and downloaded.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use remit_protocol::{
    ArtifactName, ExecutionId, NodeIndex, StepIndex,
    operator::{ArtifactQuery, ArtifactView, ArtifactsQuery, Page, path},
};
use tokio_util::io::ReaderStream;

use super::execution::Known;
use crate::{
    http::{
        App,
        error::Failure,
        extract::{Asked, Json, Place},
    },
    store::{ArtifactPlace, KeptArtifact},
};

/// The files that the steps of an execution kept, by step, node and name.
#[utoipa::path(get, path = path::EXECUTION_ARTIFACTS, tag = "artifacts",
    params(("execution" = ExecutionId, Path), ArtifactsQuery), responses((status = 200, body = Page<ArtifactView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Place(id): Place<ExecutionId>,
    Asked(asked): Asked<ArtifactsQuery>,
) -> Result<Json<Page<ArtifactView>>, Failure> {
    let known = Known::read(&app, id).await?;
    let limit = asked.entries();
    let after = asked.after.as_deref().map(place).transpose()?;
    let found = app.store.artifacts(id, asked.name, after, limit).await?;
    let full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = found.last().filter(|_| full).map(|last| {
        let node = last.node.map(|node| node.0.to_string()).unwrap_or_default();
        format!("{}/{node}/{}", last.step.0, last.artifact.name)
    });
    Ok(Json(Page { items: found.into_iter().filter_map(|one| view(&known, one)).collect(), next }))
}

/// The place that `next` of a page names.
fn place(text: &str) -> Result<ArtifactPlace, Failure> {
    let read = || {
        let (step, rest) = text.split_once('/')?;
        let (node, name) = rest.split_once('/')?;
        let node = if node.is_empty() { None } else { Some(NodeIndex(node.parse().ok()?)) };
        Some((StepIndex(step.parse().ok()?), node, name.parse().ok()?))
    };
    read().ok_or_else(|| Failure::invalid("`after` is not the `next` of a page.", ""))
}

fn view(known: &Known, kept: KeptArtifact) -> Option<ArtifactView> {
    let KeptArtifact { step, node, artifact, at } = kept;
    let named = |node: NodeIndex| {
        let set = known.nodes.as_ref()?;
        Some(set.nodes.get(usize::try_from(node.0).ok()?)?.name.clone())
    };
    Some(ArtifactView {
        name: artifact.name,
        step,
        step_name: known.step(step)?.name.clone(),
        node,
        node_name: node.and_then(named),
        form: artifact.form,
        digest: artifact.bytes.digest,
        length: artifact.bytes.length,
        kept: at,
    })
}

/// The bytes of an artifact. They are a step's: whatever they look like, no browser is to show them as a page of ours.
#[utoipa::path(get, path = path::EXECUTION_ARTIFACT, tag = "artifacts",
    params(("execution" = ExecutionId, Path), ("step" = StepIndex, Path), ("artifact" = ArtifactName, Path), ArtifactQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn bytes(
    State(app): State<App>,
    Place((id, step, name)): Place<(ExecutionId, StepIndex, ArtifactName)>,
    Asked(asked): Asked<ArtifactQuery>,
) -> Result<Response, Failure> {
    let found = app.store.artifact(id, (step, asked.node, name.clone())).await?;
    let found = found.ok_or_else(|| Failure::not_found("artifact", &name))?;
    let opened = app.store.blobs().open_file(found.artifact.bytes.digest).await.map_err(Failure::blob)?;
    let (file, length) = opened.ok_or_else(|| Failure::not_found("artifact", &name))?;
    let attached = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::CONTENT_DISPOSITION, attached.map_err(Failure::internal)?),
        (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
    ];
    let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_part_begins_behind_a_place() {
        fn check(text: &str, expect: Option<(u32, Option<u32>, &str)>) {
            let found = place(text)
                .ok()
                .map(|(step, node, name)| (step.0, node.map(|node| node.0), name.to_string()));
            assert_eq!(found, expect.map(|(step, node, name)| (step, node, name.to_owned())), "{text}");
        }
        check("0//report.csv", Some((0, None, "report.csv")));
        check("3/17/a", Some((3, Some(17), "a")));
        for bad in ["", "0", "0/", "0//", "x//a", "0/x/a", "0//../a", "-1//a"] {
            check(bad, None);
        }
    }
}
