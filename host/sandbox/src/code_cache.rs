//! Native code on disk: made once at upload, mapped into memory at load.
//!
//! Loading native code is trusting it wholly, so only what this host made is loaded. Each
//! entry is two files: `<id>.cwasm`, the code, and `<id>.json`, what was reported when it
//! was made together with a MAC over both under a key that never leaves this folder. An
//! entry whose MAC does not hold is treated as absent and made again.
//!
//! The folder is bounded: beyond its bytes the entries least recently used go, code that is
//! mapped staying mapped, and are made again when they are wanted.
//!
//! The boundary this rests on: whoever can write as this host's own user can also read the
//! key, and is not defended against. A copied, swapped, damaged or planted file is.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hmac::{
    Hmac, Mac,
    digest::{Key, KeyInit},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, digest::Output};
use wasmtime::{Engine, component::Component};

use crate::prepare::PrepareReport;

type HmacSha256 = Hmac<Sha256>;

/// What native code depends on, as one hash: the component, whatever shaped its snapshot,
/// and the engine (wasmtime's version, its settings and the CPU's features).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodeId(String);

impl CodeId {
    /// Of the component with this digest.
    pub(crate) fn new(
        engine: &Engine,
        component: &Output<Sha256>,
        snapshot_inputs: &[u8],
    ) -> CodeId {
        let mut hasher = Sha256::new();
        hasher.update(b"aegis code 1\0");
        hasher.update(component);
        hasher.update(Sha256::digest(snapshot_inputs));
        let mut adapter = HashInto(&mut hasher);
        std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut adapter);
        CodeId(hex::encode(hasher.finalize()))
    }
}

/// Feeds a `std::hash::Hash` into a cryptographic hash.
struct HashInto<'a>(&'a mut Sha256);

impl std::hash::Hasher for HashInto<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // Not asked: the Sha256 behind is read instead.
    }
}

/// A folder of native code that this host made.
pub(crate) struct CodeCache {
    dir: PathBuf,
    key: [u8; 32],
    bound: u64,
}

/// An entry used within this time does not go, whatever the bound: somebody is about to map it.
/// Far longer than it takes to read an entry, far shorter than it takes to fill a folder.
const IN_USE: Duration = Duration::from_secs(30);

/// A file that belongs to no entry and is older than this was left by a process that died: what
/// writes an entry takes seconds.
const ABANDONED: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct Entry {
    mac: String,
    /// A [`PrepareReport`] as JSON. Text, since numbers do not survive a second reading and
    /// writing bit for bit, and the MAC must.
    report: String,
}

