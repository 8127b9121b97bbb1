//! Whether a graph's requests may share runs, and how many rows are worth one: found at load by running made-up rows
//! alone and in company.
//!
//! A graph whose answers depend on their neighbours (one that is quantised dynamically scales a whole batch by its
//! largest value) shows it here, and so does an output that has no rows, or a gain that is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use half::{bf16, f16};

use super::rows::{self, Buffers, RowAxes, Rows};
use super::settings::{Batching, BatchingMode};
use crate::backend::Session;
use crate::graph::{Dim, Port, Signature};
use crate::tensor::{NamedTensor, Shape, Tensor, TensorType};

/// Rows that are run together and each alone.
const ROWS: u32 = 3;

/// What a dynamic dimension other than the batch is made in the trial: not 1, at which many a graph does nothing, if
/// the graph takes it so.
const SIZES: [u32; 3] = [4, 1, 64];

/// How long sizes of batches are tried; more would only delay the start.
const TIME: Duration = Duration::from_millis(250);

/// Made-up batches larger than this are not worth their memory.
const MOST_BYTES: usize = 64 << 20;

/// A size of batch is enough when a row costs at most this much of what it costs at the best size.
const NEARLY_BEST: f64 = 1.15;

/// Batching gains nothing where a row in the best company costs more than this much of one alone.
const GAINS: f64 = 0.9;

/// How a graph's requests are to share runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Where rows are; `None` where each request is to run alone.
    pub(super) axes: Option<Arc<RowAxes>>,
    /// The most rows in one run.
    pub(super) max_rows: u32,
    /// Why not, or why rather not.
    pub(super) warning: Option<String>,
}

impl Outcome {
    fn alone(why: impl Into<Option<String>>) -> Self {
        Self {
            axes: None,
            max_rows: 1,
            warning: why.into(),
        }
    }
}

/// The outcome of a trial that made the session panic.
pub(super) fn panicked(words: &str) -> Outcome {
    Outcome::alone(format!(
        "requests run alone, as it could not be tried whether they may share runs: {words}"
    ))
}

/// Tries a session. It may panic, as sessions may on made-up input.
pub(super) fn run(session: &mut dyn Session, signature: &Signature, asked: &Batching) -> Outcome {
    if asked.mode == BatchingMode::Off || asked.max_rows <= 1 {
        return Outcome {
            max_rows: 1,
            ..Outcome::default()
        };
    }
    let given = |name: &str| {
        let mut axes = asked.axes.iter();
        axes.find(|(given, _)| given == name).map(|(_, axis)| *axis)
    };
    // Who did not ask for it need not hear why it cannot be.
    let cannot = |why: String| match asked.mode {
        BatchingMode::On => Outcome::alone(why),
        BatchingMode::Auto | BatchingMode::Off => {
            tracing::debug!("{why}");
            Outcome::alone(None)
        }
    };
    let inputs = match rows::input_axes(signature, given) {
        Ok(axes) => axes,
        Err(why) => return cannot(format!("requests run alone: {why}")),
    };
    let company = match Company::run(session, signature, &inputs) {
        Ok(company) => company,
        Err(why) if asked.mode == BatchingMode::On => {
            return untried(signature, inputs, asked, &why, given);
        }
        Err(why) => {
            return cannot(format!(
                "requests run alone, as it could not be tried whether they may share runs: {why}"
            ));
        }
    };
    let outputs = match company.output_axes(signature, given) {
        Ok(axes) => axes,
        Err(why) => return cannot(format!("requests run alone: {why}")),
    };
    let axes = Arc::new(RowAxes { inputs, outputs });
    let differs = company.differs(&axes);
    match (asked.mode, differs) {
        (BatchingMode::On, differs) => Outcome {
            axes: Some(axes),
            max_rows: asked.max_rows,
            warning: differs.map(|how| {
                format!("answers depend on who shares the run: {how}; `batching = false` gives every request its own")
            }),
        },
        (_, Some(how)) => Outcome::alone(format!(
            "requests run alone, as answers depend on who shares the run: {how}"
        )),
        (_, None) => match worth(session, &company, &axes, asked.max_rows) {
            Some(max_rows) => Outcome {
                axes: Some(axes),
                max_rows,
                warning: None,
            },
            None => Outcome {
                max_rows: 1,
                ..Outcome::default()
            },
        },
    }
}

