//! Times as the daemon writes them, `2026-11-21T17:35:09.123456789Z`, and as it is asked for them: seconds since 1970. Pure.

/// Days from the first of March of the year 0 to the first of January 1970.
const BEFORE_1970: u64 = 719_468;
/// Days of 400 years.
const ERA: u64 = 146_097;

/// Seconds since the beginning of 1970, written out: `2026-11-20T10:00:00Z`.
pub fn written(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that the day that comes and goes is the last one.
    let from_march = days + BEFORE_1970;
    let (era, day_of_era) = (from_march / ERA, from_march % ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// What stands as `since` in the address of a log for the time before a line of it: seconds and billionths, `1795219200.5`.
pub fn since(time: &str) -> Option<String> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let numbers = |text: &str, mark: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text.split(mark).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(whole, ':')?);
    let sound = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if !sound {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA + day_of_era - BEFORE_1970;
    Some(format!("{}.{fraction:0<9}", days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        fn check(seconds: u64, expect: &str) {
            assert_eq!(written(seconds), expect);
            assert_eq!(since(expect), Some(format!("{seconds}.000000000")), "{expect}");
        }
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_709_251_199, "2024-02-29T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(1_795_219_200, "2026-11-21T00:00:00Z");
    }

    #[test]
    fn parts_of_a_second_stay() {
        fn check(time: &str, expect: Option<&str>) {
            assert_eq!(since(time).as_deref(), expect, "{time}");
        }
        check("2026-11-21T00:00:00.123456789Z", Some("1795219200.123456789"));
        check("2026-11-21T00:00:00.5Z", Some("1795219200.500000000"));
        for odd in [
            "",
            "Z",
            "2026-11-21T00:00:00",
            "2026-11-21T00:00:00+01:00",
            "2026-11-21 00:00:00Z",
            "2026-13-21T00:00:00Z",
            "2026-11-21T25:00:00Z",
            "0001-01-01T00:00:00Z",
            "2026-11-21T00:00:00.Z",
            "2026-11-21T00:00:00.1234567890Z",
        ] {
            check(odd, None);
        }
    }
}