impl CodeCache {
    /// Opens the cache in `dir`, creating the folder (for its owner only) and the key, and
    /// removes what dead processes left. It keeps `bound` bytes of code.
    pub(crate) fn open(dir: &Path, bound: u64) -> io::Result<CodeCache> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let key = read_or_make_key(&dir.join("host.key"))?;
        let cache = CodeCache {
            dir: dir.to_owned(),
            key,
            bound,
        };
        cache.sweep(SystemTime::now())?;
        Ok(cache)
    }

    /// The component of `id`, if its code is here, was made by this host and loads.
    pub(crate) fn load(&self, engine: &Engine, id: &CodeId) -> Option<(Component, PrepareReport)> {
        self.open_entry(engine, id)?
            .inspect_err(|error| {
                let (file, _) = self.paths(id);
                tracing::warn!(file = %file.display(), %error, "native code does not load; it is compiled again");
            })
            .ok()
    }

    /// As [`CodeCache::load`], with wasmtime's words where the code does not load.
    pub(crate) fn open_entry(
        &self,
        engine: &Engine,
        id: &CodeId,
    ) -> Option<wasmtime::Result<(Component, PrepareReport)>> {
        let (code_path, entry_path) = self.paths(id);
        let entry: Entry = serde_json::from_slice(&fs::read(entry_path).ok()?).ok()?;
        let code = fs::read(&code_path).ok()?;
        let mac = hex::decode(&entry.mac).ok()?;
        if self
            .mac(id, &code, &entry.report)
            .verify_slice(&mac)
            .is_err()
        {
            tracing::warn!(
                file = %code_path.display(),
                "native code was not made by this host or is damaged; it is compiled again"
            );
            return None;
        }
        drop(code);
        let report = serde_json::from_str(&entry.report).ok()?;
        touch(&self.paths(id).1);
        Some(deserialize(engine, &code_path).map(|component| (component, report)))
    }

    /// Keeps `code` under `id`. The entry is written last and by rename, so a crash leaves
    /// either no entry or a whole one.
    pub(crate) fn store(&self, id: &CodeId, code: &[u8], report: &PrepareReport) -> io::Result<()> {
        let (code_path, entry_path) = self.paths(id);
        let report = serde_json::to_string(report)?;
        let mac = hex::encode(self.mac(id, code, &report).finalize().into_bytes());
        let entry = serde_json::to_vec(&Entry { mac, report })?;
        write_whole(&self.dir, &code_path, code)?;
        write_whole(&self.dir, &entry_path, &entry)?;
        self.evict(SystemTime::now())
    }

    /// Removes the entries least recently used until the rest is within the bound. What another
    /// process removes meanwhile is gone as well.
    fn evict(&self, now: SystemTime) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in self.files("json")? {
            let code = file.path.with_extension("cwasm");
            let bytes = fs::metadata(&code).map_or(0, |code| code.len());
            entries.push((file.used, bytes + file.bytes, file.path, code));
        }
        let mut total: u64 = entries.iter().map(|(_, bytes, ..)| bytes).sum();
        entries.sort();
        for (used, bytes, entry, code) in entries {
            if total <= self.bound || !older(used, now, IN_USE) {
                break;
            }
            // The entry first: a crash in between leaves code without an entry, which is swept.
            remove(&entry)?;
            remove(&code)?;
            tracing::info!(file = %code.display(), bytes, "native code removed: the least recently used beyond the cache's bound");
            total -= bytes;
        }
        Ok(())
    }

    /// Removes half-written files and code without an entry, if no living process can be about
    /// to finish them.
    fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let half_written = self.files("")?.into_iter().filter(|file| {
            let name = file.path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(HALF_WRITTEN))
        });
        let orphans = self
            .files("cwasm")?
            .into_iter()
            .filter(|file| !file.path.with_extension("json").exists());
        for file in half_written.chain(orphans) {
            if older(file.used, now, ABANDONED) {
                tracing::info!(file = %file.path.display(), "removing what an earlier process left unfinished");
                remove(&file.path)?;
            }
        }
        Ok(())
    }

    /// The files of this ending.
    fn files(&self, ending: &str) -> io::Result<Vec<CacheFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().unwrap_or_default() != ending {
                continue;
            }
            match entry
                .metadata()
                .and_then(|found| Ok((found.modified()?, found.len())))
            {
                Ok((used, bytes)) => files.push(CacheFile { path, used, bytes }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// Forgets what is kept under `id`.
    pub(crate) fn remove(&self, id: &CodeId) {
        let (code_path, entry_path) = self.paths(id);
        // The entry first: code without one is never loaded.
        for path in [entry_path, code_path] {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "native code that is of no use stays");
            }
        }
    }

    fn paths(&self, id: &CodeId) -> (PathBuf, PathBuf) {
        (
            self.dir.join(format!("{}.cwasm", id.0)),
            self.dir.join(format!("{}.json", id.0)),
        )
    }

    /// The key as HMAC wants it: filled with zeros to SHA-256's block (RFC 2104).
    fn padded_key(&self) -> [u8; 64] {
        let mut padded = [0; 64];
        let (front, _) = padded.split_at_mut(self.key.len());
        front.copy_from_slice(&self.key);
        padded
    }

    fn mac(&self, id: &CodeId, code: &[u8], report: &str) -> HmacSha256 {
        let mut mac = <HmacSha256 as KeyInit>::new(&Key::<HmacSha256>::from(self.padded_key()));
        mac.update(id.0.as_bytes());
        mac.update(&(code.len() as u64).to_le_bytes());
        mac.update(code);
        mac.update(report.as_bytes());
        mac
    }
}

