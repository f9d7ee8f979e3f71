//! Schedules: from Quartz's expressions to those that are read here, and back.
//!
//! Quartz puts seconds first and years last, counts weekdays from Sunday = 1, and wants `?` in one of its two days.

use remit_job::schedule::{Cron, Missed, Schedule, Zone};
use serde_json::{Map, Value};

use crate::{
    job::{Kind, Report, member},
    write::{Tree, map},
    yaml::truthy,
};

/// The last value of each field that a step may run to: seconds, minutes, hours, days, months, weekdays.
const LAST: [u32; 6] = [59, 59, 23, 31, 12, 6];
const WEEKDAY: usize = 5;

/// The job's schedule as a list of one, or nothing.
pub(crate) fn import(job: &Map<String, Value>, report: &mut Report) -> Option<Tree> {
    const PLACE: &str = "schedule";
    let schedule = job.get("schedule").and_then(Value::as_object)?;
    let quartz = quartz(schedule);
    let off = |key: &str| job.get(key).is_some_and(|value| !value.is_null() && !truthy(value));
    if off("scheduleEnabled") || off("executionEnabled") {
        let message = format!("the schedule {quartz:?} was switched off, and is not imported");
        report.add(Kind::Lost, PLACE, message);
        return None;
    }
    let zone = member(job, "timeZone");
    let cron = cron(&quartz).ok_or_else(|| format!("{quartz:?} is no expression of seven fields"));
    let cron = cron.and_then(|text| Cron::new(&text).map_err(|invalid| invalid.to_string()));
    let zone_found = match zone.as_str() {
        "" => Ok(Zone::default()),
        name => Zone::new(name).map_err(|invalid| invalid.to_string()),
    };
    match (cron, zone_found) {
        (Ok(cron), Ok(found)) => {
            let mut members =
                vec![("name".to_owned(), Tree::from("schedule")), ("cron".to_owned(), cron.as_str().into())];
            if zone.is_empty() {
                report.add(
                    Kind::Differs,
                    PLACE,
                    "the times are in UTC; write `zone` if the server had another",
                );
            } else if !found.is_utc() {
                members.push(("zone".to_owned(), found.as_str().into()));
            }
            Some(Tree::List(vec![Tree::Map(members)]))
        }
        (Err(why), _) | (_, Err(why)) => {
            report.add(Kind::Lost, PLACE, format!("the job is not run by the clock: {why}"));
            None
        }
    }
}

/// The expression of a schedule in either form.
fn quartz(schedule: &Map<String, Value>) -> String {
    let crontab = member(schedule, "crontab");
    if !crontab.is_empty() {
        return crontab;
    }
    let part = |outer: &str, key: &str, absent: &str| {
        let inner = schedule.get(outer).and_then(Value::as_object);
        Some(inner.map(|inner| member(inner, key)).unwrap_or_default())
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| absent.to_owned())
    };
    let whole = |key: &str| {
        Some(member(schedule, key)).filter(|text| !text.is_empty()).unwrap_or_else(|| "*".to_owned())
    };
    let [seconds, minute, hour] = ["seconds", "minute", "hour"].map(|key| part("time", key, "0"));
    let (day, weekday) = match (part("dayofmonth", "day", "?"), part("weekday", "day", "*")) {
        (day, _) if day != "?" => (day, "?".to_owned()),
        (_, weekday) => ("?".to_owned(), weekday),
    };
    [seconds, minute, hour, day, whole("month"), weekday, whole("year")].join(" ")
}

/// Quartz's expression with fields as they are here; five where the seconds are 0 and the year is any.
fn cron(quartz: &str) -> Option<String> {
    let fields: Vec<&str> = quartz.trim().split(' ').take(7).collect();
    if fields.len() < 6 || fields.iter().any(|field| field.is_empty()) {
        return None;
    }
    let mut out = Vec::with_capacity(7);
    for (at, field) in fields.iter().take(6).enumerate() {
        let items: Option<Vec<String>> = field.split(',').map(|item| self::item(item, at)).collect();
        out.push(items?.join(","));
    }
    let year = fields.get(6).copied().unwrap_or("*");
    if year != "*" {
        out.push(year.to_owned());
    } else if out[0] == "0" {
        out.remove(0);
    }
    Some(out.join(" "))
}

/// One item of a field: a step from a value on runs to the field's end, weekdays count from 0.
fn item(item: &str, at: usize) -> Option<String> {
    if item == "?" {
        return Some("*".to_owned());
    }
    let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
    let day = |text: &str| shifted(text, at == WEEKDAY, |number| number.checked_sub(1));
    let mut range = match range.split_once('-') {
        Some((first, last)) => format!("{}-{}", day(first)?, day(last)?),
        None => match (range, at) {
            ("L", WEEKDAY) => "6".to_owned(),
            _ => day(range)?,
        },
    };
    if step.is_some() && range != "*" && !range.contains('-') {
        range = format!("{range}-{}", LAST.get(at)?);
    }
    Some(step.map_or(range.clone(), |step| format!("{range}/{step}")))
}

/// A value whose number is a weekday's; `6L` and `6#3` keep what stands behind the number.
fn shifted(text: &str, weekday: bool, by: impl Fn(u32) -> Option<u32>) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if !weekday || end == 0 {
        return Some(text.to_owned());
    }
    Some(format!("{}{}", by(text[..end].parse().ok()?)?, &text[end..]))
}

