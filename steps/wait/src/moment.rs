//! Points in time after RFC 3339, as milliseconds since the beginning of 1970.

/// Reads one; none for any other text. A leap second is the second after it.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let right = date.next().is_none()
        && clock.next().is_none()
        && text.len() >= 20
        && (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let thousandths = format!("{fraction:0<3}").get(..3).and_then(number)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    right.then_some(seconds * 1000 + thousandths)
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (zone.len() == 6 && hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the beginning of 1970.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let whole = (year - 1970) * 365 + leaps(before) - leaps(1969);
    whole + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_read() {
        fn check(text: &str, expect: Option<i64>) {
            assert_eq!(parse(text), expect, "{text}");
        }
        check("1970-01-01T00:00:00Z", Some(0));
        check("2000-03-01T00:00:00Z", Some(951_868_800_000));
        check("2026-11-21T07:00:00Z", Some(1_795_244_400_000));
        check("2026-11-21t09:00:00.25+02:00", Some(1_795_244_400_250));
        check("2026-11-21 01:30:00-05:30", Some(1_795_244_400_000));
        check("2024-02-29T23:59:60Z", Some(1_709_251_200_000));
        for bad in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T07:00:00",
            "2026-11-21T07:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T07:00:00+2:00",
            "2026-11-21T07:00:00+02",
            "-026-11-21T07:00:00Z",
            "2026-11-21T07:00:00.Z0",
        ] {
            check(bad, None);
        }
    }
}