struct CacheFile {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

/// What the names of files begin with that are still being written.
const HALF_WRITTEN: &str = "half-";

/// Whether `then` was more than `age` before `now`. A time to come is not.
fn older(then: SystemTime, now: SystemTime, age: Duration) -> bool {
    now.duration_since(then).is_ok_and(|since| since > age)
}

/// Marks an entry as used now. Where that fails it goes a little sooner.
fn touch(entry: &Path) {
    let touched = fs::File::open(entry).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(file = %entry.display(), %error, "use of native code not noted");
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[expect(
    unsafe_code,
    reason = "loading native code is what this module exists to make safe"
)]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the caller has just verified the file's MAC under this host's key, so it is
    // what `Engine::precompile_component` gave this host, unchanged. wasmtime itself checks
    // that engine and CPU fit. Files in the cache are replaced by rename, never written in
    // place, so a mapping stays as it was verified; the folder is its owner's alone.
    unsafe { Component::deserialize_file(engine, path) }
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0u8; 32];
    match fs::File::open(path) {
        Ok(mut file) => {
            file.read_exact(&mut key)?;
            return Ok(key);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(HALF_WRITTEN)
        .tempfile_in(dir)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(key),
        // Another process of this host was first: its key is the key.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            fs::File::open(path)?.read_exact(&mut key)?;
            Ok(key)
        }
        Err(error) => Err(error.error),
    }
}

fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(HALF_WRITTEN)
        .permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600))
        .tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn engine() -> Engine {
        Engine::new(wasmtime::Config::new().wasm_component_model(true)).unwrap()
    }

    fn made_in(dir: &Path) -> (Engine, CodeCache, CodeId) {
        let engine = engine();
        let cache = CodeCache::open(dir, u64::MAX).unwrap();
        let component = b"(component)";
        let id = CodeId::new(&engine, &Sha256::digest(component), b"");
        let code = engine.precompile_component(component).unwrap();
        cache.store(&id, &code, &PrepareReport::default()).unwrap();
        (engine, cache, id)
    }

    #[test]
    fn what_this_host_made_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache, id) = made_in(dir.path());
        assert!(cache.load(&engine, &id).is_some());
        let reopened = CodeCache::open(dir.path(), u64::MAX).unwrap();
        assert!(reopened.load(&engine, &id).is_some());
    }

    #[test]
    fn a_report_is_kept_whatever_its_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache, id) = made_in(dir.path());
        let code = engine.precompile_component(b"(component)").unwrap();
        // Most of these come back as another number when read in a hurry.
        for nanos in 0..50_u32 {
            let report = PrepareReport {
                compile_ms: f64::from(1_868_094_131 + nanos * 7) / 1e6 * 1.000_000_1,
                ..PrepareReport::default()
            };
            cache.store(&id, &code, &report).unwrap();
            assert!(cache.load(&engine, &id).is_some(), "{}", report.compile_ms);
        }
    }

    #[test]
    fn altered_code_is_never_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache, id) = made_in(dir.path());
        let (code_path, _) = cache.paths(&id);
        let mut code = fs::read(&code_path).unwrap();
        let last = code.last_mut().unwrap();
        *last ^= 1;
        fs::write(&code_path, code).unwrap();
        assert!(cache.load(&engine, &id).is_none());
    }

    #[test]
    fn code_that_another_host_made_is_never_loaded() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (engine, cache, id) = made_in(ours.path());
        let other = CodeCache::open(theirs.path(), u64::MAX).unwrap();
        for (from, to) in [
            (cache.paths(&id).0, other.paths(&id).0),
            (cache.paths(&id).1, other.paths(&id).1),
        ] {
            fs::copy(from, to).unwrap();
        }
        assert!(other.load(&engine, &id).is_none());
    }

    #[test]
    fn code_of_one_component_does_not_pass_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache, id) = made_in(dir.path());
        let other = CodeId::new(&engine, &Sha256::digest(b"(component (core module))"), b"");
        fs::copy(cache.paths(&id).0, cache.paths(&other).0).unwrap();
        fs::copy(cache.paths(&id).1, cache.paths(&other).1).unwrap();
        assert!(cache.load(&engine, &other).is_none());
    }

    /// As if it had been used so long ago.
    fn age(path: &Path, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    }

    /// An entry of so many bytes; the code need not run.
    fn put(cache: &CodeCache, engine: &Engine, name: &[u8], bytes: usize) -> CodeId {
        let id = CodeId::new(engine, &Sha256::digest(name), b"");
        let report = PrepareReport::default();
        cache.store(&id, &vec![0; bytes], &report).unwrap();
        id
    }

    fn has(cache: &CodeCache, id: &CodeId) -> bool {
        let (code, entry) = cache.paths(id);
        assert_eq!(code.exists(), entry.exists());
        entry.exists()
    }

    #[test]
    fn beyond_the_bound_the_least_recently_used_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache) = (engine(), CodeCache::open(dir.path(), 250_000).unwrap());
        let first = put(&cache, &engine, b"first", 80_000);
        let second = put(&cache, &engine, b"second", 80_000);
        age(&cache.paths(&first).1, 100);
        age(&cache.paths(&second).1, 200);
        let third = put(&cache, &engine, b"third", 80_000);
        assert!([&first, &second, &third].iter().all(|id| has(&cache, id)));
        let fourth = put(&cache, &engine, b"fourth", 80_000);
        assert!(!has(&cache, &second));
        assert!([&first, &third, &fourth].iter().all(|id| has(&cache, id)));
    }

    #[test]
    fn what_was_just_written_or_used_does_not_go() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache) = (engine(), CodeCache::open(dir.path(), 1000).unwrap());
        let first = put(&cache, &engine, b"first", 80_000);
        let second = put(&cache, &engine, b"second", 80_000);
        assert!(has(&cache, &first) && has(&cache, &second));
        age(&cache.paths(&first).1, 100);
        age(&cache.paths(&second).1, 100);
        let third = put(&cache, &engine, b"third", 80_000);
        assert!(!has(&cache, &first) && !has(&cache, &second) && has(&cache, &third));
    }

    #[test]
    fn loading_is_using() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache, id) = made_in(dir.path());
        age(&cache.paths(&id).1, 100);
        let (component, _) = cache.load(&engine, &id).unwrap();
        let small = CodeCache::open(dir.path(), 1000).unwrap();
        put(&small, &engine, b"other", 80_000);
        assert!(has(&cache, &id));
        // And code whose file goes stays mapped.
        age(&cache.paths(&id).1, 100);
        small.evict(SystemTime::now()).unwrap();
        assert!(!has(&cache, &id));
        drop(component);
    }

    #[test]
    fn leftovers_of_dead_processes_are_removed_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache, id) = made_in(dir.path());
        let make = |name: &str, seconds| {
            let path = dir.path().join(name);
            fs::write(&path, "half").unwrap();
            age(&path, seconds);
            path
        };
        let dead = [make("half-abc", 3600), make("0123.cwasm", 3600)];
        let living = [make("half-def", 10), make("4567.cwasm", 10)];
        age(&cache.paths(&id).0, 3600);
        age(&cache.paths(&id).1, 3600);
        age(&dir.path().join("host.key"), 3600);
        let reopened = CodeCache::open(dir.path(), u64::MAX).unwrap();
        assert!(dead.iter().all(|path| !path.exists()));
        assert!(living.iter().all(|path| path.exists()));
        assert!(reopened.load(&engine, &id).is_some());
    }
}
