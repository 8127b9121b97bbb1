//! Wants the network: it imports `wasi:sockets`, so its upload is refused by name.

use aegis_guest::{Context, Failure, Text};

fn predict(_: &Context, Text(address): Text<&str>) -> Result<Text<String>, Failure> {
    let stream = std::net::TcpStream::connect(address)?;
    Ok(Text(format!("{:?}", stream.peer_addr())))
}

aegis_guest::handler!(predict);
