//! What is known of one agent: the statistics of all channels, in one place, brought up to date together.

use super::{
    Channel, Observed, Reading,
    burst::{Burst, Multiple},
    codec::{Packed, packed},
    errors::Errors,
    gauges::Gauges,
    group::Group,
    hash,
    many::Names,
    mix::{Mix, Surprise},
    novelty::Novelty,
    rate::Rate,
    records::Records,
    repeat::Repeats,
    saved::{self, RestoreError},
    season::{Expected, Season},
    sequence::Sequence,
    spells::Spells,
    symbols::Symbols,
};
use crate::time::Timestamp;

const HOUR: i64 = 3_600_000_000;
/// Longer pauses are taken for this, in seconds.
const LONGEST_PAUSE: f32 = 1e6;
/// The multiples of the expected rate that bursts are tested against.
const SLOW: Multiple = Multiple { of: 4.0, log10: 0.602_06 };
const QUICK: Multiple = Multiple { of: 14.0, log10: 1.146_128 };
/// Within minutes an agent's pace is so much less uneven than from hour to hour.
const MINUTES: f32 = 3.0;
/// Rates say nothing before so many hours and active days.
const RATE_SILENT_HOURS: u32 = 48;
const RATE_SILENT_DAYS: f32 = 2.0;
/// Hours of the first week.
const WEEK_HOURS: u32 = 168;
/// Silent hours that are gone through one by one. After them nothing is left of what gathered.
const SILENT_HOURS: usize = 72;
/// In so many microseconds an agent shows most of what it does.
const FIRST_DAY: i64 = 20 * HOUR;
/// A score from which on an hour does not teach the rate more than could be expected of it.
const UNUSUAL: f32 = 4.0;

packed! {
    /// What one agent normally does. Bounded: about 4 KiB, whatever the agent does.
    #[derive(Clone, Debug)]
    pub struct Baseline {
        salt: u64,
        born: i64,
        now: i64,
        pub(super) expected: Expected,
        pub(super) season: Season,
        pub(super) rate: Rate,
        pub(super) slow: Burst,
        pub(super) quick: Burst,
        pub(super) spells: Spells,
        pub(super) repeats: Repeats,
        pub(super) novelty: Novelty,
        symbols: Symbols,
        pub(super) mix: Mix,
        surprise: Surprise,
        pub(super) sequence: Sequence,
        pub(super) records: Records,
        pub(super) errors: Errors,
        pub(super) names: Names,
        pub(super) gauges: Gauges,
        /// The kind of the last call and its share before, for the sentence.
        pub(super) symbol: u8,
        pub(super) share: f32,
        calls: u64,
        unusual: bool,
        frozen: bool,
    }
}

impl Packed for Expected {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self { mean, usual, ceiling, deviation, dispersion, days, gain, cost } = *self;
        [mean, usual, ceiling, deviation, dispersion, days, gain, cost].pack(out);
    }
    fn unpack(from: &mut &[u8]) -> Option<Self> {
        let [mean, usual, ceiling, deviation, dispersion, days, gain, cost] = Packed::unpack(from)?;
        Some(Self { mean, usual, ceiling, deviation, dispersion, days, gain, cost })
    }
}

impl Baseline {
    /// Nothing is known of the agent yet; `at` is its first action. `salt` should be secret and the same for
    /// all agents of an installation.
    pub fn new(salt: u64, at: Timestamp) -> Self {
        let now = at.as_micros();
        let season = Season::new(now.div_euclid(HOUR));
        Self {
            salt,
            born: now,
            now,
            expected: season.expect(now.div_euclid(HOUR)),
            season,
            rate: Rate::default(),
            slow: Burst::default(),
            quick: Burst::default(),
            spells: Spells::default(),
            repeats: Repeats::default(),
            novelty: Novelty::new(),
            symbols: Symbols::default(),
            mix: Mix::new(),
            surprise: Surprise::default(),
            sequence: Sequence::new(),
            records: Records::default(),
            errors: Errors::default(),
            names: Names::default(),
            gauges: Gauges::new(),
            symbol: 0,
            share: 0.0,
            calls: 0,
            unusual: false,
            frozen: false,
        }
    }

