//! The names of experts' tensors.

/// What DeepSpeed's modules put between the mixture and the number of an expert.
const EXPERTS: &str = "deepspeed_moe.experts.deepspeed_experts.";

/// The weights of AutoEP's experts, which a rank keeps in a stack.
pub(super) const STACKED: [&str; 3] = ["w1", "w2", "w3"];

/// A tensor of an expert, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deepspeed) struct Expert<'a> {
    /// What the names of all experts of a mixture begin with.
    pub(in crate::deepspeed) mixture: &'a str,
    /// The expert's number, of this rank or of all.
    pub(in crate::deepspeed) id: u64,
    /// What follows the number, or for a stack the name of the whole stack.
    tensor: &'a str,
    /// Whether the whole is one tensor with an expert in each row.
    pub(in crate::deepspeed) stacked: bool,
}

impl<'a> Expert<'a> {
    /// Whose a tensor is: `mlp.deepspeed_moe.experts.deepspeed_experts.3.up.weight`, or in a file of
    /// AutoEP's `mlp.experts.w1.3`.
    pub(in crate::deepspeed) fn of(name: &'a str) -> Option<Expert<'a>> {
        Expert::one(name).or_else(|| {
            let (stack, id) = name.rsplit_once('.')?;
            let (mixture, weight) = stack.rsplit_once('.')?;
            let id = number(id)?;
            STACKED.contains(&weight).then_some(Expert {
                mixture,
                id,
                tensor: stack,
                stacked: true,
            })
        })
    }

    /// Whose a tensor of DeepSpeed's own mixture is.
    pub(in crate::deepspeed) fn one(name: &'a str) -> Option<Expert<'a>> {
        let starts = name.match_indices(EXPERTS).map(|(start, _)| start);
        let start =
            starts.into_iter().find(|start| *start == 0 || name[..*start].ends_with('.'))?;
        let (mixture, rest) = name.split_at(start + EXPERTS.len());
        let (id, tensor) = rest.split_once('.')?;
        Some(Expert { mixture, id: number(id)?, tensor, stacked: false })
    }

    /// The name of the same tensor of another expert.
    pub(in crate::deepspeed) fn named(&self, id: u64) -> String {
        match self.stacked {
            true => self.tensor.to_owned(),
            false => format!("{}{id}.{}", self.mixture, self.tensor),
        }
    }

    /// The name without the number.
    pub(in crate::deepspeed) fn beside(&self) -> String {
        match self.stacked {
            true => self.tensor.to_owned(),
            false => format!("{}*.{}", self.mixture, self.tensor),
        }
    }
}

/// Digits and nothing else; a leading zero would be another name.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    (digits && plain).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::Expert;

    #[test]
    fn names_tell_mixture_and_expert() {
        let name = "h.1.moe.deepspeed_moe.experts.deepspeed_experts.12.0.weight";
        let expert = Expert::of(name).unwrap();
        assert_eq!((expert.id, expert.stacked), (12, false));
        assert_eq!(expert.mixture, "h.1.moe.deepspeed_moe.experts.deepspeed_experts.");
        assert_eq!(expert.named(3), "h.1.moe.deepspeed_moe.experts.deepspeed_experts.3.0.weight");
        let stacked = Expert::of("h.1.mlp.experts.w2.7").unwrap();
        assert_eq!((stacked.mixture, stacked.id, stacked.stacked), ("h.1.mlp.experts", 7, true));
        assert_eq!(stacked.named(3), "h.1.mlp.experts.w2");
        for name in [
            "moe.deepspeed_moe.gate.wg.weight",
            "moe.deepspeed_moe.experts.deepspeed_experts.x.weight",
            "moe.deepspeed_moe.experts.deepspeed_experts.01.weight",
            "moe.deepspeed_moe.experts.deepspeed_experts.1",
            "undeepspeed_moe.experts.deepspeed_experts.1.weight",
            "mlp.experts.w4.1",
            "mlp.experts.w1.-1",
        ] {
            assert_eq!(Expert::of(name), None, "{name}");
        }
    }
}
