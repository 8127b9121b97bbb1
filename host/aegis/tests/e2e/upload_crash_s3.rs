//! A server killed at each request that an upload makes to a bucket, before the store has heard of it and before its answer
//! comes; and a store that does one request of an upload wrong, stalls at it or answers it by half. Whoever else serves from the bucket goes on with the last
//! good version, what is half there is found by `aegis gc`, and the same upload ends it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::aegis;
use crate::harness::{Answer, Fate, Package, Server, Start, StoreWire, eventually, said, send};
use crate::registry::tools::S3;

/// No upload makes more requests than this.
const MOST_REQUESTS: usize = 100;

/// What version N answers; as long as what it stands for.
fn answer_of(version: u64) -> String {
    format!("v{version:07}")
}

/// No two have a file in common. Without a network, as there are many uploads.
fn version(number: u64) -> Package {
    let answer = format!("\"{}\"", answer_of(number));
    Package::raw("model", &[("\"answered\"", &answer)])
        .and(&format!("[config]\nnumber = \"{number}\""))
}

/// A bucket, a server that uploads to it and may die of that, and another that serves from it.
struct Site {
    s3: S3,
    wire: StoreWire,
    data: TempDir,
    uploader: Arc<Server>,
    witness: Server,
    /// The last version that was uploaded and answers.
    last: u64,
}

impl Site {
    async fn new() -> Option<Site> {
        let s3 = S3::start().await?;
        let wire = StoreWire::before(&s3.variables()).await;
        let data = TempDir::new().unwrap();
        let uploader = uploader(&s3, &wire, &data).await;
        let witness = Start::new().replica("s3://models", s3.variables());
        let witness = witness.ready().await;
        uploader.upload(&version(1)).await.is(201);
        eventually("the first version", async || {
            let answer = witness.ask("model", "").await;
            (answer.status == 200).then_some(())
        })
        .await;
        Some(Site {
            s3,
            wire,
            data,
            uploader,
            witness,
            last: 1,
        })
    }

    async fn restart(&mut self) {
        self.uploader = uploader(&self.s3, &self.wire, &self.data).await;
    }

    /// The next version, or no answer.
    async fn upload(&self) -> Option<Answer> {
        self.upload_of(&version(self.last + 1)).await
    }

    /// This as the next version, or no answer.
    async fn upload_of(&self, package: &Package) -> Option<Answer> {
        let path = "/v1/models/model/versions?promote=true";
        let request = self.uploader.request(Method::POST, path);
        let request = request.multipart(package.form());
        Some(Answer::read(request.send().await.ok()?).await)
    }

    /// The last version or the one that was on its way answers, and all that is listed is whole.
    async fn is_whole_on(&self, server: &Server) {
        let serving = server.ask("model", "").await.is(200).text();
        let either = [answer_of(self.last), answer_of(self.last + 1)];
        assert!(either.contains(&serving), "{serving}, not of {either:?}");
        let listed = server.get("/v1/models/model").await.ok();
        for version in listed["versions"].as_array().unwrap() {
            let number = version["version"].as_u64().unwrap();
            let asked = server.ask(&format!("model&version={number}"), "").await;
            assert_eq!(asked.is(200).text(), answer_of(number));
        }
    }

    /// What `aegis gc` finds, after which the bucket has no file that no version names.
    async fn collect(&self) -> u64 {
        let words = ["gc", "--grace", "0", "--output", "json"];
        let found = said(&aegis(&self.witness, &words).await);
        let found: Value = serde_json::from_str(&found).unwrap();
        let objects = self.objects().await;
        let mut named = String::new();
        for record in objects.iter().filter(|key| key.contains("/versions/")) {
            named += &self.wire.object(record).await;
        }
        for blob in objects.iter().filter_map(|key| key.strip_prefix("blobs/")) {
            let (_, digest) = blob.rsplit_once('/').unwrap();
            assert!(named.contains(digest), "{blob} is left of {found}");
        }
        let noted = objects.iter().find(|key| key.starts_with("uploads/"));
        assert_eq!(noted, None, "a note is left of {found}");
        found["blobs"].as_u64().unwrap()
    }

    /// What was uploaded is the last version from here on, for the other server too; the one before is not kept.
    async fn goes_on(&mut self) {
        let gone = format!("/v1/models/model/versions/{}", self.last);
        self.uploader.delete(&gone).await.is(204);
        self.last += 1;
        let due = answer_of(self.last);
        assert_eq!(self.uploader.ask("model", "").await.is(200).text(), due);
        eventually("the other server's following", async || {
            (self.witness.ask("model", "").await.is(200).text() == due).then_some(())
        })
        .await;
    }

