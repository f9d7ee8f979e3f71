use proptest::prelude::*;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(cron: &str, zone: &str, missed: Missed) -> Schedule {
    Schedule {
        name: "nightly".parse().unwrap(),
        cron: Cron::new(cron).unwrap(),
        zone: Zone::new(zone).unwrap(),
        missed,
        options: BTreeMap::new(),
    }
}

#[test]
fn times_follow_the_zone_through_the_changes_of_its_clocks() {
    fn check(cron: &str, zone: &str, after: &str, expect: &[&str]) {
        let schedule = schedule(cron, zone, Missed::Skip);
        let mut at = time(after);
        for expected in expect {
            let next = schedule.next(at).unwrap();
            assert_eq!(next.to_seconds_text(), *expected, "{cron} {zone} after {at}");
            assert!(schedule.fires_at(next), "{cron} {zone} {next}");
            at = next;
        }
    }
    check("0 3 * * *", "UTC", "2026-11-20T03:00:00Z", &["2026-11-21T03:00:00Z"]);
    check("0 3 * * *", "UTC", "2026-11-20T02:59:59.999Z", &["2026-11-20T03:00:00Z"]);
    check("0 3 * * 1-5", "UTC", "2026-11-20T03:00:00Z", &["2026-11-23T03:00:00Z"]);
    check("0 12 * * mon", "Asia/Kolkata", "2026-11-20T00:00:00Z", &["2026-11-23T06:30:00Z"]);
    // 02:30 does not exist on 29 March: the first moment that does.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-27T12:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    // 02:30 comes twice on 25 October: the first of both.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    // What runs every half an hour does so through both changes.
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-25T00:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"],
    );
    check(
        "*/30 * * * *",
        "America/New_York",
        "2026-03-08T06:00:00Z",
        &["2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z"],
    );
    // A change of half an hour.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-02T00:00:00Z",
        &["2026-10-02T15:45:00Z", "2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
    );
    // Seconds first, years last, the last day of a month, leap days.
    check("15 0 3 * * *", "UTC", "2026-11-20T03:00:00Z", &["2026-11-20T03:00:15Z"]);
    check("0 0 3 1 1 * 2030", "UTC", "2026-11-20T03:00:00Z", &["2030-01-01T03:00:00Z"]);
    check("0 0 L * *", "UTC", "2026-02-01T00:00:00Z", &["2026-02-28T00:00:00Z"]);
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
}

#[test]
fn what_is_no_schedule_is_refused_with_the_reason() {
    fn check(cron: &str, expect: &str) {
        let message = Cron::new(cron).unwrap_err().to_string();
        assert!(message.contains(expect), "{cron}: {message}");
    }
    check("", "is not a cron expression");
    check("0 3 * *", "is not a cron expression");
    check("61 3 * * *", "is not a cron expression");
    check("0 3 * * * * * *", "is not a cron expression");
    check("at noon", "is not a cron expression");
    check("0 0 30 2 *", "never fires");
    check("0 0 31 4,6,9,11 *", "never fires");
    check("0 0 0 1 1 * 2020", "never fires");
    check("* * * * * *", "more often than every 10 s");
    check("*/5 * * * * *", "more often than every 10 s");
    check("0 0 ٣ * *", "not ASCII");
    check(&"1,".repeat(100), "more than 128 bytes");
    assert!(Cron::new("*/10 * * * * *").is_ok());
    for zone in ["", "Mars/Olympus", "../../etc/passwd", "+01:00", &"a".repeat(200)] {
        let message = Zone::new(zone).unwrap_err().to_string();
        assert!(message.contains("is not a time zone"), "{message}");
    }
    assert_eq!(Zone::new("europe/berlin").unwrap().as_str(), "Europe/Berlin");
}

