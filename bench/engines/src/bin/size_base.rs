//! Reads a file and prints its length: what a program weighs with no engine in it.

fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    println!("{}", std::fs::read(path)?.len());
    Ok(())
}
