//! `remit/sql-query` against a real PostgreSQL.

use harness::{Authority, Postgres};

use super::{fails, secret, succeeds};
use crate::site;

const PASSWORD: &str = "it's $1, a \"password\"";

const SETUP: &str = "CREATE TABLE orders (id int PRIMARY KEY, state text, total numeric, tags text[], more jsonb, paid bool); \
     INSERT INTO orders VALUES (1, 'open', 10.50, '{a,b}', '{\"k\": [1]}', true), (2, 'o''pen; --', NULL, NULL, NULL, false); \
     GRANT SELECT, INSERT, UPDATE ON orders TO app, plain;";

/// A job of one step.
fn job(port: u16, how: &str, with: &str) -> String {
    let (tls, grant, secrets) = match how {
        "never" => ("never", "never", ""),
        _ => ("required", "start", "    secrets: { password: keys/test/password }\n"),
    };
    format!(
        "job: ask\nsteps:\n  - name: ask\n    uses: remit/sql-query@1\n    with:\n      \
         server: {{ host: localhost, port: {port}, tls: {tls} }}\n      database: postgres\n{with}{secrets}    \
         grant: {{ tcp: [{{ host: localhost, port: {port}, tls: {grant}, private: true }}] }}\n"
    )
}

fn asks(user: &str, sql: &str, more: &str) -> String {
    format!("      user: {user}\n      sql: {sql:?}\n{more}")
}

#[test]
fn a_statement_is_run_with_its_values_beside_it_and_a_password_that_nobody_sees() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let authority = Authority::new().unwrap();
    authority.write(&ca).unwrap();
    let server = Postgres::start(&authority, &PASSWORD.replace('\'', "''"), SETUP).unwrap();
    let port = server.port();
    let private = "private = [\"127.0.0.0/8\", \"::1/128\"]";
    let ceiling = format!(
        "[[tls]]\nname = \"own\"\nca_file = {ca:?}\n\n[ceiling]\n\n\
         [[ceiling.tcp]]\nhost = \"localhost\"\nport = {port}\ntls = \"start\"\ntrust = \"own\"\n{private}\n\n\
         [[ceiling.tcp]]\nhost = \"localhost\"\nport = {port}\ntls = \"never\"\n{private}\n\n\
         [[ceiling.secrets]]\npath = \"keys/test/password\"\nuse = \"scram-sha-256\"\nhosts = [\"localhost:{port}\"]\n\
         components = [\"remit/sql-query\"]\n\n{}",
        secret(folder.path(), "password", PASSWORD)
    );
    let stack = site(folder.path(), &ceiling);
    let runs = |how: &str, with: &str| {
        let shown = succeeds(&stack, folder.path(), &job(port, how, with), &[]);
        shown["steps"][0]["run"]["output"].clone()
    };
    let all = "SELECT id, total, to_json(tags) AS tags, more, paid FROM orders WHERE state = $1";
    let output = runs("start", &asks("app", all, "      values: [open]\n"));
    let rows = serde_json::json!([{"id": 1, "total": "10.50", "tags": ["a", "b"], "more": {"k": [1]}, "paid": true}]);
    assert_eq!(output["rows"], rows, "{output:#}");
    assert_eq!(output["columns"][1], serde_json::json!({"name": "total", "type": "numeric"}));
    // What would be a statement of its own is a value.
    let output = runs("start", &asks("app", all, "      values: [\"o'pen; --\"]\n"));
    assert_eq!(
        (&output["rows"][0]["id"], &output["rows"][0]["total"]),
        (&2.into(), &serde_json::Value::Null)
    );
    let change = "UPDATE orders SET paid = $1 WHERE id = $2 RETURNING id";
    let refused = |with: &str, part: &str| fails(&stack, folder.path(), &job(port, "start", with), part);
    refused(&asks("app", change, "      values: [true, 2]\n"), "read-only transaction\nsqlstate: 25006");
    let output = runs("start", &asks("app", change, "      values: [true, 2]\n      write: true\n"));
    assert_eq!((&output["affected"], &output["command"]), (&1.into(), &"UPDATE 1".into()));
    let paid = runs("never", &asks("plain", "SELECT count(*) AS n FROM orders WHERE paid", ""));
    assert_eq!(paid["rows"][0]["n"], 2);
    // One row too many keeps nothing.
    let insert = "INSERT INTO orders (id) SELECT g FROM generate_series(10, 20) g RETURNING id";
    refused(&asks("app", insert, "      write: true\n      max_rows: 5\n"), "more than 5 rows");
    let count = runs("never", &asks("plain", "SELECT count(*) AS n FROM orders", ""));
    assert_eq!(count["rows"][0]["n"], 2);

    refused(
        &asks("app", "SELECT * FROM nothing", ""),
        "relation \"nothing\" does not exist\nsqlstate: 42P01",
    );
    refused(&asks("app", "SELECT 1; SELECT 2", ""), "sqlstate: 42601");
    refused(&asks("app", "SELECT id, id FROM orders", ""), "two columns are called \"id\"");
    refused(&asks("app", "SELECT pg_sleep(60)", "    timeout: 1s\n"), "");
    refused(&asks("old", "SELECT 1", ""), "the password as MD5");
    refused(&asks("clear", "SELECT 1", ""), "the password itself");
    refused(&asks("nobody", "SELECT 1", ""), "sqlstate: 28000");
    // The password is another one: the server says so, and nobody else does.
    std::fs::write(folder.path().join("secrets/password"), "another-password").unwrap();
    refused(&asks("app", "SELECT 1", ""), "sqlstate: 28P01");
    assert!(stack.files_with(PASSWORD.as_bytes()).unwrap().is_empty());
}
