//! A plain series of numbers, scored row by row as it comes.
mod moment;
mod sorted;
mod tail;

pub use moment::Moment;

use sorted::Window;
use tail::Tail;

fn p(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The detector.
#[derive(Clone, Debug)]
pub struct Series {
    values: Window,
    rows: u64,
    tails: Vec<Tail>,
    days: std::collections::HashMap<i64, (f64, f64)>,
    last_fire: f64,
    since: u64,
    min: f64, max: f64,
    block: Vec<f64>, weeks: std::collections::HashMap<i64,(f64,f64)>, sres: f64, sday: f64,
    bmean: f64, bdev: f64, bn: f64, bmax: f64, brow: u64,
    pub parts: [f64; 12],
    cfg: Cfg,
}
#[derive(Clone, Debug)]
struct Cfg { mem: usize, tau: f64, hold: f64, blk: u64, bprior_m: f64, bprior_s: f64, bprior_w: f64, floor: f64, warm: f64, rec: f64, from: f64, sq: f64, wts: [f64; 12], two: f64 , q: f64, rate: f64, nk: f64, ew: f64, sn: f64}

impl Default for Series { fn default() -> Self { Self::new() } }

impl Series {
    /// Nothing has been seen.
    pub fn new() -> Self {
        let cfg = Cfg { mem: p("MEM", 2500.0) as usize, tau: p("TAU", 120.0), hold: p("HOLD", 0.9), blk: p("BLK", 200.0) as u64, bprior_m: p("BM", 3.0), bprior_s: p("BS", 1.0), bprior_w: p("BW", 3.0), floor: p("FLOOR", 0.8), warm: p("WARM", 300.0), rec: p("REC", 1.0), from: p("FROM", 0.97), sq: p("SQ", 8.0),
            wts: [p("W0",1.0),p("W1",1.0),p("W2",1.0),p("W3",1.0),p("W4",1.0),p("W5",1.0),p("W6",1.0),p("W7",1.0),p("W8",1.0),p("W9",1.0),p("W10",1.0),p("W11",1.0)], q: p("Q", 30.0), nk: p("NK",0.0), ew: p("EW", 12.0), sn: p("SN", 2016.0), two: p("TWO", 1.0), rate: p("RATE", 0.1) };
        Self {
            values: Window::new(cfg.mem),
            rows: 0,
            tails: (0..12).map(|_| Tail::new(cfg.from)).collect(),
            days: std::collections::HashMap::new(),
            last_fire: 0.0,
            since: 0,
            min: f64::MAX, max: f64::MIN,
            block: vec![], weeks: Default::default(), sres: 0.0, sday: 0.0,
            bmean: 0.0, bdev: 0.0, bn: 0.0, bmax: 0.0, brow: 0,
            parts: [0.0; 12],
            cfg,
        }
    }

    /// How unusual this row is after all before it: 0 to 1. A missing value is not.
    pub fn score(&mut self, at: Moment, value: Option<f64>) -> f64 {
        let Some(value) = value else { return 0.0 };
        self.rows += 1;
        let raw = self.raw(at, value);
        self.values.push(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        // second level
        let c = &self.cfg;
        let w = c.bprior_w * (1.0 - self.bn / 12.0).max(0.0);
        let mean = (w * c.bprior_m + self.bn * self.bmean) / (w + self.bn);
        let dev = (w * c.bprior_s + self.bn * self.bdev) / (w + self.bn);
        let scale = dev.max(c.floor);
        let z = ((raw - mean) / scale - c.nk * (self.rows as f64 / 1000.0).log10().max(-0.5)).max(0.0);
        self.bmax = self.bmax.max(raw);
        self.brow += 1;
        if self.brow >= c.blk {
            let v = self.bmax.min(mean + 4.0 * scale);
            let rate = (1.6 / (self.bn + 1.6)).max(c.rate);
            let off = v - self.bmean;
            self.bmean += rate * off;
            if self.bn > 0.0 { self.bdev += rate * (off.abs() - self.bdev); }
            self.bn += 1.0;
            self.brow = 0;
            self.bmax = 0.0;
        }
        let fin = if c.two > 0.5 { z } else { raw };
        // refractory
        self.since += 1;
        let held = self.last_fire * (-(self.since as f64) / self.cfg.tau).exp();
        let out = if fin > held { fin - held * self.cfg.hold } else { 0.0 };
        if fin > held {
            self.last_fire = fin;
            self.since = 0;
        }
        1.0 - (-out / self.cfg.sq).exp()
    }

    fn raw(&mut self, at: Moment, value: f64) -> f64 {
        let w = &self.values;
        let n = w.len();
        if n < 20 {
            return 0.0;
        }
        let (low, median, high) = (w.quantile(0.02), w.quantile(0.5), w.quantile(0.98));
        let unit = (w.quantile(0.9) - w.quantile(0.1)).max((high - low) * 0.3).max(1e-9 + median.abs() * 1e-6);
        let mean = |k: usize| (w.last(k).sum::<f64>() + value) / (w.last(k).count() + 1) as f64;
        let short = mean(5);
        let mid = mean(30);
        let long = mean(100);
        let before: f64 = { let v: Vec<f64> = w.last(3).collect(); let mut v = v; v.sort_by(f64::total_cmp); v[v.len()/2] };
        let step = (value - before).abs() / unit;
        let level = (value - high).max(low - value).max(0.0) / unit;
        let off_short = (short - median).abs() / unit;
        let off_mid = (mid - median).abs() / unit;
        let off_long = (long - median).abs() / unit;
        let sd = { let m = mid; (w.last(30).map(|v| (v - m).powi(2)).sum::<f64>() / 30.0).sqrt() / unit };
        let slot = (at.seconds().rem_euclid(86_400.0) / 1_800.0) as i64;
        let (s, c) = self.days.entry(slot).or_insert((value, 0.0));
        let season = (value - *s).abs() / unit;
        *c = (*c + 1.0).min(40.0);
        *s += (value - *s) / (*c + 1.0);
        let rough = { let v: Vec<f64> = w.last(51).collect(); v.windows(2).map(|a| (a[0]-a[1]).abs()).sum::<f64>() / 50.0 / unit };
        let daypred = *s;
        let slot = (at.seconds().rem_euclid(604_800.0) / 3_600.0) as i64;
        let (ws, wc) = self.weeks.entry(slot).or_insert((value, 0.0));
        let pred = if *wc > 0.0 && n as f64 > self.cfg.sn { *ws } else { daypred };
        let res = (value - pred) / unit;
        *wc += 1.0; *ws += (value - *ws) * (0.5f64).max(1.0 / *wc).min(0.15);
        if *wc == 1.0 { *ws = value; }
        self.sres += (res - self.sres) / self.cfg.ew;
        self.sday += ((value - daypred) / unit - self.sday) / self.cfg.ew;
        let range = (self.max - self.min).max(unit);
        let record = ((value - self.max).max(self.min - value) / range).max(0.0);
        let wt = self.cfg.wts;
        let t = &mut self.tails;
        let p = [
            t[0].rarity(step) * wt[0],
            t[1].rarity(level) * wt[1],
            t[2].rarity(off_short) * wt[2],
            t[3].rarity(off_mid) * wt[3],
            t[4].rarity(sd) * wt[4],
            t[5].rarity(season) * wt[5] * if n > 400 { 1.0 } else { 0.0 },
            if record > 0.05 { self.cfg.rec * (3.0 + 5.0 * record.min(1.0)) } else { 0.0 },
            t[7].rarity(off_long) * wt[7],
            t[8].rarity(rough) * wt[8],
            t[9].rarity(self.sres.abs()) * wt[9] * if n > 400 { 1.0 } else { 0.0 },
            t[10].rarity(self.sday.abs()) * wt[10] * if n > 400 { 1.0 } else { 0.0 },
            0.0,
        ];
        self.parts = p;
        let warm = (self.rows as f64 / self.cfg.warm).min(1.0);
        if self.cfg.q > 20.0 { p.iter().copied().fold(0.0, f64::max) * warm } else { p.iter().map(|v| v.powf(self.cfg.q)).sum::<f64>().powf(1.0 / self.cfg.q) * warm }
    }
}
