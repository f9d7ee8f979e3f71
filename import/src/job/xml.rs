//! Jobs in XML: the same jobs with other names, brought to the form that they have in YAML.

use serde_json::{Map, Value, json};

use crate::{file::InvalidFile, xml::Element};

/// Every job of a `<joblist>`.
pub(crate) fn jobs(root: &Element) -> Result<Vec<Map<String, Value>>, InvalidFile> {
    if root.name != "joblist" {
        let message = format!("the root element is <{}>, not <joblist>", root.name);
        return Err(InvalidFile::at(1, 1, message));
    }
    Ok(root.all("job").map(job).collect())
}

/// What has a value, as the same text.
fn copy(from: &Element, into: &mut Map<String, Value>, names: &[(&str, &str)]) {
    for (here, there) in names {
        if let Some(text) = from.get(here) {
            into.insert((*there).to_owned(), text.into());
        }
    }
}

/// Booleans are what they say, unlike in YAML.
fn copy_flags(from: &Element, into: &mut Map<String, Value>, names: &[(&str, &str)]) {
    for (here, there) in names {
        if let Some(text) = from.get(here) {
            into.insert((*there).to_owned(), text.trim().eq_ignore_ascii_case("true").into());
        }
    }
}

fn same<'a>(names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    names.iter().map(|name| (*name, *name)).collect()
}

fn job(job: &Element) -> Map<String, Value> {
    let mut map = Map::new();
    let texts =
        ["name", "description", "uuid", "group", "loglevel", "timeout", "timeZone", "maxMultipleExecutions"];
    copy(job, &mut map, &same(&texts));
    let flags = ["multipleExecutions", "scheduleEnabled", "executionEnabled"];
    copy_flags(job, &mut map, &same(&flags));
    if let Some(retry) = job.child("retry") {
        let mut made = json!({ "retry": retry.text.trim() });
        if let Some(delay) = retry.get("delay") {
            made["delay"] = delay.into();
        }
        map.insert("retry".to_owned(), made);
    }
    if let Some(logging) = job.child("logging") {
        copy(
            logging,
            &mut map,
            &[("limit", "loglimit"), ("limitAction", "loglimitAction"), ("status", "loglimitStatus")],
        );
    }
    if let Some(options) = job.child("context").and_then(|context| context.child("options")) {
        map.insert("options".to_owned(), self::options(options));
    }
    if let Some(nodes) = nodes(job) {
        map.insert("nodefilters".to_owned(), nodes);
    }
    if let Some(schedule) = job.child("schedule") {
        map.insert("schedule".to_owned(), self::schedule(schedule));
    }
    for (name, build) in [("runnerSelector", plain as fn(&Element) -> Value), ("orchestrator", plain)] {
        if let Some(element) = job.child(name) {
            map.insert(name.to_owned(), build(element));
        }
    }
    if let Some(notification) = job.child("notification") {
        map.insert("notification".to_owned(), plain(notification));
    }
    if let Some(plugins) = job.child("plugins") {
        map.insert("plugins".to_owned(), plain(plugins));
    }
    if let Some(sequence) = job.child("sequence") {
        map.insert("sequence".to_owned(), self::sequence(sequence));
    }
    map
}

/// Attributes and children by their names; what stands several times is a list, text alone a text.
fn plain(element: &Element) -> Value {
    if element.attributes.is_empty() && element.children.is_empty() {
        return element.text.trim().into();
    }
    let mut map = Map::new();
    for (name, value) in &element.attributes {
        map.insert(name.clone(), value.as_str().into());
    }
    for child in &element.children {
        let value = plain(child);
        match map.get_mut(&child.name) {
            None => {
                map.insert(child.name.clone(), value);
            }
            Some(Value::Array(items)) => items.push(value),
            Some(known) => {
                let first = known.take();
                *known = Value::Array(vec![first, value]);
            }
        }
    }
    Value::Object(map)
}

