//! A server killed at each step of an upload, or of a deletion: started again it serves the
//! last good state and nothing half, and doing it again ends it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};

use reqwest::RequestBuilder;
use tempfile::TempDir;

use crate::harness::{Package, Server, Start, eventually};

/// No change of state has more steps that can be seen than this.
const MOST_STEPS: usize = 200;

/// A version of the model: a handler that says which it is, and a network.
fn version(number: u64) -> Package {
    // As long as what it stands for.
    let answer = format!("\"version{number}\"");
    Package::raw("model", &[("\"answered\"", &answer)]).with_digits()
}

/// What a folder and all in it look like.
type Look = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

fn look(folder: &Path, seen: &mut Look) {
    // What goes away while it is looked at is not there.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(about) = entry.metadata() else {
            continue;
        };
        if about.is_dir() {
            look(&path, seen);
        }
        let size = if about.is_dir() { 0 } else { about.len() };
        seen.insert(path, (size, about.modified().ok()));
    }
}

/// Counts the changes to a folder, and kills a process at the one it is told to.
struct Watch {
    changes: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    fn over(folder: &Path, kill_at: usize, server: Arc<Server>) -> Watch {
        let (changes, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, end, folder) = (Arc::clone(&changes), Arc::clone(&ended), folder.to_owned());
        let mut before = Look::new();
        look(&folder, &mut before);
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let mut now = Look::new();
                look(&folder, &mut now);
                if now != before {
                    before = now;
                    if count.fetch_add(1, Ordering::Relaxed) + 1 == kill_at {
                        server.kill();
                        return;
                    }
                }
            }
        });
        Watch {
            changes,
            ended,
            thread: Some(thread),
        }
    }

    /// Ends the watch; whether it killed.
    fn end(mut self, kill_at: usize) -> bool {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.changes.load(Ordering::Relaxed) >= kill_at
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &place);
        } else {
            fs::copy(path, place).unwrap();
        }
    }
}

fn start(data: &Path) -> Start {
    Start::new().data(data).flag("--warm-instances", "1")
}

/// The folder of a server that served version 1 and ended.
async fn with_first_version() -> TempDir {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path()).ready().await;
    server.upload(&version(1)).await.is(201);
    server.stop().await;
    folder
}

/// Kills a server at each step in turn of what `change` asks of it, on a copy of `before`,
/// and has `check` look at the server that is started on what is left. How many kills.
async fn kill_at_each_step(
    before: Option<&Path>,
    change: impl Fn(&Server) -> RequestBuilder,
    check: impl AsyncFn(&Server),
) -> usize {
    for kill_at in 1..MOST_STEPS {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        if let Some(before) = before {
            copy(before, &data);
        }
        let server = Arc::new(start(&data).ready().await);
        let request = change(&server);
        let watch = Watch::over(&data, kill_at, Arc::clone(&server));
        let answer = request.send().await;
        let killed = watch.end(kill_at);
        drop(server);
        let server = start(&data).ready().await;
        nothing_is_staged(&server).await;
        every_version_there_is_whole(&server).await;
        check(&server).await;
        nothing_is_staged(&server).await;
        if !killed {
            answer.unwrap().error_for_status().unwrap();
            return kill_at - 1;
        }
    }
    panic!("more than {MOST_STEPS} steps");
}

fn upload(server: &Server, number: u64) -> RequestBuilder {
    let path = "/v1/models/model/versions?promote=true";
    server
        .request(reqwest::Method::POST, path)
        .multipart(version(number).form())
}

/// Nothing is left in staging of a process that is no more, or of what has ended.
async fn nothing_is_staged(server: &Server) {
    let staging = server.data.join("work/staging");
    eventually("an empty staging folder", async || {
        let mut seen = Look::new();
        look(&staging, &mut seen);
        let files = seen.keys().filter(|path| path.is_file());
        (files.filter(|path| !path.ends_with(".lock")).count() == 0).then_some(())
    })
    .await;
}

/// Every version that is listed answers. One whose deletion was cut off may go meanwhile.
async fn every_version_there_is_whole(server: &Server) {
    eventually("every version listed is whole", async || {
        let listed = server.get("/v1/models/model").await;
        if listed.status == 404 {
            return Some(());
        }
        for version in listed.ok()["versions"].as_array().unwrap() {
            let asked = format!("model&version={}", version["version"]);
            let answer = server.ask(&asked, "").await;
            if answer.status == 404 {
                return None;
            }
            assert!(answer.is(200).text().starts_with("version"));
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_killed_at_any_step_leaves_the_old_version_or_the_new_one() {
    let before = with_first_version().await;
    let kills = kill_at_each_step(
        Some(before.path()),
        |server| upload(server, 2),
        async |server| {
            let serving = server.ask("model", "").await.is(200).text();
            assert!(["version1", "version2"].contains(&&*serving), "{serving}");
            let again = server.upload_with(&version(2), "?promote=true").await;
            assert!([200, 201].contains(&again.status), "{}", again.text());
            assert_eq!(again.json()["version"], 2);
            assert_eq!(server.ask("model", "").await.is(200).text(), "version2");
            assert_eq!(
                server.ask("model&version=1", "").await.is(200).text(),
                "version1"
            );
        },
    )
    .await;
    assert!(kills >= 4, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_upload_killed_at_any_step_leaves_the_model_or_nothing_of_it() {
    let kills = kill_at_each_step(
        None,
        |server| upload(server, 1),
        async |server| {
            let asked = server.ask("model", "").await;
            match asked.status {
                200 => assert_eq!(asked.text(), "version1"),
                status => assert!([404, 503].contains(&status), "{}", asked.text()),
            }
            let again = server.upload_with(&version(1), "?promote=true").await;
            assert!([200, 201].contains(&again.status), "{}", again.text());
            assert_eq!(again.json()["version"], 1);
            assert_eq!(server.ask("model", "").await.is(200).text(), "version1");
        },
    )
    .await;
    assert!(kills >= 4, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_killed_at_any_step_leaves_the_model_or_nothing_of_it() {
    let before = with_first_version().await;
    kill_at_each_step(
        Some(before.path()),
        |server| server.request(reqwest::Method::DELETE, "/v1/models/model"),
        async |server| {
            let asked = server.ask("model", "").await;
            match asked.status {
                200 => assert_eq!(asked.text(), "version1"),
                status => assert!([404, 503].contains(&status), "{}", asked.text()),
            }
            let again = server.delete("/v1/models/model").await;
            assert!([200, 204, 404].contains(&again.status), "{}", again.text());
            server
                .ask("model", "")
                .await
                .refused(404, "model_not_found");
            // The name is free again, and the numbers go on or begin anew.
            server.upload(&version(3)).await.is(201);
            assert_eq!(server.ask("model", "").await.is(200).text(), "version3");
        },
    )
    .await;
}