#[test]
fn missed_times_follow_the_policy() {
    fn check(missed: Missed, done: &str, now: &str, fires: &[&str], skipped: Option<&str>) {
        let due = schedule("0 * * * *", "UTC", missed).due(time(done), time(now));
        let shown: Vec<_> = due.fires.iter().map(|at| at.to_seconds_text()).collect();
        assert_eq!(shown, fires, "{missed:?} {done} {now}");
        assert_eq!(due.skipped, skipped.map(time), "{missed:?} {done} {now}");
    }
    let (down, up) = ("2026-11-20T03:00:00Z", "2026-11-20T06:30:00Z");
    check(Missed::Skip, down, up, &[], Some("2026-11-20T06:00:00Z"));
    check(Missed::Once, down, up, &["2026-11-20T06:00:00Z"], Some("2026-11-20T05:00:00Z"));
    check(
        Missed::All(2),
        down,
        up,
        &["2026-11-20T05:00:00Z", "2026-11-20T06:00:00Z"],
        Some("2026-11-20T04:00:00Z"),
    );
    check(
        Missed::All(3),
        down,
        up,
        &["2026-11-20T04:00:00Z", "2026-11-20T05:00:00Z", "2026-11-20T06:00:00Z"],
        None,
    );
    // What is only just due is not missed, whatever the policy.
    for missed in [Missed::Skip, Missed::Once, Missed::All(5)] {
        check(missed, down, "2026-11-20T04:00:59Z", &["2026-11-20T04:00:00Z"], None);
        check(missed, down, "2026-11-20T03:59:59Z", &[], None);
        // What was decided is not decided again, even if the clock went back.
        check(missed, "2026-11-20T04:00:00Z", "2026-11-20T04:00:59Z", &[], None);
        check(missed, "2026-11-20T04:00:00Z", "2026-11-20T03:00:30Z", &[], None);
    }
    // A missed one and one that is due now.
    check(
        Missed::Once,
        "2026-11-20T01:00:00Z",
        "2026-11-20T04:00:10Z",
        &["2026-11-20T03:00:00Z", "2026-11-20T04:00:00Z"],
        Some("2026-11-20T02:00:00Z"),
    );
}

#[test]
fn a_schedule_has_one_form() {
    fn check(text: &str) {
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
    }
    check(r#"{"name":"a","cron":"0 3 * * *","missed":"skip"}"#);
    check(
        r#"{"name":"a","cron":"0 3 * * *","zone":"Europe/Berlin","missed":{"all":3},"options":{"service":"web"}}"#,
    );
    assert_eq!(
        Zone::new("Europe/Berlin").unwrap().shown(time("2026-11-20T03:00:00Z")),
        "2026-11-20T04:00:00+01:00"
    );
    assert_eq!(
        Zone::new("America/New_York").unwrap().shown(time("2026-11-20T03:00:00Z")),
        "2026-11-19T22:00:00-05:00"
    );
}

proptest! {
    /// However often somebody looks, and however unevenly, each time is given once, and none is invented.
    #[test]
    fn each_time_is_run_once(
        cron in prop::sample::select(vec!["*/7 * * * *", "30 2 * * *", "0 0 1 * *", "*/20 1-3 * * *"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        // Around the changes of 2026, in steps of up to a minute: nothing is missed.
        start in prop::sample::select(vec![1_774_740_000_000_u64, 1_792_880_000_000, 1_790_950_000_000, 1_772_930_000_000]),
        steps in prop::collection::vec(1_u64..60_000, 1..400),
    ) {
        let schedule = schedule(cron, zone, Missed::Skip);
        let (mut done, mut now) = (Timestamp::from_millis(start), start);
        let mut fired = Vec::new();
        for step in steps {
            now += step;
            let due = schedule.due(done, Timestamp::from_millis(now));
            prop_assert_eq!(due.skipped, None);
            done = due.fires.last().copied().unwrap_or(done);
            fired.extend(due.fires);
        }
        let mut expected = Vec::new();
        let mut at = Timestamp::from_millis(start);
        while let Some(next) = schedule.next(at).filter(|next| next.as_millis() <= now) {
            prop_assert!(next > at);
            expected.push(next);
            at = next;
        }
        prop_assert_eq!(fired, expected);
    }

    /// `previous` is the other direction of `next`.
    #[test]
    fn back_is_forth(cron in prop::sample::select(vec!["*/7 * * * *", "15 4 * * 1", "*/15 * * * * *"]), at in 1_770_000_000_000_u64..1_800_000_000_000) {
        let cron = Cron::new(cron).unwrap();
        let zone = Zone::default();
        let at = Timestamp::from_millis(at);
        let next = cron.next(&zone, at).unwrap();
        prop_assert_eq!(cron.previous(&zone, next).unwrap(), next);
        let before = cron.previous(&zone, at).unwrap();
        prop_assert!(before <= at);
        prop_assert_eq!(cron.next(&zone, before).unwrap(), next);
    }
}