/// What is known of a graph that takes no made-up input, where requests are to share runs all the same.
fn untried(
    signature: &Signature,
    inputs: Vec<Option<usize>>,
    asked: &Batching,
    why: &str,
    given: impl Fn(&str) -> Option<Option<usize>>,
) -> Outcome {
    let outputs: Option<Vec<usize>> = signature
        .outputs
        .iter()
        .map(|port| {
            given(&port.name)
                .flatten()
                .or_else(|| (port.shape.first() == Some(&Dim::Dynamic)).then_some(0))
        })
        .collect();
    match outputs {
        Some(outputs) => Outcome {
            axes: Some(Arc::new(RowAxes { inputs, outputs })),
            max_rows: asked.max_rows,
            warning: Some(format!(
                "it could not be tried whether answers depend on who shares the run: {why}"
            )),
        },
        None => Outcome::alone(format!(
            "requests run alone: the batch axis of an output is not known, as it could not be tried: {why}"
        )),
    }
}

/// Rows that were run alone and together.
struct Company {
    singles: Vec<Vec<NamedTensor>>,
    alone: Vec<Vec<NamedTensor>>,
    together: Vec<NamedTensor>,
}

impl Company {
    fn run(
        session: &mut dyn Session,
        signature: &Signature,
        axes: &[Option<usize>],
    ) -> Result<Self, String> {
        let mut refused = String::new();
        for size in SIZES {
            match Self::of(session, signature, axes, size) {
                Ok(company) => return Ok(company),
                Err(words) => refused = words,
            }
        }
        Err(format!("made-up input was refused ({refused})"))
    }

    fn of(
        session: &mut dyn Session,
        signature: &Signature,
        axes: &[Option<usize>],
        size: u32,
    ) -> Result<Self, String> {
        let singles = (0..ROWS)
            .map(|row| made_up(signature, axes, size, row))
            .collect::<Result<Vec<_>, String>>()?;
        let mut run =
            |inputs: &[NamedTensor]| session.run(inputs).map_err(|error| error.to_string());
        let alone = singles
            .iter()
            .map(|inputs| run(inputs))
            .collect::<Result<_, String>>()?;
        let together = run(&joined(axes, &singles, &mut Buffers::default())?)?;
        Ok(Self {
            singles,
            alone,
            together,
        })
    }

    /// The axis of each output that grew with the rows.
    fn output_axes(
        &self,
        signature: &Signature,
        given: impl Fn(&str) -> Option<Option<usize>>,
    ) -> Result<Vec<usize>, String> {
        let alone = self.alone.first().map(Vec::as_slice).unwrap_or_default();
        if alone.len() != self.together.len() || alone.len() != signature.outputs.len() {
            return Err("the number of outputs changes with the rows".to_owned());
        }
        alone
            .iter()
            .zip(&self.together)
            .map(|(alone, together)| {
                let name = &together.name;
                let (one, all) = (alone.tensor.shape().dims(), together.tensor.shape().dims());
                if let Some(axis) = given(name) {
                    return axis.ok_or_else(|| {
                        format!("output `{name}` is said to have no rows, and so cannot be shared out")
                    });
                }
                let grew = |(axis, (one, all)): (usize, (&u32, &u32))| (one != all).then_some((axis, *one, *all));
                let mut grown = one.iter().zip(all).enumerate().filter_map(grew);
                match (grown.next(), grown.next()) {
                    (Some((axis, 1, ROWS)), None) if one.len() == all.len() => Ok(axis),
                    _ => Err(format!(
                        "output `{name}` has shape {} for one row and {} for {ROWS}: its rows cannot be told apart",
                        alone.tensor.shape(),
                        together.tensor.shape()
                    )),
                }
            })
            .collect()
    }

    /// How the answers in company differ from those alone, if they do by more than rounding.
    fn differs(&self, axes: &RowAxes) -> Option<String> {
        for (row, alone) in (0..ROWS).zip(&self.alone) {
            let here = match rows::slice(&axes.outputs, &self.together, &(row..row + 1)) {
                Ok(here) => here,
                Err(words) => return Some(words),
            };
            for (here, alone) in here.iter().zip(alone) {
                if let Some(by) = difference(&here.tensor, &alone.tensor) {
                    return Some(format!(
                        "a row's `{}` moves by {by:.1e} of its greatest value",
                        here.name
                    ));
                }
            }
        }
        None
    }
}

/// Answers may differ by this much of the greatest value in a row: backends add up in another order for a batch.
fn tolerance(ty: TensorType) -> f64 {
    match ty {
        TensorType::Fp16 | TensorType::Bf16 => 2e-2,
        TensorType::Fp32 | TensorType::Fp64 => 1e-4,
        TensorType::U8 | TensorType::I32 | TensorType::I64 => 0.0,
    }
}