    /// Which version is stable, after how many changes.
    async fn was_changed(&self, stable: u64, changes: usize) {
        let there = self.uploader.get("/v1/models/model").await.ok();
        let traffic = &there["traffic"];
        assert_eq!(traffic["stable"], stable, "{traffic}");
        assert_eq!(
            traffic["history"].as_array().unwrap().len(),
            changes,
            "{traffic}"
        );
    }

    /// Uploads version after version, each time with one of these done to another of the upload's requests, until all
    /// have had their turn. Every upload is taken, and nothing is there twice: how many faults that were, and how long
    /// the longest upload took.
    async fn each_request_done_to(&mut self, fates: &[Fate]) -> (usize, Duration) {
        let (mut faults, mut longest) = (0, Duration::ZERO);
        for &fate in fates {
            for before in 0..=MOST_REQUESTS {
                assert!(before < MOST_REQUESTS, "the upload never ends");
                self.wire.one(before, fate, None);
                let began = Instant::now();
                let answer = self.upload().await.unwrap();
                longest = longest.max(began.elapsed());
                let done = self.wire.restore();
                is_taken(&answer, self.last + 1);
                self.is_whole_on(&self.uploader).await;
                self.goes_on().await;
                faults += usize::from(done);
                if !done {
                    break;
                }
            }
        }
        self.is_whole_on(&self.witness).await;
        self.collect().await;
        let listed = self.witness.get("/v1/models/model").await.ok();
        assert_eq!(listed["versions"].as_array().unwrap().len(), 1, "{listed}");
        eprintln!("{faults} faults; the longest upload took {longest:?}");
        (faults, longest)
    }

    /// The keys in the bucket.
    async fn objects(&self) -> Vec<String> {
        let listing = self.wire.object("?list-type=2").await;
        let keys = listing.split("<Key>").skip(1);
        keys.map(|rest| rest.split("</Key>").next().unwrap().to_owned())
            .collect()
    }
}

/// It looks at the store when it is asked to do something, so that an upload's requests are the only ones.
async fn uploader(s3: &S3, wire: &StoreWire, data: &TempDir) -> Arc<Server> {
    let start = Start::new()
        .data(data.path())
        .store("s3://models", wire.variables(s3.variables()))
        .flag("--store-poll-ms", "3600000")
        .flag("--store-timeout-ms", &PATIENCE_MS.to_string())
        .flag("--warm-instances", "1");
    Arc::new(start.ready().await)
}

/// How long the uploader lets a call to the store take, in milliseconds.
const PATIENCE_MS: u64 = 2000;

