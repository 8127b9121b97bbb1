//! What must go together so that nobody manages models whom the operator did not let in.

use aegis_server::access::{Authenticator as _, Role, TokenFile};

use super::ServeSettings;
use super::error::Problem;
use super::form::Management;

/// Compares where management can be reached with who has a token for it. `origin` says where a
/// setting was read.
pub(super) fn check(
    settings: &ServeSettings,
    origin: impl Fn(&str) -> String,
    problems: &mut Vec<Problem>,
) {
    let mut refuse = |text| problems.push(Problem::Conflict(text));
    let for_managers = match settings.tokens.as_deref().map(TokenFile::open) {
        None => false,
        Some(Ok(tokens)) => tokens.asks(Role::Manage),
        Some(Err(error)) => {
            refuse(format!("{}: {error}", origin("tokens")));
            // What else would be said depends on what the file was to say.
            return;
        }
    };
    let authorization = |name: &String| name == "authorization";
    if settings.tokens.is_some() && settings.forward_headers.iter().any(authorization) {
        refuse(format!(
            "{}: handlers would see the tokens of those who call them; leave `authorization` out, \
             or start without tokens ({})",
            origin("forward_headers"),
            origin("tokens"),
        ));
    }
    let (key, address) = match (settings.management, settings.admin_listen) {
        (Management::Off, None) => return,
        (Management::Off, Some(_)) => {
            return refuse(format!(
                "{}: there is nothing to listen for, as management is off ({}); set one of them only",
                origin("admin_listen"),
                origin("management"),
            ));
        }
        (Management::On, Some(address)) => ("admin_listen", address),
        (Management::On, None) => ("listen", settings.listen),
    };
    if address.ip().is_loopback() || for_managers {
        return;
    }
    let missing = match &settings.tokens {
        None => "no tokens are asked for".to_owned(),
        Some(path) => format!(
            "no token in {} has the role `manage`, so none is asked for",
            path.display()
        ),
    };
    let port = address.port();
    let elsewhere = match key {
        "listen" => format!(
            "give management a listener that only this machine reaches (--admin-listen 127.0.0.1:{})",
            // Beside the main port, where it fits.
            port.checked_add(1).unwrap_or(port),
        ),
        _ => format!("listen for it on this machine only (--admin-listen 127.0.0.1:{port})"),
    };
    refuse(format!(
        "{}: {address} can be reached from outside, and there the routes that manage models would \
         be open to all, as {missing}; make a token (aegis token new --name NAME --role manage \
         --append FILE) and name its file (--tokens FILE), or {elsewhere}, or turn management off \
         (--management off, AEGIS_MANAGEMENT=off, or management = \"off\"), or listen on a \
         loopback address such as 127.0.0.1:{port}",
        origin(key),
    ));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::super::tests::resolve;

    /// A tokens file with one token of these roles, its folder, and its path.
    fn tokens(roles: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let hash = "0".repeat(64);
        std::fs::write(&path, format!("{roles} ann sha256:{hash}\n")).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (folder, path)
    }

    fn told(flags: &[&str]) -> Option<String> {
        resolve(flags, &[]).err().map(|error| error.to_string())
    }

    #[test]
    fn management_for_other_machines_needs_a_token_for_it() {
        let (_one, manage) = tokens("manage");
        let (_two, predict) = tokens("predict");
        for open in ["--listen", "--admin-listen"] {
            let open = [open, "192.0.2.1:80"];
            assert!(told(&open).is_some_and(|told| told.contains("no tokens are asked for")));
            let predict = [&open[..], &["--tokens", &predict]].concat();
            assert!(told(&predict).is_some_and(|told| told.contains("has the role `manage`")));
            let manage = [&open[..], &["--tokens", &manage]].concat();
            assert_eq!(told(&manage), None);
        }
        let apart = ["--listen", "192.0.2.1:80", "--admin-listen", "127.0.0.1:81"];
        assert_eq!(told(&apart), None);
    }

    #[test]
    fn the_way_on_is_told_with_a_port_that_is_one() {
        for (listen, way_on) in [
            ("0.0.0.0:8000", "--admin-listen 127.0.0.1:8001"),
            ("0.0.0.0:65535", "--admin-listen 127.0.0.1:65535"),
        ] {
            let told = told(&["--listen", listen]).unwrap();
            assert!(told.contains(way_on), "{told}");
        }
    }

    #[test]
    fn a_listener_for_what_is_off_is_a_mistake() {
        let flags = ["--admin-listen", "127.0.0.1:81", "--management", "off"];
        let told = told(&flags).unwrap();
        assert!(told.starts_with("flag --admin-listen: "), "{told}");
        assert!(told.contains("flag --management"), "{told}");
    }

    #[test]
    fn a_tokens_file_that_is_not_right_is_told_with_where_it_was_named() {
        let told = told(&["--listen", "0.0.0.0:80", "--tokens", "/nowhere"]).unwrap();
        assert!(told.starts_with("flag --tokens: /nowhere: "), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }

    #[test]
    fn handlers_are_not_to_see_tokens() {
        let (_folder, path) = tokens("predict");
        let forward = ["--forward-headers", "accept,Authorization"];
        assert_eq!(told(&forward), None);
        let forward = [&forward[..], &["--tokens", &path]].concat();
        assert!(told(&forward).is_some_and(|told| told.contains("handlers would see")));
    }
}
