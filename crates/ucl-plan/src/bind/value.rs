//! Steps on values: what is stored is not always the parameter itself.

use super::number::Scope;
use ucl_ir::{ValueOp, View};

/// stored = universal * scale + shift: for weights as the view says, for moments what follows from it.
pub(crate) fn stored_value(
    view: &View,
    param: &str,
    state: &str,
    number: &dyn Fn(&str) -> Option<i64>,
) -> (f64, f64) {
    let (mut scale, mut shift) = (1.0, 0.0);
    for rule in view.values.iter().filter(|rule| rule.param == param) {
        #[expect(clippy::cast_precision_loss, reason = "it is a small number")]
        let by = Scope { numbers: number, document: None }.eval(&rule.by).unwrap_or(0) as f64;
        match (rule.op, state) {
            (ValueOp::Shift, state) if is_weight(state) => shift += by,
            (ValueOp::Shift, _) => {}
            (ValueOp::Scale, "exp_avg") => scale /= by,
            (ValueOp::Scale, "exp_avg_sq") => scale /= by * by,
            (ValueOp::Scale, _) => scale *= by,
        }
    }
    (scale, shift)
}

/// Whether a state is the weights themselves, not a moment.
pub(crate) fn is_weight(state: &str) -> bool {
    matches!(state, "param" | "fp32")
}
