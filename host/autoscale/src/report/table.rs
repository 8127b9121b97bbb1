//! Columns of text.

/// Rows under a head, each column as wide as its widest cell; numbers' columns to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(head.get(column).map_or(0, |name| name.chars().count()))
    };
    let is_number = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || "–$-<".contains(c)))
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .enumerate()
            .map(|(column, cell)| {
                let pad = " ".repeat(width(column).saturating_sub(cell.chars().count()));
                if is_number(column) {
                    format!("{pad}{cell}")
                } else {
                    format!("{cell}{pad}")
                }
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    let rule: Vec<String> = (0..head.len()).map(|c| "─".repeat(width(c))).collect();
    lines.push(rule.join("  "));
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}
