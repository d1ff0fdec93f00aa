//! Whether loss is the path's own or ours: by how it differs between our paces.
//!
//! Loss seen while we send well below the rate, with an empty queue, is not of our making: its
//! mean is the *random loss*, and is paced over. Loss at full pace beyond it is congestion. When
//! loss rises, both at once are not known: a test at a slower pace tells.

/// Loss beyond the random loss that is looked into (2 %, as BBR version 3's threshold).
const TOLERATED: f64 = 0.02;

/// Packets that a judgement needs at least.
const PACKETS_MIN: u64 = 256;

/// Beyond so many packets at full pace, older ones fade.
const PACKETS_MAX: u64 = 1_024;

/// Packets over which the mean of the random loss is taken.
const RANDOM_PACKETS: f64 = 4_096.0;

/// Random loss is not believed above this.
const RANDOM_MAX: f64 = 0.6;

/// Pace of a test. The slower, the clearer: at a loss of p, a queue that overflows would let
/// 1 - (1 - p) / gain be lost at that pace, a path that loses at random still p.
pub const TEST_GAIN: f64 = 0.75;

/// At which pace the packets of a round had left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Well below the rate, and no queue stood.
    Slow,
    /// At the rate.
    Full,
    /// Above it, or it is not known.
    Other,
}

/// What a round showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing new.
    Nothing,
    /// Loss rose: slow down until a verdict.
    Test,
    /// The test showed that the loss is not ours.
    Random,
    /// This share of what we send is too much.
    Congestion(f64),
}

/// Sums of packets.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    sent: u64,
    lost: u64,
}

impl Sums {
    fn add(&mut self, sent: u64, lost: u64) {
        self.sent += sent;
        self.lost += lost;
    }

    fn share(self) -> f64 {
        self.lost as f64 / self.sent.max(1) as f64
    }
}

/// The sums behind the judgement.
#[derive(Debug, Default)]
pub struct LossJudge {
    random: f64,
    /// Packets behind that mean.
    random_packets: f64,
    full: Sums,
    /// A running test: what it saw.
    test: Option<Sums>,
}

impl LossJudge {
    /// The share of loss that is not ours.
    pub fn random(&self) -> f64 {
        self.random
    }

    /// Whether a slower pace is asked for.
    pub fn is_testing(&self) -> bool {
        self.test.is_some()
    }

    /// Nothing that was seen counts any more, but the random loss.
    pub fn reset(&mut self) {
        self.full = Sums::default();
        self.test = None;
    }

    /// A round: `sent` packets, which had left at `pace`, and of these `lost`.
    pub fn on_round(&mut self, pace: Pace, sent: u64, lost: u64) -> Verdict {
        let lost = lost.min(sent);
        match pace {
            Pace::Slow => self.on_slow(sent, lost),
            Pace::Full => {
                if self.full.sent > PACKETS_MAX {
                    self.full = Sums { sent: self.full.sent / 2, lost: self.full.lost / 2 };
                }
                self.full.add(sent, lost);
            }
            Pace::Other => {}
        }
        if let Some(test) = self.test {
            if test.sent < PACKETS_MIN {
                return Verdict::Nothing;
            }
            return self.judge(test);
        }
        let risen = self.full.share() > self.random + TOLERATED;
        if pace == Pace::Full && self.full.sent >= PACKETS_MIN && risen {
            self.test = Some(Sums::default());
            return Verdict::Test;
        }
        Verdict::Nothing
    }

    fn on_slow(&mut self, sent: u64, lost: u64) {
        let share = lost as f64 / sent.max(1) as f64;
        self.random_packets = (self.random_packets + sent as f64).min(RANDOM_PACKETS);
        let weight = (sent as f64 / self.random_packets.max(1.0)).min(1.0);
        self.random += (share - self.random) * weight;
        self.random = self.random.min(RANDOM_MAX);
        if let Some(test) = &mut self.test {
            test.add(sent, lost);
        }
    }

