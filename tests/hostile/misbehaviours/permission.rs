//! What a step may do: grants beyond what its owner permits.

use serde_json::json;

use super::{Expect::Refused, Row, call, document};
use crate::work::{Release, Work};

const TOKEN: &str = "secret: { name: token, use: bearer }";

pub(crate) const ROWS: &[Row] = &[
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
];
