//! What is run: notes, manifests and bytes of components.

use remit_protocol::digest::Sized;
use serde_json::{Value, json};

use super::{
    Expect::{Fault, Refused},
    PURE, Row, pure,
};
use crate::{
    orchestrator::digest,
    work::{Release, Work, job_note},
};

/// A pure step whose release is changed before it is signed.
fn release(number: u32, change: impl FnOnce(&mut Release)) -> Work {
    let mut release = Release::of("transform", number);
    change(&mut release);
    Work::new(number, &release, PURE)
}

/// A pure step whose bundle is changed after it was signed.
fn bundle(number: u32, change: impl FnOnce(&mut Value)) -> Work {
    let mut work = pure(number);
    change(&mut work.bundle);
    work
}

/// A release whose sections are in order, and whose code is not: only compiling it shows that.
fn invalid_code(number: u32) -> Work {
    let Release { manifest, mut wasm, .. } = Release::of("transform", number);
    let code = {
        let all = remit_signing::sections::sections(&wasm).unwrap();
        let code =
            all.iter().filter(|section| section.name == "code").max_by_key(|section| section.bytes.len());
        code.unwrap().bytes.to_vec()
    };
    let begin = wasm.windows(code.len()).position(|part| part == code).unwrap();
    // 0x06 begins no instruction of a kind that the runner's engine takes.
    let middle = begin + code.len() / 2;
    wasm[middle..middle + 16].fill(0x06);
    Work::new(number, &Release::new(manifest, wasm), PURE)
}

