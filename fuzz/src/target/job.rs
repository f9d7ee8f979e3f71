//! Job files, job documents, expressions and node filters.

use remit_job::{document::Document, expression::Expression, filter::NodeFilter, source::JobSource};
use remit_protocol::node::Node;

use super::{Broken, Target, Verdict, files};
use crate::mutate::Form;

pub(super) const TARGET: Target = Target {
    name: "job",
    form: Form::Lines,
    words: &[
        "job:",
        "steps:",
        "- name:",
        "uses:",
        "with:",
        "when:",
        "grant:",
        "http:",
        "secrets:",
        "options:",
        "nodes:",
        "filter:",
        "timeout:",
        "retry:",
        "runner:",
        "tags:",
        "per:",
        "remit/wait@1",
        "keys/a",
        "${options.x}",
        "${steps.a.outputs.b}",
        "*x",
        "&x",
        "!!python/object",
        "<<:",
        "|",
        ">",
        "- ",
        "  ",
        "name: web-.* !tags: db",
        "tags: a+b",
        "size(",
        "==",
        "&&",
        "? :",
        "in [",
        "node.attributes['x']",
        "\"",
    ],
    seeds: || {
        let mut seeds = [files("job/src/compile", ".yaml"), files("xtask/demo", ".yaml")].concat();
        for text in [
            "job: greet\ndescription: Says hello.\noptions:\n  who: { type: string, default: world }\nsteps:\n  - name: greet\n    uses: remit/transform@1\n    when: \"${options.who != ''}\"\n    with: { text: \"hello ${options.who}\" }\n    timeout: 30s\n",
            "job: restart\nnodes: { filter: \"tags: web\", threads: 4 }\nrunner: { tags: [edge] }\nsteps:\n  - name: call\n    uses: acme/restart@1.4\n    per: node\n    secrets: { token: keys/prod/token }\n    grant:\n      http:\n        - { host: a.example, methods: [GET], paths: [/v1], secret: { name: token, use: bearer } }\n    retry: { times: 2, on: [failed], delay: 5s }\n",
            "name: web-.* !tags: db os-family: linux",
            "options.who == 'a' && (steps.call.outcome in ['failed', 'succeeded'] || size(node.tags) > 2) ? 1.5 : -3",
            "{\"v\":1}",
        ] {
            seeds.push(text.as_bytes().to_vec());
        }
        super::seeds(seeds, "job")
    },
    check,
};

fn check(input: &[u8]) -> Result<Verdict, Broken> {
    let Ok(text) = std::str::from_utf8(input) else {
        let faults = JobSource::from_slice(input).err().unwrap_or_default();
        Broken::unless(!faults.is_empty(), || "it reads what is no text".to_owned())?;
        return Ok(Verdict { accepted: false, words: "no text".to_owned() });
    };
    let (mut words, mut accepted) = (String::new(), false);
    match JobSource::parse(text) {
        Ok(source) => {
            accepted = true;
            words.push_str(&format!("job of {} steps", source.steps.len().min(4)));
        }
        Err(faults) => {
            Broken::unless(!faults.is_empty(), || "it refuses without a fault".to_owned())?;
            // YAML also ends a line with a carriage return alone.
            let breaks = text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
            let lines = u32::try_from(breaks + 1).unwrap_or(u32::MAX);
            for fault in &faults {
                let inside = fault.line.is_none_or(|line| (1..=lines).contains(&line));
                Broken::unless(inside, || format!("a fault stands in line {:?} of {lines}", fault.line))?;
            }
            words.extend(faults.first().into_iter().flat_map(|fault| fault.message.chars()).take(30));
        }
    }
    if let Ok(document) = Document::from_slice(input) {
        accepted = true;
        let bytes = document.to_vec();
        let read = Document::from_slice(&bytes)
            .map_err(|error| Broken(format!("it does not read what it wrote: {error}")))?;
        Broken::unless(read.to_vec() == bytes, || "it reads otherwise what it wrote".to_owned())?;
        words.push_str(" document");
    }
    match Expression::new(text) {
        Ok(expression) => {
            accepted = true;
            let read = Expression::new(expression.as_str());
            let same = read.is_ok_and(|read| read.references() == expression.references());
            Broken::unless(same, || "an expression reads otherwise what it is".to_owned())?;
            words.push_str(&format!(" expression of {} references", expression.references().len().min(3)));
        }
        Err(error) => words.extend(error.to_string().chars().take(20)),
    }
    match NodeFilter::parse(text) {
        Ok(filter) => {
            accepted = true;
            let node: Option<Node> = serde_json::from_str(NODE).ok();
            words.push_str(&format!(" filter {:?}", node.map(|node| filter.matches(&node))));
        }
        Err(error) => words.extend(error.to_string().chars().take(20)),
    }
    Ok(Verdict { accepted, words })
}

const NODE: &str = r#"{"name":"web-1","tags":["web","db"],"attributes":{"os-family":"linux"}}"#;
