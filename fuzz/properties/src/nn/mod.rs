//! The wasi:nn host driven by any sequence of calls: it answers, refuses or traps as the handles
//! say, and its account of tensors is exact after every step.
//!
//! The input is a program: a byte that says which call, and what that call takes from the bytes
//! behind it. Most handles are ones that the guest holds; some are stale, of another kind, or made
//! up. A trap ends an instance, so it ends the program.

mod guest;
mod held;
mod loader;

use std::sync::LazyLock;

use aegis_inference::{
    BackendChoice, BackendKind, Graph, GraphFiles, GraphSpec, Runtime, RuntimeConfig, TensorType,
};
use arbitrary::{Result, Unstructured};

use guest::{Guest, Next};
use held::Kind;

/// What the guest may hold: little enough for a short program to get over.
pub(crate) const TENSOR_BYTES: usize = 16 << 10;
pub(crate) const HANDLES: usize = 48;
pub(crate) const TENSORS: usize = 24;
pub(crate) const CONTEXTS: usize = 8;
pub(crate) const GRAPHS: usize = 3;
pub(crate) const GRAPH_BYTES: usize = 64;

/// The most calls of one program. Longer ones find nothing that shorter ones do not.
const MAX_CALLS: usize = 256;

static DIGITS: LazyLock<Graph> = LazyLock::new(|| {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/digits/digits.onnx"
    );
    let spec = GraphSpec {
        backend: BackendChoice::Is(BackendKind::Embedded),
        ..GraphSpec::new("digits", GraphFiles::Onnx(file.into()))
    };
    Runtime::new(RuntimeConfig::default())
        .load(&spec)
        .expect("the digits network loads")
});

/// Any bytes as a program of a guest with the graph `digits`.
pub fn nn(program: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut program = Unstructured::new(program);
        let may_load = program.arbitrary().unwrap_or_default();
        let mut guest = Guest::new(&DIGITS, may_load);
        for _ in 0..MAX_CALLS {
            if program.is_empty() {
                break;
            }
            match call(&mut guest, &mut program).await {
                Ok(Next::GoOn) => guest.accounts_balance(),
                Ok(Next::Trapped) => return,
                Err(_) => break,
            }
        }
        guest.drop_everything();
    });
}

async fn call(guest: &mut Guest, program: &mut Unstructured<'_>) -> Result<Next> {
    Ok(match program.int_in_range(0..=15)? {
        0 => {
            let (dims, ty, data) = tensor(program)?;
            guest.tensor(dims, ty, data)
        }
        // What the graph takes, more often than chance would have it.
        1 | 2 => {
            let rows = program.arbitrary::<u8>()?;
            let value = f32::from_bits(program.arbitrary()?);
            let data = value.to_le_bytes().repeat(usize::from(rows) * 64);
            guest.tensor(vec![rows.into(), 64], TensorType::Fp32, data)
        }
        3 => guest.read_tensor(handle(guest, program, Kind::Tensor)?),
        4 => guest.drop_tensor(handle(guest, program, Kind::Tensor)?),
        5 => {
            let mut parts = Vec::new();
            for _ in 0..program.int_in_range(0..=3)? {
                let bytes = program.int_in_range(0..=GRAPH_BYTES)?.min(program.len());
                parts.push(program.bytes(bytes)?.to_vec());
            }
            let (encoding, target) = (program.arbitrary()?, program.arbitrary()?);
            guest.load(parts, encoding, target).await
        }
        6 | 7 => guest.load_by_name("digits".to_owned()),
        8 => guest.load_by_name(program.arbitrary()?),
        9 => guest.context(handle(guest, program, Kind::Graph)?),
        10 => guest.drop_graph(handle(guest, program, Kind::Graph)?),
        11 | 12 => {
            let context = handle(guest, program, Kind::Context)?;
            let mut inputs = Vec::new();
            for _ in 0..program.int_in_range(0..=3)? {
                let name = match program.ratio(7, 8)? {
                    true => "input".to_owned(),
                    false => program.arbitrary()?,
                };
                inputs.push((name, handle(guest, program, Kind::Tensor)?));
            }
            guest.compute(context, inputs).await
        }
        13 => guest.drop_context(handle(guest, program, Kind::Context)?),
        14 => guest.read_error(handle(guest, program, Kind::Error)?),
        _ => guest.drop_error(handle(guest, program, Kind::Error)?),
    })
}

/// A tensor of any dimensions and as many bytes as they ask for, or not.
fn tensor(program: &mut Unstructured<'_>) -> Result<(Vec<u32>, TensorType, Vec<u8>)> {
    let mut dims = Vec::new();
    for _ in 0..program.int_in_range(0..=10)? {
        dims.push(match program.arbitrary::<u8>()? {
            small @ 0..=0xbf => small.into(),
            0xc0..=0xdf => program.arbitrary::<u16>()?.into(),
            0xe0..=0xef => u32::MAX,
            _ => program.arbitrary()?,
        });
    }
    let ty = *program.choose(&TensorType::ALL)?;
    let honest = dims
        .iter()
        .try_fold(ty.size(), |bytes, dim| bytes.checked_mul(*dim as usize))
        .filter(|bytes| *bytes <= 2 * TENSOR_BYTES);
    let bytes = match honest {
        Some(bytes) if program.ratio(7, 8)? => bytes,
        _ => program.arbitrary::<u16>()?.into(),
    };
    Ok((dims, ty, vec![program.arbitrary()?; bytes]))
}

/// A handle for a call that wants this kind: one that the guest holds, or, seldom or where it
/// holds none, any number.
fn handle(guest: &Guest, program: &mut Unstructured<'_>, kind: Kind) -> Result<u32> {
    let held = guest.held(kind);
    if held.is_empty() || program.ratio(1, 32)? {
        return match program.ratio(1, 2)? {
            true => Ok(program.arbitrary::<u8>()?.into()),
            false => program.arbitrary(),
        };
    }
    Ok(*program.choose(&held)?)
}
