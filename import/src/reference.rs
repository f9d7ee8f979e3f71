//! References to jobs of the same file: a step that runs the other job with these options.

use serde_json::{Map, Value};

use crate::{
    command,
    job::{Kind, Report, Target, identifier, member},
    step::{Job, Members},
    write::Tree,
    yaml::truthy,
};

/// The step, or why it cannot be said here.
pub(crate) fn import(
    reference: &Map<String, Value>,
    step: &Map<String, Value>,
    job: &Job<'_>,
    place: &str,
    report: &mut Report,
) -> Result<Members, String> {
    let is_true = |value: Option<&Value>| match value {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text == "true",
        _ => false,
    };
    let flag = |key: &str| is_true(reference.get(key)) || is_true(step.get(key));
    let [name, group, uuid] = ["name", "group", "uuid"].map(|key| member(reference, key));
    let project = [member(reference, "project"), member(step, "project")].concat();
    if !project.is_empty() {
        return Err(format!("a reference to a job of the project {project:?}"));
    }
    if flag("nodeStep") {
        return Err(format!("a reference that runs the job {name:?} once for each node"));
    }
    let by_name = uuid.is_empty() || flag("useName");
    let target = job.names.find(&group, if by_name { &name } else { "" }, &uuid);
    let target = target.ok_or_else(|| {
        let shown = if name.is_empty() { &uuid } else { &name };
        format!("a reference to the job {shown:?}, which is not in this file, or stands in it twice")
    })?;
    let mut members = vec![("job".to_owned(), Tree::from(target.name.as_str()))];
    let given = given(&member(reference, "args"), target, job, place, report)?;
    let mut given = if flag("importOptions") { with_own(given, target, job) } else { given };
    given.sort_by(|a, b| a.0.cmp(&b.0));
    if !given.is_empty() {
        members.push(("with".to_owned(), Tree::Map(given)));
    }
    if let Some(filters) = reference.get("nodefilters").and_then(Value::as_object) {
        members.extend(nodes(filters, target, job, place, report)?);
    }
    Ok(members)
}

/// Options by their names here; `-name value` pairs, of which the last of a name holds.
fn given(
    line: &str,
    target: &Target,
    job: &Job<'_>,
    place: &str,
    report: &mut Report,
) -> Result<Members, String> {
    let mut given = Members::new();
    let mut words = command::words(line).into_iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else { continue };
        let Some(value) = words.next() else { break };
        if !target.asked.names.contains(name) || target.asked.secrets.contains(name) {
            let message =
                format!("the option {name:?} of the job {} is not given: it is not one here", target.name);
            report.add(Kind::Lost, place, message);
            continue;
        }
        let here = identifier(name);
        given.retain(|(known, _)| *known != here);
        given.push((here, self::value(name, &value, target, job)?));
    }
    Ok(given)
}

/// A value for an option: a list for one that takes several.
fn value(name: &str, value: &str, target: &Target, job: &Job<'_>) -> Result<Tree, String> {
    let Some(between) = target.asked.lists.get(name) else {
        return command::template(value, job.options).map(Tree::from);
    };
    // The whole of a list is handed on as a list.
    let whole = value.strip_prefix("${option.").and_then(|rest| rest.strip_suffix('}'));
    if let Some(known) =
        whole.and_then(|name| job.options.get(name)).filter(|known| known.delimiter.is_some())
    {
        let path = format!("options.{}", known.name);
        let expression = if known.always { path.clone() } else { format!("has({path}) ? {path} : []") };
        return Ok(format!("${{{expression}}}").into());
    }
    value.split(between.as_str()).map(|part| command::template(part, job.options).map(Tree::from)).collect()
}

/// The options of the same name that this job has, where none is given.
fn with_own(mut given: Members, target: &Target, job: &Job<'_>) -> Members {
    for name in &target.asked.names {
        let here = identifier(name);
        if let Some(known) = job.options.get(name).filter(|known| known.always)
            && !given.iter().any(|(own, _)| *own == here)
        {
            given.push((here, format!("${{options.{}}}", known.name).into()));
        }
    }
    given
}

