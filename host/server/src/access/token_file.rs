//! [`TokenFile`]: the tokens of a file, kept as the file is while the server runs.
//!
//! What cannot be understood changes nothing: the tokens that were there go on holding, and the
//! log says why. A role that was once asked for stays asked for while the server runs, also
//! when its last token goes: taking a token away must never let more people in.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

use super::{Authenticator, InvalidLine, Principal, Role, Roles, Token, Tokens};

/// The largest file. A thousand lines with long names and a comment each take a fifth of it.
const MAX_BYTES: u64 = 1 << 20;

/// How often the file is looked at: how long a token that was taken away may still hold.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a tokens file cannot be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error(
        "{}: {source}; it must be a file that this user can read (`aegis token new --append {}` \
         makes one)", path.display(), path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{}: not a file; it must be one, as it is read again when it changes", .0.display())]
    NotAFile(PathBuf),
    /// Anyone on this machine can write it.
    #[error(
        "{}: anyone can write it (mode {mode:04o}), and so let themselves in; \
         chmod o-w it", path.display()
    )]
    WorldWritable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no list of tokens by its size.
    #[error("{}: larger than {MAX_BYTES} bytes, the most that a tokens file may have", .0.display())]
    TooLarge(PathBuf),
    /// It is not text.
    #[error("{}: not UTF-8; it must be text, a line a token", .0.display())]
    NotText(PathBuf),
    /// A line is not understood.
    #[error("{}, {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        source: InvalidLine,
    },
    /// It has no token.
    #[error(
        "{}: no token is in it; make one with `aegis token new --name NAME --role manage --append {}`, \
         or start without --tokens", .0.display(), .0.display()
    )]
    Empty(PathBuf),
}

/// The tokens of a file, read again when it changes.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    now: RwLock<Arc<Now>>,
    /// What was last found: the file's text, or why there was none. The same is not told twice.
    seen: Mutex<Result<String, String>>,
}

/// What holds now.
#[derive(Debug)]
struct Now {
    tokens: Tokens,
    /// Every role that was asked for since the start.
    asked: Roles,
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, others can write it, a line is not understood, or it has no token.
    pub fn open(path: &Path) -> Result<TokenFile, TokenFileError> {
        let text = read(path)?;
        let tokens = parse(path, &text)?;
        if tokens.is_empty() {
            return Err(TokenFileError::Empty(path.to_owned()));
        }
        let asked = tokens.roles();
        Ok(TokenFile {
            path: path.to_owned(),
            now: RwLock::new(Arc::new(Now { tokens, asked })),
            seen: Mutex::new(Ok(text)),
        })
    }

