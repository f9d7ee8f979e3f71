//! Steps that need nothing but an interpreter or an HTTP service: `script`, `set-output`, `wait-for`, `notify-webhook`.

use std::sync::atomic::{AtomicU32, Ordering};

use harness::Reply;
use serde_json::json;

use super::{fails, serving, succeeds};
use crate::site;

/// What a place that pastes would take apart.
const ODD: &str = "it's \"$HOME\" `id` ${options.v}\n-rf ../.. \u{1f600}";

#[test]
fn a_script_gets_values_as_they_were_typed() {
    let folder = tempfile::tempdir().unwrap();
    let shells = "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"sh\"\npath = \"/bin/sh\"\nargs = [\"-c\", \"{data}\", \"script\", \"{data}*\"]\n\
                  variables = [\"REMIT_*\"]\n\n[[ceiling.exec]]\nprogram = \"perl\"\npath = \"/usr/bin/perl\"\n\
                  args = [\"-e\", \"{data}\", \"--\", \"{data}*\"]\n";
    let stack = site(folder.path(), shells);
    let job = "job: script\noptions:\n  v: { type: string, required: true }\nsteps:\n\
               \x20 - name: shell\n    uses: remit/script@1\n    with:\n      interpreter: sh\n      args: [\"${options.v}\", \"\"]\n\
               \x20     env: { REMIT_V: \"${options.v}\" }\n      stdin: \"${options.v}\"\n\
               \x20     script: |\n        printf '%s|%s|%s|' \"$1\" \"$REMIT_V\" \"$#\"\n        cat\n\
               \x20   grant: { exec: [{ program: sh }] }\n\
               \x20 - name: perl\n    uses: remit/script@1\n    with: { interpreter: perl, args: [\"${options.v}\"], script: 'print $ARGV[0]' }\n\
               \x20   grant: { exec: [{ program: perl }] }\n";
    let shown = succeeds(&stack, folder.path(), job, &["--option", &format!("v={ODD}")]);
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"], format!("{ODD}|{ODD}|2|{ODD}"));
    assert_eq!(shown["steps"][1]["run"]["output"]["stdout"], ODD);

    let denied = "job: denied\nsteps:\n  - name: shell\n    uses: remit/script@1\n    \
                  with: { interpreter: sh, script: id, env: { PATH: /tmp } }\n    grant: { exec: [{ program: sh }] }\n";
    fails(&stack, folder.path(), denied, "the variable \"PATH\"");
    let failing = "job: failing\nsteps:\n  - name: shell\n    uses: remit/script@1\n    \
                   with: { interpreter: sh, script: 'echo no >&2; exit 7' }\n    grant: { exec: [{ program: sh }] }\n";
    fails(&stack, folder.path(), failing, "sh: ended with exit code 7");
}

#[test]
fn a_service_is_waited_for_and_a_chat_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let asked = AtomicU32::new(0);
    let (service, rules) = serving(folder.path(), move |seen| match seen.line.as_str() {
        "GET /health" if asked.fetch_add(1, Ordering::SeqCst) < 2 => {
            Reply::of("text/plain", "starting").status(503)
        }
        "GET /health" => Reply::of("text/plain", "ready"),
        "POST /hooks/ops" => Reply::of("text/plain", "ok"),
        _ => Reply::of("text/plain", "no_service").status(404),
    });
    let stack = site(folder.path(), &format!("[ceiling]\n\n{rules}"));
    let port = service.port();
    let grant = |method: &str, path: &str| {
        format!(
            "grant: {{ http: [{{ host: localhost, port: {port}, methods: [{method}], paths: [{path}], private: true }}] }}"
        )
    };
    let job = format!(
        "job: told\nsteps:\n  - name: up\n    uses: remit/wait-for@1\n    \
         with: {{ http: {{ url: \"https://localhost:{port}/health\", contains: ready }}, every: 10ms }}\n    {}\n  \
         - name: named\n    uses: remit/set-output@1\n    with: {{ values: {{ tries: \"${{steps.up.outputs.tries}}\" }} }}\n  \
         - name: tell\n    uses: remit/notify-webhook@1\n    with:\n      url: https://localhost:{port}/hooks/ops\n      \
         text: \"up after <${{steps.named.outputs.tries}}> tries\"\n      level: good\n    {}\n",
        grant("GET", "/health"),
        grant("POST", "/hooks")
    );
    let shown = succeeds(&stack, folder.path(), &job, &[]);
    assert_eq!(shown["steps"][1]["run"]["output"], json!({ "tries": 3 }));
    let sent: serde_json::Value = serde_json::from_str(&service.seen().last().unwrap().body).unwrap();
    assert_eq!(sent["text"], "up after &lt;3&gt; tries");
    assert_eq!(sent["attachments"][0]["color"], "good");

    let wrong = format!(
        "job: wrong\nsteps:\n  - name: tell\n    uses: remit/notify-webhook@1\n    \
         with: {{ url: \"https://localhost:{port}/hooks/none\", text: hello }}\n    {}\n",
        grant("POST", "/hooks")
    );
    fails(&stack, folder.path(), &wrong, "the chat did not take the message: status 404: no_service");
}