/// Without `preserveOrder` options are sorted by name.
fn options(options: &Element) -> Value {
    let mut found: Vec<(String, Value)> = options
        .all("option")
        .map(|element| (element.get("name").unwrap_or_default().to_owned(), Value::Object(option(element))))
        .collect();
    if options.get("preserveOrder") != Some("true") {
        found.sort_by(|a, b| a.0.cmp(&b.0));
    }
    found.into_iter().map(|(_, option)| option).collect()
}

fn option(element: &Element) -> Map<String, Value> {
    let mut map = Map::new();
    let texts = [
        "name",
        "label",
        "description",
        "type",
        "value",
        "valuesUrl",
        "optionValuesPluginType",
        "regex",
        "delimiter",
        "storagePath",
        "dateFormat",
    ];
    copy(element, &mut map, &same(&texts));
    let flags = [
        ("enforcedvalues", "enforced"),
        ("required", "required"),
        ("multivalued", "multivalued"),
        ("multivaluedAllSelected", "multivalueAllSelected"),
        ("multivalueAllSelected", "multivalueAllSelected"),
        ("secure", "secure"),
        ("valueExposed", "valueExposed"),
        ("isDate", "isDate"),
        ("hidden", "hidden"),
        ("sortValues", "sortValues"),
    ];
    copy_flags(element, &mut map, &flags);
    if let Some(values) = element.get("values") {
        let between = element.get("valuesListDelimiter").filter(|text| !text.is_empty()).unwrap_or(",");
        let parts = values.split(between).map(str::trim).filter(|value| !value.is_empty());
        map.insert("values".to_owned(), parts.map(Value::from).collect());
    }
    if element.child("configRemoteUrl").is_some() {
        map.insert("configRemoteUrl".to_owned(), json!({}));
    }
    map
}

fn nodes(job: &Element) -> Option<Value> {
    let filters = job.child("nodefilters")?;
    let mut map = Map::new();
    copy(filters, &mut map, &same(&["filter", "filterExclude"]));
    copy_flags(filters, &mut map, &same(&["excludeFilterUncheck"]));
    for side in ["include", "exclude"] {
        if let Some(old) = filters.child(side) {
            map.insert(side.to_owned(), plain(old));
        }
    }
    let mut dispatch = Map::new();
    if let Some(element) = job.child("dispatch") {
        copy(element, &mut dispatch, &same(&["threadcount", "rankAttribute", "rankOrder"]));
        let flags = ["keepgoing", "excludePrecedence", "successOnEmptyNodeFilter"];
        copy_flags(element, &mut dispatch, &same(&flags));
    }
    copy_flags(filters, &mut dispatch, &[("excludeprecedence", "excludePrecedence")]);
    map.insert("dispatch".to_owned(), Value::Object(dispatch));
    Some(Value::Object(map))
}

fn schedule(schedule: &Element) -> Value {
    let mut map = Map::new();
    copy(schedule, &mut map, &same(&["crontab"]));
    if let Some(time) = schedule.child("time") {
        let mut inner = Map::new();
        copy(time, &mut inner, &[("seconds", "seconds"), ("minute", "minute"), ("hour", "hour")]);
        map.insert("time".to_owned(), Value::Object(inner));
    }
    for (child, attribute, key) in [("month", "month", "month"), ("year", "year", "year")] {
        if let Some(value) = schedule.child(child).and_then(|element| element.get(attribute)) {
            map.insert(key.to_owned(), value.into());
        }
    }
    let day =
        |child: &str| schedule.child(child).and_then(|element| element.get("day")).filter(|day| *day != "?");
    if let Some(day) = day("month").or(day("dayofmonth")) {
        map.insert("dayofmonth".to_owned(), json!({ "day": day }));
    } else if let Some(day) = day("weekday") {
        map.insert("weekday".to_owned(), json!({ "day": day }));
    }
    Value::Object(map)
}