    fn judge(&mut self, test: Sums) -> Verdict {
        let (before, during) = (self.full.share(), test.share());
        self.reset();
        let if_ours = (1.0 - (1.0 - before) / TEST_GAIN).max(0.0);
        if during >= f64::midpoint(before, if_ours) {
            self.random = self.random.max(during).min(RANDOM_MAX);
            return Verdict::Random;
        }
        self.random = self.random.min(during);
        let excess = before - during;
        if excess > 0.0 { Verdict::Congestion(excess) } else { Verdict::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(judge: &mut LossJudge, pace: Pace, count: u32, lost: u64) -> Verdict {
        let verdicts = (0..count).map(|_| judge.on_round(pace, 100, lost));
        verdicts.filter(|&verdict| verdict != Verdict::Nothing).last().unwrap_or(Verdict::Nothing)
    }

    #[test]
    fn loss_that_stays_at_a_slower_pace_is_random_and_then_no_signal() {
        let mut judge = LossJudge::default();
        assert_eq!(rounds(&mut judge, Pace::Full, 3, 10), Verdict::Test);
        assert_eq!(rounds(&mut judge, Pace::Slow, 3, 10), Verdict::Random);
        assert_eq!(judge.random(), 0.1);
        assert_eq!(rounds(&mut judge, Pace::Full, 30, 10), Verdict::Nothing);
    }

    #[test]
    fn loss_that_goes_at_a_slower_pace_is_ours() {
        let mut judge = LossJudge::default();
        assert_eq!(rounds(&mut judge, Pace::Full, 3, 10), Verdict::Test);
        let verdict = rounds(&mut judge, Pace::Slow, 3, 1);
        assert!(matches!(verdict, Verdict::Congestion(share) if (share - 0.09).abs() < 1e-6));
        assert!(judge.random() < 0.02);
    }

    #[test]
    fn a_policer_that_drops_half_is_not_taken_for_random_loss() {
        let mut judge = LossJudge::default();
        assert_eq!(rounds(&mut judge, Pace::Full, 3, 50), Verdict::Test);
        // Half as much again as the path takes still comes at three quarters of the pace.
        assert!(matches!(rounds(&mut judge, Pace::Slow, 3, 33), Verdict::Congestion(_)));
    }

    #[test]
    fn random_loss_that_ends_is_forgotten_by_what_slow_rounds_show() {
        let mut judge = LossJudge::default();
        rounds(&mut judge, Pace::Full, 3, 20);
        rounds(&mut judge, Pace::Slow, 3, 20);
        rounds(&mut judge, Pace::Slow, 100, 0);
        assert!(judge.random() < 0.02, "{}", judge.random());
    }

    #[test]
    fn a_suspicion_needs_256_packets_and_more_than_two_percent_beyond_the_random_loss() {
        let mut judge = LossJudge::default();
        assert_eq!(judge.on_round(Pace::Full, 255, 100), Verdict::Nothing);
        assert_eq!(judge.on_round(Pace::Full, 1, 0), Verdict::Test);
        let mut judge = LossJudge::default();
        assert_eq!(judge.on_round(Pace::Full, 1_000, 20), Verdict::Nothing);
        assert_eq!(judge.on_round(Pace::Full, 1, 1), Verdict::Test);
        let mut judge = LossJudge::default();
        judge.on_round(Pace::Slow, 1_000, 50);
        assert_eq!(judge.on_round(Pace::Full, 1_000, 70), Verdict::Nothing);
        assert_eq!(judge.on_round(Pace::Full, 100, 9), Verdict::Test);
    }

    #[test]
    fn what_left_at_another_pace_raises_no_suspicion() {
        let mut judge = LossJudge::default();
        for pace in [Pace::Other, Pace::Slow] {
            assert_eq!(judge.on_round(pace, 1_000, 200), Verdict::Nothing);
        }
    }

    #[test]
    fn beyond_1_024_packets_at_full_pace_older_ones_count_half() {
        for (before, lost) in [(1_024, 23), (1_025, 13)] {
            let mut judge = LossJudge::default();
            assert_eq!(judge.on_round(Pace::Full, before, 0), Verdict::Nothing);
            assert_eq!(judge.on_round(Pace::Full, 100, lost - 1), Verdict::Nothing);
            let mut judge = LossJudge::default();
            judge.on_round(Pace::Full, before, 0);
            assert_eq!(judge.on_round(Pace::Full, 100, lost), Verdict::Test);
        }
    }

    #[test]
    fn the_random_loss_is_a_mean_over_4_096_packets_and_at_most_six_in_ten() {
        let mut judge = LossJudge::default();
        let means = [100, 0, 0, 0, 0].map(|lost| {
            judge.on_round(Pace::Slow, 1_000, lost);
            judge.random()
        });
        let weights = [1.0, 1.0 / 2.0, 2.0 / 3.0, 3.0 / 4.0, 1.0 - 1_000.0 / 4_096.0];
        let mut expected = 0.1;
        for (mean, weight) in means.into_iter().zip(weights) {
            expected *= weight;
            assert!((mean - expected).abs() < 1e-9, "{mean} instead of {expected}");
        }
        let mut judge = LossJudge::default();
        judge.on_round(Pace::Slow, 1_000, 2_000);
        assert_eq!(judge.random(), 0.6);
    }

    #[test]
    fn half_way_between_what_the_path_and_what_we_would_lose_the_path_is_at_fault() {
        // 40 % lost at full pace: were it ours, three quarters of the pace would lose 20 %.
        for (lost, verdict) in
            [(91, Verdict::Random), (89, Verdict::Congestion(0.4 - 89.0 / 300.0))]
        {
            let mut judge = LossJudge::default();
            assert_eq!(judge.on_round(Pace::Full, 300, 120), Verdict::Test);
            assert!(judge.is_testing());
            let found = judge.on_round(Pace::Slow, 300, lost);
            match (found, verdict) {
                (Verdict::Congestion(found), Verdict::Congestion(share)) => {
                    assert!((found - share).abs() < 1e-9);
                }
                _ => assert_eq!(found, verdict),
            }
            assert!(!judge.is_testing());
            assert!((judge.random() - lost as f64 / 300.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_test_goes_on_until_it_has_seen_256_packets_unless_it_is_called_off() {
        let mut judge = LossJudge::default();
        judge.on_round(Pace::Full, 300, 60);
        assert_eq!(judge.on_round(Pace::Slow, 255, 51), Verdict::Nothing);
        assert_eq!(judge.on_round(Pace::Full, 300, 60), Verdict::Nothing, "left before the test");
        assert_eq!(judge.on_round(Pace::Slow, 1, 1), Verdict::Random);
        judge.on_round(Pace::Full, 300, 150);
        assert!(judge.is_testing());
        judge.reset();
        assert!(!judge.is_testing() && judge.random() > 0.2);
        assert_eq!(judge.on_round(Pace::Full, 255, 255), Verdict::Nothing, "all anew");
    }
}
