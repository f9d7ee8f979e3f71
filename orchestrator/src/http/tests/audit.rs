//! The record of who did what: every line is linked, its end is signed, and the end goes into the transparency log.

use remit_signing::trail::{self, Head, TrailNote};

use super::*;

async fn lines(service: &Service) -> Vec<String> {
    let (mut lines, mut after) = (Vec::new(), 0);
    loop {
        let part = service.admin("GET", &format!("{}?after={after}", path::AUDIT_LINES), Value::Null).await;
        let Some(last) = part["last"].as_u64() else { return lines };
        after = last;
        lines.extend(part["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()));
    }
}

#[tokio::test]
async fn who_did_what_is_a_trail_that_its_key_signs() {
    let service = Service::furnished().await;
    let view = service.admin("GET", path::AUDIT, Value::Null).await;
    assert_eq!(view["keeper"], "orchestrator/remit.example");
    let key = key("remit.example/audit");
    assert_eq!(view["key"], key.vkey().to_string());
    let note = view["head"].as_str().unwrap();
    let says = TrailNote::verify(note.as_bytes(), &key.public()).unwrap();
    let lines = lines(&service).await;
    let mut kinds = Vec::new();
    let linked = trail::verify_to(lines.iter().map(String::as_bytes), says.head, |entry| {
        kinds.push(entry.kind().to_owned());
    });
    let linked = linked.unwrap().unwrap();
    assert_eq!((linked.before, linked.head), (Head::origin(), says.head));
    for kind in ["project.create", "component.publish", "job.save"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} is not in {kinds:?}");
    }
    assert!(lines.iter().all(|line| line.contains("\"who\":")), "{lines:?}");

    let (trail, log) = (&service.app.trail, service.app.registry.log());
    trail.log(log, service.hands.now()).await.unwrap();
    assert!(log.proof(note.as_bytes()).await.unwrap().is_some());
    let size = service.app.store.log_head().await.unwrap().unwrap().size;
    service.hands.advance(Duration::from_secs(60));
    trail.log(log, service.hands.now()).await.unwrap();
    assert_eq!(service.app.store.log_head().await.unwrap().unwrap().size, size);
}
