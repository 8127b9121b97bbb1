//! The least that any host does which has callers share runs: a list that callers put their rows in, and one thread that
//! takes what is there, runs it and gives each its own rows. No bound on what waits, no deadlines, no priorities, no
//! metrics, no failures, no shapes to tell apart. What it loses against the bare loop is the price of handing rows from
//! thread to thread and back, which no scheduler can save.

use std::{mem, sync::Arc, thread};

use aegis_inference::{NamedTensor, Tensor};
use anyhow::Context as _;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::bare_loop::BareLoop;

/// A thread that runs what callers hand it. Dropping it ends the thread.
pub(super) struct HandOver {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    list: Mutex<List>,
    work: Condvar,
}

#[derive(Default)]
struct List {
    waiting: Vec<Request>,
    /// Requests that were answered, and runs that were made.
    counts: (u64, u64),
    ended: bool,
}

struct Request {
    inputs: Vec<NamedTensor>,
    reply: oneshot::Sender<anyhow::Result<Vec<Vec<f32>>>>,
}

impl HandOver {
    /// At most so many rows share a run.
    pub(super) fn start(mut bare: BareLoop, most: usize) -> anyhow::Result<HandOver> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("hand-over".to_owned())
            .spawn(move || of_thread.serve(&mut bare, most.max(1)))?;
        Ok(HandOver {
            shared,
            thread: Some(thread),
        })
    }

    /// Answers one row.
    pub(super) async fn compute(&self, inputs: Vec<NamedTensor>) -> anyhow::Result<Vec<Vec<f32>>> {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut list = self.shared.list.lock();
            list.waiting.push(Request { inputs, reply });
            list.waiting.len() == 1
        };
        if first {
            self.shared.work.notify_one();
        }
        answer.await.context("the thread has ended")?
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        self.shared.list.lock().counts
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        self.shared.list.lock().ended = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self, bare: &mut BareLoop, most: usize) {
        loop {
            let batch = {
                let mut list = self.list.lock();
                while list.waiting.is_empty() && !list.ended {
                    self.work.wait(&mut list);
                }
                if list.ended {
                    return;
                }
                let kept = match list.waiting.len() > most {
                    true => list.waiting.split_off(most),
                    false => Vec::new(),
                };
                let batch = mem::replace(&mut list.waiting, kept);
                list.counts.0 += batch.len() as u64;
                list.counts.1 += 1;
                batch
            };
            let answers = join(&batch).and_then(|inputs| bare.run(&inputs));
            let rows = batch.len();
            for (row, request) in batch.into_iter().enumerate() {
                let _ = request.reply.send(match &answers {
                    Ok(outputs) => Ok(outputs.iter().map(|all| own(all, row, rows)).collect()),
                    Err(error) => Err(anyhow::anyhow!("{error:#}")),
                });
            }
        }
    }
}

/// The rows of all as one batch; every network of the benchmark has them along its first axis.
fn join(batch: &[Request]) -> anyhow::Result<Vec<NamedTensor>> {
    let first = batch.first().context("an empty batch")?;
    let joined = first.inputs.iter().enumerate().map(|(at, like)| {
        let mut dims = like.tensor.shape().dims().to_vec();
        if let Some(rows) = dims.first_mut() {
            *rows = u32::try_from(batch.len())?;
        }
        let mut bytes = Vec::with_capacity(like.tensor.byte_len() * batch.len());
        for tensor in batch.iter().filter_map(|request| request.inputs.get(at)) {
            bytes.extend_from_slice(tensor.tensor.bytes());
        }
        let shape = aegis_inference::Shape::new(&dims)?;
        let tensor = Tensor::from_bytes(like.tensor.ty(), shape, bytes.into())?;
        Ok(NamedTensor::new(Arc::clone(&like.name), tensor))
    });
    joined.collect()
}

/// One caller's part of an output.
fn own(all: &[f32], row: usize, rows: usize) -> Vec<f32> {
    let size = all.len() / rows.max(1);
    all.get(row * size..(row + 1) * size)
        .unwrap_or_default()
        .to_vec()
}
