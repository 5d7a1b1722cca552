//! The first generator: agents of five kinds, hour by hour. Counts are gamma-Poisson with a season, actions
//! follow a Markov chain.

use crate::rng::Rng;

/// One simulated action.
#[derive(Clone, Debug)]
pub struct Event {
    pub t: f64,
    pub action: String,
    pub resource: String,
    pub tool: String,
    pub records: Option<u64>,
    pub failed: bool,
}

impl Event {
    /// The same on another ticket.
    pub fn of_ticket(self, number: u32) -> Self {
        Self { resource: format!("shop.tickets/{}", 4_711 + number * 13), ..self }
    }
}

/// What an injection changes.
#[derive(Clone, Copy, Debug)]
pub struct Tweak {
    pub rate: f64,
    pub shuffled: bool,
    pub mixed: bool,
    pub records: f64,
    pub errors: Option<f64>,
}

pub const NORMAL: Tweak = Tweak { rate: 1.0, shuffled: false, mixed: false, records: 1.0, errors: None };

/// Something that makes the events of one agent, hour by hour.
pub trait Source {
    /// The times of the events of an hour (since 1970), in order.
    fn times(&mut self, hour: i64, tweak: &Tweak) -> Vec<f64>;
    /// The event at `t`.
    fn call(&mut self, t: f64, tweak: &Tweak) -> Event;
    /// Other luck from here on, for the same agent.
    fn redraw(&mut self, seed: u64);
    /// The events of an hour.
    fn hour(&mut self, hour: i64, tweak: &Tweak) -> Vec<Event> {
        self.times(hour, tweak).into_iter().map(|t| self.call(t, tweak)).collect()
    }
    /// The mean number of events of that hour, growth left out.
    fn mean(&self, hour: i64) -> f64;
    fn copy(&self) -> Box<dyn Source>;
    fn kind(&self) -> &'static str;
}

const VERBS: [&str; 14] = [
    "read_ticket",
    "search",
    "update_ticket",
    "send_reply",
    "close_ticket",
    "get_customer",
    "list_orders",
    "refund",
    "create_invoice",
    "fetch_page",
    "run_query",
    "write_file",
    "assign",
    "tag",
];
const TOOLS: [&str; 5] = ["crm", "mail", "db", "web", "files"];

#[derive(Clone, Debug)]
pub struct Simulated {
    kind: &'static str,
    rng: Rng,
    start: i64,
    rate: f64,
    growth: f64,
    shape: f64,
    holiday: i64,
    shift_from: i64,
    shift: i64,
    verbs: Vec<usize>,
    chain: Vec<Vec<f64>>,
    share: Vec<f64>,
    state: usize,
    resources: Vec<String>,
    many_ids: bool,
    sizes: Vec<f64>,
    spread: f64,
    errors: f64,
    session: f64,
    pace: f64,
    every: i64,
}

impl Simulated {
    pub fn new(seed: u64, start: i64) -> Self {
        let mut rng = Rng::new(seed);
        let kind = ["office", "steady", "session", "cron", "poller"][rng.below(5)];
        let n = 4 + rng.below(5);
        let mut verbs: Vec<usize> = (0..VERBS.len()).collect();
        for i in 0..n {
            let j = i + rng.below(verbs.len() - i);
            verbs.swap(i, j);
        }
        verbs.truncate(n);
        // Each action has two or three likely followers.
        let chain: Vec<Vec<f64>> = (0..n)
            .map(|_| {
                let mut row = vec![0.02; n];
                row[rng.below(n)] += 1.0;
                row[rng.below(n)] += rng.between(0.1, 0.6);
                row[rng.below(n)] += rng.between(0.0, 0.3);
                row
            })
            .collect();
        let mut share = vec![1.0 / n as f64; n];
        for _ in 0..50 {
            let mut next = vec![0.0; n];
            for (row, p) in chain.iter().zip(&share) {
                let sum: f64 = row.iter().sum();
                row.iter().zip(&mut next).for_each(|(w, q)| *q += p * w / sum);
            }
            share = next;
        }
        let rate = match kind {
            "office" => rng.between(8.0, 60.0),
            "steady" => rng.between(5.0, 50.0),
            "session" => rng.between(0.7, 3.0),
            "cron" => rng.between(30.0, 300.0),
            _ => rng.between(30.0, 240.0),
        };
        Self {
            kind,
            start,
            rate,
            growth: if rng.chance(0.5) { rng.between(0.0, 0.12) } else { 0.0 },
            shape: rng.between(4.0, 12.0),
            holiday: (start / 24) + 14 + rng.below(24) as i64,
            shift_from: start + 24 * (18 + rng.below(15) as i64),
            shift: if rng.chance(0.5) { 1 } else { -1 },
            chain,
            share,
            state: 0,
            resources: (0..3 + rng.below(12))
                .map(|i| format!("shop.table_{}", (b'a' + i as u8) as char))
                .collect(),
            many_ids: rng.chance(0.5),
            sizes: (0..n).map(|_| 10_f64.powf(rng.between(0.0, 2.0))).collect(),
            spread: rng.between(0.1, 0.45),
            errors: rng.between(0.003, 0.05),
            session: rng.between(6.0, 40.0),
            pace: rng.between(2.0, 20.0),
            every: if rng.chance(0.5) { 24 } else { 1 + rng.below(6) as i64 },
            verbs,
            rng,
        }
    }

