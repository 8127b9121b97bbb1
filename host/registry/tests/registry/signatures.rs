//! Signed packages: what is taken where keys are trusted, what is refused and in which words, and
//! that OpenSSF's own tool and this code verify what the other signed.

use std::path::{Path, PathBuf};
use std::process::Command;

use aegis_registry::{
    ErrorKind, Package, PrivateKey, Registry, RegistryError, SIGNATURE_FILE, SignatureState,
    TrustedKeys, sign,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};

use crate::support::*;
use crate::tools::tool;

/// A folder with a package, and two keys beside it.
struct Signing {
    folder: tempfile::TempDir,
}

impl Signing {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (at, who) in ["release", "mallory"].into_iter().enumerate() {
            let key = p256::SecretKey::from_slice(&[at as u8 + 7; 32]).unwrap();
            let private = key.to_pkcs8_pem(LineEnding::LF).unwrap();
            let public = key.public_key().to_public_key_pem(LineEnding::LF).unwrap();
            std::fs::write(folder.path().join(format!("{who}.pem")), &*private).unwrap();
            std::fs::write(folder.path().join(format!("{who}.pub.pem")), public).unwrap();
        }
        let signing = Self { folder };
        signing.write(&files("m", "1"));
        signing
    }

    fn package(&self) -> PathBuf {
        self.folder.path().join("package")
    }

    fn write(&self, files: &[(String, Vec<u8>)]) {
        for (path, bytes) in files {
            let path = self.package().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn key(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn sign(&self, who: &str) -> Vec<u8> {
        let key = PrivateKey::read(&self.key(&format!("{who}.pem"))).unwrap();
        let (signature, _) = sign(&self.package(), &key).unwrap();
        std::fs::write(self.package().join(SIGNATURE_FILE), &signature).unwrap();
        signature
    }

    fn trusted(&self, files: &[&str]) -> TrustedKeys {
        let files: Vec<_> = files.iter().map(|file| self.key(file)).collect();
        TrustedKeys::read(&files).unwrap()
    }

    /// A registry in a folder that trusts `release`.
    async fn registry(&self) -> Registry {
        let registry = Registry::open_local(self.folder.path().join("data")).await;
        registry
            .unwrap()
            .with_trusted_keys(self.trusted(&["release.pub.pem"]))
    }
}

/// Uploads what `aegis push` would: what the manifest names, and the signature if there is one.
async fn stage_folder(registry: &Registry, folder: &Path) -> Result<Package, RegistryError> {
    let named = [
        "model.toml",
        "h.wasm",
        "net/g.xml",
        "net/g.bin",
        SIGNATURE_FILE,
    ];
    let files: Vec<_> = named
        .iter()
        .filter_map(|path| Some(((*path).to_owned(), std::fs::read(folder.join(path)).ok()?)))
        .collect();
    try_stage(registry, "m", &files).await
}

#[tokio::test]
async fn a_package_signed_by_a_trusted_key_is_taken_and_its_signer_known() {
    let signing = Signing::new();
    // What is signed and not uploaded is no fault.
    signing.write(&[("samples/a.json".to_owned(), b"{}".to_vec())]);
    signing.sign("release");
    let registry = signing.registry().await;
    let package = stage_folder(&registry, &signing.package()).await.unwrap();
    let signer = package.signer().unwrap().clone();
    assert_eq!(signer.name, "release");
    let public = std::fs::read(signing.key("release.pub.pem")).unwrap();
    let sha256sum = aegis_registry::Digest::of(&public).hex();
    assert_eq!(
        signer.key, sha256sum,
        "as sha256sum prints it of the key's file"
    );

    let record = registry.commit(package, by("ann")).await.unwrap().record;
    let state = registry.signature(&record).await.unwrap();
    assert_eq!(state, SignatureState::Verified(signer));
    // The signature is part of the version.
    let dir = registry.materialise(&record).await.unwrap();
    assert!(dir.path().join(SIGNATURE_FILE).exists());
    // The same package signed again is the same version.
    signing.sign("release");
    let again = stage_folder(&registry, &signing.package()).await.unwrap();
    assert!(!registry.commit(again, by("ann")).await.unwrap().created);
}

#[tokio::test]
async fn each_way_of_not_being_signed_is_refused_in_its_own_words() {
    let signing = Signing::new();
    let registry = signing.registry().await;
    let refused = async || {
        let error = stage_folder(&registry, &signing.package())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unprocessable, "{error}");
        (error.code(), error.to_string())
    };
    let expect = |(code, words): (&str, String), expected: (&str, &str)| {
        assert_eq!(code, expected.0, "{words}");
        assert!(words.contains(expected.1), "{words}");
    };
    expect(refused().await, ("unsigned_package", "`aegis sign`"));

    signing.sign("mallory");
    expect(refused().await, ("untrusted_key", "trusted are `release`"));

    // A file altered after signing, each in turn.
    for (path, bytes) in files("m", "1") {
        signing.sign("release");
        let altered = match path.as_str() {
            "model.toml" => [&bytes[..], b"description = \"x\"\n"].concat(),
            _ => [&bytes[..], b"x"].concat(),
        };
        // At the head of the manifest, where its own keys stand.
        let altered = match path.as_str() {
            "model.toml" => [b"description = \"x\"\n", &bytes[..]].concat(),
            _ => altered,
        };
        signing.write(&[(path.clone(), altered)]);
        expect(refused().await, ("altered_after_signing", &path));
        signing.write(&[(path, bytes)]);
    }

    // A file that came after signing.
    let weights = signing.package().join("net/g.bin");
    std::fs::rename(&weights, signing.key("aside")).unwrap();
    signing.sign("release");
    std::fs::rename(signing.key("aside"), &weights).unwrap();
    expect(
        refused().await,
        ("partly_signed", "does not cover `net/g.bin`"),
    );

    // Another's signature under the trusted key's name.
    let theirs = signing.sign("mallory");
    let ours = signing.sign("release");
    let hint = |bundle: &[u8]| {
        let bundle: serde_json::Value = serde_json::from_slice(bundle).unwrap();
        bundle["verificationMaterial"]["publicKey"]["hint"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let forged = String::from_utf8(theirs.clone())
        .unwrap()
        .replace(&hint(&theirs), &hint(&ours));
    signing.write(&[(SIGNATURE_FILE.to_owned(), forged.into_bytes())]);
    expect(
        refused().await,
        ("wrong_signature", "says that it is by `release`"),
    );
    // Or under nobody's.
    let nameless = String::from_utf8(theirs.clone())
        .unwrap()
        .replace(&hint(&theirs), "");
    signing.write(&[(SIGNATURE_FILE.to_owned(), nameless.into_bytes())]);
    expect(refused().await, ("untrusted_key", "not by a trusted key"));

    // A list of files altered, and the signature kept.
    let mut bundle: serde_json::Value = serde_json::from_slice(&ours).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    let payload = String::from_utf8(BASE64.decode(payload).unwrap()).unwrap();
    let other = payload.replace("h.wasm", "x.wasm");
    bundle["dsseEnvelope"]["payload"] = BASE64.encode(other).into();
    let altered = serde_json::to_vec(&bundle).unwrap();
    signing.write(&[(SIGNATURE_FILE.to_owned(), altered)]);
    expect(
        refused().await,
        ("wrong_signature", "sign the package again"),
    );

    for (nonsense, problem) in [
        ("", "EOF"),
        ("{}", "mediaType"),
        ("[1]", "model.sig is not a signature"),
    ] {
        signing.write(&[(SIGNATURE_FILE.to_owned(), nonsense.into())]);
        expect(refused().await, ("invalid_signature_file", problem));
    }
    // And nothing of all that was stored.
    assert!(registry.models().await.unwrap().is_empty());
    signing.sign("release");
    stage_folder(&registry, &signing.package()).await.unwrap();
}

#[tokio::test]
async fn a_signature_is_not_asked_for_where_no_keys_are_trusted() {
    let signing = Signing::new();
    let registry = Registry::open_local(signing.key("open")).await.unwrap();
    let unsigned = stage_folder(&registry, &signing.package()).await.unwrap();
    assert!(unsigned.signer().is_none());
    let unsigned = registry.commit(unsigned, by("ann")).await.unwrap().record;
    signing.sign("mallory");
    let signed = stage_folder(&registry, &signing.package()).await.unwrap();
    let signed = registry.commit(signed, by("ann")).await.unwrap().record;
    for (record, state) in [
        (&unsigned, SignatureState::Unsigned),
        (&signed, SignatureState::NotChecked),
    ] {
        assert_eq!(registry.signature(record).await.unwrap(), state);
        registry.materialise(record).await.unwrap();
    }
}

#[tokio::test]
async fn a_version_that_came_into_the_store_another_way_is_not_laid_out() {
    let signing = Signing::new();
    let open = Registry::open_local(signing.key("data")).await.unwrap();
    let unsigned = stage_folder(&open, &signing.package()).await.unwrap();
    let unsigned = open.commit(unsigned, by("mallory")).await.unwrap().record;
    // A signature that is good, of other files.
    signing.sign("release");
    let good = stage_folder(&open, &signing.package()).await.unwrap();
    let good = open.commit(good, by("ann")).await.unwrap().record;
    signing.write(&[("h.wasm".to_owned(), b"evil".to_vec())]);
    let altered = stage_folder(&open, &signing.package()).await.unwrap();
    let altered = open.commit(altered, by("mallory")).await.unwrap().record;

    let registry = signing.registry().await;
    for (record, words) in [
        (&unsigned, "is not signed"),
        (&altered, "altered after it was signed"),
    ] {
        let error = registry.materialise(record).await.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("untrusted_version", ErrorKind::Conflict)
        );
        assert!(error.to_string().contains(words), "{error}");
        let state = registry.signature(record).await.unwrap();
        assert!(matches!(state, SignatureState::Refused(_)), "{state:?}");
    }
    registry.materialise(&good).await.unwrap();
}

#[test]
fn what_is_no_key_is_refused_in_words_that_help() {
    let signing = Signing::new();
    let refused = |file: &str| {
        TrustedKeys::read(&[signing.key(file)])
            .unwrap_err()
            .to_string()
    };
    assert!(refused("release.pem").contains("it is a private key"));
    assert!(refused("none.pem").contains("cannot be read"));
    std::fs::write(
        signing.key("rsa.pem"),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    )
    .unwrap();
    assert!(refused("rsa.pem").contains("P-256, P-384 or P-521"));
    std::fs::write(
        signing.key("locked.pem"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let locked = PrivateKey::read(&signing.key("locked.pem")).err().unwrap();
    assert!(locked.to_string().contains("it is encrypted"), "{locked}");
}

#[test]
#[cfg(unix)]
fn links_are_not_signed() {
    let signing = Signing::new();
    std::os::unix::fs::symlink("/etc/hostname", signing.package().join("link")).unwrap();
    let key = PrivateKey::read(&signing.key("release.pem")).unwrap();
    let error = sign(&signing.package(), &key).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("link is neither a file nor a folder"),
        "{error}"
    );
}

/// OpenSSF's tool.
struct Tool {
    program: PathBuf,
}

impl Tool {
    fn find() -> Option<Self> {
        let program = tool("model-signing/bin/model_signing")?;
        Some(Self { program })
    }

    /// Makes a pair of keys as its users would; `form` is that of the private one.
    fn make_keys(&self, signing: &Signing, curve: &str, form: &str) {
        let code = "
import sys
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives import serialization as s
curve, form, private, public = sys.argv[1:]
key = ec.generate_private_key(getattr(ec, curve)())
open(private, 'wb').write(key.private_bytes(s.Encoding.PEM, getattr(s.PrivateFormat, form), s.NoEncryption()))
open(public, 'wb').write(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
";
        let python = self.program.with_file_name("python");
        let made = Command::new(python)
            .args(["-c", code, curve, form])
            .args([signing.key("release.pem"), signing.key("release.pub.pem")])
            .status()
            .unwrap();
        assert!(made.success());
    }

    fn run(
        &self,
        signing: &Signing,
        verb: &str,
        key: &str,
        file: &str,
        package: &Path,
    ) -> Result<(), String> {
        let output = Command::new(&self.program)
            .args([verb, "key"])
            .arg(package)
            .arg("--signature")
            .arg(package.join(SIGNATURE_FILE))
            .arg(key)
            .arg(signing.key(file))
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => {
                Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
            }
        }
    }

    fn sign(&self, signing: &Signing) {
        self.run(
            signing,
            "sign",
            "--private_key",
            "release.pem",
            &signing.package(),
        )
        .unwrap();
    }

    fn verify(&self, signing: &Signing, package: &Path) -> Result<(), String> {
        self.run(
            signing,
            "verify",
            "--public_key",
            "release.pub.pem",
            package,
        )
    }
}

/// Every curve, and both forms of private key.
const KEYS: [(&str, &str); 4] = [
    ("SECP256R1", "PKCS8"),
    ("SECP256R1", "TraditionalOpenSSL"),
    ("SECP384R1", "PKCS8"),
    ("SECP521R1", "TraditionalOpenSSL"),
];

/// A folder in which what is sorted by parts and by bytes differ, and with what the tool leaves out.
fn awkward(signing: &Signing) {
    signing.write(&[
        ("net-2/a".to_owned(), b"a".to_vec()),
        ("net.txt".to_owned(), b"b".to_vec()),
        ("net/z/deep é.json".to_owned(), b"c".to_vec()),
        (".hidden".to_owned(), b"d".to_vec()),
        ("empty".to_owned(), Vec::new()),
        (".gitignore".to_owned(), b"x".to_vec()),
        (".git/HEAD".to_owned(), b"x".to_vec()),
    ]);
}

#[tokio::test]
async fn what_the_tool_signs_verifies_here() {
    let Some(tool) = Tool::find() else { return };
    for (curve, form) in KEYS {
        let signing = Signing::new();
        tool.make_keys(&signing, curve, form);
        awkward(&signing);
        tool.sign(&signing);
        let registry = signing.registry().await;
        let package = stage_folder(&registry, &signing.package()).await.unwrap();
        assert_eq!(package.signer().unwrap().name, "release", "{curve}");
        let record = registry.commit(package, by("ann")).await.unwrap().record;
        registry.materialise(&record).await.unwrap();

        signing.write(&[("h.wasm".to_owned(), b"evil".to_vec())]);
        let error = stage_folder(&registry, &signing.package())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "altered_after_signing", "{error}");
    }
}

#[tokio::test]
async fn what_is_signed_here_the_tool_verifies() {
    let Some(tool) = Tool::find() else { return };
    for (curve, form) in KEYS {
        let signing = Signing::new();
        tool.make_keys(&signing, curve, form);
        awkward(&signing);
        signing.sign("release");
        tool.verify(&signing, &signing.package())
            .unwrap_or_else(|said| panic!("{curve}: {said}"));

        // It would have said so.
        signing.write(&[("h.wasm".to_owned(), b"evil".to_vec())]);
        let said = tool.verify(&signing, &signing.package()).unwrap_err();
        assert!(said.contains("h.wasm"), "{said}");
    }
}

#[tokio::test]
async fn a_version_as_it_is_laid_out_verifies_with_the_tool() {
    let Some(tool) = Tool::find() else { return };
    let signing = Signing::new();
    signing.sign("release");
    let registry = signing.registry().await;
    let package = stage_folder(&registry, &signing.package()).await.unwrap();
    let record = registry.commit(package, by("ann")).await.unwrap().record;
    let dir = registry.materialise(&record).await.unwrap();
    tool.verify(&signing, dir.path()).unwrap();
}

#[tokio::test]
async fn other_ways_to_list_a_model_are_refused_by_name() {
    let Some(tool) = Tool::find() else { return };
    let signing = Signing::new();
    let code = "
import sys, pathlib, model_signing
model, key, method = sys.argv[1:]
hashing = model_signing.hashing.Config()
if method == 'shards':
    hashing.use_shard_serialization()
else:
    hashing.use_file_serialization(hashing_algorithm='blake3')
hashing.set_ignored_paths(paths=['model.sig'])
config = model_signing.signing.Config().use_elliptic_key_signer(private_key=pathlib.Path(key))
config.set_hashing_config(hashing).sign(model, pathlib.Path(model) / 'model.sig')
";
    let registry = signing.registry().await;
    for (method, words) in [
        ("shards", "it lists shards by sha256"),
        ("blake3", "it lists files by blake3"),
    ] {
        let made = Command::new(tool.program.with_file_name("python"))
            .args(["-c", code])
            .arg(signing.package())
            .arg(signing.key("release.pem"))
            .arg(method)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let error = stage_folder(&registry, &signing.package())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