    /// The agent acts: learns from it and says how unusual it is.
    pub fn observe(&mut self, action: &Observed<'_>, group: &mut Group) -> Reading {
        let before = self.now;
        self.advance(action.at);
        let pause = (self.now.saturating_sub(before) as f32 / 1e6).min(LONGEST_PAUSE);
        let pause = if self.calls == 0 { LONGEST_PAUSE } else { pause };
        self.calls = self.calls.saturating_add(1);

        let mut reading = Reading::default();
        self.read_rates(pause, &mut reading);
        self.read_calls(action, pause, group, &mut reading);
        self.unusual |= reading.worst().1 >= UNUSUAL;
        reading
    }

    /// An action of the agent ended.
    pub fn outcome(&mut self, failed: bool) -> Reading {
        let gauge = &mut self.gauges.errors;
        let value = self.errors.observe(failed, !self.frozen, gauge.top());
        let mut reading = Reading::default();
        reading.raise(Channel::Errors, gauge.read(value));
        reading
    }

    fn read_rates(&mut self, pause: f32, reading: &mut Reading) {
        if self.season.take_news() {
            reading.raise(Channel::Rate, 5.0);
        }
        let gauges = &mut self.gauges;
        let (hour, mut gathered) = self.rate.observe(&self.expected);
        if !gauges.gathered.is_idle(gathered) {
            gathered = self.rate.uneven(gathered, &self.expected);
        }
        let expected = self.expected.ceiling * (pause / 3_600.0);
        // Over longer times an agent's own ups and downs count, over minutes chance does.
        let mut slow = self.slow.observe(self.now, expected, SLOW, gauges.slow.top());
        if !gauges.slow.is_idle(slow) {
            slow = self.slow.uneven(SLOW, MINUTES / self.expected.dispersion);
        }
        let quick = self.quick.observe(self.now, expected, QUICK, gauges.quick.top());
        let rate = gauges.hour.read(hour).max(gauges.gathered.read(gathered));
        let spells = gauges.spells.read(self.spells.observe(self.now));
        self.spells.told = spells > rate;
        let rate = rate.max(spells);
        let burst = gauges.slow.read(slow).max(gauges.quick.read(quick));
        if self.season.hours() < RATE_SILENT_HOURS || gauges.slow.days() < RATE_SILENT_DAYS {
            return;
        }
        // In the first week much is seen for the first time.
        let trust = if self.season.hours() < WEEK_HOURS { 0.6 } else { 1.0 };
        reading.raise(Channel::Rate, rate * trust);
        reading.raise(Channel::Burst, burst * trust);
    }

    fn read_calls(&mut self, action: &Observed<'_>, pause: f32, group: &mut Group, reading: &mut Reading) {
        let learn = !self.frozen;
        let stated = |text: &str, salt: u64| (!text.is_empty()).then(|| hash::of(salt, text));
        let verb = hash::of(self.salt, action.action);
        let tool = stated(action.tool, self.salt ^ 1);
        let resource = (!action.resource.is_empty()).then(|| hash::template(self.salt ^ 2, action.resource));
        let kind = tool.map_or(verb, |tool| hash::pair(verb, tool));
        let call = hash::pair(kind, stated(action.resource, self.salt ^ 3).unwrap_or(0));

        let gauges = &mut self.gauges;
        let known = self.symbols.total() >= 200.0;
        let exact = stated(action.exact, self.salt ^ 4).map_or(call, |exact| hash::pair(call, exact));
        let repeat = self.repeats.observe(low(exact), pause, learn, known, gauges.repeat.top());
        // A new agent may yet turn out to be one that asks again when it fails.
        let trust = if self.season.hours() < WEEK_HOURS { 0.87 } else { 1.0 };
        reading.raise(Channel::Loop, gauges.repeat.read(repeat) * trust);

        let facets = [
            Some(verb),
            tool,
            tool.map(|_| kind),
            resource,
            resource.map(|resource| hash::pair(verb, resource)),
        ];
        let first_day = self.now.saturating_sub(self.born) < FIRST_DAY;
        let repeated = self.repeats.repeated();
        let stranger = || group.stranger(kind);
        let (call, resource) = self.novelty.observe(&facets, stranger, first_day, repeated, learn);
        reading.raise(Channel::Novelty, gauges.novelty.read(call));
        reading.raise(Channel::Novelty, gauges.resource.read(resource));
        if learn {
            group.count();
            if self.novelty.new & 0b111 != 0 || self.calls < 50 {
                group.learn(kind);
            }
        }

        let found = self.symbols.find(low(kind), learn);
        (self.symbol, self.share) = (u8::try_from(found.symbol).unwrap_or(0), found.share);
        let total = self.symbols.total();
        let order = self.sequence.observe(&found, total, learn, gauges.sequence.top());
        let order = gauges.sequence.read(order);
        let mix = self.mix.observe(&found, gauges.mix.top());
        let mix = gauges.mix.read(mix);
        let odd = self.surprise.observe(found.log_share, learn, gauges.surprise.top());
        let mix = mix.max(gauges.surprise.read(odd));
        if total >= 150.0 && !first_day {
            reading.raise(Channel::Mix, mix);
            reading.raise(Channel::Sequence, order);
        }
        if let Some(records) = action.records.or(action.payload_bytes) {
            let size = self.records.observe(&found, records, learn, gauges.records.top());
            reading.raise(Channel::Records, gauges.records.read(size));
        }
        if learn {
            self.symbols.learn(found.symbol);
        }
    }

