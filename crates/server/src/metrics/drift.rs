//! Drift and breakers, counted. Every label is a word of ours: whatever agents do, there are as many series.

use checkrein_api::BreakerView;
use checkrein_core::{
    decision::DriftVerdict,
    drift::{Channel, Severity, breaker::State},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Alert {
    severity: &'static str,
    channel: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Standing {
    scope: &'static str,
    state: &'static str,
}

const SEVERITIES: [Severity; 3] = [Severity::Notice, Severity::Warning, Severity::Critical];
const SCOPES: [&str; 3] = ["agent", "group", "all"];
const STATES: [State; 2] = [State::Open, State::HalfOpen];

/// By severity and channel, and by scope and state; all of them are there from the start.
pub(crate) struct Drift {
    alerts: Family<Alert, Counter>,
    breakers: Family<Standing, Gauge>,
}

impl Drift {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self { alerts: Family::default(), breakers: Family::default() };
        for severity in SEVERITIES {
            for channel in Channel::ALL {
                all.alert(severity, channel).get();
            }
        }
        all.update(&[]);
        registry.register(
            "drift_checks",
            "Checks of which the action departs from what its agent normally does",
            all.alerts.clone(),
        );
        registry.register("breakers", "Breakers that are not closed", all.breakers.clone());
        all
    }

    fn alert(&self, severity: Severity, channel: Channel) -> Counter {
        self.alerts.get_or_create_owned(&Alert { severity: severity.as_str(), channel: channel.as_str() })
    }

    pub(super) fn found(&self, drift: &DriftVerdict) {
        self.alert(drift.severity, drift.channel).inc();
    }

    /// Takes over how the breakers stand.
    pub(crate) fn update(&self, open: &[BreakerView]) {
        for scope in SCOPES {
            for state in STATES {
                let same =
                    |view: &&BreakerView| view.state == state && view.scope.split(':').next() == Some(scope);
                let count = i64::try_from(open.iter().filter(same).count()).unwrap_or(i64::MAX);
                self.breakers.get_or_create(&Standing { scope, state: state.as_str() }).set(count);
            }
        }
    }
}
