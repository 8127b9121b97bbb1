//! Writes the benchmark's larger network, 64-1024-1024-10 with ReLU between and softmax at the
//! end, as an ONNX file: 4.5 MB that need not be in the repository.
//!
//! ONNX is protobuf; the few messages of such a network are written by hand. Field numbers are
//! those of onnx.proto of ONNX 1.16 (IR version 8, opset 17).

/// Widths of the layers.
const LAYERS: [usize; 4] = [64, 1024, 1024, 10];

const IR_VERSION: u64 = 8;
const OPSET: u64 = 17;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// The network as an ONNX file: input `input` f32 [batch, 64], output `probabilities` f32
/// [batch, 10]. The same bytes every time.
pub(crate) fn mlp() -> Vec<u8> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut graph = Message::default();
    let mut weights = Message::default();
    let mut value = "input".to_owned();
    for (index, (inputs, outputs)) in LAYERS
        .into_iter()
        .zip(LAYERS.into_iter().skip(1))
        .enumerate()
    {
        let (w, b) = (format!("w{index}"), format!("b{index}"));
        // He's initialisation keeps the size of activations from layer to layer; the first
        // layer's inputs are pixels up to 16.
        let spread = (2.0 / inputs as f32).sqrt() / if index == 0 { 8.0 } else { 1.0 };
        weights.message(5, tensor(&w, &[inputs, outputs], || random.next() * spread));
        weights.message(5, tensor(&b, &[outputs], || random.next() * 0.1));
        let sum = format!("sum{index}");
        graph.message(1, node("Gemm", &[&value, &w, &b], &sum));
        let last = index + 2 == LAYERS.len();
        value = if last {
            "probabilities".to_owned()
        } else {
            format!("layer{index}")
        };
        graph.message(
            1,
            node(if last { "Softmax" } else { "Relu" }, &[&sum], &value),
        );
    }
    graph.text(2, "mlp");
    graph.append(weights);
    graph.message(11, port("input", 64));
    graph.message(12, port("probabilities", 10));

    let mut opset = Message::default();
    opset.text(1, "");
    opset.number(2, OPSET);
    let mut model = Message::default();
    model.number(1, IR_VERSION);
    model.text(2, "aegis-bench");
    model.message(7, graph);
    model.message(8, opset);
    model.0
}

/// `NodeProto`.
fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let mut node = Message::default();
    for input in inputs {
        node.text(1, input);
    }
    node.text(2, output);
    node.text(4, operator);
    node
}

/// `TensorProto`, its elements as raw little-endian bytes.
fn tensor(name: &str, dims: &[usize], mut element: impl FnMut() -> f32) -> Message {
    let mut tensor = Message::default();
    for dim in dims {
        tensor.number(1, *dim as u64);
    }
    tensor.number(2, FLOAT);
    tensor.text(8, name);
    let elements: usize = dims.iter().product();
    let raw: Vec<u8> = (0..elements)
        .flat_map(|_| element().to_le_bytes())
        .collect();
    tensor.bytes(9, &raw);
    tensor
}

/// `ValueInfoProto` of f32 [batch, width].
fn port(name: &str, width: usize) -> Message {
    let mut batch = Message::default();
    batch.text(2, "batch");
    let mut columns = Message::default();
    columns.number(1, width as u64);
    let mut shape = Message::default();
    shape.message(1, batch);
    shape.message(1, columns);
    let mut tensor = Message::default();
    tensor.number(1, FLOAT);
    tensor.message(2, shape);
    let mut kind = Message::default();
    kind.message(1, tensor);
    let mut port = Message::default();
    port.text(1, name);
    port.message(2, kind);
    port
}

/// A protobuf message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn message(&mut self, field: u64, value: Message) {
        self.bytes(field, &value.0);
    }

    /// The fields of another message of the same kind.
    fn append(&mut self, other: Message) {
        self.0.extend(other.0);
    }
}

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators,
/// scrambled", 2016.
struct Random(u64);

impl Random {
    /// Spread evenly from -1 to 1, scaled to a standard deviation of 1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        let unit = bits as f32 / (1_u32 << 24) as f32;
        (unit * 2.0 - 1.0) * 3.0_f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_the_same_every_time_and_as_large_as_its_weights() {
        let weights: usize = LAYERS
            .into_iter()
            .zip(LAYERS.into_iter().skip(1))
            .map(|(inputs, outputs)| (inputs + 1) * outputs * 4)
            .sum();
        let network = mlp();
        assert!(network.len() > weights && network.len() < weights + 1000);
        assert_eq!(network, mlp());
    }

    #[test]
    fn a_varint_has_seven_bits_a_byte_lowest_first() {
        let mut message = Message::default();
        message.number(1, 300);
        assert_eq!(message.0, [0x08, 0xAC, 0x02]);
    }
}