    /// The tokens in a file, which may be empty or not there yet: for who is about to add one.
    ///
    /// # Errors
    /// As [`TokenFile::open`].
    pub fn tokens_in(path: &Path) -> Result<Tokens, TokenFileError> {
        match read(path) {
            Ok(text) => parse(path, &text),
            Err(TokenFileError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(Tokens::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Looks at the file every second, for ever.
    pub(crate) async fn watch(self: Arc<Self>) -> Infallible {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let file = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || file.refresh()).await {
                tracing::error!(%error, "the tokens file was not looked at");
            }
        }
    }

    /// Takes over what the file says now. It is read whole each time: times and sizes of files
    /// can stay the same when the text does not. Blocks.
    fn refresh(&self) {
        let found = read(&self.path).map_err(|error| error.to_string());
        let mut seen = self.seen.lock();
        if *seen == found {
            return;
        }
        let tokens = match &found {
            Ok(text) => parse(&self.path, text).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        *seen = found;
        drop(seen);
        match tokens {
            Ok(tokens) => {
                tracing::info!(
                    tokens = tokens.lines().len(),
                    manage = tokens.count(Role::Manage),
                    predict = tokens.count(Role::Predict),
                    "the tokens file changed and was read again"
                );
                let mut now = self.now.write();
                let asked = now.asked.and(tokens.roles());
                *now = Arc::new(Now { tokens, asked });
            }
            Err(error) => tracing::error!(
                "the tokens file changed and cannot be used, so the tokens of before still hold: \
                 {error}"
            ),
        }
    }

    fn now(&self) -> Arc<Now> {
        Arc::clone(&self.now.read())
    }
}

impl Authenticator for TokenFile {
    fn asks(&self, role: Role) -> bool {
        self.now.read().asked.has(role)
    }

    fn principal(&self, bearer: &str) -> Option<Arc<Principal>> {
        let token: Token = bearer.parse().ok()?;
        self.now().tokens.principal(&token).cloned()
    }
}

/// The file's text, within bounds.
fn read(path: &Path) -> Result<String, TokenFileError> {
    let unreadable = |source| TokenFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Before it is opened, which of a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(TokenFileError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(TokenFileError::WorldWritable {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(TokenFileError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| TokenFileError::NotText(path.to_owned()))
}

fn parse(path: &Path, text: &str) -> Result<Tokens, TokenFileError> {
    text.parse().map_err(|source| TokenFileError::Line {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Kept {
        folder: tempfile::TempDir,
    }

    impl Kept {
        fn new() -> Kept {
            Kept {
                folder: tempfile::tempdir().unwrap(),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("tokens")
        }

        fn write(&self, text: &str) {
            std::fs::write(self.path(), text).unwrap();
        }

        /// As an editor or Kubernetes changes a file: another takes its name.
        fn replace(&self, text: &str) {
            let other = self.folder.path().join("other");
            std::fs::write(&other, text).unwrap();
            std::fs::rename(other, self.path()).unwrap();
        }
    }

    fn token(roles: &str) -> (Token, String) {
        let token = Token::generate().unwrap();
        let line = format!("{roles} someone {}\n", token.hash());
        (token, line)
    }

    fn knows(file: &TokenFile, token: &Token) -> bool {
        file.principal(token.reveal()).is_some()
    }

    #[test]
    fn a_token_added_holds_and_a_token_removed_does_not() {
        let kept = Kept::new();
        let ((ann, anns), (bob, bobs)) = (token("manage"), token("manage"));
        kept.write(&anns);
        let file = TokenFile::open(&kept.path()).unwrap();
        kept.replace(&format!("{anns}{bobs}"));
        file.refresh();
        assert!(knows(&file, &ann) && knows(&file, &bob));
        kept.write(&bobs);
        file.refresh();
        assert!(!knows(&file, &ann) && knows(&file, &bob));
    }

    #[test]
    fn a_file_that_breaks_leaves_the_tokens_as_they_were() {
        let kept = Kept::new();
        let (ann, anns) = token("manage");
        kept.write(&anns);
        let file = TokenFile::open(&kept.path()).unwrap();
        for broken in ["nonsense", &format!("{anns}{anns}")] {
            kept.write(broken);
            file.refresh();
            assert!(knows(&file, &ann), "{broken}");
        }
        std::fs::remove_file(kept.path()).unwrap();
        file.refresh();
        assert!(knows(&file, &ann));
        // And it is read again when it is well.
        let (bob, bobs) = token("manage");
        kept.write(&bobs);
        file.refresh();
        assert!(!knows(&file, &ann) && knows(&file, &bob));
    }

    #[test]
    fn the_last_token_of_a_role_leaves_the_door_shut() {
        let kept = Kept::new();
        let (ann, anns) = token("manage,predict");
        kept.write(&anns);
        let file = TokenFile::open(&kept.path()).unwrap();
        kept.write("# nobody\n");
        file.refresh();
        assert!(!knows(&file, &ann));
        assert!(file.asks(Role::Manage) && file.asks(Role::Predict));
    }

    #[test]
    fn a_role_is_asked_for_from_its_first_token_on() {
        let kept = Kept::new();
        let ((_, manage), (_, predict)) = (token("manage"), token("predict"));
        kept.write(&manage);
        let file = TokenFile::open(&kept.path()).unwrap();
        assert!(file.asks(Role::Manage) && !file.asks(Role::Predict));
        kept.write(&format!("{manage}{predict}"));
        file.refresh();
        assert!(file.asks(Role::Predict));
    }

    #[test]
    fn a_file_that_anyone_can_write_is_refused_and_one_that_anyone_can_read_is_not() {
        let kept = Kept::new();
        kept.write(&token("manage").1);
        let set = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(kept.path(), mode).unwrap();
        };
        set(0o666);
        let told = TokenFile::open(&kept.path()).unwrap_err().to_string();
        assert!(
            told.contains("mode 0666") && told.contains("chmod o-w"),
            "{told}"
        );
        set(0o664);
        TokenFile::open(&kept.path()).unwrap();
    }

    #[test]
    fn what_is_no_tokens_file_is_refused_with_its_reason() {
        let kept = Kept::new();
        let told = || TokenFile::open(&kept.path()).unwrap_err().to_string();
        assert!(told().contains("aegis token new --append"), "{}", told());
        kept.write("# nobody yet\n");
        assert!(told().contains("no token is in it"), "{}", told());
        kept.write("manage\n");
        assert!(told().contains("tokens, line 1: "), "{}", told());
        std::fs::write(kept.path(), [0xff]).unwrap();
        assert!(told().contains("not UTF-8"), "{}", told());
        kept.write(&"#".repeat(MAX_BYTES as usize + 1));
        assert!(told().contains("larger than"), "{}", told());
        let folder = TokenFile::open(kept.folder.path()).unwrap_err().to_string();
        assert!(folder.contains("not a file"), "{folder}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_within_a_second() {
        let kept = Kept::new();
        let ((_, anns), (bob, bobs)) = (token("manage"), token("manage"));
        kept.write(&anns);
        let file = Arc::new(TokenFile::open(&kept.path()).unwrap());
        let watching = tokio::spawn(Arc::clone(&file).watch());
        tokio::time::sleep(Duration::from_millis(10)).await;
        kept.write(&bobs);
        assert!(!knows(&file, &bob));
        tokio::time::sleep(LOOK_EVERY).await;
        // The look itself is on a thread; time that is paused waits for it.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(knows(&file, &bob));
        watching.abort();
    }
}
