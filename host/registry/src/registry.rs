//! [`Registry`]: models, their versions and their traffic, as one thing to ask. Here are opening it
//! and reading from it; committing is in `commit`, changing rules in `rules`, deleting in `delete`
//! and `collect`, laying versions out as files in `layout`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use parking_lot::Mutex;

use crate::blocking::blocking;
use crate::collect::Collections;
use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::name::ModelName;
use crate::package::Lease;
use crate::record::VersionRecord;
use crate::records::{Entry, READS, Records, expect_model, live, live_version};
use crate::signature::TrustedKeys;
use crate::signed::SignatureState;
use crate::store::{Store, StoreUrl};
use crate::traffic::Traffic;
use crate::upload::{Upload, UploadLimits};
use crate::version::Version;
use crate::workdir::Workdir;

/// The registry. Clones share one state; the store may be shared with other processes and machines,
/// the working folder with other processes of this machine.
///
/// All methods want a Tokio runtime. Whatever changes the store runs to its end even if the future
/// is dropped.
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) records: Records,
    pub(crate) workdir: Arc<Workdir>,
    leases: Mutex<HashMap<Digest, Weak<Lease>>>,
    /// Whose packages are taken; anyone's if it is not set.
    pub(crate) trusted: OnceLock<TrustedKeys>,
    /// How much of the disk laid-out versions may take.
    pub(crate) local_bytes: OnceLock<u64>,
    pub(crate) signatures: Mutex<HashMap<Digest, SignatureState>>,
    pub(crate) collections: Mutex<Collections>,
}

/// A model, with what there is of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Model {
    /// Its name.
    pub name: ModelName,
    /// Which versions answer.
    pub traffic: Traffic,
    /// Its versions, lowest first; at least one.
    pub versions: Vec<Arc<VersionRecord>>,
}

impl Registry {
    /// How young a blob no record uses may be and still be kept: the upload that brought it may not
    /// have written its record yet. It also has to cover the difference of two machines' clocks.
    pub const GRACE: Duration = Duration::from_secs(3600);

    /// How long a call to a store may take, unless [`open_at`](Self::open_at) is told otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(60);

    /// Opens the registry in a store shared by a fleet. The store must support conditional puts
    /// (`PutMode::Create` and `PutMode::Update`), as S3, GCS and Azure do; for a folder of this
    /// machine use [`open_local`](Self::open_local), since `LocalFileSystem` does not.
    pub async fn open(store: Arc<dyn ObjectStore>, workdir: PathBuf) -> Result<Self> {
        Self::start(Store::shared(store, Self::PATIENCE), workdir).await
    }

    /// Opens the registry in a folder, which is made if needed: `blobs/` and `models/` are the store
    /// and `work/` the working folder.
    pub async fn open_local(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        Self::open_folder(folder, folder.join("work")).await
    }

