//! Scenarios that failed once, in their smallest form: a seed's scenario changes with the
//! generator, these do not.

use crate::check::run;
use crate::scenario::Scenario;

fn replay(text: &str) {
    run(&Scenario::from_text(text), true);
}

//= proto.md#digest-records
//= type=test
//# body that is read again after its record MUST NOT be
//# sent unless the file is still unchanged after that; if it is not, VOID is sent.
/// Without digests, a repetition of a file that had changed was taken for the file.
#[test]
fn a_file_that_changes_before_a_repetition_is_not_stored_without_digests() {
    replay(
        r#"{"seed":62,"rate":100000000,"delay_us":[1000,1000],"queue_packets":3,"mtu":1500,
        "transfers":[[{"size":1218,"what":"Plain"},{"size":1114,"what":{"Changes":23}},
        {"size":559986,"what":"Plain"}]],"payload":true,"digest":0,"fixed_rate":null,
        "icmp":true,"same_port":true,"again_after":5565,"quiet_at":17940,"packets":[null,null],
        "faults":[{"Loss":["There",0.3]}]}"#,
    );
}
