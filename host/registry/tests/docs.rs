//! The table of limits in `docs/model.md` is the table in code.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use aegis_registry::manifest::Limits;

const BEGIN: &str =
    "<!-- limits: written by `UPDATE_DOCS=1 cargo test -p aegis-registry --test docs` -->\n";
const END: &str = "<!-- end of limits -->";

#[test]
fn the_page_has_the_limits_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/model.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let rows: String = Limits::TABLE
        .iter()
        .map(|row| {
            format!(
                "| `{}` | {} | {} | {} | {} | {} |\n",
                row.key, row.default, row.ceiling, row.min, row.max, row.doc
            )
        })
        .collect();
    let head = "| key | default | ceiling | least | most | what |\n|---|---|---|---|---|---|\n";
    let right = format!("{before}{BEGIN}{head}{rows}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, right).unwrap();
    } else if page != right {
        panic!(
            "docs/model.md is not as the code has it; \
             UPDATE_DOCS=1 cargo test -p aegis-registry --test docs writes it"
        );
    }
}