/// By how much of the greatest value two tensors differ; `None` if that is rounding.
fn difference(one: &Tensor, other: &Tensor) -> Option<f64> {
    if one == other {
        return None;
    }
    let (Some(ones), Some(others)) = (values(one), values(other)) else {
        return Some(f64::INFINITY);
    };
    if one.ty() != other.ty() || one.shape() != other.shape() {
        return Some(f64::INFINITY);
    }
    let greatest = ones
        .iter()
        .chain(&others)
        .filter(|value| value.is_finite())
        .fold(f64::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let by = ones
        .iter()
        .zip(&others)
        .map(|(one, other)| {
            if one == other || (one.is_nan() && other.is_nan()) {
                0.0
            } else {
                let by = (one - other).abs() / greatest;
                if by.is_nan() { f64::INFINITY } else { by }
            }
        })
        .fold(0.0, f64::max);
    (by > tolerance(one.ty())).then_some(by)
}

fn values(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.ty() {
        TensorType::Fp16 => tensor
            .aligned::<f16>()
            .ok()?
            .iter()
            .map(|x| x.to_f64())
            .collect(),
        TensorType::Bf16 => tensor
            .aligned::<bf16>()
            .ok()?
            .iter()
            .map(|x| x.to_f64())
            .collect(),
        TensorType::Fp32 => tensor
            .aligned::<f32>()
            .ok()?
            .iter()
            .map(|x| f64::from(*x))
            .collect(),
        TensorType::Fp64 => tensor.aligned::<f64>().ok()?.to_vec(),
        TensorType::U8 => tensor
            .aligned::<u8>()
            .ok()?
            .iter()
            .map(|x| f64::from(*x))
            .collect(),
        TensorType::I32 => tensor
            .aligned::<i32>()
            .ok()?
            .iter()
            .map(|x| f64::from(*x))
            .collect(),
        TensorType::I64 => tensor
            .aligned::<i64>()
            .ok()?
            .iter()
            .map(|x| *x as f64)
            .collect(),
    })
}

/// The number of rows from which on more gain little; `None` where no number gains anything.
fn worth(
    session: &mut dyn Session,
    company: &Company,
    axes: &RowAxes,
    max_rows: u32,
) -> Option<u32> {
    let begun = Instant::now();
    let mut buffers = Buffers::default();
    let mut costs: Vec<(u32, f64)> = Vec::new();
    let mut size = 1;
    while costs.is_empty() || (size <= max_rows && begun.elapsed() < TIME) {
        let singles: Vec<_> = company
            .singles
            .iter()
            .cycle()
            .take(size as usize)
            .cloned()
            .collect();
        let inputs = joined(&axes.inputs, &singles, &mut buffers).ok()?;
        let bytes: usize = inputs.iter().map(|input| input.tensor.byte_len()).sum();
        if bytes > MOST_BYTES {
            break;
        }
        let best = quickest(session, &inputs)?;
        costs.push((size, best.as_secs_f64() / f64::from(size)));
        buffers.give_back(inputs);
        if size == max_rows {
            break;
        }
        size = size.saturating_mul(2).min(max_rows);
    }
    choose(&costs)
}

/// Of what a row costs at each size: the smallest size that is nearly as good as the best, if that is better than alone.
fn choose(costs: &[(u32, f64)]) -> Option<u32> {
    let (_, alone) = costs.first()?;
    let best = costs
        .iter()
        .map(|(_, cost)| *cost)
        .fold(f64::INFINITY, f64::min);
    if best > alone * GAINS {
        return None;
    }
    let enough = costs.iter().find(|(_, cost)| *cost <= best * NEARLY_BEST);
    enough.map(|(size, _)| *size).filter(|size| *size > 1)
}

/// The quickest of a few runs, the first not counted: it prepares the backend for the shapes.
fn quickest(session: &mut dyn Session, inputs: &[NamedTensor]) -> Option<Duration> {
    session.run(inputs).ok()?;
    let mut quickest = Duration::MAX;
    let begun = Instant::now();
    for run in 0..20 {
        let start = Instant::now();
        session.run(inputs).ok()?;
        quickest = quickest.min(start.elapsed());
        if run >= 2 && begun.elapsed() > TIME / 20 {
            break;
        }
    }
    Some(quickest)
}

fn joined(
    axes: &[Option<usize>],
    singles: &[Vec<NamedTensor>],
    buffers: &mut Buffers,
) -> Result<Vec<NamedTensor>, String> {
    let parts: Vec<_> = singles
        .iter()
        .map(|tensors| Rows {
            tensors,
            rows: 0..1,
        })
        .collect();
    rows::join(axes, &parts, buffers)
}