/// A release that imports something of `remit:step` that there is not.
fn newer_interface(number: u32) -> Work {
    let Release { manifest, mut wasm, .. } = Release::of("wait", number);
    let (old, new) = ("remit:step/log@0.1.0", "remit:step/lag@0.1.0");
    for at in 0..wasm.len() - old.len() {
        if wasm[at..].starts_with(old.as_bytes()) {
            wasm[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
    }
    let text = String::from_utf8(manifest).unwrap();
    assert!(text.contains(old));
    Work::new(number, &Release::new(text.replace(old, new).into_bytes(), wasm), "    with: { for: 1s }\n")
}

pub(crate) const ROWS: &[Row] = &[
    (
        "a note by a key that nobody trusts",
        |n| {
            let release = Release::of("transform", n);
            let mut work = pure(n);
            work.bundle["note"] = release.note("attacker/key").into();
            work
        },
        Refused("E_THRESHOLD"),
    ),
    (
        "a component note by an author's key",
        |n| {
            let release = Release::of("transform", n);
            let mut work = pure(n);
            work.bundle["note"] = release.note("acme.example/author").into();
            work
        },
        Refused("E_SCOPE"),
    ),
    (
        "a note that was altered",
        |n| {
            bundle(n, |bundle| {
                let note = bundle["note"].as_str().unwrap();
                bundle["note"] = note.replacen("expires 20", "expires 21", 1).into();
            })
        },
        Refused("E_SYNTAX"),
    ),
    (
        "a note for another length",
        |n| {
            bundle(n, |bundle| {
                let note = bundle["note"].as_str().unwrap().to_owned();
                let length = bundle["length"].as_u64().unwrap();
                bundle["note"] =
                    note.replacen(&format!(" {length}\n"), &format!(" {}\n", length + 1), 1).into();
            })
        },
        Refused("E_SIG"),
    ),
    ("no note", |n| bundle(n, |bundle| bundle["note"] = "".into()), Refused("E_SYNTAX")),
    (
        "a second note behind the first",
        |n| {
            bundle(n, |bundle| {
                let note = bundle["note"].as_str().unwrap();
                bundle["note"] = format!("{note}\n{note}").into();
            })
        },
        Refused("E_SYNTAX"),
    ),
    (
        "a form feed in a note",
        |n| {
            bundle(n, |bundle| {
                bundle["note"] = bundle["note"].as_str().unwrap().replacen('\n', "\u{c}\n", 1).into();
            })
        },
        Refused("E_SYNTAX"),
    ),
    (
        "a homoglyph in a name",
        |n| {
            bundle(n, |bundle| {
                bundle["note"] = bundle["note"].as_str().unwrap().replacen("acme/one", "аcme/one", 1).into();
            })
        },
        Refused("E_SYNTAX"),
    ),
    (
        "a job note in the place of a component note",
        |n| {
            let mut work = pure(n);
            work.bundle["note"] = job_note(&work.document, "acme.example/release", 1, "hostile").into();
            work
        },
        Refused("E_SYNTAX"),
    ),
    (
        "other bytes than were signed",
        |n| {
            let mut work = pure(n);
            let release = Release::of("transform", n);
            let mut wasm = release.wasm.clone();
            *wasm.last_mut().unwrap() ^= 1;
            work.blobs.insert(digest(&release.wasm), wasm);
            work
        },
        Refused("E_DIGEST"),
    ),
    (
        "fewer bytes than were signed",
        |n| {
            let mut work = pure(n);
            let release = Release::of("transform", n);
            work.blobs.insert(digest(&release.wasm), release.wasm[..1000].to_vec());
            work
        },
        Refused("E_LENGTH"),
    ),
    (
        "another manifest of the same length",
        |n| {
            bundle(n, |bundle| {
                let manifest = bundle["manifest"].as_str().unwrap();
                bundle["manifest"] = manifest.replacen("Builds", "Breaks", 1).into();
            })
        },
        Refused("E_DIGEST"),
    ),
    (
        "a longer manifest",
        |n| {
            bundle(n, |bundle| {
                bundle["manifest"] = format!("{}\n", bundle["manifest"].as_str().unwrap()).into();
            })
        },
        Refused("E_LENGTH"),
    ),
    (
        "another release than the job pins",
        |n| {
            let other = Release::of("wait", n);
            let mut work = pure(n);
            work.bundle["note"] = other.note("acme.example/release").into();
            work.bundle["manifest"] = String::from_utf8(other.manifest).unwrap().into();
            work
        },
        Refused("E_DIGEST"),
    ),
    ("a release below the least", |_| Work::new(3, &Release::of("transform", 3), PURE), Refused("E_MINIMUM")),
    (
        "a release that has expired",
        |n| {
            release(n, |release| {
                release.says.expires = release.says.not_before.plus(std::time::Duration::from_secs(1));
            })
        },
        Refused("E_WINDOW"),
    ),
    (
        "a release that is not valid yet",
        |n| {
            release(n, |release| {
                release.says.not_before = release.says.not_before.plus(std::time::Duration::from_secs(3600));
            })
        },
        Refused("E_WINDOW"),
    ),
    (
        "a core module",
        |n| {
            let manifest = Release::of("transform", n).manifest;
            Work::new(n, &Release::new(manifest, b"\0asm\x01\0\0\0".to_vec()), PURE)
        },
        Refused("E_KIND"),
    ),
    (
        "text in the place of wasm",
        |n| {
            let manifest = Release::of("transform", n).manifest;
            Work::new(n, &Release::new(manifest, b"(component)".to_vec()), PURE)
        },
        Refused("E_KIND"),
    ),
    (
        "an import that the manifest hides",
        |n| {
            let manifest = Release::of("transform", n).manifest;
            Work::new(n, &Release::new(manifest, Release::of("http-request", n).wasm), PURE)
        },
        Refused("E_IMPORTS"),
    ),
    ("code that is not valid", invalid_code, Refused("E_COMPILE")),
    ("an interface that this runner does not have", newer_interface, Refused("E_UNSUPPORTED")),
    (
        "a node source that calls itself a step",
        |n| {
            let source = Release::of("file-nodes", n);
            let mut manifest: Value = serde_json::from_slice(&source.manifest).unwrap();
            manifest["kind"] = "step".into();
            manifest["output"] = json!({});
            let release = Release::new(manifest.to_string().into_bytes(), source.wasm);
            Work::new(
                n,
                &release,
                "    with: { file: inventory }\n    grant: { files: [{ name: inventory }] }\n",
            )
        },
        Refused("E_WORLD"),
    ),
    (
        "a manifest of another version than the note's",
        |n| {
            let mut release = Release::of("transform", n);
            let mut work = Work::new(n, &release, PURE);
            let mut manifest: Value = serde_json::from_slice(&release.manifest).unwrap();
            manifest["version"] = "1.9.9".into();
            release.manifest = manifest.to_string().into_bytes();
            release.says.manifest = Sized::of(&release.manifest);
            work.bundle["manifest"] = manifest.to_string().into();
            work.bundle["note"] = release.note("acme.example/release").into();
            work
        },
        Refused("E_MANIFEST"),
    ),
    (
        "a manifest with a key twice",
        |n| {
            let mut release = Release::of("transform", n);
            let mut work = Work::new(n, &release, PURE);
            let text = String::from_utf8(release.manifest.clone()).unwrap().replacen(
                "\"v\":1",
                "\"v\":1,\"v\":1",
                1,
            );
            release.manifest = text.clone().into_bytes();
            release.says.manifest = Sized::of(&release.manifest);
            work.bundle["manifest"] = text.into();
            work.bundle["note"] = release.note("acme.example/release").into();
            work
        },
        Refused("E_SYNTAX"),
    ),
    (
        "a namespace that nobody may sign",
        |n| {
            let mut manifest: Value = serde_json::from_slice(&Release::of("transform", n).manifest).unwrap();
            manifest["name"] = "evil/one".into();
            let release = Release::new(manifest.to_string().into_bytes(), Release::of("transform", n).wasm);
            Work::new(n, &release, PURE)
        },
        Refused("E_SCOPE"),
    ),
    (
        "a component that is not there",
        |n| {
            let mut work = pure(n);
            work.place = "acme/none/1.0.0".to_owned();
            work
        },
        Fault,
    ),
];