fn sequence(sequence: &Element) -> Value {
    let mut map = Map::new();
    copy(sequence, &mut map, &same(&["strategy"]));
    copy_flags(sequence, &mut map, &same(&["keepgoing"]));
    if let Some(config) = sequence.child("pluginConfig") {
        map.insert("pluginConfig".to_owned(), plain(config));
    }
    map.insert(
        "commands".to_owned(),
        sequence.all("command").map(|command| Value::Object(self::command(command))).collect(),
    );
    Value::Object(map)
}

fn command(command: &Element) -> Map<String, Value> {
    let mut map = Map::new();
    let texts = [
        ("description", "description"),
        ("exec", "exec"),
        ("script", "script"),
        ("scriptfile", "scriptfile"),
        ("scripturl", "scripturl"),
        ("scriptargs", "args"),
        ("fileExtension", "fileExtension"),
    ];
    copy(command, &mut map, &texts);
    copy_flags(command, &mut map, &same(&["expandTokenInScriptFile", "keepgoingOnSuccess"]));
    if let Some(interpreter) = command.child("scriptinterpreter") {
        map.insert("scriptInterpreter".to_owned(), interpreter.text.trim().into());
        copy_flags(interpreter, &mut map, &[("argsquoted", "interpreterArgsQuoted")]);
    }
    if let Some(reference) = command.child("jobref") {
        map.insert("jobref".to_owned(), jobref(reference));
    }
    for (name, on_node) in [("node-step-plugin", true), ("step-plugin", false)] {
        if let Some(plugin) = command.child(name) {
            map.insert("type".to_owned(), plugin.get("type").unwrap_or_default().into());
            map.insert("nodeStep".to_owned(), on_node.into());
            map.insert("configuration".to_owned(), configuration(plugin));
        }
    }
    if let Some(plugins) = command.child("plugins") {
        map.insert("plugins".to_owned(), plain(plugins));
    }
    if let Some(handler) = command.child("errorhandler") {
        map.insert("errorhandler".to_owned(), Value::Object(self::command(handler)));
    }
    map
}

fn configuration(plugin: &Element) -> Value {
    let entries = plugin.child("configuration").into_iter().flat_map(|element| element.all("entry"));
    let pair = |entry: &Element| {
        (
            entry.get("key").unwrap_or_default().to_owned(),
            entry.get("value").unwrap_or(entry.text.as_str()).into(),
        )
    };
    Value::Object(entries.map(pair).collect())
}

