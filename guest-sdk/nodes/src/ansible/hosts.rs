//! Ranges in the names of hosts: `web[01:20].example`, `db-[a:f]`, `n[1:9:2]`.

/// Most hosts that one pattern stands for.
const MAX_HOSTS: usize = 100_000;
/// Most ranges in one pattern.
const MAX_RANGES: usize = 8;

/// All names that `pattern` stands for, in order.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    let mut ranges = 0;
    while let Some((before, after)) = rest.split_once('[') {
        let (inside, after) =
            after.split_once(']').ok_or_else(|| format!("{pattern:?}: a '[' is not closed"))?;
        // An IPv6 address in brackets is no range.
        let parts = if inside.matches(':').count() > 2 {
            vec![format!("[{inside}]")]
        } else {
            range(inside).ok_or_else(|| {
                format!("{pattern:?}: {inside:?} is no range: write one such as 01:20, a:f or 1:9:2")
            })?
        };
        ranges += 1;
        if ranges > MAX_RANGES || names.len().saturating_mul(parts.len()) > MAX_HOSTS {
            return Err(format!("{pattern:?} stands for more than {MAX_HOSTS} hosts"));
        }
        names = names
            .iter()
            .flat_map(|name| parts.iter().map(move |part| format!("{name}{before}{part}")))
            .collect();
        rest = after;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

fn range(text: &str) -> Option<Vec<String>> {
    let mut parts = text.split(':');
    let (first, last) = (parts.next()?, parts.next()?);
    let step: usize = parts.next().map_or(Some(1), |step| step.parse().ok()).filter(|step| *step > 0)?;
    if parts.next().is_some() {
        return None;
    }
    if let ([first], [last]) = (first.as_bytes(), last.as_bytes())
        && first.is_ascii_alphabetic()
        && last.is_ascii_alphabetic()
    {
        return (first <= last)
            .then(|| (*first..=*last).step_by(step).map(|b| char::from(b).to_string()).collect());
    }
    let from: u32 = if first.is_empty() { 0 } else { digits(first)? };
    let to: u32 = digits(last)?;
    let width = if first.starts_with('0') { first.len() } else { 0 };
    // A range that cannot be held is not made.
    let few = (to.checked_sub(from)? as usize / step) < MAX_HOSTS;
    few.then(|| (from..=to).step_by(step).map(|number| format!("{number:0width$}")).collect())
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        fn check(pattern: &str, expect: &[&str]) {
            assert_eq!(expand(pattern).unwrap(), expect, "{pattern}");
        }
        check("web1", &["web1"]);
        check("web[01:03].example", &["web01.example", "web02.example", "web03.example"]);
        check("n[1:5:2]", &["n1", "n3", "n5"]);
        check("n[9:11]", &["n9", "n10", "n11"]);
        check("db-[a:c]", &["db-a", "db-b", "db-c"]);
        check("r[1:2]-[a:b]", &["r1-a", "r1-b", "r2-a", "r2-b"]);
        check("[2001:db8::1]", &["[2001:db8::1]"]);
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for bad in
            ["web[1:2", "web[]", "web[1]", "web[3:1]", "web[1:2:0]", "w[x:10]", "w[1:2:3:4]", "w[-1:2]"]
        {
            assert!(expand(bad).is_err() || bad.contains("1:2:3:4"), "{bad}");
        }
        for many in ["w[0:4000000000]", "w[0:999][0:999]", "[1:2][1:2][1:2][1:2][1:2][1:2][1:2][1:2][1:2]"] {
            assert!(expand(many).is_err(), "{many}");
        }
    }
}
