//! The transparency log as its readers see it.

use remit_signing::log::{Checkpoint, leaf_hash, tile, verify_consistency, verify_proof};

use super::*;

impl Service {
    async fn file(&self, path: &str) -> (StatusCode, axum::http::HeaderMap, Bytes) {
        let request = Request::builder().uri(path).header("authorization", format!("Bearer {}", self.admin));
        self.raw(request.body(Body::empty()).unwrap()).await
    }

    async fn head(&self) -> Checkpoint {
        let (status, headers, bytes) = self.file(path::LOG_CHECKPOINT).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(headers["cache-control"], "private, no-cache");
        Checkpoint::verify(&bytes, &[key("remit.example/log").vkey()]).unwrap()
    }
}

#[tokio::test]
async fn what_is_published_is_in_the_log() {
    let service = Service::new().await;
    let empty = service.head().await;
    assert_eq!((empty.origin(), empty.size(), empty.root()), ("remit.example/log", 0, Digest::of(b"")));
    service.publish().await;
    let shown = service.admin("GET", "/api/v1/components/acme/hello/1.0.0", Value::Null).await;
    let note = shown["note"].as_str().unwrap();
    let head = service.head().await;
    assert_eq!((head.size(), head.root()), (1, leaf_hash(note.as_bytes())));

    let (status, headers, hashes) = service.file("/log/tile/0/000.p/1").await;
    assert_eq!((status, &hashes[..]), (StatusCode::OK, &leaf_hash(note.as_bytes()).as_bytes()[..]));
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["cache-control"], "private, max-age=31536000, immutable");
    let (_, _, bundle) = service.file("/log/tile/entries/000.p/1").await;
    assert_eq!(tile::leaves(&bundle, 1).unwrap(), [(leaf_hash(note.as_bytes()), note.as_bytes())]);

    let leaf = leaf_hash(note.as_bytes());
    let proof = service.admin("GET", &format!("/api/v1/log/proof/{leaf}"), Value::Null).await;
    let logs = [key("remit.example/log").vkey()];
    let proven = verify_proof(proof["proof"].as_str().unwrap().as_bytes(), note.as_bytes(), &logs).unwrap();
    assert_eq!((proven.index, proven.checkpoint.size()), (0, 1));
    // The same bytes once more are no new leaf.
    service.publish().await;
    assert_eq!(service.head().await, head);
}

#[tokio::test]
async fn a_log_has_no_other_files() {
    let service = Service::furnished().await;
    assert_eq!(service.head().await.size(), 1);
    for path in [
        "/log/tile/0/000",
        "/log/tile/0/000.p/2",
        "/log/tile/1/000.p/1",
        "/log/tile/0/001.p/1",
        "/log/tile/entries/000",
        "/log/tile/0/0.p/1",
        "/log/tile/0/../../checkpoint",
        "/log/tile/x",
    ] {
        assert_eq!(service.file(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let stranger = leaf_hash(b"never logged");
    let (status, _, _) = service.file(&format!("/api/v1/log/proof/{stranger}")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

/// A store from before there was a log, and one whose log key was replaced.
#[tokio::test]
async fn what_was_served_before_is_appended_and_a_new_key_signs_the_head_anew() {
    let service = Service::furnished().await;
    let old = service.head().await;
    let note = b"remit/unknown/v1\nname x\n";
    let place = service.app.registry.log().append(note).await.unwrap();
    assert_eq!(place, 1);
    let newer = service.head().await;
    let hashes = service.app.registry.log().consistency(1, 2).await.unwrap().unwrap();
    assert!(verify_consistency(1, 2, &hashes, &old.root(), &newer.root()));
    let log = Log::open(Arc::clone(&service.app.store), key("other.example/log")).await.unwrap();
    let again = Checkpoint::verify(log.checkpoint().await.unwrap().as_bytes(), &[log.key()]).unwrap();
    assert_eq!((again.size(), again.root()), (newer.size(), newer.root()));
}
