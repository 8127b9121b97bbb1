//! [`StoreUrl`]: where a registry keeps its models, as an operator writes it, and how such a place
//! is opened. Endpoints and credentials are not part of it: they come from the variables that the
//! clouds' own tools read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};

use super::http::Connector;
use crate::error::{RegistryError, Result};
use crate::text::quoted;

/// A place for models: a folder, or a bucket of an object store, or a folder in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Bucket {
        cloud: Cloud,
        bucket: String,
        prefix: Key,
    },
}

/// Whose interface a bucket is spoken to by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cloud {
    S3,
    Google,
    Azure,
}

/// Words that are no place for models.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a place for models: {reason}; use a folder, s3://BUCKET, gs://BUCKET or az://CONTAINER, each \
     with /FOLDER behind it if you like",
    quoted(.given)
)]
pub struct InvalidStoreUrl {
    given: String,
    reason: &'static str,
}

/// How long a client goes on trying. Long enough for the pauses that stores ask for when they throttle,
/// short enough that an operator who waits for an answer is told.
const RETRY: Duration = Duration::from_secs(10);

impl StoreUrl {
    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.0 {
            Place::Folder(folder) => Some(folder),
            Place::Bucket { .. } => None,
        }
    }

    /// Opens a bucket with what `variables` say of endpoints and credentials; `None` for a folder.
    /// A request that is not answered within half of `patience` is given up, so that one that may be
    /// made again is, within it. Nothing is asked of the store yet.
    pub fn open_bucket(
        &self,
        variables: &[(String, String)],
        patience: Duration,
    ) -> Result<Option<Arc<dyn ObjectStore>>> {
        let opened = self.open(variables, patience)?;
        Ok(opened.map(|bucket| bucket.objects))
    }

    /// The same, with what its cloud has beyond the common interface.
    pub(crate) fn open(
        &self,
        variables: &[(String, String)],
        patience: Duration,
    ) -> Result<Option<Bucket>> {
        let Place::Bucket {
            cloud,
            bucket,
            prefix,
        } = &self.0
        else {
            return Ok(None);
        };
        let connector = Connector {
            answer: patience / 2,
        };
        let opened = match cloud {
            Cloud::S3 => open_s3(bucket, variables, connector).map(|s3| in_parts(s3, prefix)),
            Cloud::Google => {
                open_google(bucket, variables, connector).map(|google| in_parts(google, prefix))
            }
            // Blocks that no blob came of are removed by Azure itself, after a week.
            Cloud::Azure => open_azure(bucket, variables, connector).map(|azure| Bucket {
                objects: Arc::new(PrefixStore::new(azure, prefix.clone())),
                parts: None,
            }),
        };
        let opened = opened.map_err(RegistryError::store(format!("opening {self}")))?;
        Ok(Some(opened))
    }
}

/// A bucket, opened.
pub(crate) struct Bucket {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Where its cloud keeps the parts of what is stored in parts until it is told to make an object of them, or none.
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
}

fn in_parts<S: ObjectStore + MultipartStore>(store: S, prefix: &Key) -> Bucket {
    let store = Arc::new(PrefixStore::new(store, prefix.clone()));
    Bucket {
        objects: Arc::clone(&store) as Arc<dyn ObjectStore>,
        parts: Some(store),
    }
}

/// A builder that knows its cloud's variables. A macro, as the builders have these methods alike and no trait in common.
macro_rules! configured {
    ($builder:ident, $variables:expr, $connector:expr, $prefix:literal) => {{
        let mut builder = $builder::new()
            .with_http_connector($connector)
            .with_retry(retry());
        for (key, value) in named($variables, $prefix) {
            if let Ok(key) = key.parse() {
                builder = builder.with_config(key, value);
            }
        }
        builder
    }};
}

fn open_s3(
    bucket: &str,
    variables: &[(String, String)],
    connector: Connector,
) -> object_store::Result<AmazonS3> {
    let builder = configured!(AmazonS3Builder, variables, connector, "AWS_");
    builder.with_bucket_name(bucket).build()
}

fn open_google(
    bucket: &str,
    variables: &[(String, String)],
    connector: Connector,
) -> object_store::Result<GoogleCloudStorage> {
    let builder = configured!(GoogleCloudStorageBuilder, variables, connector, "GOOGLE_");
    builder.with_bucket_name(bucket).build()
}

fn open_azure(
    container: &str,
    variables: &[(String, String)],
    connector: Connector,
) -> object_store::Result<MicrosoftAzure> {
    let mut builder = configured!(MicrosoftAzureBuilder, variables, connector, "AZURE_");
    // Where Azure tells what runs in it how to be known.
    let identity = variables.iter().find(|(key, _)| key == "IDENTITY_ENDPOINT");
    if let Some((_, endpoint)) = identity {
        builder = builder.with_msi_endpoint(endpoint);
    }
    builder.with_container_name(container).build()
}

