//! Lists the specs, so that a new one is a file and nothing else.

use std::fmt::Write;
use std::path::Path;
use std::{env, error, fs};

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=specs");
    let mut names = Vec::new();
    for entry in fs::read_dir("specs")? {
        let name = entry?.file_name().into_string().map_err(|_| "a spec's name is not UTF-8")?;
        if name.ends_with(".ucl") {
            names.push(name);
        }
    }
    // `phi3` before `phi3-small`, which a `.` would put behind a `-`.
    names.sort_by(|a, b| a.trim_end_matches(".ucl").cmp(b.trim_end_matches(".ucl")));
    let mut list = String::from("&[\n");
    for name in names {
        let path = format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?})", format!("/specs/{name}"));
        writeln!(list, "    ({name:?}, include_str!({path})),")?;
    }
    list.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("specs.rs"), list)?;
    Ok(())
}