/// One row of made-up input; dynamic dimensions other than the batch are `size`. What is shared is the same in each row.
fn made_up(
    signature: &Signature,
    axes: &[Option<usize>],
    size: u32,
    row: u32,
) -> Result<Vec<NamedTensor>, String> {
    let mut total = 0_usize;
    signature
        .inputs
        .iter()
        .zip(axes)
        .map(|(port, axis)| {
            let ty = port.ty.ok_or_else(|| {
                format!("input `{}` is of no type that can be made up", port.name)
            })?;
            let shape = shape_of(port, *axis, size)?;
            total = total.saturating_add(shape.bytes(ty));
            if total > MOST_BYTES {
                return Err("a single row is too large to be made up".to_owned());
            }
            let row = if axis.is_some() { row } else { 0 };
            Ok(NamedTensor {
                name: Arc::clone(&port.name),
                tensor: noise(ty, shape, row).map_err(|error| error.to_string())?,
            })
        })
        .collect()
}

fn shape_of(port: &Port, axis: Option<usize>, size: u32) -> Result<Shape, String> {
    let dims: Vec<u32> = port
        .shape
        .iter()
        .enumerate()
        .map(|(at, dim)| match dim {
            _ if Some(at) == axis => 1,
            Dim::Fixed(size) => *size,
            Dim::Dynamic => size,
        })
        .collect();
    Shape::new(&dims).map_err(|error| error.to_string())
}

/// Numbers that differ from row to row. Floats lie between 0 and 1, 4 or 16, by the row, so that what scales a batch by its
/// greatest value shows; integers are 0 or 1, as larger ones may be no index of anything.
fn noise(ty: TensorType, shape: Shape, row: u32) -> Result<Tensor, crate::tensor::TensorError> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (u64::from(row) << 32);
    // SplitMix64 (Steele, Lea and Flood, 2014).
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let scale = f64::from(4_u32.saturating_pow(row));
    let count = shape.elements();
    let mut float = || (next() >> 11) as f64 / (1_u64 << 53) as f64 * scale;
    let dims = shape.dims();
    match ty {
        TensorType::Fp16 => Tensor::from_slice(dims, &repeat(count, || f16::from_f64(float()))),
        TensorType::Bf16 => Tensor::from_slice(dims, &repeat(count, || bf16::from_f64(float()))),
        TensorType::Fp32 => Tensor::from_slice(dims, &repeat(count, || float() as f32)),
        TensorType::Fp64 => Tensor::from_slice(dims, &repeat(count, float)),
        // Any byte is a pixel.
        TensorType::U8 => {
            Tensor::from_slice(dims, &repeat(count, || (float() / scale * 255.0) as u8))
        }
        TensorType::I32 => Tensor::from_slice(dims, &bits(count, row, || float() / scale >= 0.5)),
        TensorType::I64 => Tensor::from_slice(
            dims,
            &bits(count, row, || float() / scale >= 0.5)
                .into_iter()
                .map(i64::from)
                .collect::<Vec<_>>(),
        ),
    }
}

fn repeat<T>(count: usize, mut make: impl FnMut() -> T) -> Vec<T> {
    (0..count).map(|_| make()).collect()
}

/// The first row all ones, so that masks let something through; the others by chance.
fn bits(count: usize, row: u32, mut chance: impl FnMut() -> bool) -> Vec<i32> {
    repeat(count, || i32::from(row == 0 || chance()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_that_gains_most_of_it_is_chosen() {
        // Microseconds of digits, MiniLM and EfficientNet-Lite0, by `facts/models.md`.
        assert_eq!(choose(&[(1, 6.0), (8, 1.1), (32, 0.25)]), Some(32));
        assert_eq!(choose(&[(1, 5.1), (8, 2.34), (32, 2.13)]), Some(8));
        assert_eq!(choose(&[(1, 6.2), (8, 7.5), (32, 8.2)]), None);
        assert_eq!(choose(&[(1, 6.0)]), None);
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn rounding_is_no_difference_and_more_is() {
        let of = |values: &[f32]| Tensor::from_slice(&[2], values);
        let differs = |one: &[f32], other: &[f32]| match (of(one), of(other)) {
            (Ok(one), Ok(other)) => difference(&one, &other).is_some(),
            _ => false,
        };
        assert!(!differs(&[1.0, 1e-9], &[1.000_01, 2e-9]));
        assert!(differs(&[1.0, 0.0], &[1.0, 0.001]));
        assert!(!differs(&[f32::NAN, 1.0], &[f32::NAN, 1.0]));
        assert!(differs(&[f32::NAN, 1.0], &[1.0, 1.0]));
        assert!(differs(&[f32::INFINITY, 1.0], &[1.0, 1.0]));
    }
}