/// It was taken, now or before, under the number that is due.
fn is_taken(answer: &Answer, number: u64) {
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
    assert_eq!(answer.json()["version"], number, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_killed_at_any_request_to_a_bucket_leaves_the_last_version_and_no_file_unfound() {
    let Some(mut site) = Site::new().await else {
        return;
    };
    let (mut kills, mut orphans) = (0, 0);
    for fate in [Fate::Lost, Fate::AnswerLost] {
        for before in 0..=MOST_REQUESTS {
            assert!(before < MOST_REQUESTS, "the upload never ends");
            site.wire
                .one(before, fate, Some(Arc::clone(&site.uploader)));
            let answer = site.upload().await;
            let killed = site.wire.restore();
            site.is_whole_on(&site.witness).await;
            orphans += site.collect().await;
            if !killed {
                is_taken(&answer.unwrap(), site.last + 1);
                site.goes_on().await;
                break;
            }
            kills += 1;
            site.restart().await;
            site.is_whole_on(&site.uploader).await;
            is_taken(&site.upload().await.unwrap(), site.last + 1);
            site.goes_on().await;
        }
    }
    eprintln!("{kills} kills, {orphans} files that no version named");
    assert!(
        kills >= 10 && orphans >= 5,
        "{kills} kills, {orphans} files"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_does_one_request_of_an_upload_wrong_is_asked_again_and_nothing_is_twice() {
    let Some(mut site) = Site::new().await else {
        return;
    };
    let fates = [
        Fate::Refused,
        Fate::Lost,
        Fate::AnswerLost,
        Fate::Reset,
        Fate::AnswerReset,
    ];
    let (faults, _) = site.each_request_done_to(&fates).await;
    assert!(faults >= 35, "{faults} faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_stalls_or_answers_by_half_once_holds_no_upload_for_long() {
    let Some(mut site) = Site::new().await else {
        return;
    };
    let fates = [
        Fate::Stalled,
        Fate::AnswerStalled,
        Fate::StopsHalfway,
        Fate::EndsHalfway,
    ];
    let (faults, longest) = site.each_request_done_to(&fates).await;
    assert!(faults >= 35, "{faults} faults");
    // A call, and the upload itself on a busy machine.
    assert!(
        longest < Duration::from_millis(10 * PATIENCE_MS),
        "{longest:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_to_a_bucket_that_stalls_for_good_is_told_so_in_time() {
    let Some(site) = Site::new().await else {
        return;
    };
    site.wire.all(Fate::Silence);
    let began = Instant::now();
    let answer = site.upload().await.unwrap();
    eprintln!("{}", answer.refused(503, "store_error"));
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_millis(10 * PATIENCE_MS),
        "{waited:?}"
    );
    site.is_whole_on(&site.witness).await;
    site.wire.restore();
    is_taken(&site.upload().await.unwrap(), 2);
}

/// The next version, whose handler is so large that it is stored in parts.
fn in_parts(number: u64) -> Package {
    let answer = format!("\"{}\"", answer_of(number));
    let package = Package::raw("model", &[("\"answered\"", &answer)]);
    let mut component = package.bytes("handler.wasm").to_vec();
    // A section that nobody reads: its id, its size in LEB128, the size of its name, and the name.
    let size = 9 << 20;
    let mut rest = size;
    component.push(0);
    while rest >= 0x80 {
        component.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    component.push(rest as u8);
    component.extend([1, b'n']);
    component.resize(component.len() + size - 2, number as u8);
    Package::handler("model", component).and(&format!("[config]\nnumber = \"{number}\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_parts_that_is_killed_at_any_of_them_leaves_the_last_version_and_no_part_unfound()
 {
    let Some(mut site) = Site::new().await else {
        return;
    };
    let mut kills = 0;
    for before in 0..=MOST_REQUESTS {
        assert!(before < MOST_REQUESTS, "the upload never ends");
        let victim = Some(Arc::clone(&site.uploader));
        site.wire.one(before, Fate::AnswerLost, victim);
        let package = in_parts(site.last + 1);
        let answer = site.upload_of(&package).await;
        let killed = site.wire.restore();
        site.is_whole_on(&site.witness).await;
        site.collect().await;
        if !killed {
            is_taken(&answer.unwrap(), site.last + 1);
            site.goes_on().await;
            break;
        }
        kills += 1;
        site.restart().await;
        site.is_whole_on(&site.uploader).await;
        is_taken(&site.upload_of(&package).await.unwrap(), site.last + 1);
        site.goes_on().await;
    }
    // Of an upload that ended before it was told its id nobody can know; it has no parts.
    let left = site.wire.object("?uploads").await;
    let ids = left.split("<Upload>").skip(1).map(|upload| {
        let inner = |tag: &str| {
            let (_, rest) = upload.split_once(&format!("<{tag}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        (inner("Key"), inner("UploadId"))
    });
    let ids: Vec<_> = ids.collect();
    for (key, id) in &ids {
        let parts = site.wire.object(&format!("{key}?uploadId={id}")).await;
        assert!(!parts.contains("<Part>"), "{parts}");
        assert!(parts.contains(id.as_str()), "{parts}");
    }
    eprintln!(
        "{kills} kills; {} uploads without parts are left",
        ids.len()
    );
    assert!(ids.len() <= 1, "{left}");
    // The manifest, the beginning, its note, two parts, the end, the note's end, the record, the rule.
    assert!(kills >= 9, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_while_the_bucket_is_away_is_503_and_made_once_when_it_is_back() {
    let Some(mut site) = Site::new().await else {
        return;
    };
    site.uploader.upload(&version(2)).await.is(201);
    for fate in [Fate::Lost, Fate::Reset, Fate::Refused] {
        site.wire.all(fate);
        let answer = site.uploader.promote("model", 2).await;
        eprintln!("{fate:?}: {}", answer.refused(503, "store_error"));
        site.wire.restore();
        site.is_whole_on(&site.uploader).await;
    }
    site.uploader.promote("model", 2).await.is(200);
    site.uploader.promote("model", 2).await.is(200);
    site.was_changed(2, 2).await;
    // Made twice, a rollback comes back to where it began.
    for (done, fate) in [Fate::Lost, Fate::AnswerLost, Fate::Reset, Fate::AnswerReset]
        .into_iter()
        .enumerate()
    {
        let answered = [1, 2][done % 2];
        let request = site
            .uploader
            .request(Method::POST, "/v1/models/model/rollback");
        // `Lost` and `Reset` take reads too, of which a rollback has some before it changes anything.
        site.wire.one(0, fate, None);
        send(request).await.is(200);
        assert!(site.wire.restore(), "{fate:?}");
        site.was_changed(answered, 3 + done).await;
    }
    site.goes_on().await;
}
