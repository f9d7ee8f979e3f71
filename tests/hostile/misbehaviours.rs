//! What an attacker does who owns the orchestrator, one row each, and what has to come of it.

use remit_protocol::{
    digest::Sized,
    endpoint::{BLOBS, COMPONENTS},
};
use serde_json::{Value, json};

use super::{
    orchestrator::{Twist, digest},
    work::{Release, Work, id, job_note},
};

/// What has to come of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Expect {
    /// The runner refuses with this code, and no sandbox was made.
    Refused(&'static str),
    /// It cannot have what it needs, and says so; no sandbox was made.
    Fault,
    /// It takes no notice, and goes on asking.
    Silence,
    /// It does the work: it is honest, or it is once the runner has broken off and asked again.
    Succeeds,
}

/// One misbehaviour.
pub(crate) type Row = (&'static str, fn(u32) -> Work, Expect);

use Expect::{Fault, Refused, Silence, Succeeds};

/// A pure step that succeeds.
const PURE: &str = "    with: { value: 1 }\n";

fn pure(number: u32) -> Work {
    Work::new(number, &Release::of("transform", number), PURE)
}

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

fn assignment(number: u32, change: impl FnOnce(&mut Value)) -> Work {
    let mut work = pure(number);
    change(&mut work.assignment);
    work
}

fn document(number: u32, change: impl FnOnce(&mut Value)) -> Work {
    let mut work = pure(number);
    work.redocument(change);
    work
}

/// Another text of the document, rightly named by its digest.
fn document_text(number: u32, old: &str, new: &str) -> Work {
    let mut work = pure(number);
    let text = String::from_utf8(work.document.clone()).unwrap();
    assert!(text.contains(old), "{text}");
    let bytes = text.replacen(old, new, 1).into_bytes();
    work.assignment["document"] = serde_json::to_value(Sized::of(&bytes)).unwrap();
    work.blobs.insert(digest(&bytes), bytes);
    work
}

fn poll(number: u32, twist: Twist) -> Work {
    let mut work = pure(number);
    work.twist = twist;
    work
}

fn answer(number: u32, path: &'static str, twist: Twist) -> Work {
    let mut work = pure(number);
    work.answers.push((path, twist));
    work
}

/// A call to `host` with this grant and these secrets.
fn call(number: u32, host: &str, grant: &str, secrets: &str) -> Work {
    let step =
        format!("    with: {{ url: \"https://{host}/\" }}\n    grant: {{ http: [{grant}] }}\n{secrets}");
    Work::new(number, &Release::of("http-request", number), &step)
}

/// A pure step over three nodes.
fn nodes(number: u32, change: impl FnOnce(&mut Work, &mut Value)) -> Work {
    let mut work =
        Work::new(number, &Release::of("transform", number), "    per: node\n    with: { value: 1 }\n");
    let mut set = json!({ "nodes": [{ "name": "a" }, { "name": "b" }, { "name": "c" }] });
    work.assignment["nodes"] = json!({
        "set": null, "ranges": [[0, 3]], "threads": 1, "keep_going": false, "strategy": "node-first",
    });
    change(&mut work, &mut set);
    let bytes = set.to_string().into_bytes();
    if work.assignment["nodes"]["set"].is_null() {
        work.assignment["nodes"]["set"] = serde_json::to_value(Sized::of(&bytes)).unwrap();
    }
    work.blobs.insert(digest(&bytes), bytes);
    work
}

/// The name of so many bytes that nobody has.
fn sized(length: u64) -> Value {
    serde_json::to_value(Sized { digest: remit_protocol::Digest::of(b"none"), length }).unwrap()
}

fn signed(number: u32, by: &str, version: u64) -> Work {
    let mut work = pure(number);
    work.sign(by, version);
    work
}

const TOKEN: &str = "secret: { name: token, use: bearer }";

/// Against a runner that wants no signed jobs.
pub(crate) const OPEN: &[Row] = &[
    ("honest work", pure, Succeeds),
    // What is run.
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
    // What it is told to do with it.
    (
        "other bytes than the document's digest",
        |n| {
            let mut work = pure(n);
            let named = digest(&work.document);
            let mut other = work.document.clone();
            *other.last_mut().unwrap() = b' ';
            work.blobs.insert(named, other);
            work
        },
        Refused("E_JOB"),
    ),
    (
        "a document of another project",
        |n| document(n, |document| document["project"] = "other".into()),
        Refused("E_JOB"),
    ),
    (
        "a document of another job",
        |n| document(n, |document| document["job"] = "other".into()),
        Refused("E_JOB"),
    ),
    (
        "a document with a field that nobody knows",
        |n| document(n, |document| document["sudo"] = true.into()),
        Refused("E_JOB"),
    ),
    (
        "a document with a key twice",
        |n| document_text(n, "\"job\":\"hostile\"", "\"job\":\"hostile\",\"job\":\"hostile\""),
        Refused("E_JOB"),
    ),
    (
        "a document with a number of 23 digits",
        |n| document_text(n, "{\"value\":1}", "{\"value\":12345678901234567890123}"),
        Refused("E_JOB"),
    ),
    ("a document with a byte order mark", |n| document_text(n, "{", "\u{feff}{"), Refused("E_JOB")),
    (
        "a document that is too large",
        |n| assignment(n, |assignment| assignment["document"] = sized(99_999_999)),
        Refused("E_JOB"),
    ),
    (
        "a section behind the document's end",
        |n| assignment(n, |assignment| assignment["first_step"] = 5.into()),
        Refused("E_JOB"),
    ),
    (
        "a section of more steps than there are",
        |n| assignment(n, |assignment| assignment["steps"] = 2.into()),
        Refused("E_JOB"),
    ),
    (
        "a section of no step",
        |n| assignment(n, |assignment| assignment["steps"] = 0.into()),
        Refused("E_JOB"),
    ),
    (
        "a retry class below the component's",
        |n| {
            let mut work =
                call(n, "localhost", "{ host: localhost, port: 1, methods: [POST], paths: [/] }", "");
            work.redocument(|document| document["steps"][0]["action"]["component"]["effect"] = "pure".into());
            work
        },
        Refused("E_JOB"),
    ),
    (
        "limits above the component's",
        |n| {
            document(n, |document| {
                document["steps"][0]["action"]["component"]["limits"]["memory"] = "512MiB".into();
            })
        },
        Refused("E_JOB"),
    ),
    (
        "another digest than the release's",
        |n| {
            document(n, |document| {
                document["steps"][0]["action"]["component"]["digest"] =
                    format!("sha256:{}", "1".repeat(64)).into();
            })
        },
        Refused("E_DIGEST"),
    ),
    (
        "nodes for a step that has none",
        |n| {
            let mut work = nodes(n, |_, _| {});
            let plain = pure(n);
            work.assignment["document"] = plain.assignment["document"].clone();
            work.blobs.extend(plain.blobs);
            work
        },
        Refused("E_JOB"),
    ),
    ("honest nodes", |n| nodes(n, |_, _| {}), Succeeds),
    (
        "other nodes than the set's digest",
        |n| {
            nodes(n, |work, set| {
                set["nodes"][2]["name"] = "not-seen-before".into();
                work.assignment["nodes"]["set"] =
                    serde_json::to_value(Sized::of(set.to_string().as_bytes())).unwrap();
                let named = digest(set.to_string().as_bytes());
                work.blobs.insert(named, set.to_string().replace("\"a\"", "\"x\"").into_bytes());
                *set = json!(null);
            })
        },
        Refused("E_NODES"),
    ),
    (
        "a range outside of the set",
        |n| nodes(n, |work, _| work.assignment["nodes"]["ranges"] = json!([[1, 9]])),
        Refused("E_NODES"),
    ),
    (
        "ranges that overlap",
        |n| nodes(n, |work, _| work.assignment["nodes"]["ranges"] = json!([[0, 2], [1, 3]])),
        Refused("E_NODES"),
    ),
    ("a node twice", |n| nodes(n, |_, set| set["nodes"][1]["name"] = "a".into()), Refused("E_NODES")),
    (
        "a node with an attribute of a megabyte",
        |n| nodes(n, |_, set| set["nodes"][0]["attributes"] = json!({ "x": "x".repeat(1 << 20) })),
        Refused("E_NODES"),
    ),
    (
        "a node whose name moves the cursor",
        |n| nodes(n, |_, set| set["nodes"][0]["name"] = "\u{1b}[2J".into()),
        Refused("E_NODES"),
    ),
    (
        "a set that is too large",
        |n| nodes(n, |work, _| work.assignment["nodes"]["set"] = sized(99_999_999_999)),
        Refused("E_NODES"),
    ),
    // What it may do.
    (
        "a host outside of the ceiling",
        |n| call(n, "evil.example", "{ host: evil.example, methods: [GET], paths: [/] }", ""),
        Refused("E_CEILING"),
    ),
    (
        "a method outside of the ceiling",
        |n| call(n, "api.example", "{ host: api.example, methods: [DELETE], paths: [/v1] }", ""),
        Refused("E_CEILING"),
    ),
    (
        "a path outside of the ceiling",
        |n| call(n, "api.example", "{ host: api.example, methods: [GET], paths: [/admin] }", ""),
        Refused("E_CEILING"),
    ),
    (
        "the address of the cloud's metadata",
        |n| {
            let mut work = call(n, "evil.example", "{ host: evil.example, methods: [GET], paths: [/] }", "");
            work.redocument(|document| {
                document["steps"][0]["action"]["component"]["grant"]["http"][0]["host"] =
                    "169.254.169.254".into();
            });
            work
        },
        Refused("E_JOB"),
    ),
    (
        "a secret for a host that its owner did not name",
        |n| {
            call(
                n,
                "other.example",
                &format!("{{ host: other.example, methods: [GET], paths: [/], {TOKEN} }}"),
                "    secrets: { token: keys/prod/token }\n",
            )
        },
        Refused("E_CEILING"),
    ),
    (
        "a secret that its owner named for nobody",
        |n| {
            call(
                n,
                "other.example",
                &format!("{{ host: other.example, methods: [GET], paths: [/], {TOKEN} }}"),
                "    secrets: { token: keys/prod/other }\n",
            )
        },
        Refused("E_CEILING"),
    ),
    (
        "a secret that is not there",
        |n| {
            call(
                n,
                "api.example",
                &format!("{{ host: api.example, methods: [GET], paths: [/v1], {TOKEN} }}"),
                "    secrets: { token: keys/prod/absent }\n",
            )
        },
        Refused("E_SECRET"),
    ),
    (
        "a grant beyond the component's request",
        |n| {
            document(n, |document| {
                document["steps"][0]["action"]["component"]["grant"] =
                    json!({ "exec": [{ "program": "uname", "args": ["-s"] }] });
                document["steps"][0]["action"]["component"]["effect"] = "effect".into();
            })
        },
        Refused("E_REQUEST"),
    ),
    (
        "a program that the owner does not list",
        |n| {
            let step = "    with: { program: sh, args: [\"-c\", \"id\"] }\n    grant: { exec: [{ program: sh, args: [\"-c\", \"id\"] }] }\n";
            Work::new(n, &Release::of("run-command", n), step)
        },
        Refused("E_CEILING"),
    ),
    (
        "arguments that the owner does not list",
        |n| {
            let step = "    with: { program: uname, args: [\"-a\"] }\n    grant: { exec: [{ program: uname, args: [\"-a\"] }] }\n";
            Work::new(n, &Release::of("run-command", n), step)
        },
        Refused("E_CEILING"),
    ),
    (
        "an input that names an option that is not there",
        |n| {
            document(n, |document| {
                document["steps"][0]["action"]["component"]["with"]["value"] = "${options.absent}".into();
            })
        },
        Refused("E_JOB"),
    ),
    // How it is said.
    ("an answer without a signature", |n| poll(n, Twist::Unsigned), Silence),
    ("an answer by another key", |n| poll(n, Twist::OtherKey), Silence),
    ("the answer to another request", |n| poll(n, Twist::OtherRequest), Silence),
    ("an answer that was altered", |n| poll(n, Twist::Altered), Silence),
    ("another status than was signed", |n| poll(n, Twist::OtherStatus), Silence),
    ("an answer without an end", |n| poll(n, Twist::Endless), Silence),
    ("an answer of 2^60 bytes", |n| poll(n, Twist::Huge), Silence),
    ("an answer that leads elsewhere", |n| poll(n, Twist::Redirect), Silence),
    ("a field that nobody knows", |n| poll(n, Twist::Json("\"epoch\":", "\"sudo\":1,\"epoch\":")), Silence),
    ("a key twice", |n| poll(n, Twist::Json("\"epoch\":1", "\"epoch\":1,\"epoch\":2")), Silence),
    (
        "a number of 23 digits",
        |n| poll(n, Twist::Json("\"epoch\":1", "\"epoch\":12345678901234567890123")),
        Silence,
    ),
    ("a command that nobody knows", |n| poll(n, Twist::Json("{\"run\":", "{\"sudo\":")), Silence),
    ("no JSON", |n| poll(n, Twist::Body("<html>login</html>")), Silence),
    ("JSON of ten thousand levels", |n| poll(n, Twist::Body(DEEP)), Silence),
    ("a bundle without a signature", |n| answer(n, COMPONENTS, Twist::Unsigned), Fault),
    ("a bundle by another key", |n| answer(n, COMPONENTS, Twist::OtherKey), Fault),
    ("a bundle without an end", |n| answer(n, COMPONENTS, Twist::Endless), Succeeds),
    ("a blob without a signature", |n| answer(n, BLOBS, Twist::Unsigned), Fault),
    ("a blob without an end", |n| answer(n, BLOBS, Twist::Endless), Succeeds),
    ("a blob of 2^60 bytes", |n| answer(n, BLOBS, Twist::Huge), Succeeds),
    ("a blob that leads elsewhere", |n| answer(n, BLOBS, Twist::Redirect), Fault),
    ("honest work after all that", pure, Succeeds),
];

/// Deeper than any reader of ours goes.
const DEEP: &str = {
    const BYTES: [u8; 10_000] = [b'['; 10_000];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// Against a runner that wants signed jobs.
pub(crate) const SIGNED: &[Row] = &[
    ("a job without a note", pure, Refused("E_JOB_UNSIGNED")),
    ("a job by a key that nobody trusts", |n| signed(n, "attacker/key", 5), Refused("E_THRESHOLD")),
    ("a job by a publisher's key", |n| signed(n, "acme.example/release", 5), Refused("E_SCOPE")),
    ("a signed job", |n| signed(n, "acme.example/author", 5), Succeeds),
    (
        "a signed job that was widened",
        |n| {
            let mut work = signed(n, "acme.example/author", 6);
            let note = work.assignment["job_note"].clone();
            work.redocument(|document| {
                document["steps"][0]["action"]["component"]["with"]["value"] = 2.into();
            });
            work.assignment["job_note"] = note;
            work
        },
        Refused("E_DIGEST"),
    ),
    (
        "a step taken out of a signed job",
        |n| {
            let mut work = signed(n, "acme.example/author", 6);
            let note = work.assignment["job_note"].clone();
            work.redocument(|document| document["steps"][0]["name"] = "other".into());
            work.assignment["job_note"] = note;
            work
        },
        Refused("E_LENGTH"),
    ),
    (
        "the note of another job",
        |n| {
            let mut work = pure(n);
            work.assignment["job_note"] = job_note(&work.document, "acme.example/author", 6, "other").into();
            work
        },
        Refused("E_JOB_UNSIGNED"),
    ),
    ("an older version", |n| signed(n, "acme.example/author", 4), Refused("E_ROLLBACK")),
    (
        "another job under the same version",
        |n| {
            let mut work = document(n, |document| {
                document["steps"][0]["action"]["component"]["with"]["value"] = 3.into();
            });
            work.sign("acme.example/author", 5);
            work
        },
        Refused("E_ROLLBACK"),
    ),
    ("a newer version", |n| signed(n, "acme.example/author", 6), Succeeds),
    (
        "a component note in the place of a job note",
        |n| {
            let mut work = pure(n);
            work.assignment["job_note"] = work.bundle["note"].clone();
            work
        },
        Refused("E_SYNTAX"),
    ),
];

/// An id for a row: attempts of two phases do not meet.
pub(crate) fn number(phase: u32, row: usize) -> u32 {
    let number = phase * 1000 + 20 + u32::try_from(row).unwrap();
    assert!(!id(number).is_empty());
    number
}