/// The schedules of a job as Rundeck has them: the first, and what is lost.
pub(crate) fn export(schedules: &[Schedule], report: &mut Report) -> Vec<(String, Tree)> {
    const PLACE: &str = "schedules";
    let [first, more @ ..] = schedules else { return Vec::new() };
    let mut lost = |there: bool, what: &str| {
        if there {
            report.add(Kind::Lost, PLACE, format!("{what}: Rundeck has one schedule without options a job"));
        }
    };
    lost(!more.is_empty(), "all schedules but the first");
    lost(!first.options.is_empty(), "the options of a schedule");
    lost(first.missed != Missed::Skip, "what is done about missed times");
    let Some(quartz) = as_quartz(first.cron.as_str()) else {
        lost(true, "days of the month and of the week together");
        return Vec::new();
    };
    vec![
        ("schedule".to_owned(), map([("crontab", quartz.into())])),
        ("timeZone".to_owned(), first.zone.as_str().into()),
    ]
}

fn as_quartz(cron: &str) -> Option<String> {
    let mut fields: Vec<String> = cron.split_whitespace().map(str::to_owned).collect();
    if fields.len() == 5 {
        fields.insert(0, "0".to_owned());
    }
    if fields.len() == 6 {
        fields.push("*".to_owned());
    }
    let up = |number: u32| Some(number % 7 + 1);
    let day = |item: &str| {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let parts: Option<Vec<String>> = range.split('-').map(|part| shifted(part, true, up)).collect();
        Some(step.map_or(parts.clone()?.join("-"), |step| {
            format!("{}/{step}", parts.unwrap_or_default().join("-"))
        }))
    };
    let weekdays: Option<Vec<String>> = fields.get(WEEKDAY)?.split(',').map(day).collect();
    fields[WEEKDAY] = weekdays?.join(",");
    match (fields[3].as_str(), fields[WEEKDAY].as_str()) {
        (_, "*") => fields[WEEKDAY] = "?".to_owned(),
        ("*", _) => fields[3] = "?".to_owned(),
        _ => return None,
    }
    let quartz = fields.join(" ");
    // The import is the judge: what it would read differently is not written.
    (self::cron(&quartz).as_deref() == Some(cron)).then_some(quartz)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_of_quartz_are_read() {
        fn check(quartz: &str, expect: Option<&str>) {
            let found = cron(quartz);
            assert_eq!(found.as_deref(), expect, "{quartz}");
            if let Some(found) = found {
                Cron::new(&found).unwrap();
                assert_eq!(as_quartz(&found).and_then(|quartz| cron(&quartz)), Some(found), "{quartz}");
            }
        }
        check("0 15 3 ? * MON-FRI *", Some("15 3 * * MON-FRI"));
        check("0 0/15 * * * ? *", Some("0-59/15 * * * *"));
        check("30 0 0 1,15 * ?", Some("30 0 0 1,15 * *"));
        check("0 0 12 ? * 1 2030", Some("0 0 12 * * 0 2030"));
        check("0 0 12 ? * 2-6 *", Some("0 12 * * 1-5"));
        check("0 0 12 L * ? *", Some("0 12 L * *"));
        check("0 0 12 ? * 6#3 *", Some("0 12 * * 5#3"));
        check("0 0 12 ? * L *", Some("0 12 * * 6"));
        check("0 0  12 ? * 1 *", None);
        check("0 0 12 * *", None);
        check("0 0 12 ? * 0 *", None);
    }

    #[test]
    fn both_forms_are_one_schedule() {
        fn check(schedule: Value, expect: &str) {
            assert_eq!(quartz(schedule.as_object().unwrap()), expect);
        }
        check(json!({"crontab": "0 0 1 * * ? *", "time": {"hour": "5"}}), "0 0 1 * * ? *");
        check(
            json!({"time": {"seconds": "0", "minute": "15", "hour": "03"}, "month": "*", "weekday": {"day": "MON"}, "year": "*"}),
            "0 15 03 ? * MON *",
        );
        check(json!({"time": {"hour": "3"}, "dayofmonth": {"day": "1"}}), "0 0 3 1 * ? *");
        check(json!({}), "0 0 0 ? * * *");
    }

    #[test]
    fn what_is_not_run_by_the_clock_is_told() {
        fn check(job: Value, expect: Option<Kind>, there: bool) {
            let mut report = Report::default();
            let found = import(job.as_object().unwrap(), &mut report);
            assert_eq!(found.is_some(), there, "{job}");
            assert_eq!(report.into_notices().first().map(|notice| notice.kind), expect, "{job}");
        }
        let daily = || json!({"crontab": "0 0 1 * * ? *"});
        check(json!({"schedule": daily(), "timeZone": "Europe/Berlin"}), None, true);
        check(json!({"schedule": daily()}), Some(Kind::Differs), true);
        check(json!({"schedule": daily(), "scheduleEnabled": false}), Some(Kind::Lost), false);
        check(json!({"schedule": daily(), "timeZone": "Mars/Base"}), Some(Kind::Lost), false);
        check(json!({"schedule": {"crontab": "0 0 1 30 2 ? *"}}), Some(Kind::Lost), false);
        check(json!({}), None, false);
    }
}
