//! `aegis token new`: a token for its holder, and the line about it for the tokens file.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use aegis_server::access::{Principal, PrincipalName, Role, Token, TokenFile, TokenLine};
use anyhow::Context as _;
use clap::Subcommand;

use crate::client::print;

/// Make the tokens that a server may ask for (its setting `tokens`).
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make a token. It is printed this once; the tokens file keeps only its hash.
    New(New),
}

#[derive(clap::Args, Debug)]
struct New {
    /// Who is to have it: shown in audit lines and as the author of versions.
    #[arg(long)]
    name: PrincipalName,
    /// What may be done with it; give the flag twice for both.
    #[arg(long = "role", required = true, value_name = "manage|predict")]
    roles: Vec<Role>,
    /// Add the line to this tokens file, made if need be; then only the token is printed.
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::New(new) = args.command;
    let token = Token::generate().context("the system has no randomness to give")?;
    let line = TokenLine {
        principal: Arc::new(Principal {
            name: new.name,
            roles: new.roles.into_iter().collect(),
        }),
        hash: token.hash(),
    };
    let mut told = std::io::stderr();
    match &new.append {
        Some(file) => {
            append(file, &line).with_context(|| format!("adding to {}", file.display()))?;
            print(token.reveal())?;
            writeln!(
                told,
                "aegis: keep the token, it is shown only now; {} has its hash",
                file.display()
            )?;
        }
        None => {
            print(token.reveal())?;
            print(&line.to_string())?;
            writeln!(
                told,
                "aegis: keep the first line, the token, which is shown only now; the second is for \
                 the tokens file"
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds a line to a file that is well, in one write, so that a server that looks meanwhile sees
/// the file without it or with it.
fn append(path: &Path, line: &TokenLine) -> anyhow::Result<()> {
    TokenFile::tokens_in(path)?;
    let open = |make: bool| {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(make)
            .mode(0o600)
            .open(path)
    };
    let mut file = match open(true) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => open(false)?,
        opened => opened?,
    };
    let begin = if ends_in_a_line(&mut file)? { "" } else { "\n" };
    file.write_all(format!("{begin}{line}\n").as_bytes())?;
    Ok(file.sync_all()?)
}

/// Whether what is appended begins a line of its own.
fn ends_in_a_line(file: &mut std::fs::File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn line(name: &str) -> TokenLine {
        let principal = Arc::new(Principal {
            name: name.parse().unwrap(),
            roles: "predict".parse().unwrap(),
        });
        let hash = Token::generate().unwrap().hash();
        TokenLine { principal, hash }
    }

    #[test]
    fn lines_are_added_to_a_file_made_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let lines = [line("a"), line("b")];
        for line in &lines {
            append(&path, line).unwrap();
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(TokenFile::tokens_in(&path).unwrap().lines(), lines);
    }

    #[test]
    fn a_last_line_without_its_end_is_not_run_together_with_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, line("a").to_string()).unwrap();
        append(&path, &line("b")).unwrap();
        assert_eq!(TokenFile::tokens_in(&path).unwrap().lines().len(), 2);
    }

    #[test]
    fn nothing_is_added_to_a_file_that_is_not_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "nonsense\n").unwrap();
        let told = format!("{:#}", append(&path, &line("b")).unwrap_err());
        assert!(told.contains("line 1"), "{told}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense\n");
    }
}
