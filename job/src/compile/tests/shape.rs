//! Texts that have not the shape of a job: something is missing, of another kind, or there is too much of it.

use super::*;

#[test]
fn jobs_that_are_no_jobs() {
    fn check(text: &str, part: &str) {
        let faults = compiled(text).expect_err(text);
        assert!(faults.iter().any(|fault| fault.message.contains(part)), "{text:?}: {faults:#?}");
        assert!(faults.iter().all(|fault| fault.line.is_some()), "{text:?}: {faults:#?}");
    }
    check("", "empty");
    check("[]", "not a map");
    check("just text", "not a map");
    check("job: x", "`steps` is missing");
    check("job: x\nsteps: []", "no steps");
    check("job: x\nsteps: {}", "not a list");
    check("job: x\nsteps: [1]", "not a map");
    check("job: x\nsteps: [{}]", "`name` is missing");
    check(
        "job: x\nsteps: [{ name: a, uses: remit/ssh-command@1, with: { argv: [] }, secrets: { key: keys/k } }]",
        "without a node",
    );
    check("job: x\nsteps: [{ name: a, uses: remit/transform@1, per: node }]", "nothing about nodes");
    check("job: x\nsteps: [{ name: a, uses: remit/transform@1, with: [1] }]", "not a map");
    check("job: x\noptions: [a]\nsteps: [{ name: a, uses: remit/transform@1 }]", "not a map of options");
    check("job: x\noptions: { a: string }\nsteps: [{ name: a, uses: remit/transform@1 }]", "not a map");
    let scheduled = |schedule: &str, part: &str| {
        let options = "options: { n: { type: integer, required: true } }";
        check(
            &format!(
                "job: x\n{options}\nschedules: {schedule}\nsteps: [{{ name: a, uses: remit/transform@1 }}]"
            ),
            part,
        );
    };
    scheduled("daily", "not a list");
    scheduled("[{}]", "`name` is missing");
    scheduled("[{ name: a }]", "`cron` is missing");
    scheduled("[{ name: a, cron: 0 3 * * }]", "is not a cron expression");
    scheduled("[{ name: a, cron: 0 0 31 2 *, options: { n: 1 } }]", "never fires");
    scheduled("[{ name: a, cron: 0 3 * * *, zone: Berlin, options: { n: 1 } }]", "not a time zone");
    scheduled("[{ name: a, cron: 0 3 * * *, missed: twice }]", "not one of the words");
    scheduled("[{ name: a, cron: 0 3 * * *, most: 3, options: { n: 1 } }]", "`missed: all` only");
    scheduled(
        "[{ name: a, cron: 0 3 * * *, missed: all, most: 0, options: { n: 1 } }]",
        "not between 1 and 100",
    );
    scheduled("[{ name: a, cron: 0 3 * * * }]", "has to have a value");
    scheduled("[{ name: a, cron: 0 3 * * *, options: { n: many } }]", "whole number");
    scheduled("[{ name: a, cron: 0 3 * * *, options: { m: 1, n: 1 } }]", "no option \"m\"");
    scheduled("[{ name: a, cron: 0 3 * * *, options: [1] }]", "not a map of values");
    let twice = "{ name: a, cron: 0 3 * * *, options: { n: 1 } }";
    scheduled(&format!("[{twice}, {twice}]"), "stands twice");
    let many: String = (0..21).map(|at| twice.replace("name: a", &format!("name: a{at}")) + ", ").collect();
    scheduled(&format!("[{many}]"), "21 schedules");
    let told = |entry: &str, part: &str| {
        check(&format!("job: x\nnotify: {entry}\nsteps: [{{ name: a, uses: remit/transform@1 }}]"), part);
    };
    told("ops", "not a list");
    told("[{ channel: ops }]", "`when` is missing");
    told("[{ when: [], channel: ops }]", "no occasion is named");
    told("[{ when: [error], channel: ops }]", "not one of the words");
    told("[{ when: [failure] }]", "not to whom, or to two");
    told("[{ when: [failure], channel: ops, job: y }]", "not to whom, or to two");
    told("[{ when: [failure], channel: \"o p s\" }]", "is not a channel name");
    told("[{ when: [failure], job: x }]", "through itself");
    told("[{ when: [failure], channel: ops, over: 10m }]", "`when: [slow]` only");
    told("[{ when: [slow], channel: ops, over: long }]", "is not a share of the average");
    let many = "{ when: [failure], channel: ops }, ".repeat(21);
    told(&format!("[{many}]"), "21 entries");
    check("job: x\n---\njob: y\n", "second document");
    check("job: *x\n", "not YAML");
    check("job: !x y\n", "tags");
    let many = (0..501).fold("job: x\nsteps:\n".to_owned(), |text, at| {
        format!("{text}- {{ name: s{at}, uses: remit/transform@1 }}\n")
    });
    check(&many, "501 steps");
    let many = (0..201)
        .fold("job: x\nsteps: [{ name: a, uses: remit/transform@1 }]\noptions:\n".to_owned(), |text, at| {
            format!("{text}  o{at}: {{ type: string }}\n")
        });
    check(&many, "201 options");
    let deep = format!(
        "job: x\nsteps: [{{ name: a, uses: remit/transform@1, with: {{ a: {}{} }} }}]",
        "[".repeat(27),
        "]".repeat(27)
    );
    check(&deep, "");
    assert!(JobSource::from_slice(b"job: \xff").is_err());
    assert!(JobSource::from_slice(&vec![b'#'; (1 << 20) + 1]).is_err());
}
