//! States that are not shaped like their weights: the scales of 8-bit optimizers, the rows and columns of
//! factored ones. Nothing says which elements of the weight they are of, so no cut of it can have them.

use crate::inventory::Problem;
use crate::listed::listed;
use crate::ranks::count;
use indexmap::IndexSet;
use std::path::Path;

/// Those of a checkpoint, to be told once.
#[derive(Debug, Default)]
pub(crate) struct Odd {
    number: u64,
    kinds: IndexSet<String>,
    first: String,
}

impl Odd {
    /// Takes in a state of a parameter, with its shape and the weight's.
    pub(crate) fn add(&mut self, state: &str, param: &str, shape: &[u64], weight: &[u64]) {
        if self.number == 0 {
            self.first = format!("`{state}` of `{param}` is {shape:?}, the weight {weight:?}");
        }
        self.number += 1;
        self.kinds.insert(format!("`{state}`"));
    }

    /// Why they can't be read, if there are any.
    pub(crate) fn told(self, file: &Path) -> Option<Problem> {
        let kinds: Vec<String> = self.kinds.into_iter().collect();
        let are = if self.number == 1 { "is" } else { "are" };
        let message = format!(
            "{} of the optimizer ({}) {are} not of the shape of the weight, as 8-bit and factored \
             optimizers keep them: {}",
            count(self.number, "state"),
            listed(&kinds, ", "),
            self.first
        );
        let help = "They can't be converted: take the weights alone, with --states weights.";
        (self.number > 0).then(|| Problem::new(file, message).help(help))
    }
}

#[cfg(test)]
mod tests {
    use super::Odd;
    use std::path::Path;

    #[test]
    fn told_once_with_their_number() {
        let path = Path::new("optimizer.pt");
        assert_eq!(Odd::default().told(path), None);
        let mut odd = Odd::default();
        for (state, param) in [("row_var", "a"), ("col_var", "a"), ("row_var", "b")] {
            odd.add(state, param, &[101], &[101, 32]);
        }
        let problem = odd.told(path).unwrap();
        assert_eq!(
            problem.to_string(),
            "optimizer.pt: 3 states of the optimizer (`row_var`, `col_var`) are not of the shape of the \
             weight, as 8-bit and factored optimizers keep them: `row_var` of `a` is [101], the weight \
             [101, 32]"
        );
    }
}
