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

/// One datagram filled the path for longer than a probe timeout: what had arrived was sent again,
/// and nothing else.
#[test]
fn a_datagram_that_takes_longer_than_a_timeout_holds_nothing_up() {
    replay(
        r#"{"seed":4305,"rate":295655,"delay_us":[1000,1000],"queue_packets":null,"mtu":65535,
        "transfers":[[{"size":29767,"what":"Plain"},{"size":28648,"what":{"Damaged":[0,4]}},
        {"size":1453,"what":"Plain"},{"size":39256,"what":"Plain"},{"size":1,"what":"Plain"},
        {"size":65537,"what":"Plain"},{"size":23017,"what":"Plain"},{"size":62850,
        "what":{"Damaged":[0,1]}},{"size":72783,"what":"Plain"},{"size":607730,
        "what":"Plain"}]],"payload":false,"digest":1,"fixed_rate":null,"icmp":false,
        "same_port":false,"again_after":82,"quiet_at":124212,"packets":[[0,512],[0,512]],
        "faults":[{"Loss":["There",0.033025]},{"Reordering":["There",0.099942,3176]},
        {"Loss":["Back",0.413471]},{"Restart":[28457,68,false]}]}"#,
    );
}

/// A black hole left a rate of two packets a second behind, and no probe for more could be told
/// from it.
#[test]
fn a_path_that_gets_smaller_is_filled_again() {
    replay(
        r#"{"seed":15420,"rate":1094784,"delay_us":[221184,221184],"queue_packets":null,
        "mtu":65535,"transfers":[[{"size":3801056,"what":"Plain"}]],"payload":false,"digest":1,
        "fixed_rate":null,"icmp":false,"same_port":false,"again_after":260,"quiet_at":73581,
        "packets":[[0,1],[0,1]],"faults":[{"MtuChange":[24616,1300]}]}"#,
    );
}
