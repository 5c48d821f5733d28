//! Names under the name of the module that held the model, as Lightning saves them.

use ucl_formats::{Inventory, Survey, unheld};
use ucl_ir::Program;
use ucl_plan::{Naming, Said, recognise};

/// Takes the prefix off all names where no model fits with it, and one does without.
pub(crate) fn take_off(survey: &mut Survey, programs: &[Program], said: &Said) {
    let Some(bare) = unheld(&survey.inventory) else { return };
    let fits = |inventory: &Inventory| {
        let found = recognise(programs, inventory, said, &Naming::Universal);
        !(found.fits.is_empty() && found.near.is_empty() && found.aside.is_empty())
    };
    if !fits(&survey.inventory) && fits(&bare) {
        survey.inventory = bare;
    }
}
