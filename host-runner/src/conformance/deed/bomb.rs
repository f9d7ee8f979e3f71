//! Components that make the compiler run wild, in the binary format, and what its process makes of them.

use std::sync::Arc;

use anyhow::Result;
use remit_protocol::Size;

use super::{Bomb, Seen, seen};
use crate::{
    component::compile::{Bounds, Compiler},
    conformance::bench::Suite,
    launcher::{Launch as _, Local},
    sandbox::Metering,
};

/// What one compile process may use here.
const BOUNDS: Bounds = Bounds { memory: Size::from_mib(2048), cpu_seconds: 2 };

/// LEB128, as the binary format writes numbers.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(body.len()), body].concat()
}

/// A component whose one module has so many functions of this body, each from one number to another.
fn component(functions: usize, body: &[u8]) -> Vec<u8> {
    let own = [&leb(body.len())[..], body].concat();
    let types = section(1, &[1, 0x60, 1, 0x7e, 1, 0x7e]);
    let all = section(3, &[leb(functions), vec![0; functions]].concat());
    let code = section(10, &[leb(functions), own.repeat(functions)].concat());
    let module = [b"\0asm\x01\0\0\0", &types[..], &all, &code].concat();
    [b"\0asm\x0d\0\x01\0", &section(1, &module)[..]].concat()
}

impl Bomb {
    /// A component in the binary format.
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::None => component(1, &[0, 0x42, 1, 0x0b]),
            Self::Functions => {
                let mut body = vec![0, 0x42, 1];
                (0..12).for_each(|_| body.extend([0x42, 7, 0x7c]));
                body.push(0x0b);
                component(500_000, &body)
            }
            Self::Long => {
                const LOCALS: usize = 20_000;
                const SUMS: usize = 400_000;
                let mut body = [vec![1], leb(LOCALS), vec![0x7e]].concat();
                // Everything hangs on the argument, and the answer on everything: nothing can be left out or worked out ahead.
                for at in 0..SUMS {
                    let (one, two) = (at % LOCALS, at * 7 % LOCALS);
                    let own = [vec![0x20, 0, 0x42], leb(at % 8000 * 2 % 63), vec![0x7e, 0x7c]].concat();
                    let both = [vec![0x20], leb(one), vec![0x20], leb(two), vec![0x7c]].concat();
                    body.extend([both, own, vec![0x21], leb(1 + at * 13 % (LOCALS - 1))].concat());
                }
                body.extend([0x42, 0]);
                for at in 0..LOCALS {
                    body.extend([vec![0x20], leb(at), vec![0x7c]].concat());
                }
                body.push(0x0b);
                component(6, &body)
            }
        }
    }
}

pub(super) async fn compile(suite: &Suite, bomb: Bomb) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let launch = Arc::new(Local::new(folder.path().to_owned()));
    let compiler = Compiler::new(suite.program.clone(), launch.clone()).within(BOUNDS);
    let made = compiler.native(&bomb.bytes(), Metering::Off).await;
    launch.idle().await;
    Ok(match made {
        Ok(code) => seen(true, format!("{} bytes of native code", code.len())),
        Err(error) => seen(false, error.to_string()),
    })
}
