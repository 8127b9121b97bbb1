//! `aegis sign DIR --key FILE`: signs a package, as OpenSSF Model Signing does with a key.

use std::path::PathBuf;

use aegis_registry::{PrivateKey, SIGNATURE_FILE, sign};
use anyhow::Context as _;
use serde_json::json;

use super::package::Folder;
use crate::client::{Output, print, print_json};

/// Sign a model package: every file of its folder. Writes model.sig beside model.toml, which
/// `aegis push` sends along; `model_signing verify key` verifies it too.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The package: a folder with a model.toml.
    dir: PathBuf,
    /// The private key: ECDSA over P-256, P-384 or P-521, in a PEM file without a password.
    /// `openssl ecparam -name prime256v1 -genkey -noout` makes one.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let key = PrivateKey::read(&args.key)?;
    // What could not be pushed is not signed either.
    let folder = Folder::read(&args.dir)?;
    let (signature, files) =
        sign(&folder.path, &key).with_context(|| format!("signing {}", args.dir.display()))?;
    let target = args.dir.join(SIGNATURE_FILE);
    std::fs::write(&target, signature).with_context(|| format!("writing {}", target.display()))?;
    let fingerprint = key.fingerprint().unwrap_or_default();
    match args.output {
        Output::Json => print_json(&json!({
            "signature": target,
            "files": files,
            "key": fingerprint,
        })),
        Output::Text => print(&format!(
            "{} files of {} signed in {}\nkey {fingerprint}",
            files,
            args.dir.display(),
            target.display()
        )),
    }
}
