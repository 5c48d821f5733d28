//! Numbers for a person.

/// `1,234,567`
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 tensor`, `1,234 tensors`
pub(crate) fn count(how_many: u64, what: &str) -> String {
    format!("{} {}", number(how_many), plural(how_many, what))
}

/// `1 box`, `12 boxes`
pub(crate) fn boxes(how_many: u64) -> String {
    let boxes = if how_many == 1 { "box" } else { "boxes" };
    format!("{} {boxes}", number(how_many))
}

/// `tensor` or `tensors`
pub(crate) fn plural(how_many: u64, what: &str) -> String {
    if how_many == 1 { what.to_owned() } else { format!("{what}s") }
}

const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// `12.3 GB`, in powers of ten as disks are sold.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let places = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.places$} {}", UNITS[unit])
}

/// `0.42 s`, `12.3 s`, `4 min 12 s`, `2 h 05 min`
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.2} s"),
        10..100 => format!("{seconds:.1} s"),
        100..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1.25 GB/s`
pub(crate) fn rate(of: u64, seconds: f64) -> String {
    let per_second = if seconds > 0.0 { of as f64 / seconds } else { 0.0 };
    format!("{}/s", bytes(per_second as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(1, "tensor"), "1 tensor");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(999_950), "1.00 MB");
        assert_eq!(bytes(12_345_678_901), "12.3 GB");
        assert_eq!(bytes(u64::MAX), "18447 PB");
        assert_eq!(seconds(0.0), "0.00 s");
        assert_eq!(seconds(252.0), "4 min 12 s");
        assert_eq!(seconds(7500.0), "2 h 05 min");
        assert_eq!(rate(3_000_000_000, 2.0), "1.50 GB/s");
    }
}
