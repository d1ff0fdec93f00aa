//! Bugs that a test breaks into the machines on purpose, to see that the simulation finds them.
//!
//! Only builds with debug assertions know them. In any other a [`Sabotage`] holds nothing, and
//! asking for a bug is a constant: not a byte of them is in a release.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The sender sends PROBE under the number of the packet before.
    ReuseNumber,
    /// The sender does not look at its credit.
    IgnoreCredit,
    /// The sender does not look at its window.
    IgnoreWindow,
    /// The sender does not send lost body again.
    ForgetLost,
    /// The sender succeeds with the last COMMITTED, without END.
    SucceedEarly,
    /// The sender takes an ACK of what it never sent.
    TakeUnsentAck,
    /// The sender waits for a silent receiver for ever.
    WaitForEver,
    /// The sender's probe timeouts come without pause.
    ProbeStorm,
    /// The receiver reports packets of which it could not keep the content.
    AcknowledgeEarly,
    /// The receiver counts duplicates as new packets.
    SkipDuplicateCheck,
    /// The receiver takes credit back.
    RetreatCredit,
    /// The receiver commits a file at its first verified block.
    CommitEarly,
    /// The receiver does not ask again for a block that differs.
    IgnoreDifference,
    /// The receiver's cookie does not cover the address it goes to.
    IgnoreAddress,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 14] = [
        Bug::ReuseNumber,
        Bug::IgnoreCredit,
        Bug::IgnoreWindow,
        Bug::ForgetLost,
        Bug::SucceedEarly,
        Bug::TakeUnsentAck,
        Bug::WaitForEver,
        Bug::ProbeStorm,
        Bug::AcknowledgeEarly,
        Bug::SkipDuplicateCheck,
        Bug::RetreatCredit,
        Bug::CommitEarly,
        Bug::IgnoreDifference,
        Bug::IgnoreAddress,
    ];
}

/// Which bug is in, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    #[cfg(debug_assertions)]
    bug: Option<Bug>,
}

impl Sabotage {
    /// This bug is in.
    #[cfg(debug_assertions)]
    pub const fn of(bug: Bug) -> Sabotage {
        Sabotage { bug: Some(bug) }
    }

    /// Whether this bug is in.
    #[cfg(debug_assertions)]
    pub(super) fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether this bug is in: never.
    #[cfg(not(debug_assertions))]
    pub(super) const fn has(self, _bug: Bug) -> bool {
        false
    }
}
