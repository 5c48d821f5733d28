//! Rounding by looking it up: every pattern of a small float type is written out as a value, and a value
//! gets the pattern that is nearest, the even one of two. Slow, and nothing like the casts it checks.

/// A float type of 8 or 16 bits, by its exponent and mantissa bits and its bias.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// Bytes.
    pub size: usize,
    exponent: u32,
    mantissa: u32,
    bias: i32,
}

/// A type by its name in safetensors.
pub fn small(dtype: &str) -> Small {
    let (size, exponent, mantissa, bias) = match dtype {
        "F16" => (2, 5, 10, 15),
        "BF16" => (2, 8, 7, 127),
        "F8_E4M3" => (1, 4, 3, 7),
        "F8_E5M2" => (1, 5, 2, 15),
        other => panic!("{other} is not small"),
    };
    Small { size, exponent, mantissa, bias }
}

impl Small {
    /// The value of a pattern without a sign.
    fn value(self, pattern: u32) -> f64 {
        let fraction = f64::from(pattern & ((1 << self.mantissa) - 1));
        let unit = f64::from(1_u32 << self.mantissa);
        match (pattern >> self.mantissa) as i32 {
            0 => fraction / unit * 2_f64.powi(1 - self.bias),
            field => (1.0 + fraction / unit) * 2_f64.powi(field - self.bias),
        }
    }

    /// The patterns of values that are far from the largest, rounded to.
    pub fn round(self, values: &[f64]) -> Vec<u8> {
        let patterns = 1_u32 << (self.exponent + self.mantissa);
        let table: Vec<f64> = (0..patterns).map(|pattern| self.value(pattern)).collect();
        let one = |value: &f64| {
            let above = table.partition_point(|known| *known < value.abs());
            let below = above.saturating_sub(1);
            let (far, near) = (table[above] - value.abs(), value.abs() - table[below]);
            let even = if above % 2 == 0 { above } else { below };
            let nearest = if far < near {
                above
            } else if near < far {
                below
            } else {
                even
            };
            let sign = u32::from(value.is_sign_negative()) << (self.exponent + self.mantissa);
            (nearest as u32 | sign).to_le_bytes()[..self.size].to_vec()
        };
        values.iter().flat_map(one).collect()
    }

    /// The values of patterns.
    pub fn values(self, bytes: &[u8]) -> Vec<f64> {
        let one = |bytes: &[u8]| {
            let bits = bytes.iter().rev().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            let sign = 1 << (self.exponent + self.mantissa);
            let value = self.value(bits & (sign - 1));
            if bits & sign == 0 { value } else { -value }
        };
        bytes.chunks_exact(self.size).map(one).collect()
    }
}

/// The values of little-endian elements of any float type up to 32 bits.
pub fn values(dtype: &str, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        "F32" => {
            bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
        }
        other => small(other).values(bytes),
    }
}

/// Little-endian elements of a float type up to 32 bits, or of 64, nearest to values.
pub fn rounded(dtype: &str, values: &[f64]) -> Vec<u8> {
    match dtype {
        "F64" => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        "F32" => values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect(),
        other => small(other).round(values),
    }
}
