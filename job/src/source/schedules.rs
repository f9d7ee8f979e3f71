//! `schedules`: at which times a job is run without being asked.

use std::collections::BTreeMap;

use remit_protocol::OptionName;

use super::reader::Reader;
use crate::{
    schedule::{Missed, Schedule, Zone},
    yaml::{Node, Tree},
};

/// How many missed times are made up for where `missed: all` says nothing more.
const MOST: u32 = 10;

pub(super) fn read(reader: &mut Reader, node: &Node) -> Vec<Schedule> {
    let items = reader.list(node, "schedules").iter().enumerate();
    items.filter_map(|(at, item)| schedule(reader, item, &format!("schedules[{at}]"))).collect()
}

fn schedule(reader: &mut Reader, node: &Node, place: &str) -> Option<Schedule> {
    let fields = reader.map(node, place, &["name", "cron", "zone", "missed", "most", "options"])?;
    let at = |key: &str| format!("{place}.{key}");
    let name = reader
        .required(&fields, "name", "write `name: nightly`")
        .and_then(|node| reader.text_as(node, &at("name")));
    let cron = reader
        .required(&fields, "cron", "write `cron: \"0 3 * * *\"`: minute, hour, day, month, weekday")
        .and_then(|node| reader.text_as(node, &at("cron")));
    let zone = fields.get("zone").map(|node| reader.text_as::<Zone>(node, &at("zone")));
    let most = fields.get("most").and_then(|node| reader.count(node, &at("most")));
    let words = &[("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All(most.unwrap_or(MOST)))];
    let missed = fields.get("missed").and_then(|node| reader.word(node, &at("missed"), words));
    let missed = missed.unwrap_or_default();
    if most.is_some() && !matches!(missed, Missed::All(_)) {
        reader.fault(&at("most"), "`most` goes with `missed: all` only", "remove it");
    }
    let options = fields.get("options").map(|node| options(reader, node, &at("options")));
    Some(Schedule {
        name: name?,
        cron: cron?,
        zone: zone.unwrap_or(Some(Zone::default()))?,
        missed,
        options: options.unwrap_or_default(),
    })
}

/// Option values by name. Whether they fit is checked against the job's options later.
fn options(reader: &mut Reader, node: &Node, place: &str) -> BTreeMap<OptionName, serde_json::Value> {
    let Tree::Map(members) = &node.value else {
        reader.fault(
            place,
            format!("this is {}, not a map of values", node.kind()),
            "write `{ service: web }`",
        );
        return BTreeMap::new();
    };
    let mut options = BTreeMap::new();
    for member in members {
        match OptionName::new(member.key.as_str()) {
            Ok(name) => {
                options.insert(name, member.node.to_value());
            }
            Err(invalid) => {
                reader.faults.push(member.mark.fault(
                    place,
                    invalid.to_string(),
                    "name an option of the job",
                ));
            }
        }
    }
    options
}
