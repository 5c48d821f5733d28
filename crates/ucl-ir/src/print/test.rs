//! Tests.

use crate::{Expect, Mesh, Pin, Test};
use std::fmt::{self, Write};

pub(super) fn write(test: &Test, f: &mut impl Write) -> fmt::Result {
    writeln!(f, "\ntest {{")?;
    let sizes: Vec<String> =
        test.sizes.iter().map(|(dim, size)| format!("{dim} = {size}")).collect();
    if !sizes.is_empty() {
        writeln!(f, "  {}", sizes.join(", "))?;
    }
    let meshes: Vec<String> = test.meshes.iter().map(mesh).collect();
    if !meshes.is_empty() {
        writeln!(f, "  on {}", meshes.join(", "))?;
    }
    test.expects.iter().try_for_each(|one| expect(one, f))?;
    writeln!(f, "}}")
}

fn expect(expect: &Expect, f: &mut impl Write) -> fmt::Result {
    let numbers = |list: &[u64], between: &str| {
        list.iter().map(u64::to_string).collect::<Vec<_>>().join(between)
    };
    let pin = match &expect.pin {
        Pin::Element { index, param, at } => {
            format!("[{}] = {param} [{}]", numbers(index, ", "), mesh(at))
        }
        Pin::Shape(shape) => format!(": {}", numbers(shape, " ")),
    };
    writeln!(
        f,
        "  expect {}{} on {} at {} \"{}\" {}",
        expect.view,
        expect.layout.iter().map(|layout| format!(" by {layout}")).collect::<String>(),
        mesh(&expect.mesh),
        mesh(&expect.rank),
        expect.name,
        pin.trim_end()
    )
}

fn mesh(mesh: &Mesh) -> String {
    mesh.iter().map(|(axis, size)| format!("{axis}={size}")).collect::<Vec<_>>().join(" ")
}
