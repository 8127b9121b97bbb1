//! Which axis of each tensor counts rows, how the rows of several requests are joined along it, and how an answer's
//! rows are told apart again. Pure: no queue, no session.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::graph::{Dim, Signature};
use crate::tensor::{MAX_RANK, NamedTensor, Shape, Tensor};

/// Where the rows are, in every input and output of a graph that can be batched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowAxes {
    /// For each input, the axis; `None`: one value for the whole batch, so only requests that agree in it are joined.
    pub(super) inputs: Vec<Option<usize>>,
    /// For each output, the axis. A graph with an output that has none is never batched: what such an output says
    /// would be about all callers at once.
    pub(super) outputs: Vec<usize>,
}

/// The inputs' axes as their shapes suggest them, unless `given` says otherwise: axis 0 where it is dynamic, else the
/// one axis that is, else none.
///
/// # Errors
/// Why no rows can be counted, in words for whoever wrote the manifest.
pub(super) fn input_axes(
    signature: &Signature,
    given: impl Fn(&str) -> Option<Option<usize>>,
) -> Result<Vec<Option<usize>>, String> {
    let mut axes = Vec::with_capacity(signature.inputs.len());
    for port in &signature.inputs {
        let axis = match given(&port.name) {
            Some(axis) => {
                if let Some(axis) = axis
                    && axis >= port.shape.len()
                {
                    return Err(format!(
                        "input `{}` has no axis {axis}: it has {} dimensions",
                        port.name,
                        port.shape.len()
                    ));
                }
                if let Some(axis) = axis
                    && let Some(Dim::Fixed(size)) = port.shape.get(axis)
                {
                    return Err(format!(
                        "axis {axis} of input `{}` is always {size}: no rows can be joined along it",
                        port.name
                    ));
                }
                axis
            }
            None => {
                let mut dynamic = port
                    .shape
                    .iter()
                    .enumerate()
                    .filter(|(_, dim)| **dim == Dim::Dynamic)
                    .map(|(axis, _)| axis);
                match (dynamic.next(), dynamic.next()) {
                    (Some(0), _) => Some(0),
                    (only, None) => only,
                    _ => {
                        return Err(format!(
                            "input `{}` has several dimensions of any size, none of them the first: \
                             the manifest must say which one is the batch",
                            port.name
                        ));
                    }
                }
            }
        };
        axes.push(axis);
    }
    if axes.iter().all(Option::is_none) {
        return Err("no input has a dimension of any size that could be the batch".to_owned());
    }
    Ok(axes)
}

/// How many rows these inputs have along their axes; `None` where they do not agree or have none: such a request runs
/// alone, and the backend says what it thinks of it.
pub(super) fn count(axes: &[Option<usize>], inputs: &[NamedTensor]) -> Option<u32> {
    let mut rows = None;
    for (axis, input) in axes.iter().zip(inputs) {
        let Some(axis) = axis else { continue };
        let here = *input.tensor.shape().dims().get(*axis)?;
        if here == 0 || rows.is_some_and(|rows| rows != here) {
            return None;
        }
        rows = Some(here);
    }
    rows
}

/// Whether the rows of both may share a run: they agree in everything but how many there are.
pub(super) fn agree(axes: &[Option<usize>], one: &[NamedTensor], other: &[NamedTensor]) -> bool {
    axes.iter()
        .zip(one.iter().zip(other))
        .all(|(axis, (one, other))| {
            let (one, other) = (&one.tensor, &other.tensor);
            match axis {
                None => one == other,
                Some(axis) => {
                    let (one, other) = (one.shape().dims(), other.shape().dims());
                    one.len() == other.len()
                        && one
                            .iter()
                            .zip(other)
                            .enumerate()
                            .all(|(at, (one, other))| at == *axis || one == other)
                }
            }
        })
}

/// Some rows of one request.
#[derive(Clone)]
pub(super) struct Rows<'a> {
    pub(super) tensors: &'a [NamedTensor],
    pub(super) rows: Range<u32>,
}

/// Memory that runs are joined in, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    kept: SmallVec<[BytesMut; 4]>,
}

/// More than this is given back after a run rather than kept: one large batch must not hold its memory for good.
const MOST_KEPT: usize = 64 << 20;

impl Buffers {
    fn take(&mut self, bytes: usize) -> BytesMut {
        let mut buffer = self.kept.pop().unwrap_or_default();
        buffer.clear();
        buffer.reserve(bytes);
        buffer
    }