    /// Brings the clock to `at`; closes the hours and days in between.
    fn advance(&mut self, at: Timestamp) {
        let now = at.as_micros().max(self.now);
        let (hour, next) = (self.now.div_euclid(HOUR), now.div_euclid(HOUR));
        self.now = now;
        if next == hour {
            return;
        }
        self.rate_close(hour, next);
        let day_too = hour.div_euclid(24) != next.div_euclid(24);
        self.gauges.close(day_too, !self.frozen, self.season.hours() > RATE_SILENT_HOURS);
        self.expected = self.season.expect(next);
        self.spells.begin(&self.expected);
        self.unusual = false;
    }

    fn rate_close(&mut self, hour: i64, next: i64) {
        let count = self.rate.count;
        self.rate.close(&self.expected, self.gauges.gathered.top());
        let silent = u8::try_from(next - hour - 1).map_or(SILENT_HOURS as f32, f32::from);
        self.spells.close(count, silent, !self.frozen, self.gauges.spells.top());
        let quiet = (hour + 1..next).take(SILENT_HOURS);
        self.rate.pass(quiet.map(|quiet| self.season.expect(quiet).cost));
        if self.frozen {
            self.season.pass(hour);
        } else {
            self.season.learn(hour, count, self.unusual);
        }
    }

    /// While frozen nothing is learnt, as long as a breaker is open; the readings go on.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Actions seen.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// A person says that what the agent does now is normal: growth is taken for granted from here. To teach
    /// an interval as normal, restore the baseline as it was before and let it observe the interval's actions.
    pub fn accept(&mut self) {
        self.season.accept();
        self.expected = self.season.expect(self.now.div_euclid(HOUR));
        self.spells.begin(&self.expected);
    }

    /// Counts the repeats of a loop from 0 again: a person has seen it, and if it goes on all the same, that is
    /// news after as many repeats as at first.
    pub fn recount_loop(&mut self) {
        self.repeats.begin();
    }

    /// When the first action was, and the latest time that has been seen.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        (Timestamp::from_micros(self.born), Timestamp::from_micros(self.now))
    }

    /// Whether the agent is in its first week, in which drift should alert only, loops excepted.
    pub fn is_new(&self) -> bool {
        self.now.saturating_sub(self.born) < 7 * 24 * HOUR
    }

    /// The actions expected in the hour that `at` falls into: the mean, and the most that raises no doubt.
    pub fn band(&self, at: Timestamp) -> (f32, f32) {
        let expected = self.season.expect(at.as_micros().div_euclid(HOUR));
        let high = expected.ceiling + self.gauges.hour.value_at(5.0) * (expected.deviation + 1.0);
        (expected.mean, high)
    }

    /// The saved form: a version, the state, bit for bit, and a checksum.
    pub fn save(&self) -> Vec<u8> {
        saved::save(self)
    }

    /// What [`Baseline::save`] wrote.
    ///
    /// # Errors
    /// When the bytes are of another version, or damaged.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        saved::restore(bytes)
    }
}

fn low(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(0)
}
