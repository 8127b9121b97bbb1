//! The other commands of the program, as a person or a script uses them.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use super::{BINARY, root};

/// A command to run.
pub(crate) struct Aegis {
    words: Vec<String>,
    variables: Vec<(String, String)>,
    input: String,
}

impl Aegis {
    pub(crate) fn new(words: &[&str]) -> Aegis {
        Aegis {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            variables: Vec::new(),
            input: String::new(),
        }
    }

    /// With this in its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Aegis {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this to read.
    pub(crate) fn input(mut self, input: &str) -> Aegis {
        self.input = input.to_owned();
        self
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Output {
        let running = move || {
            let mut command = Command::new(BINARY);
            // What the tester's shell sets is not what is tested.
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("AEGIS_") {
                    command.env_remove(name);
                }
            }
            let mut child = command
                .args(self.words)
                .envs(self.variables)
                .current_dir(root())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program starts");
            // Who does not read its input may be gone by now.
            let _ = child
                .stdin
                .take()
                .expect("a pipe")
                .write_all(self.input.as_bytes());
            child.wait_with_output().expect("its end")
        };
        let ended = tokio::task::spawn_blocking(running).await;
        ended.expect("no panic")
    }
}

/// What a command printed, which must have succeeded.
#[track_caller]
pub(crate) fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// What a command complained of, which must have failed.
#[track_caller]
pub(crate) fn complained(output: &Output) -> String {
    let complaint = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.starts_with("aegis: "), "{complaint}");
    complaint
}