/// The variables of that prefix, as the builders spell their keys.
fn named<'v>(
    variables: &'v [(String, String)],
    prefix: &'static str,
) -> impl Iterator<Item = (String, &'v str)> {
    let ours = variables
        .iter()
        .filter(move |(key, _)| key.starts_with(prefix));
    ours.map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()))
}

fn retry() -> RetryConfig {
    RetryConfig {
        retry_timeout: RETRY,
        ..RetryConfig::default()
    }
}

impl Cloud {
    const ALL: [(&'static str, Self); 3] =
        [("s3", Self::S3), ("gs", Self::Google), ("az", Self::Azure)];

    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(given: &str) -> Result<Self, InvalidStoreUrl> {
        let refuse = |reason| {
            // What stands before an `@` may be a password, and this is printed.
            let shown = given.rsplit_once('@').map_or(given, |(_, rest)| rest);
            let given = shown.chars().take(300).collect();
            Err(InvalidStoreUrl { given, reason })
        };
        if given.is_empty() {
            return refuse("it is empty");
        }
        let Some((scheme, rest)) = given.split_once("://") else {
            return Ok(Self(Place::Folder(given.into())));
        };
        if scheme == "file" {
            return match rest.starts_with('/') {
                true => Ok(Self(Place::Folder(rest.into()))),
                false => refuse("a file:// URL has three slashes, as in file:///srv/models"),
            };
        }
        let Some((_, cloud)) = Cloud::ALL.into_iter().find(|(known, _)| *known == scheme) else {
            return refuse("stores of that kind are not known");
        };
        if rest.contains('@') {
            return refuse("credentials do not belong into it but into the cloud's own variables");
        }
        if rest.contains(['?', '#', '\\', '%']) || rest.chars().any(char::is_control) {
            return refuse("only names and slashes may follow");
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return refuse("it names no bucket");
        }
        let Ok(prefix) = Key::parse(prefix) else {
            return refuse("its folder has an empty part, or one of dots");
        };
        Ok(Self(Place::Bucket {
            cloud,
            bucket: bucket.to_owned(),
            prefix,
        }))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Folder(folder) => write!(f, "{}", folder.display()),
            Place::Bucket {
                cloud,
                bucket,
                prefix,
            } => {
                write!(f, "{}://{bucket}", cloud.scheme())?;
                match prefix.as_ref() {
                    "" => Ok(()),
                    prefix => write!(f, "/{prefix}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn places_are_read_and_written_in_the_same_words() {
        for text in [
            "data",
            "/srv/models",
            "s3://models",
            "s3://models/team/a",
            "gs://models",
            "az://models/team",
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        let file: StoreUrl = "file:///srv/models".parse().unwrap();
        assert_eq!(file.folder(), Some(Path::new("/srv/models")));
        let trailing: StoreUrl = "s3://models/".parse().unwrap();
        assert_eq!(
            (trailing.folder(), trailing.to_string().as_str()),
            (None, "s3://models")
        );
    }

    #[test]
    fn what_is_no_place_is_refused_and_passwords_are_not_repeated() {
        for bad in [
            "",
            "s3://",
            "s3:///a",
            "ftp://models",
            "file://models",
            "s3://models/a//b",
            "s3://models/../b",
            "s3://models?region=x",
        ] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad}");
        }
        let refused = "s3://key:secret@models".parse::<StoreUrl>().unwrap_err();
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }

    #[test]
    fn a_bucket_is_opened_by_the_variables_of_its_cloud() {
        let variables = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        let open = |url: &str, pairs: &[(&str, &str)]| {
            url.parse::<StoreUrl>()
                .unwrap()
                .open_bucket(&variables(pairs), Duration::from_secs(60))
        };
        let aws = [
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_REGION", "eu-central-1"),
        ];
        assert!(open("s3://models/a", &aws).unwrap().is_some());
        let google = [("GOOGLE_SKIP_SIGNATURE", "true")];
        assert!(open("gs://models", &google).unwrap().is_some());
        let azure = [
            ("AZURE_STORAGE_ACCOUNT_NAME", "acme"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
        ];
        assert!(open("az://models", &azure).unwrap().is_some());
        // An account is nowhere else to be had.
        let error = open("az://models", &[]).unwrap_err();
        assert!(
            error.to_string().starts_with("opening az://models failed"),
            "{error}"
        );
        assert!(open("/srv/models", &[]).unwrap().is_none());
    }
}