fn jobref(reference: &Element) -> Value {
    let mut map = Map::new();
    copy(reference, &mut map, &same(&["name", "group", "project", "uuid"]));
    let flags =
        ["useName", "nodeStep", "failOnDisable", "childNodes", "importOptions", "ignoreNotifications"];
    copy_flags(reference, &mut map, &same(&flags));
    if let Some(line) = reference.child("arg").and_then(|arg| arg.get("line")) {
        map.insert("args".to_owned(), line.into());
    }
    if let Some(filters) = reference.child("nodefilters") {
        let mut made = Map::new();
        copy(filters, &mut made, &same(&["filter"]));
        let mut dispatch = Map::new();
        if let Some(element) = filters.child("dispatch").or(reference.child("dispatch")) {
            copy(element, &mut dispatch, &same(&["threadcount", "rankAttribute", "rankOrder"]));
            copy_flags(element, &mut dispatch, &same(&["keepgoing", "nodeIntersect"]));
        }
        made.insert("dispatch".to_owned(), Value::Object(dispatch));
        map.insert("nodefilters".to_owned(), Value::Object(made));
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use crate::{Format, job::Imported, jobs};

    const YAML: &str = r"
- name: both
  group: ops
  description: says it
  options:
    - {name: env, values: [dev, prod], enforced: true, required: true, value: dev, description: where}
    - {name: hosts, multivalued: true, delimiter: ';', value: 'a;b'}
  nodefilters:
    filter: 'tags: web'
    dispatch: {threadcount: '4', keepgoing: true, excludePrecedence: true, rankAttribute: rack, rankOrder: descending}
  runnerSelector: {filter: dmz, runnerFilterMode: TAGS, runnerFilterType: TAG_FILTER_AND}
  timeout: 5m
  retry: {retry: '2', delay: 10s}
  loglimit: 10MB
  multipleExecutions: true
  schedule:
    time: {seconds: '0', minute: '15', hour: '03'}
    month: '*'
    year: '*'
    weekday: {day: MON-FRI}
  sequence:
    keepgoing: true
    strategy: sequential
    commands:
      - exec: 'echo ${option.env} <&2'
        description: first
        errorhandler: {exec: 'true', keepgoingOnSuccess: true}
      - script: |
          #!/bin/sh
          echo $1
        args: '${option.hosts}'
      - jobref: {name: other, group: ops, args: '-who ${option.env}', nodeStep: true}
      - {type: acme, nodeStep: true, configuration: {url: 'https://x/${option.env}'}}
";

    const XML: &str = r"<joblist>
  <job>
    <name>both</name><group>ops</group><description>says it</description>
    <context><project>x</project><options preserveOrder='true'>
      <option name='env' values='dev, prod' enforcedvalues='true' required='true' value='dev'><description>where</description></option>
      <option name='hosts' multivalued='true' delimiter=';' value='a;b' required='false' />
    </options></context>
    <dispatch><threadcount>4</threadcount><keepgoing>true</keepgoing><excludePrecedence>true</excludePrecedence>
      <rankAttribute>rack</rankAttribute><rankOrder>descending</rankOrder></dispatch>
    <nodefilters excludeprecedence='true'><filter>tags: web</filter></nodefilters>
    <runnerSelector><filter>dmz</filter><runnerFilterMode>TAGS</runnerFilterMode><runnerFilterType>TAG_FILTER_AND</runnerFilterType></runnerSelector>
    <timeout>5m</timeout><retry delay='10s'>2</retry><logging limit='10MB' />
    <multipleExecutions>true</multipleExecutions>
    <schedule><time seconds='0' minute='15' hour='03' /><weekday day='MON-FRI' /><month month='*' /><year year='*' /></schedule>
    <sequence keepgoing='true' strategy='sequential'>
      <command><exec>echo ${option.env} &lt;&amp;2</exec><description>first</description>
        <errorhandler keepgoingOnSuccess='true'><exec>true</exec></errorhandler></command>
      <command><script><![CDATA[#!/bin/sh
echo $1
]]></script><scriptargs>${option.hosts}</scriptargs></command>
      <command><jobref name='other' group='ops' nodeStep='true'><arg line='-who ${option.env}' /></jobref></command>
      <command><node-step-plugin type='acme'><configuration><entry key='url' value='https://x/${option.env}' /></configuration></node-step-plugin></command>
    </sequence>
  </job>
</joblist>";

    fn one(text: &str, format: Format) -> Imported {
        jobs(text, format, "keys/k").unwrap().remove(0)
    }

    #[test]
    fn the_same_job_in_xml_is_the_same_job() {
        let (xml, yaml) = (one(XML, Format::Xml), one(YAML, Format::Yaml));
        assert_eq!(xml.faults, []);
        assert_eq!(xml.source, yaml.source);
        assert_eq!(xml.notices, yaml.notices);
    }

    #[test]
    fn flags_are_what_they_say() {
        let source = |flag: &str| {
            let text = format!(
                "<joblist><job><name>j</name><context><options><option name='a' required='{flag}'/></options></context>\
                 <sequence><command><exec>x</exec></command></sequence></job></joblist>"
            );
            one(&text, Format::Xml).source.unwrap()
        };
        assert!(source("true").contains("required: true") && !source("false").contains("required"));
    }

    #[test]
    fn other_documents_are_refused() {
        for text in ["<project/>", "<!DOCTYPE joblist><joblist/>", "- name: x", "<joblist>"] {
            assert!(jobs(text, Format::Xml, "keys/k").is_err(), "{text}");
        }
        assert_eq!(jobs("<joblist/>", Format::Xml, "keys/k").unwrap().len(), 0);
    }
}
