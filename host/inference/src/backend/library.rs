//! A native library that a process loads once and keeps for good: what freeing it would race with or break lives on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::discover::{Library, Places};

/// A library that is there, and its engine.
pub(super) struct Loaded<E> {
    pub(super) path: PathBuf,
    pub(super) engine: E,
}

/// The one of its kind in this process, whoever loaded it.
pub(super) type InProcess<E> = Mutex<Option<Arc<Loaded<E>>>>;

/// The library as one runtime has it.
pub(super) struct NativeLibrary<E: 'static> {
    library: &'static Library,
    process: &'static InProcess<E>,
    start: fn(&Path) -> Result<E, String>,
    explicit: Option<PathBuf>,
    search: Vec<PathBuf>,
    /// The outcome of looking, kept: a library that appears later asks for a restart.
    loaded: OnceLock<Result<Arc<Loaded<E>>, String>>,
}

impl<E> NativeLibrary<E> {
    /// Looks for nothing yet. `start` loads the file and starts its engine.
    pub(super) fn new(
        library: &'static Library,
        process: &'static InProcess<E>,
        start: fn(&Path) -> Result<E, String>,
        explicit: Option<PathBuf>,
        search: Vec<PathBuf>,
    ) -> Self {
        Self {
            library,
            process,
            start,
            explicit,
            search,
            loaded: OnceLock::new(),
        }
    }

    /// The library, loaded the first time.
    ///
    /// # Errors
    /// Where was looked, and why each file that was there was refused.
    pub(super) fn loaded(&self) -> Result<&Arc<Loaded<E>>, &String> {
        self.loaded.get_or_init(|| self.load()).as_ref()
    }

    fn load(&self) -> Result<Arc<Loaded<E>>, String> {
        let mut process = self.process.lock();
        if let Some(loaded) = &*process {
            return Ok(Arc::clone(loaded));
        }
        let places = Places::here(self.explicit.as_deref(), &self.search);
        let (path, engine) = self.library.load(&places, self.start)?;
        let loaded = Arc::new(Loaded { path, engine });
        *process = Some(Arc::clone(&loaded));
        Ok(loaded)
    }
}