    /// Takes the memory of joined inputs back, where nobody else holds it.
    pub(super) fn give_back(&mut self, joined: Vec<NamedTensor>) {
        for input in joined {
            if let Ok(buffer) = input.tensor.into_shared().try_into_mut()
                && buffer.capacity() <= MOST_KEPT
                && self.kept.len() < self.kept.inline_size()
            {
                self.kept.push(buffer);
            }
        }
    }
}

/// Joins the rows of `parts`, which agree, along their axes. What is shared is taken from the first.
///
/// # Errors
/// When the whole would be too large to address.
pub(super) fn join(
    axes: &[Option<usize>],
    parts: &[Rows<'_>],
    buffers: &mut Buffers,
) -> Result<Vec<NamedTensor>, String> {
    let Some(first) = parts.first() else {
        return Ok(Vec::new());
    };
    axes.iter()
        .zip(first.tensors)
        .enumerate()
        .map(|(index, (axis, named))| {
            let Some(axis) = axis else {
                return Ok(named.clone());
            };
            let tensors = parts
                .iter()
                .filter_map(|part| Some((&part.tensors.get(index)?.tensor, part.rows.clone())));
            Ok(NamedTensor {
                name: Arc::clone(&named.name),
                tensor: join_one(*axis, &named.tensor, tensors, buffers)?,
            })
        })
        .collect()
}

fn join_one<'a>(
    axis: usize,
    like: &Tensor,
    parts: impl Iterator<Item = (&'a Tensor, Range<u32>)> + Clone,
    buffers: &mut Buffers,
) -> Result<Tensor, String> {
    let total = parts
        .clone()
        .try_fold(0_u32, |total, (_, rows)| {
            total.checked_add(rows.end - rows.start)
        })
        .ok_or("the batch has more rows than can be counted")?;
    let shape = with_rows(like.shape(), axis, total)?;
    let mut buffer = buffers.take(shape.bytes(like.ty()));
    for outer in 0..outer(like.shape(), axis) {
        for (tensor, rows) in parts.clone() {
            buffer.extend_from_slice(block(tensor, axis, outer, &rows));
        }
    }
    Tensor::from_bytes(like.ty(), shape, buffer.freeze()).map_err(|error| error.to_string())
}

/// The rows `rows` of every tensor, each along its axis. Along axis 0 the bytes are shared, else copied.
///
/// # Errors
/// When a tensor has no such rows.
pub(super) fn slice(
    axes: &[usize],
    tensors: &[NamedTensor],
    rows: &Range<u32>,
) -> Result<Vec<NamedTensor>, String> {
    axes.iter()
        .zip(tensors)
        .map(|(axis, named)| {
            let tensor = &named.tensor;
            let shape = with_rows(tensor.shape(), *axis, rows.end - rows.start)?;
            let bytes = if outer(tensor.shape(), *axis) == 1 {
                let range = byte_range(tensor, *axis, 0, rows);
                if range.end > tensor.byte_len() {
                    return Err(format!("`{}` has fewer rows than the batch", named.name));
                }
                tensor.clone().into_shared().slice(range)
            } else {
                let mut bytes = Vec::with_capacity(shape.bytes(tensor.ty()));
                for outer in 0..outer(tensor.shape(), *axis) {
                    bytes.extend_from_slice(block(tensor, *axis, outer, rows));
                }
                Bytes::from(bytes)
            };
            let tensor = Tensor::from_bytes(tensor.ty(), shape, bytes)
                .map_err(|error| format!("`{}`: {error}", named.name))?;
            Ok(NamedTensor {
                name: Arc::clone(&named.name),
                tensor,
            })
        })
        .collect()
}

/// Whether every output has `rows` rows along its axis, as a batch of so many must.
///
/// # Errors
/// Which has not, and how many it has.
pub(super) fn check(axes: &[usize], outputs: &[NamedTensor], rows: u32) -> Result<(), String> {
    if axes.len() != outputs.len() {
        return Err(format!(
            "a batch was answered with {} outputs instead of {}",
            outputs.len(),
            axes.len()
        ));
    }
    for (axis, output) in axes.iter().zip(outputs) {
        let found = output.tensor.shape().dims().get(*axis);
        if found != Some(&rows) {
            return Err(format!(
                "output `{}` has shape {} for a batch of {rows}: axis {axis} is not its rows",
                output.name,
                output.tensor.shape(),
            ));
        }
    }
    Ok(())
}

/// `shape` with `rows` along `axis`.
pub(super) fn with_rows(shape: &Shape, axis: usize, rows: u32) -> Result<Shape, String> {
    let mut dims: SmallVec<[u32; MAX_RANK]> = SmallVec::from_slice(shape.dims());
    *dims
        .get_mut(axis)
        .ok_or_else(|| format!("shape {shape} has no axis {axis}"))? = rows;
    Shape::new(&dims).map_err(|error| error.to_string())
}

/// How often the rows occur: the product of the dimensions before the axis.
fn outer(shape: &Shape, axis: usize) -> usize {
    shape
        .dims()
        .iter()
        .take(axis)
        .map(|dim| *dim as usize)
        .product()
}

/// Where `rows` lie, in bytes, in the `outer`th place that they occur.
fn byte_range(tensor: &Tensor, axis: usize, outer: usize, rows: &Range<u32>) -> Range<usize> {
    let dims = tensor.shape().dims();
    let row: usize = dims
        .iter()
        .skip(axis + 1)
        .map(|dim| *dim as usize)
        .product::<usize>()
        * tensor.ty().size();
    let all = dims.get(axis).map_or(0, |dim| *dim as usize);
    let start = outer * all * row;
    start + rows.start as usize * row..start + rows.end as usize * row
}

fn block<'a>(tensor: &'a Tensor, axis: usize, outer: usize, rows: &Range<u32>) -> &'a [u8] {
    // Callers have counted the rows; a range past the end would make the whole too short, which its maker refuses.
    tensor
        .bytes()
        .get(byte_range(tensor, axis, outer, rows))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use proptest::prelude::*;

    use super::*;
    use crate::graph::Port;
    use crate::tensor::TensorType;

    fn signature(shapes: &[&[Dim]]) -> Signature {
        Signature {
            inputs: shapes
                .iter()
                .enumerate()
                .map(|(index, shape)| Port {
                    name: format!("in{index}").into(),
                    ty: Some(TensorType::I32),
                    shape: shape.to_vec(),
                })
                .collect(),
            outputs: vec![],
        }
    }

    const ANY: Dim = Dim::Dynamic;

    fn axes(shapes: &[&[Dim]]) -> Result<Vec<Option<usize>>, String> {
        input_axes(&signature(shapes), |_| None)
    }

    #[test]
    fn the_first_dimension_of_any_size_is_the_batch_and_a_scalar_is_shared() {
        assert_eq!(axes(&[&[ANY, Dim::Fixed(64)]]).unwrap(), [Some(0)]);
        assert_eq!(
            axes(&[&[ANY, ANY], &[ANY, ANY]]).unwrap(),
            [Some(0), Some(0)]
        );
        // Silero: samples, state, and the rate.
        let silero: [&[Dim]; 3] = [&[ANY, ANY], &[Dim::Fixed(2), ANY, Dim::Fixed(128)], &[]];
        assert_eq!(axes(&silero).unwrap(), [Some(0), Some(1), None]);
    }

    #[test]
    fn what_cannot_be_told_from_the_model_says_so() {
        assert_eq!(
            axes(&[&[Dim::Fixed(1), ANY, ANY]]).unwrap_err(),
            "input `in0` has several dimensions of any size, none of them the first: the manifest must say which one \
             is the batch"
        );
        assert_eq!(
            axes(&[&[Dim::Fixed(1), Dim::Fixed(4)]]).unwrap_err(),
            "no input has a dimension of any size that could be the batch"
        );
        let one = signature(&[&[Dim::Fixed(1), ANY, ANY]]);
        assert_eq!(input_axes(&one, |_| Some(Some(2))).unwrap(), [Some(2)]);
        assert_eq!(
            input_axes(&one, |_| Some(Some(3))).unwrap_err(),
            "input `in0` has no axis 3: it has 3 dimensions"
        );
        assert_eq!(
            input_axes(&one, |_| Some(Some(0))).unwrap_err(),
            "axis 0 of input `in0` is always 1: no rows can be joined along it"
        );
    }

    #[test]
    fn inputs_that_disagree_in_their_rows_have_none() {
        let axes = [Some(0), Some(0)];
        let of = |rows: u32| {
            NamedTensor::new(
                "x",
                Tensor::zeros(TensorType::U8, Shape::new(&[rows]).unwrap()),
            )
        };
        assert_eq!(count(&axes, &[of(3), of(3)]), Some(3));
        assert_eq!(count(&axes, &[of(3), of(2)]), None);
        assert_eq!(count(&axes, &[of(0), of(0)]), None);
    }

    /// A request's tensors: along their axes they have `rows` rows, and elsewhere what all agree in.
    fn request(shapes: &[(Vec<u32>, usize)], rows: u32, first: i32) -> Vec<NamedTensor> {
        shapes
            .iter()
            .map(|(dims, axis)| {
                let mut dims = dims.clone();
                dims[*axis] = rows;
                let shape = Shape::new(&dims).unwrap();
                let elements: Vec<i32> = (first..).take(shape.elements()).collect();
                NamedTensor::new("x", Tensor::from_slice(&dims, &elements).unwrap())
            })
            .collect()
    }

    prop_compose! {
        fn shapes()(
            shapes in prop::collection::vec((prop::collection::vec(1_u32..4, 1..5), any::<prop::sample::Index>()), 1..4)
        ) -> Vec<(Vec<u32>, usize)> {
            shapes.into_iter().map(|(dims, axis)| { let axis = axis.index(dims.len()); (dims, axis) }).collect()
        }
    }

    proptest! {
        /// Whatever the shapes, the axes and the parts: each part's rows come out of the whole as they went in.
        #[test]
        fn rows_come_out_as_they_went_in(
            shapes in shapes(), rows in prop::collection::vec(1_u32..5, 1..6)
        ) {
            let axes: Vec<usize> = shapes.iter().map(|(_, axis)| *axis).collect();
            let batched: Vec<_> = axes.iter().copied().map(Some).collect();
            let requests: Vec<_> = (0..).zip(&rows)
                .map(|(index, rows)| request(&shapes, *rows, index * 10_000)).collect();
            let parts: Vec<_> = requests.iter().zip(&rows)
                .map(|(tensors, rows)| Rows { tensors, rows: 0..*rows }).collect();
            let mut buffers = Buffers::default();
            let whole = join(&batched, &parts, &mut buffers).unwrap();
            let total: u32 = rows.iter().sum();
            prop_assert_eq!(count(&batched, &whole), Some(total));
            prop_assert!(check(&axes, &whole, total).is_ok());
            prop_assert!(check(&axes, &whole, total + 1).is_err());
            let mut at = 0;
            for (request, rows) in requests.iter().zip(&rows) {
                prop_assert!(agree(&batched, request, &requests[0]));
                prop_assert_eq!(&slice(&axes, &whole, &(at..at + rows)).unwrap(), request);
                at += rows;
            }
        }

        /// A request cut anywhere and joined again is what it was.
        #[test]
        fn a_request_cut_and_joined_is_what_it_was(shapes in shapes(), rows in 2_u32..9, cut in any::<prop::sample::Index>()) {
            let axes: Vec<_> = shapes.iter().map(|(_, axis)| Some(*axis)).collect();
            let request = request(&shapes, rows, 0);
            let cut = u32::try_from(cut.index(rows as usize - 1)).unwrap() + 1;
            let parts = [
                Rows { tensors: &request, rows: 0..cut },
                Rows { tensors: &request, rows: cut..rows },
            ];
            prop_assert_eq!(join(&axes, &parts, &mut Buffers::default()).unwrap(), request);
        }

        /// Requests that differ in a dimension other than the rows, or in what is shared, do not agree.
        #[test]
        fn what_differs_elsewhere_does_not_agree(dims in prop::collection::vec(1_u32..4, 2..4), at in any::<prop::sample::Index>()) {
            let at = at.index(dims.len());
            let mut other = dims.clone();
            other[at] += 1;
            let of = |dims: &[u32]| vec![NamedTensor::new("x", Tensor::zeros(TensorType::U8, Shape::new(dims).unwrap()))];
            prop_assert_eq!(agree(&[Some(0)], &of(&dims), &of(&other)), at == 0);
            prop_assert!(!agree(&[None], &of(&dims), &of(&other)));
            prop_assert!(agree(&[None], &of(&dims), &of(&dims)));
        }
    }

    #[test]
    fn joined_memory_is_used_again_unless_somebody_holds_it() {
        let request = request(&[(vec![1, 64], 0)], 4, 0);
        let parts = [Rows {
            tensors: &request,
            rows: 0..4,
        }];
        let mut buffers = Buffers::default();
        let joined = join(&[Some(0)], &parts, &mut buffers).unwrap();
        let at = joined[0].tensor.bytes().as_ptr();
        buffers.give_back(joined);
        let joined = join(&[Some(0)], &parts, &mut buffers).unwrap();
        assert_eq!(joined[0].tensor.bytes().as_ptr(), at);
        let held = joined.clone();
        buffers.give_back(joined);
        let other = join(&[Some(0)], &parts, &mut buffers).unwrap();
        assert_ne!(other[0].tensor.bytes().as_ptr(), at);
        assert_eq!(held, request);
    }
}
