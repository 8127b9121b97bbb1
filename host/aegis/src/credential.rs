//! The token that client commands send, from the environment or a file; never from a flag, which
//! would show it to everyone who can list processes.

use std::{
    ffi::OsString, io::Write as _, os::unix::fs::MetadataExt as _, path::Path, path::PathBuf,
};

use aegis_server::access::Token;
use anyhow::{Context as _, bail};
use reqwest::Url;

/// The token itself.
pub(crate) const TOKEN: &str = "AEGIS_TOKEN";
/// A file with nothing but the token.
pub(crate) const TOKEN_FILE: &str = "AEGIS_TOKEN_FILE";

/// The largest file that is read for a token.
const MAX_BYTES: u64 = 4096;

/// The token to send: from the file that a flag names, else from [`TOKEN`], else from the file
/// that [`TOKEN_FILE`] names, else none. An empty variable counts as not set.
pub(crate) fn find(
    file: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Option<Token>> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(file) = file {
        return from_file(file).map(Some);
    }
    if let Some(token) = set(TOKEN) {
        // What is wrong is not repeated: it may be a token, mistyped.
        let token = token.to_str().unwrap_or_default().trim().parse();
        return token.map(Some).context(TOKEN);
    }
    match set(TOKEN_FILE) {
        Some(file) => from_file(&PathBuf::from(file)).map(Some),
        None => Ok(None),
    }
}

fn from_file(path: &Path) -> anyhow::Result<Token> {
    let token = || {
        let about = std::fs::metadata(path)?;
        if about.len() > MAX_BYTES {
            bail!("this file is too large to be one of a token");
        }
        if about.is_file() && about.mode() & 0o044 != 0 {
            warn(&format!(
                "others can read {}, which has a token; chmod 600 it",
                path.display()
            ));
        }
        Ok(std::fs::read_to_string(path)?.trim().parse()?)
    };
    token().with_context(|| format!("the token file {}", path.display()))
}

/// Says so if `server` is to get a token where others can listen.
pub(crate) fn warn_if_readable_on_the_way(server: &str) {
    if let Some(host) = exposed_host(server) {
        warn(&format!(
            "the token goes to {host} unencrypted, and whoever listens on the way has it; \
             a tunnel (ssh -L) keeps it secret"
        ));
    }
}

/// The host of a URL that is spoken to in the clear over a network.
fn exposed_host(server: &str) -> Option<String> {
    let url = Url::parse(server).ok()?;
    let host = url.host_str()?;
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let near = host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback());
    (url.scheme() == "http" && !near).then(|| host.to_owned())
}

fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "aegis: {text}");
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn the_flag_goes_over_the_token_and_the_token_over_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let [flag, plain, file] = [(); 3].map(|()| Token::generate().unwrap());
        let write = |name: &str, token: &Token| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{}\n", token.reveal())).unwrap();
            path
        };
        let (by_flag, by_variable) = (write("flag", &flag), write("file", &file));
        let both = |name: &str| -> Option<OsString> {
            match name {
                TOKEN => Some(plain.reveal().into()),
                _ => Some(by_variable.clone().into()),
            }
        };
        let only_file = |name: &str| (name == TOKEN_FILE).then(|| by_variable.clone().into());
        let empty = |_: &str| Some(OsString::new());
        assert_eq!(find(Some(&by_flag), both).unwrap(), Some(flag));
        assert_eq!(find(None, both).unwrap(), Some(plain.clone()));
        assert_eq!(find(None, only_file).unwrap(), Some(file));
        assert_eq!(find(None, empty).unwrap(), None);
    }

    #[test]
    fn a_word_that_is_no_token_is_told_without_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "aegis_hunter2").unwrap();
        let from_file = find(Some(&path), |_| None).unwrap_err();
        let from_variable = find(None, |_| Some("aegis_hunter2".into())).unwrap_err();
        for (error, place) in [(from_file, "the token file"), (from_variable, TOKEN)] {
            let told = format!("{error:#}");
            assert!(told.contains(place) && told.contains("64 digits"), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn only_what_leaves_this_machine_in_the_clear_is_warned_about() {
        for near in [
            "http://127.0.0.1:8000",
            "http://[::1]:8000",
            "http://localhost:8000/x",
            "https://models.example",
        ] {
            assert_eq!(exposed_host(near), None, "{near}");
        }
        for far in [
            "http://models.example:80",
            "http://10.0.0.1",
            "http://[fe80::1]",
        ] {
            assert!(exposed_host(far).is_some(), "{far}");
        }
    }
}