/// Other nodes than the job's own.
fn nodes(
    filters: &Map<String, Value>,
    target: &Target,
    job: &Job<'_>,
    place: &str,
    report: &mut Report,
) -> Result<Option<(String, Tree)>, String> {
    let empty = Map::new();
    let dispatch = filters.get("dispatch").and_then(Value::as_object).unwrap_or(&empty);
    if dispatch.get("nodeIntersect").is_some_and(truthy) {
        return Err(format!("a reference that runs {} on nodes that both jobs have", target.name));
    }
    let filter = member(filters, "filter");
    if filter.is_empty() {
        return Ok(None);
    }
    if !target.on_nodes {
        return Err(format!("a reference that runs {} on nodes, which that job is not for", target.name));
    }
    if dispatch.keys().any(|key| key != "nodeIntersect") {
        let message = format!("threads, rank and keep-going are those of the job {}", target.name);
        report.add(Kind::Differs, place, message);
    }
    Ok(Some(("nodes".to_owned(), command::template(&filter, job.options)?.into())))
}

#[cfg(test)]
mod tests {
    use crate::{Format, jobs};

    const CHILD: &str = "- {name: child, group: ops, uuid: u-1, nodefilters: {filter: .*}, options: [{name: who}, {name: all, multivalued: true, delimiter: ';'}, {name: pw, secure: true}], sequence: {commands: [{exec: x}]}}\n";

    fn parent(step: &str) -> crate::Imported {
        let text = format!(
            "{CHILD}- {{name: parent, options: [{{name: who, value: me}}, {{name: all, multivalued: true, value: a}}], sequence: {{commands: [{step}]}}}}\n"
        );
        jobs(&text, Format::Yaml, "keys/k").unwrap().remove(1)
    }

    #[test]
    fn references_become_steps_that_run_jobs() {
        fn check(step: &str, parts: &[&str]) {
            let imported = parent(step);
            assert_eq!(imported.faults, [], "{step}");
            let text = imported.source.unwrap();
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        check("{jobref: {name: child, group: ops}}", &["job: \"child\""]);
        check("{jobref: {uuid: u-1}}", &["job: \"child\""]);
        check(
            "{jobref: {name: child, group: /ops/, args: '-who \"a b\" -all x;${option.who}'}}",
            &["who: \"a b\"", "all:\n        - \"x\"\n        - \"${options.who}\""],
        );
        check(
            "{jobref: {name: child, group: ops, args: '-all ${option.all}'}}",
            &["all: \"${options.all}\""],
        );
        check(
            "{jobref: {name: child, group: ops, importOptions: true}}",
            &["who: \"${options.who}\"", "all: \"${options.all}\""],
        );
        check(
            "{jobref: {name: child, group: ops, nodefilters: {filter: 'tags: db'}}}",
            &["nodes: \"tags: db\""],
        );
        check(
            "{exec: a, errorhandler: {exec: b, keepgoingOnSuccess: true}}",
            &["on_error:\n      uses: \"remit/run-command@1\"", "recover: true"],
        );
        check("{exec: a, errorhandler: {type: acme}}", &["on_error:\n      uses: \"remit/transform@1\""]);
    }

    #[test]
    fn what_would_run_elsewhere_is_a_placeholder() {
        fn check(step: &str, part: &str) {
            let imported = parent(step);
            let told = imported.notices.iter().find(|notice| notice.message.contains(part));
            assert!(told.is_some(), "{step}: {:?}", imported.notices);
            assert!(!imported.source.unwrap().contains("job: \"child\""), "{step}");
        }
        check("{jobref: {name: child}}", "not in this file");
        check(
            "{jobref: {name: child, group: ops, nodefilters: {filter: a, dispatch: {nodeIntersect: true}}}}",
            "both jobs",
        );
        check("{jobref: {name: parent, nodefilters: {filter: a}}}", "not for");
    }

    #[test]
    fn secrets_are_not_handed_on() {
        let imported = parent("{jobref: {name: child, group: ops, args: '-pw hunter2 -nosuch x'}}");
        assert!(!format!("{imported:?}").contains("hunter2"), "{imported:?}");
    }
}