    /// The ticket agent of 25 actions an hour.
    pub fn tickets(seed: u64, start: i64) -> Self {
        let mut agent =
            (0..).map(|i| Self::new(seed * 1_000 + i, start)).find(|a| a.kind == "office").unwrap();
        (agent.rate, agent.growth) = (25.0, 0.0);
        agent
    }

    fn season(&self, hour: i64) -> f64 {
        let local = if hour >= self.shift_from { hour + self.shift } else { hour };
        let (day, at) = ((local.div_euclid(24) + 3).rem_euclid(7), local.rem_euclid(24));
        let weekend = day >= 5;
        match self.kind {
            "office" | "session" => {
                let open = match at {
                    8 => 0.6,
                    9 | 10 | 14 | 15 => 1.0,
                    11 | 16 => 0.9,
                    12 => 0.45,
                    13 => 0.8,
                    17 => 0.5,
                    18 => 0.15,
                    _ => 0.0,
                };
                let monday = if day == 0 { 1.3 } else { 1.0 };
                open * monday * if weekend { 0.0 } else { 1.0 }
            }
            "steady" => 1.0 + 0.35 * (std::f64::consts::TAU * (at as f64 - 14.0) / 24.0).cos(),
            "cron" => f64::from(u8::from(hour.rem_euclid(self.every) == 2 % self.every)),
            _ => 1.0,
        }
    }
}

impl Source for Simulated {
    fn times(&mut self, hour: i64, tweak: &Tweak) -> Vec<f64> {
        let weeks = (hour - self.start) as f64 / 168.0;
        let mut mean = self.mean(hour) * (1.0 + self.growth).powf(weeks);
        let holiday = hour.div_euclid(24) == self.holiday && tweak.rate == 1.0;
        if holiday && matches!(self.kind, "office" | "session") {
            mean *= 0.1;
        }
        let from = hour as f64 * 3_600.0;
        let mut times: Vec<f64> = match self.kind {
            "session" => {
                let sessions = mean / self.session * tweak.rate;
                let mut times = Vec::new();
                for _ in 0..self.rng.poisson(sessions) {
                    let mut t = from + self.rng.unit() * 3_600.0;
                    let calls = 1 + self.rng.exp(self.session) as usize;
                    for _ in 0..calls.min(400) {
                        times.push(t.min(from + 3_599.9));
                        t += self.rng.exp(self.pace);
                    }
                }
                times
            }
            "cron" => {
                if mean == 0.0 {
                    return Vec::new();
                }
                let n = (mean * tweak.rate * self.rng.between(0.9, 1.1)) as usize;
                let (at, length) = (self.rng.between(100.0, 400.0), self.rng.between(100.0, 160.0));
                (0..n).map(|_| from + at + self.rng.unit() * length).collect()
            }
            "poller" => {
                let every = 3_600.0 / (mean * tweak.rate);
                let (mut times, mut t) = (Vec::new(), from + self.rng.unit() * every);
                while t < from + 3_600.0 {
                    times.push(t);
                    t += every * self.rng.between(0.9, 1.1);
                }
                times
            }
            _ => {
                // A runaway is not slowed by what slows its work.
                let pace = if tweak.rate > 6.0 { 1.0 } else { self.rng.gamma(self.shape) };
                let n = pace * mean * tweak.rate;
                (0..self.rng.poisson(n)).map(|_| from + self.rng.unit() * 3_600.0).collect()
            }
        };
        times.sort_by(f64::total_cmp);
        times
    }

    fn call(&mut self, t: f64, tweak: &Tweak) -> Event {
        self.state = if tweak.shuffled {
            self.rng.weighted(&self.share.clone())
        } else if tweak.mixed {
            let turned: Vec<f64> = self.share.iter().map(|p| 1.0 / (p + 0.02)).collect();
            self.rng.weighted(&turned)
        } else if self.kind == "poller" && !self.rng.chance(0.05) {
            0
        } else {
            self.rng.weighted(&self.chain[self.state].clone())
        };
        // Now and then something new is there to work on.
        if self.rng.chance(0.0003) && self.resources.len() < 40 {
            self.resources.push(format!("shop.new_{}", self.resources.len()));
        }
        let verb = self.verbs[self.state];
        let resource = if self.kind == "poller" && self.state == 0 {
            "jobs.queue".to_owned()
        } else if self.many_ids {
            format!("{}/{}", self.resources[verb % 3], self.rng.below(100_000))
        } else {
            let weight: Vec<f64> = (0..self.resources.len()).map(|i| 1.0 / (i + 1) as f64).collect();
            self.resources[self.rng.weighted(&weight)].clone()
        };
        let size = self.sizes[self.state] * 10_f64.powf(self.spread * self.rng.normal()) * tweak.records;
        Event {
            t,
            action: VERBS[verb].to_owned(),
            resource,
            tool: TOOLS[verb % 5].to_owned(),
            records: Some(size.round().max(0.0) as u64),
            failed: self.rng.chance(tweak.errors.unwrap_or(self.errors)),
        }
    }

    fn redraw(&mut self, seed: u64) {
        self.rng = Rng::new(seed);
    }

    fn mean(&self, hour: i64) -> f64 {
        let calls = if self.kind == "session" { self.session } else { 1.0 };
        self.season(hour) * self.rate * calls
    }

    fn copy(&self) -> Box<dyn Source> {
        Box::new(self.clone())
    }

    fn kind(&self) -> &'static str {
        self.kind
    }
}
