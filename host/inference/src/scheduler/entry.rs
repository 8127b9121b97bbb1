//! A place in the queue: a whole request, or a piece of one that has more rows than one run takes. Whoever takes it
//! need not know which: it has inputs, rows, and a caller to be answered.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::rows::{self, RowAxes, Rows};
use crate::error::ComputeError;
use crate::observe::RunTimes;
use crate::sync::Mutex;
use crate::tensor::NamedTensor;

/// What a caller is answered.
pub(super) type Answer = Result<Vec<NamedTensor>, ComputeError>;

/// An answer, and the run it comes from if there was one.
pub(super) type Reply = (Answer, Option<RunTimes>);

/// What waits for a session.
pub(super) struct Entry {
    /// Tells it apart from the others, so that its caller can take it back. Ids rise along the queue.
    pub(super) id: u64,
    /// When the answer stops being of use.
    pub(super) deadline: Option<Instant>,
    /// When it joined the queue.
    pub(super) queued: Instant,
    /// How many rows it has, if it may share a run.
    pub(super) rows: Option<u32>,
    /// Of its request, the last to be taken.
    pub(super) is_last: bool,
    /// What its request holds in memory, counted with the last.
    pub(super) bytes: usize,
    pub(super) what: What,
}

/// Whose rows they are.
pub(super) enum What {
    /// All of a request.
    Whole {
        /// The signature's inputs, in its order.
        inputs: Vec<NamedTensor>,
        /// Where the answer goes; closed once the caller has gone away.
        reply: oneshot::Sender<Reply>,
    },
    /// Some rows of a request that was cut.
    Piece {
        /// The request.
        of: Arc<Large>,
        /// Which piece of it this is.
        index: usize,
        /// Which rows.
        rows: Range<u32>,
    },
}

impl Entry {
    /// The inputs, and which rows of them are meant; no rows where they cannot be counted.
    pub(super) fn inputs(&self) -> Rows<'_> {
        match &self.what {
            What::Whole { inputs, .. } => Rows {
                tensors: inputs,
                rows: 0..self.rows.unwrap_or_default(),
            },
            What::Piece { of, rows, .. } => Rows {
                tensors: &of.inputs,
                rows: rows.clone(),
            },
        }
    }

    /// Whether these are all rows of the inputs, which a run can then have as they are.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.what, What::Whole { .. })
    }

    /// Whether somebody still waits for this.
    pub(super) fn is_wanted(&self) -> bool {
        match &self.what {
            What::Whole { reply, .. } => !reply.is_closed(),
            What::Piece { of, .. } => of
                .gathered
                .lock()
                .reply
                .as_ref()
                .is_some_and(|reply| !reply.is_closed()),
        }
    }

    /// Whether the time for an answer is over.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Answers these rows. A request that was cut is answered with its last piece, or its first failure.
    pub(super) fn answer(self, answer: Answer, times: Option<RunTimes>) {
        match self.what {
            What::Whole { reply, .. } => {
                // An error only says that the caller has gone away.
                let _ = reply.send((answer, times));
            }
            What::Piece { of, index, .. } => of.answer(index, answer, times),
        }
    }
}

/// A request that was cut, and its answer as far as there is one.
pub(super) struct Large {
    inputs: Vec<NamedTensor>,
    axes: Arc<RowAxes>,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    /// Gone once the caller has been answered.
    reply: Option<oneshot::Sender<Reply>>,
    pieces: Vec<Option<Vec<NamedTensor>>>,
    missing: usize,
    times: Option<RunTimes>,
}

impl Large {
    pub(super) fn new(
        inputs: Vec<NamedTensor>,
        axes: Arc<RowAxes>,
        pieces: usize,
        reply: oneshot::Sender<Reply>,
    ) -> Self {
        Self {
            inputs,
            axes,
            gathered: Mutex::new(Gathered {
                reply: Some(reply),
                pieces: vec![None; pieces],
                missing: pieces,
                times: None,
            }),
        }
    }

    fn answer(&self, index: usize, answer: Answer, times: Option<RunTimes>) {
        let mut gathered = self.gathered.lock();
        gathered.times = match (gathered.times.take(), times) {
            (Some(before), Some(times)) => Some(RunTimes {
                queued: before.queued.min(times.queued),
                started: before.started.min(times.started),
                ended: before.ended.max(times.ended),
                batch_size: before.batch_size.max(times.batch_size),
                in_place: before.in_place && times.in_place,
            }),
            (before, times) => before.or(times),
        };
        match answer {
            Ok(outputs) => {
                let Some(piece) = gathered.pieces.get_mut(index) else {
                    return;
                };
                if piece.replace(outputs).is_none() {
                    gathered.missing -= 1;
                }
                if gathered.missing > 0 {
                    return;
                }
                let times = gathered.times;
                let pieces = std::mem::take(&mut gathered.pieces);
                let reply = gathered.reply.take();
                drop(gathered);
                if let Some(reply) = reply {
                    let _ = reply.send((self.joined(&pieces), times));
                }
            }
            Err(error) => {
                gathered.pieces.clear();
                if let Some(reply) = gathered.reply.take() {
                    let _ = reply.send((Err(error), gathered.times));
                }
            }
        }
    }

    fn joined(&self, pieces: &[Option<Vec<NamedTensor>>]) -> Answer {
        let axes: Vec<_> = self.axes.outputs.iter().copied().map(Some).collect();
        let parts: Vec<_> = pieces
            .iter()
            .flatten()
            .map(|tensors| Rows {
                tensors,
                rows: 0..rows::count(&axes, tensors).unwrap_or_default(),
            })
            .collect();
        rows::join(&axes, &parts, &mut rows::Buffers::default()).map_err(ComputeError::Backend)
    }
}