    /// Opens the registry in a folder that has its working folder elsewhere, such as a network
    /// folder shared by a few machines. Versions are linked, not copied, where both folders are on
    /// one file system.
    pub async fn open_folder(folder: impl AsRef<Path>, workdir: PathBuf) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        let opened = blocking(move || {
            let store = Store::folder(&folder)?;
            store.sweep_partial_puts(Self::GRACE);
            Ok::<_, RegistryError>(store)
        });
        Self::start(opened.await??, workdir).await
    }

    /// Opens the registry where `place` says. `variables` are the environment's: endpoints and
    /// credentials of a cloud come from those that its own tools read. A call to a bucket, and one
    /// piece of its answer, may take as long as `patience`.
    pub async fn open_at(
        place: &StoreUrl,
        workdir: PathBuf,
        variables: &[(String, String)],
        patience: Duration,
    ) -> Result<Self> {
        match (place.open(variables, patience)?, place.folder()) {
            (Some(bucket), _) => Self::start(Store::bucket(bucket, patience), workdir).await,
            (None, folder) => Self::open_folder(folder.unwrap_or(Path::new(".")), workdir).await,
        }
    }

    async fn start(store: Store, workdir: PathBuf) -> Result<Self> {
        let workdir = blocking(move || Workdir::open(&workdir)).await??;
        let (records, leases) = (Records::default(), Mutex::default());
        let registry = Self(Arc::new(Inner {
            store,
            records,
            workdir: Arc::new(workdir),
            leases,
            trusted: OnceLock::new(),
            local_bytes: OnceLock::new(),
            signatures: Mutex::default(),
            collections: Mutex::default(),
        }));
        registry.0.collect_soon();
        Ok(registry)
    }

    /// Begins an upload to the model `name`, which need not exist yet.
    pub async fn begin_upload(&self, name: ModelName, limits: UploadLimits) -> Result<Upload> {
        let trusted = self.0.trusted.get().cloned();
        Ok(Upload::new(
            name,
            limits,
            self.0.workdir.stage().await?,
            trusted,
        ))
    }

    /// Every model that has a version, in order of name. Records that cannot be read are left out,
    /// with a warning in the log: one damaged file must not hide the rest.
    pub async fn models(&self) -> Result<Vec<Model>> {
        let all = self.0.records.all(&self.0.store).await?;
        let with_versions = all.into_iter().filter_map(|(name, entries)| {
            let versions: Vec<_> = live(&entries).cloned().collect();
            (!versions.is_empty()).then_some((name, versions))
        });
        let models = with_versions.map(|(name, versions)| async move {
            let traffic = self.0.read_traffic(&name).await?.0;
            Ok::<_, RegistryError>(Model {
                name,
                traffic,
                versions,
            })
        });
        let models: Vec<_> = models.collect();
        stream::iter(models).buffered(READS).try_collect().await
    }

    /// One model.
    pub async fn model(&self, name: &ModelName) -> Result<Model> {
        let versions = self.versions(name).await?;
        let (traffic, _) = self.0.read_traffic(name).await?;
        Ok(Model {
            name: name.clone(),
            traffic,
            versions,
        })
    }

    /// The versions of a model, lowest first; at least one.
    pub async fn versions(&self, name: &ModelName) -> Result<Vec<Arc<VersionRecord>>> {
        let entries = self.0.records.of(&self.0.store, name).await?;
        expect_model(name, &entries)?;
        Ok(live(&entries).cloned().collect())
    }

    /// One version.
    pub async fn version(&self, name: &ModelName, version: Version) -> Result<Arc<VersionRecord>> {
        // A version that is there takes one read; only to tell what is missing takes a listing.
        if let Some(Entry::Live(record)) = self.0.records.one(&self.0.store, name, version).await? {
            return Ok(record);
        }
        let entries = self.0.records.of(&self.0.store, name).await?;
        live_version(name, version, &entries).cloned()
    }

    /// The traffic rule of a model.
    pub async fn traffic(&self, name: &ModelName) -> Result<Traffic> {
        let (traffic, _) = self.0.read_traffic(name).await?;
        // A rule that serves nothing may be all that is left of a deleted model.
        if traffic.stable.is_none() {
            self.versions(name).await?;
        }
        Ok(traffic)
    }
}

impl Inner {
    /// What the users of a laid-out version hold.
    pub(crate) fn lease(&self, digest: Digest) -> Arc<Lease> {
        let mut leases = self.leases.lock();
        leases.retain(|_, lease| lease.strong_count() > 0);
        if let Some(lease) = leases.get(&digest).and_then(Weak::upgrade) {
            return lease;
        }
        let lease = Arc::new(Lease::default());
        leases.insert(digest, Arc::downgrade(&lease));
        lease
    }

    /// Whether somebody holds the laid-out version.
    pub(crate) fn is_leased(&self, digest: Digest) -> bool {
        self.leases
            .lock()
            .get(&digest)
            .is_some_and(|lease| lease.strong_count() > 0)
    }
}
