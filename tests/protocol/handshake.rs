//! "Handshake".

use ufx::sim::{Simulation, preset};

use crate::MIB;

#[test]
fn a_file_is_delivered() {
    let outcome = Simulation::new(preset::lan()).transfer(3 * MIB + 7);
    outcome.assert_delivered();
}
