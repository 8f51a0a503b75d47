//! Rows of cells, aligned as Docker aligns them.

/// Columns are at least this wide …
const NARROWEST: usize = 10;
/// … and at least this far apart.
const GAP: usize = 3;

/// Aligns lines whose cells end in tabs. What follows a line's last tab is not padded.
pub(crate) fn align(text: &str) -> String {
    align_wide(text, NARROWEST)
}

/// The same with columns of another width at least.
pub(crate) fn align_wide(text: &str, narrowest: usize) -> String {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![narrowest; columns];
    for row in &rows {
        // A line's last cell does not push anything to the right.
        for (width, cell) in widths.iter_mut().zip(&row[..row.len() - 1]) {
            *width = (*width).max(cell.chars().count() + GAP);
        }
    }
    let mut result = String::with_capacity(text.len() * 2);
    for row in rows {
        let last = row.len() - 1;
        for (cell, width) in row[..last].iter().zip(&widths) {
            result.push_str(cell);
            result.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        result.push_str(row[last]);
        result.push('\n');
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_as_docker_aligns_them() {
        let text =
            "REPOSITORY\tTAG\tIMAGE ID\nhelloworld\tlatest\t0123456789ab\n<none>\t<none>\tx\n";
        expect_test::expect![[r"
            REPOSITORY   TAG       IMAGE ID
            helloworld   latest    0123456789ab
            <none>       <none>    x
        "]]
        .assert_eq(&align(text));
        assert_eq!(align(""), "");
        assert_eq!(align("\t\n"), "          \n");
        assert_eq!(
            align("ä\tb\nlong long long\tb"),
            "ä                b\nlong long long   b\n"
        );
    }
}
