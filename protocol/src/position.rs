//! Where in a text something stands, as people count.

/// Line and column, both from 1, of the byte at `offset` of `text`; columns count characters. An offset within a character or
/// beyond the end is taken for the end.
pub fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(line), number(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_characters_are_counted_from_one() {
        let text = "äb\nc\n\nd";
        for (offset, expect) in
            [(0, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 1)), (6, (3, 1)), (7, (4, 1)), (8, (4, 2))]
        {
            assert_eq!(position(text, offset), expect, "{offset}");
        }
        assert_eq!((position("", 0), position(text, 1), position(text, 99)), ((1, 1), (4, 2), (4, 2)));
    }
}
