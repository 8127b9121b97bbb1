//! ONNX files for tests, made by hand of fields: such as no exporter writes, and small ones that say what they are.

/// A field of bytes: a message, a string.
pub(super) fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

/// A field that is a number.
pub(super) fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A model whose graph is these fields.
pub(super) fn model(graph: &[u8]) -> Vec<u8> {
    [number(1, 8), field(7, graph)].concat()
}
