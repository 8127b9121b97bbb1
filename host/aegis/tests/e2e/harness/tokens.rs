//! A tokens file, kept with the program's own command.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Aegis, Start, command::said};

/// A tokens file.
pub(crate) struct Tokens(TempDir);

impl Tokens {
    /// One that is not there yet.
    pub(crate) fn new() -> Tokens {
        Tokens(TempDir::new().expect("a folder"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("tokens")
    }

    /// The path as a flag's value.
    pub(crate) fn flag(&self) -> String {
        self.path().to_str().expect("UTF-8").to_owned()
    }

    /// A token more; `roles` as in the file.
    pub(crate) async fn add(&self, name: &str, roles: &str) -> String {
        let path = self.flag();
        let mut words = vec!["token", "new", "--name", name, "--append", &path];
        for role in roles.split(',') {
            words.extend(["--role", role]);
        }
        let token = said(&Aegis::new(&words).run().await);
        token.trim_end().to_owned()
    }

    /// Takes away every token of somebody.
    pub(crate) fn remove(&self, name: &str) {
        let others = self.text();
        let others = others
            .lines()
            .filter(|line| line.split_whitespace().nth(1) != Some(name));
        self.write(&others.map(|line| format!("{line}\n")).collect::<String>());
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.path()).expect("the tokens file")
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.path(), text).expect("the tokens file");
    }

    /// A server that asks for them.
    pub(crate) fn start(&self) -> Start {
        Start::new().flag("--tokens", &self.flag())
    }
}
