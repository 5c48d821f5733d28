//! The small languages inside flags: sizes, meshes, dims.

use ucl_ir::Mesh;
use ucl_tensor::DType;

const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// `16MiB`, `5GB`, `1.5GiB`, `1048576`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "write a size as `16MiB`, `5GB` or a number of bytes".to_owned();
    let split = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, factor) = UNITS.iter().find(|known| known.0 == unit).ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 6 {
        return Err(wrong());
    }
    let whole: u128 = whole.parse::<u64>().map_err(|_| wrong())?.into();
    let scale = 10_u128.pow(u32::try_from(part.len()).unwrap_or(0));
    let part: u128 =
        if part.is_empty() { 0 } else { part.parse::<u64>().map_err(|_| wrong())?.into() };
    let bytes = (whole * scale + part) * u128::from(*factor) / scale;
    match u64::try_from(bytes) {
        Ok(0) => Err("a size is at least one byte".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err("this is more than any disk holds".to_owned()),
    }
}

/// `tp=2,pp=2`.
pub(super) fn mesh(text: &str) -> Result<Mesh, String> {
    let mut mesh = Mesh::new();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (axis, size) = size_of(part, "write a mesh as `tp=2,pp=2`")?;
        if mesh.insert(axis.clone(), size).is_some() {
            return Err(format!("`{axis}` stands there twice"));
        }
    }
    if mesh.is_empty() { Err("write a mesh as `tp=2,pp=2`".to_owned()) } else { Ok(mesh) }
}

/// `k=8`.
pub(super) fn size_of_dim(text: &str) -> Result<(String, u64), String> {
    size_of(text, "write a size as `k=8`")
}

/// No dim has more indices, and no axis more ranks.
const LARGEST: u64 = 1 << 48;

fn size_of(text: &str, how: &str) -> Result<(String, u64), String> {
    let (name, size) = text.split_once('=').ok_or(how)?;
    let size: u64 = size.trim().parse().map_err(|_| how.to_owned())?;
    match (name.trim(), size) {
        ("", _) => Err(how.to_owned()),
        (name, 0) => Err(format!("`{name}` is at least 1")),
        (name, size) if size > LARGEST => Err(format!("`{name}` is larger than any dim")),
        (name, size) => Ok((name.to_owned(), size)),
    }
}

/// `bf16`, `fp32`, `F32`. Floats of one byte need scales, which a cast does not make.
pub(super) fn dtype(text: &str) -> Result<DType, String> {
    DType::parse(text)
        .filter(|dtype| dtype.is_float() && dtype.size_bytes() > 1)
        .ok_or_else(|| "write a type of weights: `fp32`, `bf16`, `fp16`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert_eq!(bytes("5GB"), Ok(5_000_000_000));
        assert_eq!(bytes("1.5gib"), Ok(3 << 29));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in ["", "GB", "1.2.3", "5 parsecs", "-1", "0", "99999999999TiB", "1.1234567GB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn meshes_name_each_axis_once() {
        assert_eq!(mesh("tp=2,pp=4").unwrap().into_iter().collect::<Vec<_>>().len(), 2);
        for wrong in ["", "tp", "tp=0", "tp=2,tp=2", "=2"] {
            assert!(mesh(wrong).is_err(), "{wrong}");
        }
    }
}
